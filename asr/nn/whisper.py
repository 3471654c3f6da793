"""Another pre-trained network to start from: the encoder of a Whisper model (MIT), read from its CTranslate2 file.

The file is a list of named tensors: version, kind, revision, count; then for each its name, shape, type and bytes.
Its log-mel is another one than ours: `set_feature_map` puts a linear map in front.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from asr.nn.frontend import ConvFrontend
from asr.nn.layers import TransformerBlock
from asr.nn.model import AcousticModel, EncoderConfig
from asr.types import FloatArray

TAP_OFFSETS = (-2, -1, 0, 1)
"""Our frames, relative to the same index, that one of Whisper's mel frames is made of (`ConvFrontend.TAPS` of them)."""
HEAD_WIDTH = 64
_DTYPES: Mapping[int, type[np.generic]] = {
    0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16,
}  # fmt: skip


def read_ctranslate2(path: str | Path) -> dict[str, Tensor]:
    """Floating-point tensors of a CTranslate2 `model.bin` by name, as float32.

    Raises:
        ValueError: not such a file, or it is cut short.
    """
    raw = np.memmap(path, np.uint8, "r")
    try:
        return dict(_tensors(_Reader(raw)))
    except (struct.error, KeyError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: expected a CTranslate2 model ({error})") from None


class _Reader:
    """Takes values from the front of a buffer."""

    def __init__(self, raw: np.ndarray) -> None:
        self._raw, self._position = raw, 0

    def take(self, size: int) -> bytes:
        part = self._raw[self._position : self._position + size].tobytes()
        if len(part) != size:
            raise ValueError("the file is cut short")
        self._position += size
        return part

    def number(self, code: str) -> int:
        (value,) = struct.unpack(code, self.take(struct.calcsize(code)))
        return int(value)

    def text(self) -> str:
        return self.take(self.number("<H"))[:-1].decode()


def _tensors(reader: _Reader) -> list[tuple[str, Tensor]]:
    reader.number("<I")
    reader.text()
    reader.number("<I")
    found = []
    for _ in range(reader.number("<I")):
        name = reader.text()
        shape = [reader.number("<I") for _ in range(reader.number("<B"))]
        dtype = _DTYPES[reader.number("<B")]
        values = np.frombuffer(reader.take(reader.number("<I")), dtype).reshape(shape)
        if values.dtype.kind == "f":
            found.append((name, torch.from_numpy(values.astype(np.float32))))
    return found


def build_whisper(tensors: Mapping[str, Tensor], *, left_context: int, look_ahead: int) -> AcousticModel:
    """Our network with the weights of a Whisper encoder; the head is new, the map of features still to be set."""
    part = {name.removeprefix("encoder/"): t for name, t in tensors.items() if name.startswith("encoder/")}
    d_ff, d_model = part["layer_0/ffn/linear_0/weight"].shape
    n_layers = sum(name.endswith("ffn/linear_0/weight") for name in part)
    config = EncoderConfig(
        "transformer", d_model=d_model, n_heads=d_model // HEAD_WIDTH, n_layers=n_layers, d_ff=d_ff, kernel=1,
        left_context=left_context, look_ahead=look_ahead,
    )  # fmt: skip
    model = AcousticModel(config)
    front = conv_frontend(model)
    _copy(front.first, part, "conv1")
    _copy(front.second, part, "conv2")
    for number, block in enumerate(model.blocks):
        assert isinstance(block, TransformerBlock)
        attention, feed_forward, source = block.attention, block.feed_forward, f"layer_{number}/"
        _copy(attention.norm, part, source + "self_attention/layer_norm")
        _copy(attention.query_key_value, part, source + "self_attention/linear_0")
        _copy(attention.out, part, source + "self_attention/linear_1")
        _copy(feed_forward.norm, part, source + "ffn/layer_norm")
        _copy(feed_forward.expand, part, source + "ffn/linear_0")
        _copy(feed_forward.contract, part, source + "ffn/linear_1")
    _copy(model.norm, part, "layer_norm")
    return model


def _copy(module: nn.Module, part: Mapping[str, Tensor], name: str) -> None:
    names = ("gamma", "beta") if isinstance(module, nn.LayerNorm) else ("weight", "bias")
    weight, bias = (part[f"{name}/{which}"] for which in names)
    module.load_state_dict({"weight": weight, "bias": bias})


def set_feature_map(
    model: AcousticModel, feature_map: FloatArray, bias: FloatArray, mean: FloatArray, deviation: FloatArray
) -> None:
    """Have the model take our features: centred and scaled, then mapped.

    Args:
        model: from `build_whisper`.
        feature_map: (4 * 80, 80) from our plain features to Whisper's.
        bias: (80,) likewise.
        mean: (80,) of our features over speech.
        deviation: (80,) standard deviation, above zero.
    """
    front = conv_frontend(model)
    taps = torch.from_numpy(feature_map).unflatten(0, (front.TAPS, -1))  # (4, F, F)
    with torch.no_grad():
        front.feature_mean.copy_(torch.from_numpy(mean))
        front.feature_scale.copy_(1 / torch.from_numpy(deviation))
        front.map.weight.copy_((taps * torch.from_numpy(deviation)[:, None]).flatten(0, 1).T)
        front.map.bias.copy_(torch.from_numpy(bias) + torch.from_numpy(mean) @ taps.sum(0))


def conv_frontend(model: AcousticModel) -> ConvFrontend:
    """The front end of a transformer."""
    assert isinstance(model.frontend, ConvFrontend)
    return model.frontend

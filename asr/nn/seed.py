"""The pre-trained network that the encoder starts from: the phoneme Conformer inside the `hama` package (Apache-2.0).

Its asset is a table of named fp16 tensors: magic, count, a directory (name, dtype, shape, offset, size), data. Its
features are another log-mel (reflect-padded 400-point Hann STFT, no pre-emphasis), so `move_frontend` folds a
fitted linear map between the two into the first layer.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asr.nn.frontend import PairFrontend
from asr.nn.model import AcousticModel, EncoderConfig
from lm.phones import BLANK, BOUNDARY, PHONEMES

SEED_VOCAB = 191
_PREFIX = "acoustic_model.model."
# The exporter numbered each block's six matrices; in order: expand, contract, qkv, attention out, expand, contract.
_MATRICES = (
    (829, 830, 831, 835, 836, 837),
    (838, 839, 840, 844, 845, 846),
    (847, 848, 849, 853, 854, 855),
    (856, 857, 858, 862, 863, 864),
)
_DTYPES = {0: np.float32, 1: np.float16}


def read_asset(raw: bytes | None = None) -> dict[str, Tensor]:
    """Named float32 tensors of the asset (the installed package's, unless given)."""
    if raw is None:
        raw = resources.files("hama.assets").joinpath("asr_waveform.hama").read_bytes()
    (count,) = struct.unpack_from("<I", raw, 8)
    position, directory = 12, []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", raw, position)
        name = raw[position + 2 : position + 2 + length].decode()
        position += 2 + length
        dtype, n_axes = raw[position], raw[position + 1]
        shape = struct.unpack_from(f"<{n_axes}I", raw, position + 2)
        position += 2 + 4 * n_axes
        offset, size = struct.unpack_from("<QQ", raw, position)
        position += 16
        directory.append((name, _DTYPES[dtype], shape, offset, size))
    base = len(raw) - max(offset + size for *_, offset, size in directory)
    return {
        name: torch.from_numpy(
            np.frombuffer(raw[base + offset : base + offset + size], dtype).reshape(shape).astype(np.float32)
        )
        for name, dtype, shape, offset, size in directory
    }


def seed_features(asset: Mapping[str, Tensor], samples: Tensor) -> Tensor:
    """The seed's own log-mel of one waveform (N,) in [-1, 1]: (1 + N // 160, 80), frame t centred at sample 160 t."""
    padded = F.pad(samples[None, None], (200, 200), mode="reflect")
    real, imaginary = (F.conv1d(padded, asset[f"stft_{part}_kernel"], stride=160) for part in ("real", "imag"))
    mel: Tensor = (real**2 + imaginary**2)[0].T @ asset["mel_fb"]
    return mel.clamp(1e-10).log()


def seed_labels() -> list[str]:
    """The seed's 191 output labels in order (needs the package's vocabulary)."""
    from hama import ASRModel

    return list(ASRModel().decoder_tokens)


def label_index(labels: list[str]) -> list[int]:
    """For each of our phonemes, the seed's output that means the same."""
    same = {BLANK: "<blank>", BOUNDARY: "<wb>", "ɡ": "g"}
    return [labels.index(same.get(symbol, symbol)) for symbol in PHONEMES]


def build_seed(asset: Mapping[str, Tensor], index: list[int] | None = None) -> AcousticModel:
    """Our network with the seed's weights; `index` keeps only those outputs (all 191 where None).

    Its front end expects the seed's features with one frame of delay: pairs (2t-2, 2t-1), (2t, 2t+1),
    of which frame 2t-2 is unused.
    """
    keep = list(range(SEED_VOCAB)) if index is None else index
    model = AcousticModel(EncoderConfig(vocab_size=len(keep)))
    state = dict(_head_and_front(asset, keep))
    for number, matrices in enumerate(_MATRICES):
        state.update({f"blocks.{number}.{key}": value for key, value in _block(asset, number, matrices).items()})
    state = model.state_dict() | state  # what the seed does not have stays as it is made
    model.load_state_dict(state, strict=True)
    return model


def _head_and_front(asset: Mapping[str, Tensor], keep: list[int]) -> dict[str, Tensor]:
    taps = asset["onnx::Conv_801"]  # (D, F, 3): features 2t-1, 2t, 2t+1
    front = torch.cat([torch.zeros_like(taps[:, :, :1]), taps], 2)  # (D, F, 4)
    return {
        "frontend.linear.weight": front.transpose(1, 2).flatten(1).contiguous(),
        "frontend.linear.bias": asset["onnx::Conv_802"],
        "head.weight": asset[_PREFIX + "proj.weight"][keep, :, 0],
        "head.bias": asset[_PREFIX + "proj.bias"][keep],
    }


def _block(asset: Mapping[str, Tensor], number: int, matrices: tuple[int, ...]) -> dict[str, Tensor]:
    source = f"{_PREFIX}blocks.{number}."
    matrix = [asset[f"onnx::MatMul_{m}"].T for m in matrices]
    out = {
        "first.expand.weight": matrix[0], "first.contract.weight": matrix[1],
        "attention.query_key_value.weight": matrix[2],
        "attention.query_key_value.bias": asset[source + "attn.in_proj_bias"],
        "attention.out.weight": matrix[3], "attention.out.bias": asset[source + "attn.out_proj.bias"],
        "second.expand.weight": matrix[4], "second.contract.weight": matrix[5],
        "convolution.gate.weight": asset[source + "conv.pointwise1.weight"][:, :, 0],
        "convolution.gate.bias": asset[source + "conv.pointwise1.bias"],
        "convolution.depthwise.weight": asset[f"onnx::Conv_{804 + 3 * number}"],
        "convolution.depthwise.bias": asset[f"onnx::Conv_{805 + 3 * number}"],
        "convolution.out.weight": asset[source + "conv.pointwise2.weight"][:, :, 0],
        "convolution.out.bias": asset[source + "conv.pointwise2.bias"],
    }  # fmt: skip
    for ours, theirs in (("first", "ffn1"), ("second", "ffn2")):
        out[f"{ours}.expand.bias"] = asset[f"{source}{theirs}.fc1.bias"]
        out[f"{ours}.contract.bias"] = asset[f"{source}{theirs}.fc2.bias"]
    norms = {"first.norm": "ffn1.norm", "attention.norm": "attn_norm", "convolution.norm": "conv.norm",
             "second.norm": "ffn2.norm", "norm": "norm"}  # fmt: skip
    for ours, theirs in norms.items():
        out[f"{ours}.weight"] = asset[f"{source}{theirs}.weight"]
        out[f"{ours}.bias"] = asset[f"{source}{theirs}.bias"]
    return {key: value.contiguous() for key, value in out.items()}


def fit_feature_map(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares from our features to a seed's: `theirs[t] ~ [ours[t-1], ours[t]] @ map + bias`, or more frames.

    Our frame t is centred at sample 160 t + 80, the seeds' at 160 t: it lies between our frames t-1 and t.

    Args:
        ours: (T, n * 80), rows of n neighbouring frames.
        theirs: (T, 80).

    Returns:
        (n * 80, 80) map and (80,) bias.
    """
    inputs = np.concatenate([ours, np.ones((len(ours), 1), ours.dtype)], 1).astype(np.float64)
    ridge = 1e-3 * len(ours) * np.diag([1.0] * ours.shape[1] + [0.0])
    solution = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ theirs.astype(np.float64))
    return solution[:-1].astype(np.float32), solution[-1].astype(np.float32)


def move_frontend(model: AcousticModel, feature_map: np.ndarray, bias: np.ndarray) -> AcousticModel:
    """The model with `feature_map` folded into its first layer: it now takes our features."""
    n_mels = model.config.n_mels
    front = pair_frontend(model)
    taps = front.linear.weight.detach().unflatten(1, (4, n_mels))  # (D, 4, F): seed features 2t-2 .. 2t+1
    earlier, same = torch.from_numpy(feature_map).unflatten(0, (2, n_mels)).unbind(0)  # (F ours, F seed)
    moved = torch.zeros_like(taps)
    for tap in range(1, 4):
        moved[:, tap - 1] += taps[:, tap] @ earlier.T
        moved[:, tap] += taps[:, tap] @ same.T
    out = AcousticModel(replace(model.config))
    out.load_state_dict(model.state_dict())
    with torch.no_grad():
        pair_frontend(out).linear.weight.copy_(moved.flatten(1))
        pair_frontend(out).linear.bias.add_(taps.sum(1) @ torch.from_numpy(bias))
    return out


def pair_frontend(model: AcousticModel) -> PairFrontend:
    """The front end of a conformer."""
    assert isinstance(model.frontend, PairFrontend)
    return model.frontend

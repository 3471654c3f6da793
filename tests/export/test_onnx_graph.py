import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from asr.decoder.greedy import collapse  # noqa: E402
from asr.errors import BundleFileError  # noqa: E402
from asr.features import compute_features  # noqa: E402
from asr.nn.model import AcousticModel, EncoderConfig  # noqa: E402
from asr.onnx_encoder import LOOK_AHEAD_KEY, OnnxEncoder  # noqa: E402
from asr.train.checkpoint import write_model  # noqa: E402
from export.cli import main  # noqa: E402
from export.onnx_graph import export_encoder, initial_states, set_metadata, state_names  # noqa: E402
from export.parity import compare, run_onnx, run_torch  # noqa: E402
from export.quantize import Int8Weights, quantize_encoder  # noqa: E402
from lm.phones import PHONEMES, write_tokens  # noqa: E402

LOOK_AHEAD = 4
SIZES = {"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 24, "left_context": 60, "look_ahead": LOOK_AHEAD}
CONFIGS = {
    "conformer": EncoderConfig("conformer", kernel=7, **SIZES),
    "transformer": EncoderConfig("transformer", kernel=1, **SIZES),
}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    """Random weights, with a head that makes it sure of itself and features scaled as after training."""
    torch.manual_seed(3)
    model = AcousticModel(CONFIGS[request.param]).eval()
    with torch.no_grad():
        for block in model.blocks if request.param == "conformer" else ():
            torch.nn.init.normal_(block.convolution.edge, std=0.5)
        model.frontend.feature_mean.fill_(-7.0)
        model.frontend.feature_scale.fill_(0.25)
        model.head.weight.mul_(10)
    return model


@pytest.fixture(scope="module")
def graph_path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "encoder.onnx"
    export_encoder(model, path, chunk_ms=640)
    return path


@pytest.fixture(scope="module")
def int8_path(graph_path):
    path = graph_path.with_name("encoder-int8.onnx")
    quantize_encoder(graph_path, path, Int8Weights())
    return path


def make_features(n_frames, seed=0):
    return np.random.default_rng(seed).normal(-7, 4, (n_frames, 80)).astype(np.float32)


def metadata_of(path):
    return {prop.key: prop.value for prop in onnx.load(str(path)).metadata_props}


def sherpa_state_shapes(meta, batch):
    """Shapes as sherpa-onnx computes them from the metadata of a zipformer2 CTC model, for one stack of layers."""
    number = {key: int(value) for key, value in meta.items() if value.isdecimal()}
    left, width, heads = number["left_context_len"], number["encoder_dims"], number["num_heads"]
    value = (left, batch, number["value_head_dims"] * heads)
    conv = (batch, width, number["cnn_module_kernels"] // 2)
    layer = [
        (left, batch, number["query_head_dims"] * heads),
        (1, batch, left, 3 * width // 4),
        value,
        value,
        conv,
        conv,
    ]
    return [*layer * number["num_encoder_layers"], (batch, 128, 3, 19), (batch,)]


@pytest.mark.parametrize("chunk_ms", [320, 640, 1280])
def test_one_file_equals_torch_at_every_chunk_size(model, graph_path, chunk_ms):
    features, frames = make_features(384), chunk_ms // 10
    expected, found = run_torch(model, features, frames), run_onnx(graph_path, model, features, frames)
    assert expected.shape == (192, len(PHONEMES))
    assert np.abs(expected - found).max() < 1e-4
    report = compare(expected, found)
    assert report.same_label == 1.0
    assert report.max_abs < 1e-4


def test_a_batch_equals_its_rows(model, graph_path):
    session = onnxruntime.InferenceSession(str(graph_path), providers=["CPUExecutionProvider"])
    windows = np.random.default_rng(1).normal(-7, 4, (4, 3, 32 + 2 * LOOK_AHEAD, 80)).astype(np.float32)

    names = state_names(model.config)

    def stream(rows):
        states, out = [state.numpy() for state in initial_states(model.config, len(rows))], []
        for window in windows[:, rows]:
            log_probs, *states = session.run(None, {"x": window, **dict(zip(names, states, strict=True))})
            out.append(log_probs)
        return [np.concatenate(out, 1), *states]

    together = stream([0, 1, 2])
    assert together[-1].tolist() == [4 * 16] * 3
    batch_axes = [0, *[1, 1, 1, 1, 0, 0] * model.config.n_layers, 0, 0]
    for row in range(3):
        for axis, batch, single in zip(batch_axes, together, stream([row]), strict=True):
            assert np.allclose(batch.take([row], axis), single, atol=1e-5)


def test_metadata_and_shapes_are_what_sherpa_onnx_computes(graph_path, model):
    meta = metadata_of(graph_path)
    assert meta["model_type"] == "zipformer2"
    assert (meta["T"], meta["decode_chunk_len"]) == (str(64 + 2 * LOOK_AHEAD), "64")
    session = onnxruntime.InferenceSession(str(graph_path), providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    assert inputs[0].shape == ["N", "T", 80]
    assert outputs[0].shape == ["N", "T_out", len(PHONEMES)]
    expected = sherpa_state_shapes(meta, "N")
    for nodes, prefix in ((inputs[1:], ""), (outputs[1:], "new_")):
        assert [node.name for node in nodes] == [prefix + name for name in state_names(model.config)]
        assert [tuple(node.shape) for node in nodes] == expected
        assert [node.type for node in nodes] == ["tensor(float)"] * (len(nodes) - 1) + ["tensor(int64)"]


def test_unused_states_are_passed_on(graph_path, model):
    session = onnxruntime.InferenceSession(str(graph_path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(2)
    states = [rng.normal(size=s.shape).astype(np.float32) for s in initial_states(model.config)[:-1]]
    names = state_names(model.config)
    feed = dict(zip(names, [*states, np.array([5])], strict=True))
    after = dict(zip(names, session.run(None, {"x": make_features(40)[None], **feed})[1:], strict=True))
    has_convolutions = model.config.kernel > 1
    unused = ("cached_key_", *(() if has_convolutions else ("cached_conv1_", "cached_conv2_")))
    for name in ("cached_nonlin_attn_1", *(name for name in names if name.startswith(unused))):
        assert np.array_equal(after[name], feed[name])
    ahead = "cached_nonlin_attn_0"
    used = LOOK_AHEAD * len(PHONEMES)
    assert np.array_equal(after[ahead].ravel()[used:], feed[ahead].ravel()[used:])
    assert not np.isclose(after[ahead].ravel()[:used], feed[ahead].ravel()[:used]).any()
    front = model.frontend
    used, last = 80 * front.context, make_features(40)[32 - front.context : 32]
    assert np.array_equal(after["embed_states"].ravel()[used:], feed["embed_states"].ravel()[used:])
    assert np.allclose(after["embed_states"].ravel()[:used], last.ravel() - front.before, atol=1e-5)


def test_the_look_ahead_comes_with_the_state(model, graph_path):
    encoder, features = OnnxEncoder(graph_path), make_features(32 + 2 * LOOK_AHEAD)
    assert len(encoder.look_ahead(encoder.initial_state())) == LOOK_AHEAD
    log_probs, state = encoder.step(features, encoder.initial_state())
    with torch.inference_mode():
        whole, _ = model.window(torch.from_numpy(features)[None], model.initial_state())
    assert np.allclose(np.concatenate([log_probs, encoder.look_ahead(state)]), whole[0].numpy(), atol=1e-4)


def test_no_look_ahead_where_its_state_has_no_room_or_the_metadata_is_wrong(tmp_path):
    torch.manual_seed(3)
    small = EncoderConfig("conformer", kernel=7, **{**SIZES, "left_context": 20})
    export_encoder(AcousticModel(small).eval(), path := tmp_path / "small.onnx")
    encoder = OnnxEncoder(path)
    _, state = encoder.step(make_features(32 + 2 * LOOK_AHEAD), encoder.initial_state())
    assert encoder.look_ahead(state).shape == (0, len(PHONEMES))
    graph = onnx.load(str(path))
    set_metadata(graph, {LOOK_AHEAD_KEY: "2"})
    onnx.save(graph, str(path))
    with pytest.raises(BundleFileError, match="sottovoce_look_ahead': expected 0 to 1 frames, found '2'"):
        OnnxEncoder(path)


@pytest.mark.parametrize("path", ["graph_path", "int8_path"])
def test_the_engine_accepts_it(path, model, request):
    path = request.getfixturevalue(path)
    encoder = OnnxEncoder(path)
    assert encoder.look_ahead_frames == 2 * LOOK_AHEAD
    assert [spec.name for spec in encoder.state_spec] == state_names(model.config)
    features = make_features(64 + 2 * LOOK_AHEAD)
    state, rows = encoder.initial_state(), []
    for start in (0, 32):
        log_probs, state = encoder.step(features[start : start + 32 + 2 * LOOK_AHEAD], state)
        rows.append(log_probs)
    reference = run_onnx(path, model, features[:64], 32)  # the same but for the silence it appends
    assert np.allclose(rows[0], reference[:16], atol=1e-5)
    assert rows[1].shape == reference[16:].shape


def test_int8_weights_are_int8(model, graph_path, int8_path):
    tensors = {t.name: t for t in onnx.load(str(int8_path)).graph.initializer}
    weights = {name: t for name, t in tensors.items() if t.data_type == onnx.TensorProto.INT8}
    config = model.config
    if config.architecture == "conformer":
        products = 8 * config.n_layers + 1  # two feed-forwards, qkv, out, gate, out of each block; the head
        first = (4 * config.n_mels, config.d_model)
    else:
        products = 2 + 4 * config.n_layers + 1  # two convolutions; feed-forward, qkv, out of each block; the head
        first = (4 * config.n_mels, config.n_mels)
    assert len(weights) == products
    shapes = sorted(tuple(t.dims) for t in weights.values())
    assert (config.d_model, config.vocab_size) in shapes
    assert (config.d_model, 3 * config.d_model) in shapes
    for name, weight in weights.items():  # one scale an output channel
        axis = 1 if len(weight.dims) == 2 else 0
        scales = [size if i == axis else 1 for i, size in enumerate(weight.dims)]
        assert list(tensors[name.removesuffix(".int8") + ".scale"].dims) == scales
    floats = [tuple(t.dims) for t in tensors.values() if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2]
    assert first in floats
    assert metadata_of(int8_path) == metadata_of(graph_path)


def test_int8_output_is_close(model, int8_path):
    features = make_features(640)
    expected, found = run_torch(model, features, 64), run_onnx(int8_path, model, features, 64)
    report = compare(expected, found)
    assert 0 < report.mean_abs < 0.01
    assert report.same_label > 0.97
    assert np.abs(expected - found).mean() < 0.05 * expected.std(0).mean()  # small against what it has to tell


def test_chunk_command_restamps(tmp_path, graph_path, model, capsys):
    out = tmp_path / "encoder-320.onnx"
    assert main(["chunk", "--encoder", str(graph_path), "--chunk-ms", "320", "--out", str(out)]) == 0
    assert "320 ms" in capsys.readouterr().out
    changed = {"T": str(32 + 2 * LOOK_AHEAD), "decode_chunk_len": "32"}
    assert metadata_of(out) == metadata_of(graph_path) | changed
    assert OnnxEncoder(out).look_ahead_frames == 2 * LOOK_AHEAD
    features = make_features(64)
    assert np.array_equal(run_onnx(out, model, features, 32), run_onnx(graph_path, model, features, 32))


@pytest.mark.parametrize("options", [[], ["--float"]])
def test_encoder_command(tmp_path, graph_path, model, capsys, monkeypatch, options):
    def copy_graph(exported, path, *, chunk_ms):  # instead of exporting again, which takes seconds
        assert exported.config == model.config
        set_chunk = ["chunk", "--encoder", str(graph_path), "--chunk-ms", str(chunk_ms), "--out", str(path)]
        assert main(set_chunk) == 0

    monkeypatch.setattr("export.onnx_graph.export_encoder", copy_graph)
    write_model(tmp_path, model, 7)
    out = tmp_path / "encoder.onnx"
    command = ["encoder", "--checkpoint", str(tmp_path), "--chunk-ms", "1280", "--out", str(out), *options]
    assert main(command) == 0
    assert "same_label" in capsys.readouterr().out
    assert metadata_of(out)["decode_chunk_len"] == "128"
    kinds = {t.data_type for t in onnx.load(str(out)).graph.initializer}
    assert (onnx.TensorProto.INT8 in kinds) == (not options)


def test_missing_checkpoint_is_one_line(tmp_path, capsys):
    missing = tmp_path / "nothing"
    assert main(["encoder", "--checkpoint", str(missing), "--out", str(tmp_path / "encoder.onnx")]) == 2
    message = capsys.readouterr().err
    assert str(missing) in message
    assert message.count("\n") == 1


def noise_audio(seconds, seed):
    """Noise whose level and colour change, so that there is something to tell apart; in [-1, 1] at 16 kHz."""
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(round(seconds / 0.15)):
        spectrum = np.fft.rfft(rng.normal(size=2400))
        spectrum *= np.exp(-(((np.arange(len(spectrum)) / len(spectrum) - rng.uniform()) / 0.2) ** 2))
        piece = np.fft.irfft(spectrum, 2400)
        pieces.append(rng.uniform(0.02, 0.5) * piece / np.abs(piece).max())
    return np.concatenate(pieces).astype(np.float32)


@pytest.mark.parametrize(("path", "chunk"), [("graph_path", 64), ("graph_path", 32), ("int8_path", 64)])
def test_sherpa_onnx_hears_the_same(tmp_path, path, chunk, model, request):
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    encoder_path, tokens = tmp_path / "encoder.onnx", tmp_path / "tokens.txt"
    source = str(request.getfixturevalue(path))
    assert main(["chunk", "--encoder", source, "--chunk-ms", str(10 * chunk), "--out", str(encoder_path)]) == 0
    write_tokens(tokens)
    recognizer = sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(
        tokens=str(tokens), model=str(encoder_path), num_threads=1, provider="cpu"
    )
    samples = np.concatenate([noise_audio(4.0, seed=5), np.zeros(32000, np.float32)])
    stream = recognizer.create_stream()
    stream.accept_waveform(16000, samples)
    stream.input_finished()
    steps = 0
    while recognizer.is_ready(stream):
        recognizer.decode_stream(stream)
        steps += 1

    encoder, features = OnnxEncoder(encoder_path), compute_features(samples)
    state, rows = encoder.initial_state(), []
    for start in range(0, steps * chunk, chunk):
        log_probs, state = encoder.step(features[start : start + chunk + encoder.look_ahead_frames], state)
        rows.append(log_probs)
    expected = [PHONEMES[label] for label in collapse(np.concatenate(rows).argmax(1).tolist())]
    assert steps * chunk > 450
    assert len(set(expected)) > 5
    assert recognizer.tokens(stream) == expected

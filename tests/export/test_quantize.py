import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from small_encoder import CONFIG, make_features, plain_graph  # noqa: E402

from asr.nn.model import AcousticModel  # noqa: E402
from asr.nn.rounding import round_model, rounded  # noqa: E402
from asr.onnx_encoder import OnnxEncoder  # noqa: E402
from export.onnx_graph import export_encoder  # noqa: E402
from export.quantize import (  # noqa: E402
    Float32,
    Int4Weights,
    Int8Dynamic,
    Int8Static,
    Int8Weights,
    Mixed,
    QuantizationError,
    describe,
    find_layers,
    quantize_encoder,
    unpack_blocks,
)
from export.ranges import METHODS, value_range  # noqa: E402
from export.sensitivity import LayerSensitivity, choose_mixed, mean_divergence, sensitivity, stream  # noqa: E402

BLOCK_LAYERS = ("first.expand", "first.contract", "attention.query_key_value", "attention.out", "convolution.gate",
                "convolution.out", "second.expand", "second.contract")  # fmt: skip
SCHEMES = ("float32", "int8", "int8-dynamic", "int8-static", "int4")


@pytest.fixture(scope="module")
def plain():
    return plain_graph()


@pytest.fixture(scope="module")
def quantized(plain, tmp_path_factory):
    """Path of the graph in each scheme."""
    folder = tmp_path_factory.mktemp("quantized")
    noise = np.random.default_rng(1).normal(0, 0.1, 32_000).astype(np.float32)
    soundfile.write(folder / "noise.wav", noise * np.repeat(np.linspace(0, 1, 20), 1600), 16_000)
    configs = (Float32(), Int8Weights(), Int8Dynamic(), Int8Static((folder / "noise.wav",), "minmax"), Int4Weights())
    paths = {}
    for scheme, config in zip(SCHEMES, configs, strict=True):
        paths[scheme] = folder / f"{scheme}.onnx"
        quantize_encoder(plain, paths[scheme], config)
        assert describe(config)["scheme"] == scheme
    return paths


@pytest.fixture(scope="module")
def divergence(plain, quantized):
    clips = [make_features(256, seed) for seed in range(2)]
    expected = [stream(OnnxEncoder(plain), clip) for clip in clips]
    return {
        scheme: mean_divergence(expected, [stream(OnnxEncoder(path), clip) for clip in clips])
        for scheme, path in quantized.items()
    }


def tensors_of(path):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer}


def stored_bytes(path):
    return sum(values.nbytes for values in tensors_of(path).values())


def test_layers_have_their_names_of_torch(plain):
    layers = find_layers(onnx.load(str(plain)))
    blocks = [f"blocks.{block}.{name}" for block in range(CONFIG.n_layers) for name in BLOCK_LAYERS]
    assert [layer.name for layer in layers] == ["frontend.linear", *blocks, "head"]
    assert layers[1].shape == (CONFIG.d_model, CONFIG.d_ff)


def test_fewer_bits_are_fewer_bytes_and_more_divergence(quantized, divergence):
    size = {scheme: stored_bytes(path) for scheme, path in quantized.items()}
    assert size["int4"] < size["int8"] < 0.6 * size["float32"]  # much of so small a network is not in its layers
    assert size["int8"] <= size["int8-dynamic"] < 1.1 * size["int8"]
    assert size["int8"] <= size["int8-static"] < 1.1 * size["int8"]
    assert divergence["float32"] == 0
    assert 0 < divergence["int8"] < divergence["int8-dynamic"] < divergence["int4"]
    assert divergence["int8-dynamic"] < 0.01
    assert divergence["int8"] < divergence["int8-static"] < 0.02
    assert divergence["int4"] > 10 * divergence["int8"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_shapes_and_metadata_stay(plain, quantized, scheme):
    encoder, before = OnnxEncoder(quantized[scheme]), OnnxEncoder(plain)
    assert encoder.metadata == before.metadata
    assert encoder.state_spec == before.state_spec
    window = make_features(64 + encoder.look_ahead_frames)
    log_probs, state = encoder.step(window, encoder.initial_state())
    assert log_probs.shape == (32, CONFIG.vocab_size)
    assert np.allclose(np.exp(log_probs).sum(1), 1, atol=1e-4)
    assert [part.shape for part in state] == [spec.shape for spec in encoder.state_spec]


def test_static_quantises_the_input_of_every_layer_but_the_front_end(quantized):
    nodes = onnx.load(str(quantized["int8-static"])).graph.node
    assert sum(node.op_type == "QuantizeLinear" for node in nodes) == CONFIG.n_layers * len(BLOCK_LAYERS) + 1


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_bytes_foretold_are_those_in_the_file(plain, quantized, scheme):
    layers = find_layers(onnx.load(str(plain)))[1:]
    saved = stored_bytes(plain) - stored_bytes(quantized[scheme])
    assert saved == sum(layer.weight_bytes("float32") - layer.weight_bytes(scheme) for layer in layers)


def test_four_bits_are_the_blocks_that_training_rounds_to(plain, quantized):
    """Unpacked by hand: low half first, eight is zero."""
    layer = find_layers(onnx.load(str(plain)))[1]
    weight = tensors_of(plain)[layer.weight].T  # (out, in)
    graph = onnx.load(str(quantized["int4"])).graph
    node = next(n for n in graph.node if n.op_type == "MatMulNBits")
    cast = next(n for n in graph.node if n.output[0] == node.input[2])
    stored = tensors_of(quantized["int4"])
    packed, scale = stored[node.input[1]], stored[cast.input[0]].astype(np.float32).reshape(len(weight), -1, 1)
    steps = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:2], -1).astype(np.float32) - 8
    found = (steps * scale).reshape(len(weight), -1)[:, : weight.shape[1]]
    assert np.array_equal(found, rounded(torch.tensor(weight), 4).numpy())
    assert np.array_equal(found.T, unpack_blocks(packed, scale.astype(np.float16), weight.shape[1]))
    assert 0 < np.abs(found - weight).max() <= scale.max() * 1.01


def test_what_was_trained_to_four_bits_loses_nothing(tmp_path):
    torch.manual_seed(3)
    model = AcousticModel(CONFIG).eval()
    round_model(model, 4)
    export_encoder(model, tmp_path / "plain.onnx")
    quantize_encoder(tmp_path / "plain.onnx", tmp_path / "int4.onnx", Int4Weights())
    clip = make_features(192)
    found, expected = (stream(OnnxEncoder(tmp_path / f"{name}.onnx"), clip) for name in ("int4", "plain"))
    assert np.abs(found - expected).max() < 1e-4


def test_mixed_of_one_scheme_is_that_scheme(plain, quantized, tmp_path):
    layers = [layer.name for layer in find_layers(onnx.load(str(plain)))[1:]]
    clip = make_features(128)
    for scheme in ("int8", "int4", "int8-dynamic"):
        quantize_encoder(plain, tmp_path / "mixed.onnx", Mixed(dict.fromkeys(layers, scheme)))
        found, expected = (stream(OnnxEncoder(path), clip) for path in (tmp_path / "mixed.onnx", quantized[scheme]))
        assert np.array_equal(found, expected)


def test_mixed_leaves_what_it_does_not_name(plain, tmp_path):
    quantize_encoder(plain, tmp_path / "mixed.onnx", Mixed({"head": "int8", "blocks.0.first.expand": "int4"}))
    before, after = tensors_of(plain), tensors_of(tmp_path / "mixed.onnx")
    by_name = {layer.name: layer.weight for layer in find_layers(onnx.load(str(plain)))}
    changed = {by_name["head"], by_name["blocks.0.first.expand"]}
    assert not changed & after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before.keys() - changed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixed({"head": "int3"}), "int3"),
        (lambda: Int8Static(()), "audio"),
        (lambda: Int8Static((Path("a.wav"),), "mean"), "minmax, percentile, entropy"),
        (lambda: Int8Static((Path("a.wav"),), percentile=10), "percentile"),
        (lambda: Int4Weights(block_size=33), "33"),
    ],
)
def test_configs_that_cannot_be_are_refused(make, message):
    with pytest.raises(QuantizationError, match=message):
        make()


def test_graphs_that_do_not_fit_are_refused(plain, quantized, tmp_path):
    with pytest.raises(QuantizationError, match=r"'blocks\.9\.first'.*frontend\.linear"):
        quantize_encoder(plain, tmp_path / "out.onnx", Mixed({"blocks.9.first": "int8"}))
    graph = onnx.load(str(quantized["float32"]))
    del graph.graph.node[:]
    onnx.save(graph, str(tmp_path / "empty.onnx"))
    with pytest.raises(QuantizationError, match="--float"):
        quantize_encoder(tmp_path / "empty.onnx", tmp_path / "out.onnx", Int8Weights())
    assert not (tmp_path / "out.onnx").exists()


def test_descriptions_are_json_without_folders():
    text = json.dumps(describe(Int8Static((Path("/secret/place/a.flac"),))))
    assert "a.flac" in text
    assert "secret" not in text
    assert json.loads(json.dumps(describe(Mixed({"head": "int4"}))))["layers"] == {"head": "int4"}


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=50), st.sampled_from(METHODS))
def test_ranges_hold_zero_and_are_not_empty(values, method):
    low, high = value_range(np.array(values, np.float32), method, 99.9)
    assert low <= 0 <= high
    assert low < high
    assert low >= min(*values, 0)
    assert high <= max(*values, 0) or (low, high) == (0, 1)


def test_methods_treat_outliers_as_they_say():
    values = np.append(np.random.default_rng(0).normal(size=100_000), [1000.0, -500.0]).astype(np.float32)
    assert value_range(values, "minmax", 0) == (-500, 1000)
    low, high = value_range(values, "percentile", 99.9)
    assert np.allclose([low, high], np.percentile(values, [0.1, 99.9]))
    assert value_range(values, "entropy", 0)[1] < 400


def test_sensitivity_of_each_layer(plain):
    found = sensitivity(plain, [make_features(128)])
    assert [entry.layer for entry in found] == [layer.name for layer in find_layers(onnx.load(str(plain)))[1:]]
    for entry in found:
        assert entry.divergence["float32"] == 0
        assert entry.divergence["int8"] < entry.divergence["int4"]
        assert entry.n_bytes["float32"] > entry.n_bytes["int8"] > entry.n_bytes["int4"]


@st.composite
def sensitivities(draw):
    entries = []
    for index in range(draw(st.integers(1, 6))):
        size, outputs = draw(st.integers(64, 5000)), draw(st.integers(1, 8))
        int8, more = draw(st.floats(0, 0.1)), draw(st.floats(0, 1))
        n_bytes = {"float32": 4 * size, "int8": size + 4 * outputs, "int4": size // 2 + outputs}
        entries.append(LayerSensitivity(str(index), {"float32": 0.0, "int8": int8, "int4": int8 + more}, n_bytes))
    return entries


@given(sensitivities(), st.floats(0, 4.5), st.floats(0, 4.5))
def test_the_choice_keeps_its_budget_and_takes_no_step_too_many(layers, share, other):
    budgets = sorted(int(x * sum(layer.n_bytes["int8"] for layer in layers)) for x in (share, other))
    least = sum(layer.n_bytes["int4"] for layer in layers)
    costs = []
    for budget in budgets:
        if budget < least:
            with pytest.raises(QuantizationError, match=str(least)):
                choose_mixed(layers, budget)
            return
        plan = choose_mixed(layers, budget).layers
        total = sum(layer.n_bytes[plan[layer.layer]] for layer in layers)
        assert total <= budget
        assert set(plan) == {layer.layer for layer in layers}
        if budget >= sum(layer.n_bytes["float32"] for layer in layers):
            assert set(plan.values()) == {"float32"}
        costs.append(sum(layer.divergence[plan[layer.layer]] for layer in layers))
    assert costs[0] >= costs[1] - 1e-12  # less room is never better


def test_the_choice_spares_the_layer_that_minds():
    n_bytes = {"float32": 4000, "int8": 1000, "int4": 500}
    layers = [
        LayerSensitivity(name, {"float32": 0, "int8": 1e-5, "int4": kl}, n_bytes)
        for name, kl in (("a", 0.5), ("b", 0.01))
    ]
    assert dict(choose_mixed(layers, 1500).layers) == {"a": "int8", "b": "int4"}

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from small_encoder import CONFIG, make_features, small_model  # noqa: E402

from asr.nn.model import AcousticModel, EncoderConfig  # noqa: E402
from asr.nn.rounding import fit_blocks, round_model, rounded  # noqa: E402
from asr.train.checkpoint import Checkpoint, write_model  # noqa: E402
from asr.train.deepen import deepened  # noqa: E402
from asr.train.evaluate import streamed_log_probs  # noqa: E402
from export.cli import main  # noqa: E402
from export.compress import (  # noqa: E402
    CompressionError,
    LowRank,
    PruneUnits,
    choose_ranks,
    choose_units,
    compress,
    describe,
    with_ranks,
)
from export.moments import Inputs  # noqa: E402
from export.onnx_graph import export_encoder  # noqa: E402
from export.parity import run_onnx, run_torch  # noqa: E402
from export.quantize import Int4Weights, Int8Weights, quantize_encoder  # noqa: E402
from export.rounding import RoundWeights, round_matrix  # noqa: E402
from export.sensitivity import mean_divergence  # noqa: E402
from export.structured import DropBlocks, PruneHeads  # noqa: E402

FEATURES = [make_features(512, seed) for seed in range(2)]


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def low_rank(model):
    return compress(model, LowRank(0.5), FEATURES)


@pytest.fixture(scope="module")
def pruned(model):
    return compress(model, PruneUnits(0.5), FEATURES)


def linear_layers(model):
    return {
        name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and name.startswith("blocks")
    }


def n_weights(model):
    return sum(layer.weight.numel() for layer in linear_layers(model).values())


def log_probs(model):
    return np.concatenate([streamed_log_probs(model, clip, 32) for clip in FEATURES])


def test_full_rank_is_the_same_network(model):
    layers = linear_layers(model)
    ranks = {name: min(layer.weight.shape) for name, layer in layers.items()}
    assert np.abs(log_probs(with_ranks(model, ranks, FEATURES)) - log_probs(model)).max() < 1e-4


def test_all_of_the_parameters_is_the_same_network(model):
    assert compress(model, LowRank(1.0), FEATURES).config.ranks == {}
    whole = compress(model, PruneUnits(1.0), FEATURES)
    assert set(whole.config.hidden_units.values()) == {CONFIG.d_ff}
    assert np.array_equal(log_probs(whole), log_probs(model))


def test_low_rank_keeps_its_budget_and_the_config_says_so(model, low_rank):
    assert n_weights(low_rank) <= 0.5 * n_weights(model)
    assert n_weights(low_rank) > 0.4 * n_weights(model)
    assert low_rank.config.ranks
    for name, rank in low_rank.config.ranks.items():
        assert low_rank.get_submodule(name)[0].weight.shape[0] == rank


def test_pruning_keeps_its_share_of_units(model, pruned):
    units = pruned.config.hidden_units
    assert set(units) == {f"blocks.{block}.{part}" for block in range(CONFIG.n_layers) for part in ("first", "second")}
    assert sum(units.values()) == 0.5 * 2 * CONFIG.n_layers * CONFIG.d_ff
    assert {name: pruned.get_submodule(name).expand.out_features for name in units} == units


def test_the_network_given_stays_as_it_is(model, low_rank, pruned):
    torch.manual_seed(5)
    again = AcousticModel(CONFIG)
    assert torch.equal(model.blocks[1].second.contract.bias, again.blocks[1].second.contract.bias)
    assert torch.equal(model.blocks[0].first.expand.weight, again.blocks[0].first.expand.weight)


def test_cut_outputs_are_the_best_of_their_rank(model):
    """The error of a cut layer is the energy of the singular values cut off (Eckart and Young), on its own inputs."""
    name, rank = "blocks.0.first.expand", 12
    block, cut = model.blocks[0].first, with_ranks(model, {name: rank}, FEATURES).blocks[0].first
    rows = []
    hook = block.expand.register_forward_pre_hook(lambda _, given: rows.append(given[0].flatten(0, -2)))
    log_probs(model)
    hook.remove()
    x = torch.cat(rows).double()
    error = (block.expand.double()(x) - cut.expand.double()(x)).square().sum(1).mean().item()
    centred = (x - x.mean(0)) @ block.expand.weight.T
    block.expand.float()
    values = torch.linalg.svdvals(centred) / len(x) ** 0.5
    assert error == pytest.approx(values[rank:].square().sum().item(), rel=1e-3)


@pytest.fixture(scope="module")
def fewer_heads(model):
    return compress(model, PruneHeads(1), FEATURES)


@pytest.fixture(scope="module")
def fewer_blocks(model):
    return compress(model, DropBlocks(1), FEATURES)


@pytest.mark.parametrize("kind", ["low_rank", "pruned", "fewer_heads", "fewer_blocks"])
def test_a_checkpoint_of_it_opens_and_trains(kind, request, tmp_path):
    small = request.getfixturevalue(kind)
    write_model(tmp_path, small, 3)
    opened = Checkpoint(tmp_path).model().eval()
    assert opened.config == small.config
    assert np.array_equal(log_probs(opened), log_probs(small))
    opened(torch.from_numpy(FEATURES[0])[None], chunk=32).square().mean().backward()
    assert all(parameter.grad is not None for parameter in opened.parameters())


def test_it_exports_and_quantises(low_rank, tmp_path):
    export_encoder(low_rank, tmp_path / "plain.onnx")
    expected = run_torch(low_rank, FEATURES[0], 64)
    assert np.abs(run_onnx(tmp_path / "plain.onnx", low_rank, FEATURES[0], 64) - expected).max() < 1e-4
    quantize_encoder(tmp_path / "plain.onnx", tmp_path / "int8.onnx", Int8Weights())
    found = run_onnx(tmp_path / "int8.onnx", low_rank, FEATURES[0], 64)
    assert np.abs(np.exp(found) - np.exp(expected)).mean() < 0.01
    assert (tmp_path / "int8.onnx").stat().st_size < (tmp_path / "plain.onnx").stat().st_size


@pytest.mark.parametrize("kind", ["fewer_heads", "fewer_blocks"])
def test_networks_of_fewer_parts_stream_and_are_read_back_from_their_graphs(kind, request, tmp_path):
    small = request.getfixturevalue(kind)
    export_encoder(small, tmp_path / "encoder.onnx")
    expected = run_torch(small, FEATURES[0], 64)
    assert np.abs(run_onnx(tmp_path / "encoder.onnx", small, FEATURES[0], 64) - expected).max() < 1e-4
    streamed = streamed_log_probs(small, FEATURES[0], 32)
    assert np.abs(streamed - expected[: len(streamed)]).max() < 1e-4


def test_a_silent_head_goes_and_nobody_notices(model):
    changed = AcousticModel(CONFIG)
    changed.load_state_dict(model.state_dict())
    width = CONFIG.d_model // CONFIG.n_heads
    with torch.no_grad():
        for index, block in enumerate(changed.blocks):
            block.attention.out.weight[:, index * width : (index + 1) * width] = 0  # another one in each block
    smaller = compress(changed.eval(), PruneHeads(1), FEATURES)
    assert (smaller.config.n_heads, smaller.config.attention_width) == (CONFIG.n_heads - 1, width)
    assert np.abs(log_probs(smaller) - log_probs(changed)).max() < 1e-4


def test_the_block_that_does_least_goes(model, fewer_blocks):
    shorter = []
    for kept in range(CONFIG.n_layers):
        shorter.append(AcousticModel(replace(CONFIG, n_layers=1)).eval())
        for part in ("frontend", "head"):
            getattr(shorter[-1], part).load_state_dict(getattr(model, part).state_dict())
        shorter[-1].blocks[0].load_state_dict(model.blocks[kept].state_dict())
    before = log_probs(model)
    costs = [float((np.exp(before) * (before - log_probs(each))).sum()) for each in shorter]
    assert min(costs) < 0.99 * max(costs)
    best = shorter[int(np.argmin(costs))].state_dict()
    assert all(torch.equal(values, best[name]) for name, values in fewer_blocks.state_dict().items())


def test_blocks_put_in_and_not_trained_are_the_first_to_go(model):
    shorter = compress(deepened(model, [0, 1]).eval(), DropBlocks(2), FEATURES)
    assert shorter.config == model.config
    assert np.array_equal(log_probs(shorter), log_probs(model))


def test_more_parts_than_there_are_cannot_go(model):
    with pytest.raises(CompressionError, match="a block has 2"):
        compress(model, PruneHeads(2), FEATURES)
    with pytest.raises(CompressionError, match="the network has 2"):
        compress(model, DropBlocks(2), FEATURES)
    for kind in (PruneHeads, DropBlocks):
        with pytest.raises(CompressionError, match="at least 1"):
            kind(0)
    assert describe(DropBlocks(1)) == {"method": "dropped blocks", "blocks": 1}


def test_the_command_writes_a_checkpoint_that_training_starts_from(model, tmp_path, capsys):
    write_model(tmp_path, model, 0)
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)
    options = ["--checkpoint", str(tmp_path), "--speech", str(clip), "--out", str(tmp_path / "out")]
    assert main(["compress", *options, "--variant", "heads:1"]) == 0
    assert Checkpoint(tmp_path / "out").model().config.n_heads == 1
    assert "parameters" in capsys.readouterr().out
    assert main(["compress", *options, "--variant", "int8"]) == 2
    assert "expected low-rank:0.75" in capsys.readouterr().err
    assert main(["compress", *options, "--variant", "heads:x"]) == 2


def test_dead_units_go_first_and_nobody_notices(model):
    changed = AcousticModel(CONFIG)
    changed.load_state_dict(model.state_dict())
    with torch.no_grad():
        for block in changed.blocks:
            for part in (block.first, block.second):
                part.contract.weight[:, ::4] = 0  # silent
                part.expand.weight[1::4] = 0  # always the same
    smaller = compress(changed.eval(), PruneUnits(0.5), FEATURES)
    assert set(smaller.config.hidden_units.values()) == {CONFIG.d_ff // 2}
    assert np.abs(log_probs(smaller) - log_probs(changed)).max() < 1e-4


@st.composite
def layers_to_cut(draw):
    costs, sizes = {}, {}
    for index in range(draw(st.integers(1, 3))):
        inputs, outputs = draw(st.integers(2, 8)), draw(st.integers(2, 8))
        values = sorted(
            draw(st.lists(st.floats(0.01, 10), min_size=min(inputs, outputs), max_size=min(inputs, outputs)))
        )
        costs[str(index)] = np.append(np.cumsum(values)[::-1], 0.0)
        sizes[str(index)] = inputs * outputs, inputs + outputs
    return costs, sizes


@given(layers_to_cut(), st.floats(0.05, 1))
def test_no_other_ranks_of_as_few_parameters_cost_less(case, share):
    costs, sizes = case
    budget = int(share * sum(whole for whole, _ in sizes.values()))

    def size(name, rank):
        return sizes[name][0] if rank == len(costs[name]) - 1 else min(sizes[name][0], rank * sizes[name][1])

    def parameters(ranks):
        return sum(size(name, rank) for name, rank in ranks.items())

    def cost(ranks):
        return sum(costs[name][rank] for name, rank in ranks.items())

    choices = [
        dict(zip(costs, ranks, strict=True)) for ranks in itertools.product(*(range(1, len(c)) for c in costs.values()))
    ]
    try:
        chosen = choose_ranks(costs, sizes, budget)
    except CompressionError:
        assert min(map(parameters, choices)) > budget
        return
    left = budget - parameters(chosen)
    assert left >= 0
    for price in np.exp(np.linspace(-12, 12, 200)):  # the choices that a single price a parameter makes best
        alike = {
            name: 1
            + int(np.argmin([costs[name][rank] + price * size(name, rank) for rank in range(1, len(costs[name]))]))
            for name in costs
        }
        assert parameters(alike) > budget or cost(chosen) <= cost(alike) + 1e-9
    for name, rank in chosen.items():  # and nothing that would still fit saves anything
        assert all(
            costs[name][other] >= costs[name][rank]
            for other in range(1, len(costs[name]))
            if size(name, other) - size(name, rank) <= left
        )


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=9), min_size=1, max_size=4), st.floats(0.01, 1))
def test_units_kept_are_the_most_important(values, share):
    importance = {str(index): np.array(layer) for index, layer in enumerate(values)}
    kept = choose_units(importance, share)
    for name, layer in importance.items():
        assert len(kept[name]) >= 1
        assert (np.diff(kept[name]) > 0).all()
        dropped = np.setdiff1d(np.arange(len(layer)), kept[name])
        assert all(layer[unit] <= layer[kept[name]].min() for unit in dropped)
    n_kept, wanted = sum(map(len, kept.values())), round(share * sum(map(len, values)))
    assert wanted <= n_kept <= max(wanted, 1) + len(values)  # a layer keeps its best unit in any case


def test_layers_that_cost_nothing_to_cut_do_not_take_the_price_away(model):
    changed = AcousticModel(CONFIG)
    changed.load_state_dict(model.state_dict())
    with torch.no_grad():
        for block in changed.blocks:
            u, s, v = torch.linalg.svd(block.first.expand.weight, full_matrices=False)
            block.first.expand.weight.copy_(u[:, :6] * s[:6] @ v[:6])  # its rank is 6
    ranks = compress(changed.eval(), LowRank(0.75), FEATURES).config.ranks
    assert all(ranks.get(f"blocks.{index}.first.expand", 6) >= 4 for index in range(CONFIG.n_layers))


def test_clips_without_a_frame_are_left_out(model):
    empty = np.zeros((0, 80), np.float32)
    smaller = compress(model, PruneUnits(0.5), [empty, *FEATURES])
    assert smaller.config == compress(model, PruneUnits(0.5), FEATURES).config
    with pytest.raises(CompressionError, match="speech"):
        compress(model, PruneUnits(0.5), [empty])


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
@pytest.mark.parametrize("kind", [LowRank, PruneUnits])
def test_shares_that_cannot_be_are_refused(kind, share):
    with pytest.raises(CompressionError, match="share"):
        kind(share)


def test_compression_says_what_it_needs(model, low_rank):
    with pytest.raises(CompressionError, match="speech"):
        compress(model, LowRank(), [])
    with pytest.raises(CompressionError, match="already"):
        compress(low_rank, PruneUnits(), FEATURES)
    with pytest.raises(CompressionError, match="raise the share"):
        compress(model, LowRank(0.01), FEATURES)
    assert describe(LowRank(0.5)) == {"method": "low rank", "share": 0.5}


@pytest.mark.parametrize("changes", [{"ranks": {"blocks.7.first.expand": 3}}, {"hidden_units": {"blocks.0": 8}}])
def test_a_configuration_of_layers_that_are_not_there_is_refused(changes):
    with pytest.raises(ValueError, match="blocks"):
        AcousticModel(EncoderConfig(d_model=16, n_heads=2, n_layers=1, d_ff=24, kernel=3, **changes))


def inputs_of(seed, n_inputs, spread=1.0):
    """Moments of inputs that hang together."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(400, n_inputs)) @ (np.eye(n_inputs) + spread * rng.normal(size=(n_inputs, n_inputs)))
    rows += rng.normal(size=n_inputs)
    mean = rows.mean(0)
    return Inputs(mean, rows.T @ rows / len(rows) - np.outer(mean, mean))


def output_error(weight, found, inputs):
    change = (weight - found).numpy()
    return np.einsum("oi,ij,oj->o", change, inputs.covariance, change)


@given(st.integers(0, 1000), st.integers(2, 5))
def test_rounding_by_what_inputs_correlate_loses_less_than_to_the_nearest(seed, bits):
    weight = torch.randn(12, 40, generator=torch.Generator().manual_seed(seed)).double()
    inputs = inputs_of(seed, 40)
    found = round_matrix(weight, inputs, bits)
    nearest = rounded(weight.float(), bits).double()
    assert output_error(weight, found, inputs).sum() < 0.8 * output_error(weight, nearest, inputs).sum()
    assert torch.equal(rounded(found.float(), bits).double(), found)  # what quantisation then makes of it


def test_inputs_that_do_not_hang_together_are_rounded_to_the_nearest():
    weight = torch.randn(6, 32, generator=torch.Generator().manual_seed(1)).double()
    inputs = Inputs(np.zeros(32), np.diag(np.arange(1.0, 33.0)))
    assert torch.allclose(round_matrix(weight, inputs, 4), rounded(weight.float(), 4).double())


def test_rounding_comes_near_the_best_of_all_grids():
    """Oracle: every combination of steps of a few inputs, with the same scale."""
    ratios = []
    for seed in range(20):
        weight = torch.randn(1, 4, generator=torch.Generator().manual_seed(seed)).double()
        inputs = inputs_of(seed, 4)
        scale = float(fit_blocks(weight.float(), 3)[1])
        grids = torch.tensor(list(itertools.product(range(-4, 4), repeat=4))).double() * scale
        best = output_error(weight.expand(len(grids), -1), grids, inputs).min()
        ratios.append(output_error(weight, round_matrix(weight, inputs, 3), inputs)[0] / best)
    assert min(ratios) >= 1 - 1e-9
    assert np.median(ratios) < 1.2


def test_rounded_weights_lose_less_and_four_bits_hold_them(model, tmp_path):
    stages = []
    made = compress(model, RoundWeights(4), FEATURES, lambda groups: stages.extend(groups) or groups)
    plain = copy.deepcopy(model)
    round_model(plain, 4)
    assert sorted(name for stage in stages for name in stage) == sorted([*linear_layers(model), "head"])
    found, expected = (mean_divergence([log_probs(model)], [log_probs(each)]) for each in (made, plain))
    assert 0 < found < expected
    export_encoder(made, tmp_path / "plain.onnx")
    quantize_encoder(tmp_path / "plain.onnx", tmp_path / "int4.onnx", Int4Weights())
    assert (
        np.abs(run_onnx(tmp_path / "int4.onnx", made, FEATURES[0], 64) - run_torch(made, FEATURES[0], 64)).max() < 1e-3
    )
    assert describe(RoundWeights(4)) == {"method": "rounded weights", "bits": 4}
    with pytest.raises(CompressionError, match="bits is 9"):
        RoundWeights(9)

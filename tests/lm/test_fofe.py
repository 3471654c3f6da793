"""The FOFE models against plain loops, and the sampled objective against the full softmax."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from lm.train.batches import Segment  # noqa: E402
from lm.train.fofe import Adapter, AdapterConfig, LanguageModel, code_size, fofe_codes  # noqa: E402
from lm.train.objective import Rows, Sample, Sampler, segment_loss, total_loss  # noqa: E402
from lm.train.optim import INITIAL_SQUARE, RowAdagrad  # noqa: E402
from lm.train.recipe import LanguageModelConfig  # noqa: E402
from lm.train.settings import RecipeError  # noqa: E402

V = 23
CONFIG = LanguageModelConfig(vocabulary_size=V, context=4, window=2, dim=6, hidden=10, layers=2, experts=3)


def make_model(seed=0, **changes):
    torch.manual_seed(seed)
    model = LanguageModel(replace(CONFIG, **changes))
    with torch.no_grad():
        model.bias.normal_()
    return model


def some_contexts(n=9, seed=0, context=CONFIG.context):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, V, (context, n)))


def by_hand(model, context, network):
    """What a network says after one context, in NumPy and one word at a time."""
    config = model.config
    table = model.embedding.detach().numpy().astype(np.float64)
    codes = []
    for factor in config.factors:
        history, code = [], np.zeros(config.dim)
        for word in context:
            code = factor * code + table[word]
            history.insert(0, code)
        codes += history[: config.window if factor == config.factors[0] else 1]
    x = np.concatenate(codes)
    for number, layer in enumerate(network.layers):
        y = layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()
        if number < len(network.layers) - 1:
            y = np.maximum(y, 0)
            x = x + y if number else y
        else:
            x = y
    return x


@given(
    context=st.integers(1, 9), n=st.integers(1, 5), factors=st.lists(st.floats(0.1, 0.99), min_size=1, max_size=3),
    data=st.data(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_codes_are_those_of_the_recurrence(context, n, factors, data):
    window = data.draw(st.integers(1, context))
    embedded = torch.from_numpy(np.random.default_rng(context * n).normal(size=(context, n, 3)))
    found = fofe_codes(embedded, factors, window).numpy()
    for column in range(n):
        expected = []
        for number, factor in enumerate(factors):
            z, history = np.zeros(3), []
            for t in range(context):
                z = factor * z + embedded[t, column].numpy()
                history.append(z)
            expected += [history[-1 - back] for back in range(window if number == 0 else 1)]
        np.testing.assert_allclose(found[column], np.concatenate(expected), rtol=1e-9)


def test_more_codes_of_a_second_factor_would_say_nothing_new():
    rng = np.random.default_rng(0)
    embedded = torch.from_numpy(rng.normal(size=(6, 50, 1)))
    lean = fofe_codes(embedded, (0.5, 0.9), 3).numpy()
    full = np.concatenate([fofe_codes(embedded, (factor,), 3).numpy() for factor in (0.5, 0.9)], axis=1)
    assert full.shape[1] > lean.shape[1]
    assert np.linalg.matrix_rank(full) == np.linalg.matrix_rank(lean) == lean.shape[1]
    assert np.linalg.matrix_rank(np.concatenate([full, lean], axis=1)) == lean.shape[1]


@pytest.mark.parametrize("layers", [1, 3])
def test_shared_model_equals_numpy(layers):
    model, contexts = make_model(layers=layers), some_contexts()
    found, table, bias = (x.detach().numpy() for x in (model(contexts), model.embedding, model.bias[0]))
    for column in range(contexts.shape[1]):
        expected = table @ by_hand(model, contexts[:, column], model.networks[0]) + bias
        np.testing.assert_allclose(found[column], expected, rtol=1e-4, atol=1e-5)


def test_separate_model_runs_one_network_and_bias():
    model, contexts = make_model(form="separate"), some_contexts()
    for application in (0, 1):
        found, bias = model(contexts, application).detach().numpy(), model.bias[application].detach().numpy()
        expected = model.embedding.detach().numpy() @ by_hand(model, contexts[:, 0], model.networks[application]) + bias
        np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(contexts, 0), model(contexts, 1))


def test_separate_model_trains_only_the_network_that_ran():
    model = make_model(form="separate")
    model(some_contexts(), 1).sum().backward()
    assert all(p.grad is None for p in model.networks[0].parameters())
    assert all(p.grad is not None for p in model.networks[1].parameters())
    assert not model.bias.grad[0].any()


def test_mixture_equals_numpy():
    model, contexts = make_model(form="mixture"), some_contexts()
    found = model(contexts).detach().numpy()
    table, bias = model.embedding.detach().numpy(), model.bias[0].detach().numpy()
    for column in range(contexts.shape[1]):
        context = contexts[:, column]
        gate = by_hand(model, context, model.gate)
        share = np.exp(gate) / np.exp(gate).sum()
        opinions = [by_hand(model, context, network) for network in model.networks]
        expected = table @ sum(s * o for s, o in zip(share, opinions, strict=True)) + bias
        np.testing.assert_allclose(found[column], expected, rtol=1e-4, atol=1e-5)


def test_equal_networks_make_all_forms_equal():
    shared, contexts = make_model(), some_contexts()
    separate, mixture = make_model(1, form="separate"), make_model(1, form="mixture")
    single = make_model(1, form="mixture", experts=1)
    for model in (separate, mixture, single):
        for network in model.networks:
            network.load_state_dict(shared.networks[0].state_dict())
        with torch.no_grad():
            model.embedding.copy_(shared.embedding)
            model.bias.copy_(shared.bias.expand_as(model.bias))
        for application in (0, 1):
            torch.testing.assert_close(model(contexts, application), shared(contexts))


def make_adapter(model, seed=0, **changes):
    torch.manual_seed(seed)
    return Adapter(AdapterConfig("test", **{"rank": 2, "targets": (0, 1, 2)} | changes), model.config)


def test_new_adapter_changes_nothing():
    model, contexts = make_model(), some_contexts()
    assert torch.equal(model(contexts), model(contexts, adapter=make_adapter(model)))


def test_adapter_adds_low_rank_matrices_and_a_bias():
    model, contexts = make_model(), some_contexts()
    adapter = make_adapter(model)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_()
    merged = make_model()
    with torch.no_grad():
        for number, layer in enumerate(merged.networks[0].layers):
            layer.weight += adapter.up[str(number)] @ adapter.down[str(number)]
        merged.bias += adapter.bias
    torch.testing.assert_close(model(contexts, adapter=adapter), merged(contexts), rtol=1e-4, atol=1e-4)


def test_adapter_rejects_layers_that_are_not_there():
    with pytest.raises(ValueError, match="layers 0 to 2"):
        make_adapter(make_model(), targets=(3,))
    assert make_adapter(make_model(), bias=False).bias is None


@pytest.mark.parametrize(
    "changes",
    [{"form": "other"}, {"activation": "tanh"}, {"factors": (1.0,)}, {"factors": ()}, {"window": 5}, {"window": 0},
     {"dim": 0}, {"applications": ()}, {"vocabulary_size": 3}],
)  # fmt: skip
def test_impossible_configurations(changes):
    with pytest.raises(RecipeError, match="model"):
        replace(CONFIG, **changes)


def test_code_size_counts_codes():
    assert code_size(CONFIG) == 3 * CONFIG.dim
    assert fofe_codes(torch.zeros(4, 1, 6), CONFIG.factors, CONFIG.window).shape == (1, code_size(CONFIG))


@pytest.fixture
def batch():
    rng = np.random.default_rng(5)
    return tuple(
        Segment(application, rng.integers(0, V, (CONFIG.context, n)), rng.integers(2, V, n))
        for application, n in ((0, 7), (1, 5))
    )


EVERYTHING = Sample(np.arange(V), np.zeros(V, np.float32))


@pytest.mark.parametrize("form", ["shared", "separate", "mixture", "adapted"])
def test_all_words_sampled_is_the_full_softmax(batch, form):
    model = make_model(form=form)
    rows = Rows(model, batch, EVERYTHING)
    losses = [segment_loss(model, segment, rows, EVERYTHING) for segment in batch]
    total_loss(losses, 0.1).backward()

    expected = 0.0
    for segment in batch:
        logits = model(torch.from_numpy(segment.contexts), segment.application)
        targets = torch.from_numpy(segment.targets)
        expected = expected + torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        expected = expected + 0.1 * logits.logsumexp(1).square().sum()
    sampled = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    (expected / 12).backward()
    torch.testing.assert_close(total_loss(losses, 0.1), expected / 12)
    for name, gradient in sampled.items():
        torch.testing.assert_close(gradient, dict(model.named_parameters())[name].grad, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(rows.embedding.grad, model.embedding.grad[rows.ids], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(rows.bias.grad, model.bias.grad[:, rows.ids], rtol=1e-3, atol=1e-6)


def test_adapter_gets_the_gradient_of_the_full_softmax(batch):
    model = make_model().requires_grad_(False)
    adapter = make_adapter(model)
    with torch.no_grad():
        adapter.up["1"].normal_()
    rows = Rows(model, batch, EVERYTHING)
    total_loss([segment_loss(model, segment, rows, EVERYTHING, adapter) for segment in batch], 0.0).backward()
    found = adapter.bias.grad.clone(), adapter.up["0"].grad.clone()
    adapter.zero_grad()
    logits = torch.cat([model(torch.from_numpy(s.contexts), 0, adapter) for s in batch])
    targets = torch.from_numpy(np.concatenate([s.targets for s in batch]))
    torch.nn.functional.cross_entropy(logits, targets).backward()
    torch.testing.assert_close(found, (adapter.bias.grad, adapter.up["0"].grad), rtol=1e-3, atol=1e-6)
    assert rows.embedding.grad is None


def test_denominator_is_right_on_average(batch):
    model, segment = make_model(), batch[0]
    sampler = Sampler(np.arange(V, 0.0, -1.0) ** 2, size=9, power=0.75, seed=3)
    with torch.no_grad():
        exact = model(torch.from_numpy(segment.contexts)).exp().sum(1)
        exact -= torch.exp(model(torch.from_numpy(segment.contexts))[:, 1])  # <s> is never sampled
        found = []
        for step in range(1500):
            sample = sampler.draw(step)
            rows = Rows(model, (segment,), sample)
            loss = segment_loss(model, replace(segment, targets=segment.targets[:1], contexts=segment.contexts[:, :1]),
                                rows, sample)  # fmt: skip
            found.append(float(loss.squared_log_z.sqrt().exp()))
    assert np.mean(found) == pytest.approx(float(exact[0]), rel=0.06)


def test_sampler_draws_each_word_with_its_chance():
    counts = np.array([5.0, 0, 9, 400, 300, 30, 20, 10, 5, 2, 1, 0])
    sampler = Sampler(counts, size=6, power=0.75, seed=1)
    draws = [sampler.draw(step) for step in range(1500)]
    seen = np.bincount(np.concatenate([draw.ids for draw in draws]), minlength=12) / 1500
    chance = np.zeros(12)
    for draw in draws:
        chance[draw.ids] = np.exp(draw.log_chance)
        assert len(set(draw.ids.tolist())) == draw.ids.size
    np.testing.assert_allclose(seen, chance, atol=0.05)
    assert chance.sum() == pytest.approx(6)
    assert seen[1] == 0
    assert seen[3] == 1
    free = (chance > 0) & (chance < 1)
    ratio = chance[free] / (counts[free] + 1) ** 0.75
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_sampler_takes_all_words_when_there_are_no_more():
    sample = Sampler(np.ones(5), size=50, power=0.75, seed=1).draw(3)
    assert sample.ids.tolist() == [0, 1, 2, 3, 4]
    assert not sample.log_chance.any()


def test_row_adagrad_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    table = torch.from_numpy(rng.normal(size=(6, 3)).astype(np.float32))
    expected, squares = table.numpy().copy(), np.full(6, INITIAL_SQUARE)
    optimizer = RowAdagrad(6, torch.device("cpu"))
    for ids in ([0, 2, 5], [2, 3], [2]):
        grad = rng.normal(size=(len(ids), 3)).astype(np.float32)
        optimizer.step(table, torch.tensor(ids), torch.from_numpy(grad), 0.1)
        for row, g in zip(ids, grad, strict=True):
            squares[row] += (g**2).mean()
            expected[row] -= 0.1 * g / np.sqrt(squares[row])
    np.testing.assert_allclose(table.numpy(), expected, rtol=1e-4, atol=1e-6)

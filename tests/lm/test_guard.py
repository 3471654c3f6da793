"""What holds an adapter to general text: made-up text, distillation, strength."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_language import MODEL, V, some_trained  # noqa: E402

from lm.train.batches import Segment  # noqa: E402
from lm.train.fofe import Adapter, AdapterConfig  # noqa: E402
from lm.train.guard import distillation_loss, made_up, scaled, strongest  # noqa: E402
from lm.train.objective import Rows, Sample  # noqa: E402
from lm.vocabulary import END_ID, START_ID, UNKNOWN_ID  # noqa: E402

EVERYTHING = Sample(np.arange(V), np.zeros(V, np.float32))


@pytest.fixture
def model():
    model = some_trained().model.requires_grad_(False)
    model.bias.normal_(generator=torch.Generator().manual_seed(1))
    model.bias[:, START_ID] = -30
    return model


@pytest.fixture
def adapter():
    torch.manual_seed(2)
    adapter = Adapter(AdapterConfig("test", 2, (0, 1, 2)), MODEL)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0, 0.3)
    return adapter


@pytest.fixture
def segment():
    rng = np.random.default_rng(3)
    return Segment(1, rng.integers(0, V, (MODEL.context, 9)), rng.integers(2, V, 9))


def test_made_up_words_come_as_often_as_the_model_says(model):
    said = made_up(model, 3000, seed=4)
    assert all(u[-1] == END_ID and u.size > 1 and UNKNOWN_ID not in u and START_ID not in u for u in said)
    assert np.concatenate(said).tolist() == np.concatenate(made_up(model, 3000, seed=4)).tolist()
    start = torch.full((MODEL.context, 1), START_ID)
    expected = model(start).softmax(1)[0].numpy()
    counted = np.bincount([u[0] for u in said], minlength=V) / len(said)
    after = np.array([0 if word in (UNKNOWN_ID, END_ID) else 1 for word in range(V)])
    sound = np.array([whole_chance(model, word) for word in range(V)])  # of an utterance that is not dropped
    expected = expected * after * sound
    np.testing.assert_allclose(counted, expected / expected.sum(), atol=0.03)


def whole_chance(model, first, samples=400):
    """How probable it is that an utterance which begins with `first` ends in time without `<unk>`, by simulation."""
    rng = np.random.default_rng(first)
    contexts = np.full((MODEL.context, samples), START_ID)
    contexts = np.concatenate([contexts[1:], np.full((1, samples), first)])
    alive, whole = np.ones(samples, bool), 0
    for _ in range(29):
        chances = model(torch.from_numpy(contexts)).softmax(1).numpy()
        words = np.array([rng.choice(V, p=row / row.sum()) for row in chances.astype(np.float64)])
        whole += int((alive & (words == END_ID)).sum())
        alive &= (words != END_ID) & (words != UNKNOWN_ID)
        contexts = np.concatenate([contexts[1:], words[None]])
        if not alive.any():
            break
    return whole / samples


def test_distillation_over_all_words_is_the_divergence(model, adapter, segment):
    rows = Rows(model, (segment,), EVERYTHING)
    found = distillation_loss(model, segment, rows, EVERYTHING, adapter, 0.1)
    contexts = torch.from_numpy(segment.contexts)
    trunk, worn = model(contexts).log_softmax(1), model(contexts, 0, adapter)
    expected = (trunk.exp() * (trunk - worn.log_softmax(1))).sum(1).mean() + 0.1 * worn.logsumexp(1).square().mean()
    torch.testing.assert_close(found, expected)
    found.backward()
    gradient = adapter.bias.grad.clone()
    adapter.zero_grad()
    expected.backward()
    torch.testing.assert_close(gradient, adapter.bias.grad, rtol=1e-3, atol=1e-6)


def test_a_new_adapter_has_nothing_to_unlearn(model, segment):
    adapter = Adapter(AdapterConfig("test", 2, (0, 1, 2)), MODEL)
    rows = Rows(model, (segment,), EVERYTHING)
    assert float(distillation_loss(model, segment, rows, EVERYTHING, adapter, 0.0).detach()) == pytest.approx(
        0, abs=1e-6
    )


def test_strength_scales_all_changes(model, adapter, segment):
    contexts, learned = torch.from_numpy(segment.contexts), adapter.state_dict()
    inputs = torch.randn(5, 3 * MODEL.dim)
    with torch.no_grad():
        full, whole_bias = adapter.change(0, inputs), adapter.bias.clone()
        worn = model(contexts, 0, adapter)
        half = scaled(adapter, 0.5)
        adapter.load_state_dict(half)
        torch.testing.assert_close(adapter.change(0, inputs), full / 2)
        torch.testing.assert_close(adapter.bias, whole_bias / 2)
        adapter.load_state_dict(scaled(adapter, 0.0))
        assert torch.equal(model(contexts, 0, adapter), model(contexts))
    assert not torch.equal(worn, model(contexts))
    assert learned.keys() == half.keys()


@pytest.mark.parametrize(("limit", "expected"), [(0.25, 0.5), (2.0, 1.0), (0.0, 0.0), (0.04, 0.2)])
def test_strongest_is_found_by_bisection(limit, expected):
    found = strongest(lambda strength: strength**2, limit)
    assert found <= expected
    assert found == pytest.approx(expected, abs=1 / 32)

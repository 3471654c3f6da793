"""Forms that are trained in one go and then taken apart, and the LSTM to compare with, against plain loops."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_language import MODEL, RECIPE, V, train  # noqa: E402

from lm.train.checkpoint import Checkpoint, TrainedModel, read_adapter  # noqa: E402
from lm.train.evaluate import evaluate  # noqa: E402
from lm.train.fofe import LanguageModel  # noqa: E402
from lm.train.joint import take_apart, write_parts  # noqa: E402
from lm.train.trainer import finish_run  # noqa: E402
from lm.vocabulary import END_ID, START_ID, UNKNOWN_ID  # noqa: E402


def some_model(**changes):
    torch.manual_seed(0)
    model = LanguageModel(replace(MODEL, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    return model


def utterances(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [np.append(rng.integers(3, V, n), END_ID).astype(np.uint32) for n in lengths]


def test_parts_say_what_the_whole_says():
    model = some_model(form="adapted", rank=3)
    contexts = torch.from_numpy(np.random.default_rng(1).integers(0, V, (MODEL.context, 9)))
    trunk, adapters = take_apart(TrainedModel(model, ("a",), np.zeros(0, np.float32)))
    assert [adapter.config.name for adapter in adapters] == ["assistant", "dictation"]
    for number, adapter in enumerate(adapters):
        torch.testing.assert_close(trunk.model(contexts, 0, adapter), model(contexts, number))
    torch.testing.assert_close(trunk.model.bias[0], model.bias.mean(0))
    assert not torch.allclose(model(contexts, 0), model(contexts, 1))
    with pytest.raises(ValueError, match="'adapted'"):
        take_apart(trunk)


def test_an_application_trains_its_own_adapter_alone():
    model = some_model(form="adapted")
    model(torch.full((MODEL.context, 2), 3), 1).sum().backward()
    assert all(p.grad is None for p in model.adapters[0].parameters())
    assert all(p.grad is not None for p in [*model.adapters[1].parameters(), *model.networks.parameters()])
    assert not model.bias.grad[0].any()


def test_run_writes_trunk_and_adapters(tmp_path, store):
    recipe = replace(RECIPE.with_model(form="adapted"), optim=replace(RECIPE.optim, steps=6))
    train(tmp_path / "run", store, recipe)
    finish_run(tmp_path / "run", 1)
    write_parts(tmp_path / "run")
    whole, trunk = Checkpoint.open(tmp_path / "run" / "final").read(), Checkpoint.open(tmp_path / "run" / "trunk")
    assert trunk.step == 6
    said = utterances((4, 2))
    for number, name in enumerate(("assistant", "dictation")):
        adapter = read_adapter(tmp_path / "run" / "adapters" / name, trunk.read().model)
        expected = evaluate(whole.model, said, whole.unknown_log_share, number).perplexity.value
        found = evaluate(trunk.read().model, said, whole.unknown_log_share, adapter=adapter).perplexity.value
        assert found == pytest.approx(expected, rel=1e-5)


def test_lstm_sees_whole_utterances():
    model, said = some_model(form="lstm", layers=1), utterances((5, 300, 1, 90, 120, 200, 3))
    expected = 0.0
    with torch.no_grad():
        for utterance in said:
            before = torch.from_numpy(np.append(START_ID, utterance[:-1]).astype(np.int64))
            states = model.networks[0].lstm(model.embedding[before][None])[0][0]
            logits = model.networks[0].project(states) @ model.embedding.T + model.bias[0]
            words = torch.from_numpy(utterance.astype(np.int64))
            expected += float(logits.log_softmax(1).gather(1, words[:, None]).sum())
    found = evaluate(model, said, np.zeros(0, np.float32)).perplexity
    assert UNKNOWN_ID not in np.concatenate(said)
    assert found.log_prob == pytest.approx(expected, rel=1e-5)

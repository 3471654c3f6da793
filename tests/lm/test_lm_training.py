"""Tokens, batches, runs and perplexities of the neural language models, on a toy language."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_language import INDEX, MODEL, RECIPE, ROOMS, VERBS, WORDS, V, some_trained, train  # noqa: E402

from lm.corpus import Source, read_lines  # noqa: E402
from lm.perplexity import measure_perplexity  # noqa: E402
from lm.train.batches import BatchPlan, UtteranceStream, make_contexts, unknown_log_share, utterances_of  # noqa: E402
from lm.train.checkpoint import Checkpoint, write_checkpoint  # noqa: E402
from lm.train.evaluate import evaluate  # noqa: E402
from lm.train.folders import CheckpointError  # noqa: E402
from lm.train.recipe import OptimConfig, read_recipe  # noqa: E402
from lm.train.rounding import group_size, rounded  # noqa: E402
from lm.train.settings import RecipeError  # noqa: E402
from lm.train.tokens import TokenArray, TokensError, TokenStore, encode  # noqa: E402
from lm.train.trainer import Trainer, finish_run, measure_dev  # noqa: E402


def decode(tokens):
    return [" ".join(WORDS[i] for i in utterance[:-1]) for utterance in utterances_of(tokens)]


def test_tokens_hold_each_text_once_and_no_dev_text(store, text_dir):
    arrays = {item.name: store.read(item) for item in store.sources}
    assert all(isinstance(tokens, np.memmap) and tokens.dtype == np.uint32 for tokens in arrays.values())
    commands = decode(arrays["assistant/commands"])
    assert len(set(commands)) == len(commands)
    assert decode(arrays["templates/more"]) == ["close the attic please"]  # the other line is excluded
    assert {"open the zebra", "open the <unk> kitchen"} <= set(commands)
    held_out = {" ".join(words) for words in read_lines(text_dir / "heldout" / "assistant.txt")}
    assert not held_out & set(commands)
    assert set(decode(store.read_dev("assistant"))) == held_out
    assert store.applications == ("assistant", "dictation")
    counted = next(item for item in store.sources if item.name == "assistant/commands")
    assert (counted.utterances, counted.unknown) == (len(commands), 1)
    assert counted.words == sum(len(line.split()) for line in commands)


def test_broken_token_folders(tmp_path, store):
    with pytest.raises(TokensError, match="asr-lm tokens"):
        TokenStore.open(tmp_path / "nowhere")
    (store.folder / "dictation__stories.npy").unlink()
    with pytest.raises(TokensError, match="dictation__stories.npy missing"):
        TokenStore.open(store.folder)


def test_contexts_are_the_words_before():
    contexts, targets = make_contexts(utterances_of(encode([["open", "the", "zebra"], ["we"]], INDEX)), MODEL)
    rows = [" ".join(WORDS[i] for i in (*column, target)) for column, target in zip(contexts.T, targets, strict=True)]
    assert rows == [
        "<s> <s> <s> <s> open", "<s> <s> <s> open the", "<s> <s> open the <unk>", "<s> open the <unk> </s>",
        "<s> <s> <s> <s> we", "<s> <s> <s> we </s>",
    ]  # fmt: skip
    assert make_contexts([], MODEL)[0].shape == (4, 0)


def test_streams_show_each_line_as_often_as_it_weighs():
    often, seldom = encode([[w] for w in WORDS[3:8]], INDEX), encode([["zebra"]] * 40, INDEX)
    stream = UtteranceStream([(often, 3.0), (seldom, 0.25)], (1, 2))
    taken = [u.tobytes() for u in stream.take(0, 400)]
    assert taken[:60] == [u.tobytes() for u in stream.take(0, 120)]
    assert [u for first in range(0, 400, 20) for u in (x.tobytes() for x in stream.take(first, first + 20))] == taken
    epoch_words = [u for u in taken if u != seldom[:2].tobytes()][:15]  # the first epoch has each of the five thrice
    assert sorted(epoch_words) == sorted(3 * [often[i : i + 2].tobytes() for i in range(0, 10, 2)])
    assert 0.2 < 1 - len([u for u in taken if u != seldom[:2].tobytes()]) / len(taken) < 0.6


def test_batches_depend_on_seed_and_step_alone(store):
    def batches(seed, steps):
        plan = BatchPlan(store, replace(RECIPE, seed=seed))
        return {step: [(s.contexts.tobytes(), s.targets.tobytes()) for s in plan.batch(step)] for step in steps}

    forward, backward = batches(1, range(12)), batches(1, reversed(range(12)))
    assert forward == backward
    assert len({str(batch) for batch in forward.values()}) == 12
    assert batches(2, [0])[0] != forward[0]


def test_batches_are_balanced(store):
    plan = BatchPlan(store, replace(RECIPE, balance={"assistant": 3.0}))
    sizes = np.array([[s.targets.size for s in plan.batch(step)] for step in range(40)]).sum(0)
    assert sizes[0] / sizes.sum() == pytest.approx(0.75, abs=0.01)
    drawn = plan.counts / plan.counts.sum()
    assert drawn[INDEX["we"]] == pytest.approx(0.25 * dictation_share(store, "we"), rel=1e-6)


def dictation_share(store, word):
    item = next(item for item in store.sources if item.application == "dictation")
    tokens = store.read(item)
    return (tokens == INDEX[word]).sum() / tokens.size


def test_plans_that_cannot_be(store):
    with pytest.raises(TokensError, match="lacks dictation/other"):
        BatchPlan(store, replace(RECIPE, weights={"dictation/other": 1.0}))
    with pytest.raises(TokensError, match="no text for 'chess'"):
        BatchPlan(store, RECIPE.with_model(applications=("chess",)))
    with pytest.raises(TokensError, match="vocabulary_size"):
        Trainer(store.folder, store, replace(RECIPE, model=replace(MODEL, vocabulary_size=99)))


@pytest.mark.parametrize("form", ["shared", "separate", "mixture", "adapted", "lstm"])
def test_killed_run_goes_on_exactly(tmp_path, store, form):
    recipe = replace(RECIPE.with_model(form=form), samples=9, optim=replace(RECIPE.optim, steps=8))
    whole = train(tmp_path / "whole", store, recipe).trained.model.state_dict()
    often = replace(recipe, checkpoint_every_s=0.0)
    train(tmp_path / "cut", store, often, stop_after=5)  # stops after step 5 was done, before it was saved
    assert Checkpoint.open(tmp_path / "cut").step == 4
    resumed = train(tmp_path / "cut", store, often)
    assert resumed.step == 8
    for name, value in resumed.trained.model.state_dict().items():
        assert torch.equal(value, whole[name]), name


def test_a_run_may_begin_with_trained_weights(tmp_path, store):
    before = train(tmp_path / "before", store).trained
    start = before.model.state_dict()["embedding"].clone()
    brief = replace(RECIPE, optim=replace(RECIPE.optim, steps=1, row_learning_rate=0.0, learning_rate=1e-9))
    (tmp_path / "after").mkdir()
    after = Trainer(tmp_path / "after", store, brief, before)
    assert after.step == 0
    after.fit(on_step=lambda step, figures: None)
    assert torch.equal(after.trained.model.embedding, start)
    resumed = Trainer(tmp_path / "after", store, brief, some_trained())  # a run that has begun goes on with its own
    assert torch.equal(resumed.trained.model.embedding, start)
    with pytest.raises(CheckpointError, match="the start is a model of another shape"):
        Trainer(tmp_path, store, replace(brief, model=replace(MODEL, hidden=12)), before)
    with pytest.raises(TokensError, match="another word list"):
        Trainer(tmp_path, store, brief, replace(before, words=(*before.words[:-1], "gnu")))


def test_training_with_the_embeddings_that_the_runtime_has(tmp_path, store):
    bits = 2
    trained = train(tmp_path / "before", store, replace(RECIPE, optim=replace(RECIPE.optim, steps=100))).trained
    slow = replace(RECIPE, embedding_bits=bits, optim=OptimConfig(1e-3, 0.03, warmup_steps=5, steps=60))

    def go_on(name, recipe):
        (tmp_path / name).mkdir()
        trainer = Trainer(tmp_path / name, store, recipe, copy.deepcopy(trained))
        trainer.fit(on_step=lambda step, figures: None)
        return trainer

    def measure_rounded(trainer):
        with torch.no_grad():
            trainer.trained.model.embedding.copy_(rounded(trainer.trained.model.embedding, bits, group_size(MODEL.dim)))
        return measure_dev(trainer.trained, store)

    knowing, blind = go_on("knowing", slow), go_on("blind", replace(slow, embedding_bits=0))
    measured = knowing.measure()
    seen, unseen = measure_rounded(knowing), measure_rounded(blind)
    assert seen == pytest.approx(measured)
    assert all(seen[f"dev_{name}"] < unseen[f"dev_{name}"] for name in MODEL.applications)
    knowing.save()
    final = Checkpoint(finish_run(tmp_path / "knowing", 1, bits)).read()
    assert torch.equal(final.model.embedding, knowing.trained.model.embedding)  # rounded above, and again in saving


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_what_is_rounded_stays_as_it_is(bits):
    values = torch.randn(50, 64, generator=torch.Generator().manual_seed(bits)) * torch.logspace(-2, 2, 50)[:, None]
    once = rounded(values, bits, 32)
    assert torch.equal(rounded(once, bits, 32), once)
    assert (once - values).abs().max() < 100 * 2.0 ** (3 - bits)


@pytest.mark.parametrize("bits", [1, 9, -4])
def test_bits_that_there_are_not(bits):
    with pytest.raises(RecipeError, match="embedding_bits"):
        replace(RECIPE, embedding_bits=bits)


def walk(rng):
    """A line of a language with known probabilities, and its log-probability."""
    place = int(rng.integers(8))
    line, log_prob = [], -np.log(8)
    while True:
        line.append((VERBS + ROOMS)[place])
        move = int(rng.choice(3, p=MOVES))
        log_prob += np.log(MOVES[move])
        if move == 2:
            return line, log_prob
        place = (place + (1, 3)[move]) % 8


MOVES = (0.6, 0.25, 0.15)  # one word on, three words on, end


def test_loss_falls_to_the_entropy_of_the_language(tmp_path):
    rng = np.random.default_rng(0)
    dev = [walk(rng) for _ in range(200)]
    arrays = []
    for name, lines in (("train/walks", [walk(rng)[0] for _ in range(2000)]), ("dev", [line for line, _ in dev])):
        np.save(tmp_path / f"{name[:3]}.npy", encode(lines, INDEX))
        arrays.append(TokenArray(name, "assistant", f"{name[:3]}.npy", len(lines), 0, 0))
    store = TokenStore(tmp_path, tuple(WORDS), (arrays[0],), (arrays[1],))
    optim = OptimConfig(learning_rate=0.01, row_learning_rate=0.3, warmup_steps=5, steps=200)
    recipe = replace(
        RECIPE.with_model(applications=("assistant",)), optim=optim, weights={"train/walks": 1.0}, samples=9
    )
    trainer = train(tmp_path / "run", store, recipe)
    found = evaluate(trainer.trained.model, utterances_of(store.read_dev("assistant")), UNKNOWN_SHARE)
    entropy = -sum(log_prob for _, log_prob in dev) / sum(len(line) + 1 for line, _ in dev)
    assert entropy - 0.05 < np.log(found.perplexity.value) < entropy + 0.1
    assert abs(found.log_z_mean) < 0.2
    assert found.log_z_deviation < 0.3
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["dev_assistant"] == pytest.approx(found.perplexity.value)


def test_the_last_checkpoints_are_averaged(tmp_path, store):
    recipe = replace(RECIPE, checkpoint_every_s=0.0, optim=replace(RECIPE.optim, steps=4))
    train(tmp_path / "run", store, recipe)
    steps = [Checkpoint(tmp_path / "run" / f"step-{n:06d}").read().model.embedding for n in (3, 4)]
    assert not (tmp_path / "run" / "step-000002").exists()
    final = Checkpoint.open(finish_run(tmp_path / "run", 2)).read()
    assert final.words == tuple(WORDS)
    torch.testing.assert_close(final.model.embedding, (steps[0] + steps[1]) / 2)


UNKNOWN_SHARE = np.zeros(2, np.float32)


class LoopScorer:
    """`lm.scorer.Scorer` over a model, one word at a time; a state is the index of a list of words."""

    def __init__(self, trained):
        self.trained, self.histories = trained, [[]]

    def start(self):
        return 0

    def step(self, state, word):
        history = [1] * MODEL.context + [w if w < V else 0 for w in self.histories[state]]
        log_probs = self.trained.model(torch.tensor(history[-MODEL.context :])[:, None])[0].log_softmax(-1)
        self.histories.append([*self.histories[state], word])
        share = self.trained.unknown_log_share[word - V] if word >= V else 0.0
        return len(self.histories) - 1, float(log_probs[word if word < V else 0].detach()) + float(share)

    def finish(self, state):
        return self.step(state, 2)[1]


def test_perplexity_is_that_of_scorers():
    trained = some_trained()
    sentences = [["open", "the", "zebra"], ["we", "saw", "unheard", "things"], ["a"]]
    expected = measure_perplexity(LoopScorer(trained), INDEX, sentences)
    utterances = utterances_of(encode(sentences, INDEX))
    found = evaluate(trained.model, utterances, trained.unknown_log_share).perplexity
    assert (found.sentences, found.words, found.unknown) == (3, 8, 2)
    assert found.value == pytest.approx(expected.value, rel=1e-5)


def test_unknown_shares_sum_to_one():
    counts = np.array([7.0, 0, 5, 3, 9, 4, 0])
    share = np.exp(unknown_log_share(counts, 4))
    assert share.sum() + 7 / (7 + 9 + 4 + 1.5) == pytest.approx(1)
    assert share[0] / share[1] == pytest.approx(9.5 / 4.5)


def test_checkpoints_that_do_not_fit(tmp_path):
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        Checkpoint.open(tmp_path)
    write_checkpoint(tmp_path, some_trained(), 3)
    assert Checkpoint.open(tmp_path).step == 3
    np.save(tmp_path / "unknown.npy", np.zeros(1))
    with pytest.raises(CheckpointError, match="do not fit"):
        Checkpoint.open(tmp_path).read()
    (tmp_path / "config.json").write_text('{"form": "shared", "surprise": 1}')
    with pytest.raises(CheckpointError, match="surprise"):
        Checkpoint.open(tmp_path).read()


@pytest.mark.parametrize(
    ("text", "message"),
    [("sed = 1", "unknown key 'sed'"), ("[model]\nform = 'x'", "model.form"), ("[model]\nfactors = 0.5", "list"),
     ("[weights]\n'a/b' = 'x'", "weights.a/b: expected float"), ("[dev]\nassistant = 1", "expected str"),
     ("samples = 0", "positive"), ("[balance]\nassistant = 0", "positive"), ("[optim]\nsteps = 1.5", "expected int"),
     ("model = 3", "expected"), ("seed = ", "recipe.toml")],
)  # fmt: skip
def test_wrong_recipes(tmp_path, text, message):
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_recipe(tmp_path / "recipe.toml")


def test_the_recipe_of_the_product_can_be_read(pytestconfig):
    recipe = read_recipe(pytestconfig.rootpath / "recipes" / "lm-english.toml")
    folders = {Source(name, tmp, 1.0) for name in recipe.weights for tmp in [pytestconfig.rootpath]}
    assert {recipe.application_of(source) for source in folders} == {"assistant", "dictation"}

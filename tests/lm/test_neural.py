"""The neural language model at run time: against torch, its scorers against each other, and files that do not fit."""

import gc
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from toy_neural import CONFIG, WORDS, BigramScorer, V, W, make_adapter, make_trained  # noqa: E402

from asr.bundle import Bundle  # noqa: E402
from export.language_model import write_language_model  # noqa: E402
from export.parity import compare_language_models  # noqa: E402
from lm.arrayfile import ArrayFileError, open_array_file, write_array_file  # noqa: E402
from lm.lexicon_build import build_lexicon  # noqa: E402
from lm.neural import STATE_WORDS, NeuralAdapter, context_state  # noqa: E402
from lm.onnx_lm import BATCH, LanguageModelError, OnnxLanguageModel  # noqa: E402
from lm.scorer import NullScorer, RememberingScorer  # noqa: E402
from lm.train.folders import CheckpointError  # noqa: E402
from lm.train.runtime import read_runtime_model, write_runtime_adapter  # noqa: E402
from lm.vocabulary import END_ID, START_ID, UNKNOWN_ID  # noqa: E402


@pytest.fixture
def copy(neural_folder, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(neural_folder, tmp_path / "copy")


# --- against torch --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not list mappings")
def test_the_table_lies_in_memory_once(tmp_path):
    for name in ("lm.onnx", "lm.bin"):
        shutil.copy(Bundle.open().file(name), tmp_path / name)
    model = OnnxLanguageModel(tmp_path / "lm.onnx", tmp_path / "lm.bin")
    contexts = np.arange(4 * model.model.context).reshape(4, -1) + 3
    first = model._run(contexts, None)
    ranges = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    mapped = sum(int(end, 16) - int(start, 16) for start, end in (each.split("-") for each in ranges))
    assert mapped < 1.3 * (tmp_path / "lm.bin").stat().st_size
    gc.collect()  # the session reads what the model has mapped: it must still be there
    assert np.array_equal(model._run(contexts, None), first)


@pytest.mark.parametrize("changes", [{}, {"activation": "gelu"}, {"layers": 1, "window": 4, "factors": (0.7,)}])
def test_the_graph_equals_torch_on_the_stored_weights(tmp_path, changes):
    write_language_model(make_trained(**changes), tmp_path)
    build_lexicon(WORDS, {word: {(2,): 0.0} for word in WORDS[3:]}, np.zeros(W), tmp_path / "lexicon.bin")
    stored, trunk = read_runtime_model(tmp_path)
    found = OnnxLanguageModel(tmp_path / "lm.onnx", tmp_path / "lm.bin")
    contexts = np.random.default_rng(0).integers(0, V, (20, CONFIG.context))
    assert compare_language_models(stored.model, None, found.scorer(), contexts) < 1e-4
    assert stored.words == tuple(WORDS)
    assert trunk == found.model.trunk


def test_adapters_equal_torch(neural_folder, neural_model):
    stored, _ = read_runtime_model(neural_folder)
    contexts = np.random.default_rng(0).integers(0, V, (20, CONFIG.context))
    for number, name in enumerate(("clinic", "court")):
        scorer = neural_model.scorer(neural_model.load_adapter(neural_folder / f"{name}.bin"))
        adapter = make_adapter(name, number)
        assert compare_language_models(stored.model, adapter, scorer, contexts) < 0.03  # float16 and an int8 bias
        assert compare_language_models(stored.model, None, scorer, contexts) > 0.2


def test_four_and_eight_bits_are_close_to_the_trained_weights(neural_model):
    contexts = np.random.default_rng(0).integers(0, V, (20, CONFIG.context))
    assert compare_language_models(make_trained().model, None, neural_model.scorer(), contexts) < 0.8


@given(words=st.lists(st.integers(3, W - 1), max_size=9, unique=True))
def test_the_scorer_equals_torch_word_by_word(neural_folder, neural_model, words):
    stored, _ = read_runtime_model(neural_folder)
    history = [START_ID] * CONFIG.context + [word if word < V else UNKNOWN_ID for word in words]
    scorer = neural_model.scorer()
    state = scorer.start()
    for position, word in enumerate([*words, END_ID]):
        context = torch.tensor(history[position : position + CONFIG.context])[:, None]
        with torch.inference_mode():
            logits = stored.model(context)[0].double().numpy()
        expected = logits[word] if word < V else logits[UNKNOWN_ID] + stored.unknown_log_share[word - V]
        found = scorer.finish(state) if position == len(words) else scorer.step(state, word)[1]
        assert found == pytest.approx(expected, abs=2e-3)
        state = scorer.step(state, word)[0]


def test_mixed_with_an_ngram_it_is_the_weighted_mean(neural_model):
    alone, ngram = neural_model.scorer(), BigramScorer()
    mixed = neural_model.scorer(ngram=ngram, share=0.3)
    states, words = (alone.start(), mixed.start(), ngram.start()), [7, 55, 3, 3]
    for word in words:
        results = [scorer.step(state, word) for scorer, state in zip((alone, mixed, ngram), states, strict=True)]
        states = tuple(state for state, _ in results)
        neural, found, bigram = (log_prob for _, log_prob in results)
        assert found == pytest.approx(math.log(0.3 * math.exp(neural) + 0.7 * math.exp(bigram)))
    ends = [scorer.finish(state) for scorer, state in zip((alone, mixed, ngram), states, strict=True)]
    assert ends[1] == pytest.approx(math.log(0.3 * math.exp(ends[0]) + 0.7 * math.exp(ends[2])))


# --- states ---------------------------------------------------------------------------------------------------------


def test_equal_last_words_are_one_state(neural_model):
    scorer = neural_model.scorer()

    def state_after(words):
        state = scorer.start()
        for word in words:
            state, _ = scorer.step(state, word)
        return state

    assert CONFIG.context > STATE_WORDS
    assert state_after([9, 3, 4, 5, 6]) == state_after([8, 7, 3, 4, 5, 6]) == context_state([3, 4, 5, 6])
    assert state_after([3, 4, 5, 6]) != state_after([3, 4, 6, 5])
    assert state_after([55]) != state_after([56])  # both <unk> to the model, not to an n-gram
    assert isinstance(scorer, RememberingScorer)
    assert not isinstance(NullScorer(), RememberingScorer)


def test_preparing_together_or_one_by_one_gives_the_same_numbers(neural_model):
    together, apart = neural_model.scorer(), neural_model.scorer()
    words = range(3, 50)
    assert len(words) > BATCH
    states = [together.step(together.start(), word)[0] for word in words]
    assert states == [apart.step(apart.start(), word)[0] for word in words]
    together.prepare(states)
    for state in states:
        assert together.step(state, 11)[1] == pytest.approx(apart.step(state, 11)[1], abs=1e-5)


def test_forgotten_states_are_gone_and_kept_ones_stay(neural_model):
    scorer = neural_model.scorer()
    kept, gone = (scorer.step(scorer.start(), word)[0] for word in (5, 6))
    before = scorer.step(kept, 7)
    scorer.retain([kept])
    assert scorer.step(kept, 7) == before
    with pytest.raises(KeyError):
        scorer.step(gone, 7)


# --- bad input ------------------------------------------------------------------------------------------------------


def rewrite(path, change):
    """Write an array file again with changed arrays and meta."""
    file = open_array_file(path, kind=open_kind(path))
    arrays, meta = {name: array.copy() for name, array in file.arrays.items()}, dict(file.meta)
    change(arrays, meta)
    write_array_file(path, kind=file.kind, arrays=arrays, meta=meta)


def open_kind(path):
    return "lm" if path.name == "lm.bin" else "lm-adapter"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, meta: arrays.pop("bias"), "'bias' is missing"),
        (lambda arrays, meta: arrays.update(bias=arrays["bias"][1:]), "do not fit each other"),
        (lambda arrays, meta: arrays["bias"].fill(np.nan), "NaN"),
        (lambda arrays, meta: arrays["weight_scale.1"].fill(np.nan), r"'weight_scale\.1' holds NaN"),
        (lambda arrays, meta: meta.update(context=99), "context: expected 1 to 12"),
        (lambda arrays, meta: meta.pop("trunk"), "trunk"),
        (lambda arrays, meta: arrays.update(embedding=arrays["embedding"].astype(np.float32)), "not of type"),
    ],
)
def test_damaged_models(copy, change, message):
    rewrite(copy / "lm.bin", change)
    with pytest.raises(ArrayFileError, match=message):
        OnnxLanguageModel(copy / "lm.onnx", copy / "lm.bin")
    with pytest.raises(CheckpointError, match=r"lm\.bin"):
        read_runtime_model(copy)


def test_files_that_do_not_belong_together(copy, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write_language_model(make_trained(seed=1), other)
    with pytest.raises(LanguageModelError, match="belongs to another file"):
        OnnxLanguageModel(copy / "lm.onnx", other / "lm.bin")
    (copy / "lm.onnx").write_bytes(b"no graph")
    with pytest.raises(LanguageModelError, match="cannot load"):
        OnnxLanguageModel(copy / "lm.onnx", copy / "lm.bin")
    (copy / "lm.bin").write_bytes(b"\0" * 100)
    with pytest.raises(ArrayFileError, match="not an array file"):
        OnnxLanguageModel(copy / "lm.onnx", copy / "lm.bin")


def test_adapters_that_do_not_fit(copy, neural_model):
    write_runtime_adapter(make_adapter("stranger"), "f" * 64, copy)
    with pytest.raises(ArrayFileError, match="made for the language model ffff.*make it again with `asr-lm adapt"):
        neural_model.load_adapter(copy / "stranger.bin")
    write_runtime_adapter(make_adapter("wide", hidden=24), neural_model.model.trunk, copy)
    with pytest.raises(LanguageModelError, match=r"wide\.onnx_adapter: does not fit"):
        neural_model.load_adapter(copy / "wide.bin")
    (copy / "court.onnx_adapter").write_bytes(b"garbage")
    with pytest.raises(LanguageModelError, match=r"court\.onnx_adapter: does not fit"):
        neural_model.load_adapter(copy / "court.bin")
    (copy / "clinic.onnx_adapter").unlink()
    with pytest.raises(LanguageModelError, match="an adapter is two files"):
        neural_model.load_adapter(copy / "clinic.bin")
    rewrite(copy / "clinic.bin", lambda arrays, meta: arrays.update(bias=arrays["bias"][:7]))
    with pytest.raises(ArrayFileError, match=f"a bias for {V} words"):
        NeuralAdapter.open(copy / "clinic.bin", neural_model.model)


def test_weights_that_are_not_numbers(tmp_path, neural_folder, neural_model):
    broken = make_trained()
    with torch.no_grad():
        broken.model.networks[0].layers[1].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite.*diverged"):
        write_language_model(broken, tmp_path)
    adapter = make_adapter("sick")
    with torch.no_grad():
        adapter.up["1"][0, 0] = torch.inf
    with pytest.raises(ValueError, match="not finite"):
        write_runtime_adapter(adapter, neural_model.model.trunk, tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_the_shared_form_is_exported(tmp_path):
    with pytest.raises(ValueError, match="form 'shared'"):
        write_language_model(make_trained(form="mixture"), tmp_path)


@pytest.mark.parametrize("share", [0, -1, 1.1, math.nan])
def test_shares_out_of_range(neural_model, share):
    with pytest.raises(ValueError, match="share"):
        neural_model.scorer(ngram=BigramScorer(), share=share)

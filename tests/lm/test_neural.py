"""The neural language model at run time: against torch, its scorers against each other, and files that do not fit."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from asr.config import DecodingConfig  # noqa: E402
from asr.decoder import native  # noqa: E402
from asr.decoder.lexicon_search import LexiconSearch  # noqa: E402
from export.language_model import write_language_model  # noqa: E402
from export.parity import compare_language_models  # noqa: E402
from lm.arrayfile import ArrayFileError, open_array_file, write_array_file  # noqa: E402
from lm.lexicon import Lexicon  # noqa: E402
from lm.lexicon_build import build_lexicon  # noqa: E402
from lm.neural import STATE_WORDS, NeuralAdapter, NeuralModel, context_state  # noqa: E402
from lm.onnx_lm import BATCH, LanguageModelError, OnnxLanguageModel  # noqa: E402
from lm.phones import PHONEMES  # noqa: E402
from lm.scorer import NullScorer, RememberingScorer  # noqa: E402
from lm.train.checkpoint import TrainedModel  # noqa: E402
from lm.train.fofe import Adapter, AdapterConfig, LanguageModel  # noqa: E402
from lm.train.folders import CheckpointError  # noqa: E402
from lm.train.recipe import LanguageModelConfig  # noqa: E402
from lm.train.runtime import read_runtime_model, write_runtime_adapter  # noqa: E402
from lm.vocabulary import END_ID, SPECIAL_WORDS, START_ID, UNKNOWN_ID  # noqa: E402

W, V = 60, 50  # words, and those with an embedding
WORDS = [*SPECIAL_WORDS, *(f"w{number}" for number in range(W - 3))]
CONFIG = LanguageModelConfig(vocabulary_size=V, context=6, window=2, dim=12, hidden=20, layers=2)
NOT_BUILT = "the native search is not built: python setup.py build_ext --inplace"


def make_trained(seed=0, **changes):
    torch.manual_seed(seed)
    model = LanguageModel(replace(CONFIG, **changes)).eval()
    with torch.no_grad():
        model.embedding.normal_(0.0, 0.5)
        model.bias.normal_(-3.0)
    share = np.log(np.full(W - V, 0.5 / (W - V), np.float32))
    return TrainedModel(model, tuple(WORDS), share)


def make_adapter(name="clinic", seed=5, rank=3, **changes):
    torch.manual_seed(seed)
    adapter = Adapter(AdapterConfig(name, rank, (0, 1, 2)), replace(CONFIG, **changes))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0.0, 0.15)
    return adapter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, two adapters and a lexicon; shared, so do not change it."""
    folder = tmp_path_factory.mktemp("lm")
    write_language_model(make_trained(), folder)
    rng = np.random.default_rng(1)
    for number, name in enumerate(("clinic", "court")):
        write_runtime_adapter(make_adapter(name, number), NeuralModel.open(folder / "lm.bin").trunk, folder)
    spoken = {word: {tuple(rng.choice(range(2, 12), rng.integers(1, 4)).tolist()): 0.0} for word in WORDS[3:]}
    build_lexicon(WORDS, spoken, -np.linspace(1, 5, W), folder / "lexicon.bin")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return OnnxLanguageModel(folder / "lm.onnx", folder / "lm.bin")


@pytest.fixture
def copy(folder, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(folder, tmp_path / "copy")


class BigramScorer:
    """Stands for an n-gram: random, and its state is the last word."""

    def __init__(self):
        logits = np.random.default_rng(3).normal(0, 2, (W, W))
        self.table = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def start(self):
        return START_ID

    def step(self, state, word):
        return word, float(self.table[state, word])

    def finish(self, state):
        return float(self.table[state, END_ID])


# --- against torch --------------------------------------------------------------------------------------------------


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


def test_adapters_equal_torch(folder, model):
    stored, _ = read_runtime_model(folder)
    contexts = np.random.default_rng(0).integers(0, V, (20, CONFIG.context))
    for number, name in enumerate(("clinic", "court")):
        scorer = model.scorer(model.load_adapter(folder / f"{name}.bin"))
        adapter = make_adapter(name, number)
        assert compare_language_models(stored.model, adapter, scorer, contexts) < 0.03  # float16 and an int8 bias
        assert compare_language_models(stored.model, None, scorer, contexts) > 0.2


def test_four_and_eight_bits_are_close_to_the_trained_weights(model):
    contexts = np.random.default_rng(0).integers(0, V, (20, CONFIG.context))
    assert compare_language_models(make_trained().model, None, model.scorer(), contexts) < 0.8


@given(words=st.lists(st.integers(3, W - 1), max_size=9, unique=True))
def test_the_scorer_equals_torch_word_by_word(folder, model, words):
    stored, _ = read_runtime_model(folder)
    history = [START_ID] * CONFIG.context + [word if word < V else UNKNOWN_ID for word in words]
    scorer = model.scorer()
    state = scorer.start()
    for position, word in enumerate([*words, END_ID]):
        context = torch.tensor(history[position : position + CONFIG.context])[:, None]
        with torch.inference_mode():
            logits = stored.model(context)[0].double().numpy()
        expected = logits[word] if word < V else logits[UNKNOWN_ID] + stored.unknown_log_share[word - V]
        found = scorer.finish(state) if position == len(words) else scorer.step(state, word)[1]
        assert found == pytest.approx(expected, abs=2e-3)
        state = scorer.step(state, word)[0]


def test_mixed_with_an_ngram_it_is_the_weighted_mean(model):
    alone, ngram = model.scorer(), BigramScorer()
    mixed = model.scorer(ngram=ngram, share=0.3)
    states, words = (alone.start(), mixed.start(), ngram.start()), [7, 55, 3, 3]
    for word in words:
        results = [scorer.step(state, word) for scorer, state in zip((alone, mixed, ngram), states, strict=True)]
        states = tuple(state for state, _ in results)
        neural, found, bigram = (log_prob for _, log_prob in results)
        assert found == pytest.approx(math.log(0.3 * math.exp(neural) + 0.7 * math.exp(bigram)))
    ends = [scorer.finish(state) for scorer, state in zip((alone, mixed, ngram), states, strict=True)]
    assert ends[1] == pytest.approx(math.log(0.3 * math.exp(ends[0]) + 0.7 * math.exp(ends[2])))


# --- states ---------------------------------------------------------------------------------------------------------


def test_equal_last_words_are_one_state(model):
    scorer = model.scorer()

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


def test_preparing_together_or_one_by_one_gives_the_same_numbers(model):
    together, apart = model.scorer(), model.scorer()
    words = range(3, 50)
    assert len(words) > BATCH
    states = [together.step(together.start(), word)[0] for word in words]
    assert states == [apart.step(apart.start(), word)[0] for word in words]
    together.prepare(states)
    for state in states:
        assert together.step(state, 11)[1] == pytest.approx(apart.step(state, 11)[1], abs=1e-5)


def test_forgotten_states_are_gone_and_kept_ones_stay(model):
    scorer = model.scorer()
    kept, gone = (scorer.step(scorer.start(), word)[0] for word in (5, 6))
    before = scorer.step(kept, 7)
    scorer.retain([kept])
    assert scorer.step(kept, 7) == before
    with pytest.raises(KeyError):
        scorer.step(gone, 7)


# --- in the beam ----------------------------------------------------------------------------------------------------


def spoken_frames(lexicon, seed, words=25):
    rng = np.random.default_rng(seed)
    labels = []
    for word in rng.integers(3, W, words):
        for phoneme in lexicon.pronunciations(int(word))[0][0]:
            labels += [phoneme] * int(rng.integers(1, 3)) + [0] * int(rng.integers(0, 2))
        labels += [1] * int(rng.integers(0, 2))
    logits = rng.standard_normal((len(labels), len(PHONEMES)))
    logits[np.arange(len(labels)), labels] += 4.0
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def kinds(model, folder):
    adapter = model.load_adapter(folder / "clinic.bin")
    return {
        "alone": lambda: model.scorer(),
        "adapter": lambda: model.scorer(adapter),
        "mixed": lambda: model.scorer(adapter, ngram=BigramScorer(), share=0.6),
    }


def heard(search, log_probs, cuts=()):
    words = []
    for part in np.split(log_probs, sorted(cuts)):
        search.advance(part)
        words += search.take_stable()
        search.best()
    return [*words, *search.finish()]


def assert_same(words, expected):
    assert [tuple(word)[:3] for word in map(fields, words)] == [tuple(word)[:3] for word in map(fields, expected)]
    assert np.allclose([fields(word)[3:] for word in words], [fields(word)[3:] for word in expected], atol=1e-4)


def fields(word):
    return word.word, word.start_frame, word.end_frame, word.acoustic, word.language


@pytest.mark.skipif(not native.available(), reason=NOT_BUILT)
@pytest.mark.parametrize("kind", ["alone", "adapter", "mixed"])
@pytest.mark.parametrize("seed", range(3))
def test_native_equals_numpy(model, folder, kind, seed):
    lexicon, config = Lexicon.open(folder / "lexicon.bin"), DecodingConfig(beam_size=24, lm_weight=0.6)
    make, log_probs = kinds(model, folder)[kind], spoken_frames(lexicon, seed)
    found = [heard(kind(lexicon, make(), config), log_probs) for kind in (LexiconSearch, native.NativeSearch)]
    assert len(found[0]) > 10
    assert_same(*found)


@pytest.mark.skipif(not native.available(), reason=NOT_BUILT)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_slicing_changes_nothing(model, folder, seed, cuts):
    lexicon, config = Lexicon.open(folder / "lexicon.bin"), DecodingConfig(beam_size=16)
    make, log_probs = kinds(model, folder)["mixed"], spoken_frames(lexicon, seed, 12)
    whole, sliced = (native.NativeSearch(lexicon, make(), config) for _ in range(2))
    assert heard(whole, log_probs) == heard(sliced, log_probs, cuts)


@pytest.mark.parametrize("make_search", [LexiconSearch, native.NativeSearch])
@pytest.mark.parametrize("kind", ["alone", "mixed"])
def test_previews_change_nothing(model, folder, make_search, kind):
    if make_search is native.NativeSearch and not native.available():
        pytest.skip(NOT_BUILT)
    lexicon, config = Lexicon.open(folder / "lexicon.bin"), DecodingConfig(beam_size=24, lm_weight=0.6)
    log_probs, found, shown = spoken_frames(lexicon, 3), [], []
    for looks_ahead in (False, True):
        search, words = make_search(lexicon, kinds(model, folder)[kind](), config), []
        for start in range(0, len(log_probs), 10):
            search.advance(log_probs[start : start + 10])
            words += [*search.take_stable(), *search.best()]
            if looks_ahead:
                shown += search.preview(log_probs[start + 10 : start + 20])
        found.append([*words, *search.finish()])
    assert found[0] == found[1]
    assert shown


@pytest.mark.skipif(not native.available(), reason=NOT_BUILT)
@pytest.mark.parametrize("kind", ["alone", "mixed"])
def test_native_previews_equal_those_in_numpy(model, folder, kind):
    lexicon, config = Lexicon.open(folder / "lexicon.bin"), DecodingConfig(beam_size=24, lm_weight=0.6)
    log_probs, shown = spoken_frames(lexicon, 5), []
    for make_search in (LexiconSearch, native.NativeSearch):
        search, found = make_search(lexicon, kinds(model, folder)[kind](), config), []
        for start in range(0, len(log_probs), 10):
            search.advance(log_probs[start : start + 10])
            found.append([word.word for word in search.preview(log_probs[start + 10 : start + 20])])
        shown.append(found)
    assert shown[0] == shown[1]
    assert any(shown[0])


@pytest.mark.parametrize("kind", ["numpy", "native"])
def test_forgetting_changes_nothing(model, folder, kind, monkeypatch):
    if kind == "native" and not native.available():
        pytest.skip(NOT_BUILT)
    lexicon, config = Lexicon.open(folder / "lexicon.bin"), DecodingConfig(beam_size=8, stable_after_frames=20)
    size, limits = {"numpy": (60, (10**6, 20)), "native": (4000, (None,))}[kind]
    make_search = LexiconSearch if kind == "numpy" else native.NativeSearch
    log_probs = spoken_frames(lexicon, 4, size)
    monkeypatch.setattr("lm.neural.STATE_WORDS", CONFIG.context)  # a forgotten state may come back with other old words
    found = []
    for limit in limits:
        if limit:
            monkeypatch.setattr("lm.neural.CROWD", limit)
        found.append(heard(make_search(lexicon, model.scorer(), config), log_probs))
    if kind == "native":  # it forgets every 4096 contexts; two halves of the search state must not notice
        found.append(heard(native.NativeSearch(lexicon, model.scorer(), config), log_probs, range(0, 8000, 777)))
    assert_same(*found)


@pytest.mark.skipif(not native.available(), reason=NOT_BUILT)
def test_streams_that_wear_different_adapters_do_not_touch_each_other(model, folder):
    lexicon, config = Lexicon.open(folder / "lexicon.bin"), DecodingConfig(beam_size=16)
    log_probs = spoken_frames(lexicon, 7)
    names = [None, "clinic", "court"]

    def search(engine, name):
        adapter = engine.load_adapter(folder / f"{name}.bin") if name else None
        return native.NativeSearch(lexicon, engine.scorer(adapter), config)

    live = [search(model, name) for name in names]
    for part in np.array_split(log_probs, 7):
        for stream in live:
            stream.advance(part)
    together = [stream.finish() for stream in live]
    separate = []
    for name in names:
        alone = search(OnnxLanguageModel(folder / "lm.onnx", folder / "lm.bin"), name)
        alone.advance(log_probs)
        separate.append(alone.finish())
    assert together == separate
    assert together[0] != together[1] != together[2]


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


def test_adapters_that_do_not_fit(copy, model):
    write_runtime_adapter(make_adapter("stranger"), "f" * 64, copy)
    with pytest.raises(ArrayFileError, match="made for the language model ffff.*make it again with `asr-lm adapt"):
        model.load_adapter(copy / "stranger.bin")
    write_runtime_adapter(make_adapter("wide", hidden=24), model.model.trunk, copy)
    with pytest.raises(LanguageModelError, match=r"wide\.onnx_adapter: does not fit"):
        model.load_adapter(copy / "wide.bin")
    (copy / "court.onnx_adapter").write_bytes(b"garbage")
    with pytest.raises(LanguageModelError, match=r"court\.onnx_adapter: does not fit"):
        model.load_adapter(copy / "court.bin")
    (copy / "clinic.onnx_adapter").unlink()
    with pytest.raises(LanguageModelError, match="an adapter is two files"):
        model.load_adapter(copy / "clinic.bin")
    rewrite(copy / "clinic.bin", lambda arrays, meta: arrays.update(bias=arrays["bias"][:7]))
    with pytest.raises(ArrayFileError, match=f"a bias for {V} words"):
        NeuralAdapter.open(copy / "clinic.bin", model.model)


def test_weights_that_are_not_numbers(tmp_path, folder, model):
    broken = make_trained()
    with torch.no_grad():
        broken.model.networks[0].layers[1].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite.*diverged"):
        write_language_model(broken, tmp_path)
    adapter = make_adapter("sick")
    with torch.no_grad():
        adapter.up["1"][0, 0] = torch.inf
    with pytest.raises(ValueError, match="not finite"):
        write_runtime_adapter(adapter, model.model.trunk, tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_the_shared_form_is_exported(tmp_path):
    with pytest.raises(ValueError, match="form 'shared'"):
        write_language_model(make_trained(form="mixture"), tmp_path)


@pytest.mark.parametrize("share", [0, -1, 1.1, math.nan])
def test_shares_out_of_range(model, share):
    with pytest.raises(ValueError, match="share"):
        model.scorer(ngram=BigramScorer(), share=share)

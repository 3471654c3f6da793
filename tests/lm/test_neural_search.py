"""The neural language model in the beam: native search against NumPy's, slices, previews, forgetting, adapters."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from toy_neural import CONFIG, BigramScorer, W  # noqa: E402

from asr.config import DecodingConfig  # noqa: E402
from asr.decoder import native  # noqa: E402
from asr.decoder.lexicon_search import LexiconSearch  # noqa: E402
from lm.lexicon import Lexicon  # noqa: E402
from lm.onnx_lm import OnnxLanguageModel  # noqa: E402
from lm.phones import PHONEMES  # noqa: E402

NOT_BUILT = "the native search is not built: python setup.py build_ext --inplace"


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


def kinds(neural_model, neural_folder):
    adapter = neural_model.load_adapter(neural_folder / "clinic.bin")
    return {
        "alone": lambda: neural_model.scorer(),
        "adapter": lambda: neural_model.scorer(adapter),
        "mixed": lambda: neural_model.scorer(adapter, ngram=BigramScorer(), share=0.6),
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
def test_native_equals_numpy(neural_model, neural_folder, kind, seed):
    lexicon, config = Lexicon.open(neural_folder / "lexicon.bin"), DecodingConfig(beam_size=24, lm_weight=0.6)
    make, log_probs = kinds(neural_model, neural_folder)[kind], spoken_frames(lexicon, seed)
    found = [heard(kind(lexicon, make(), config), log_probs) for kind in (LexiconSearch, native.NativeSearch)]
    assert len(found[0]) > 10
    assert_same(*found)


@pytest.mark.skipif(not native.available(), reason=NOT_BUILT)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_slicing_changes_nothing(neural_model, neural_folder, seed, cuts):
    lexicon, config = Lexicon.open(neural_folder / "lexicon.bin"), DecodingConfig(beam_size=16)
    make, log_probs = kinds(neural_model, neural_folder)["mixed"], spoken_frames(lexicon, seed, 12)
    whole, sliced = (native.NativeSearch(lexicon, make(), config) for _ in range(2))
    assert heard(whole, log_probs) == heard(sliced, log_probs, cuts)


@pytest.mark.parametrize("make_search", [LexiconSearch, native.NativeSearch])
@pytest.mark.parametrize("kind", ["alone", "mixed"])
def test_previews_change_nothing(neural_model, neural_folder, make_search, kind):
    if make_search is native.NativeSearch and not native.available():
        pytest.skip(NOT_BUILT)
    lexicon, config = Lexicon.open(neural_folder / "lexicon.bin"), DecodingConfig(beam_size=24, lm_weight=0.6)
    log_probs, found, shown = spoken_frames(lexicon, 3), [], []
    for looks_ahead in (False, True):
        search, words = make_search(lexicon, kinds(neural_model, neural_folder)[kind](), config), []
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
def test_native_previews_equal_those_in_numpy(neural_model, neural_folder, kind):
    lexicon, config = Lexicon.open(neural_folder / "lexicon.bin"), DecodingConfig(beam_size=24, lm_weight=0.6)
    log_probs, shown = spoken_frames(lexicon, 5), []
    for make_search in (LexiconSearch, native.NativeSearch):
        search, found = make_search(lexicon, kinds(neural_model, neural_folder)[kind](), config), []
        for start in range(0, len(log_probs), 10):
            search.advance(log_probs[start : start + 10])
            found.append([word.word for word in search.preview(log_probs[start + 10 : start + 20])])
        shown.append(found)
    assert shown[0] == shown[1]
    assert any(shown[0])


@pytest.mark.parametrize("kind", ["numpy", "native"])
def test_forgetting_changes_nothing(neural_model, neural_folder, kind, monkeypatch):
    if kind == "native" and not native.available():
        pytest.skip(NOT_BUILT)
    lexicon, config = Lexicon.open(neural_folder / "lexicon.bin"), DecodingConfig(beam_size=8, stable_after_frames=20)
    size, limits = {"numpy": (60, (10**6, 20)), "native": (4000, (None,))}[kind]
    make_search = LexiconSearch if kind == "numpy" else native.NativeSearch
    log_probs = spoken_frames(lexicon, 4, size)
    monkeypatch.setattr("lm.neural.STATE_WORDS", CONFIG.context)  # a forgotten state may come back with other old words
    found = []
    for limit in limits:
        if limit:
            monkeypatch.setattr("lm.neural.CROWD", limit)
        found.append(heard(make_search(lexicon, neural_model.scorer(), config), log_probs))
    if kind == "native":  # it forgets every 4096 contexts; two halves of the search state must not notice
        found.append(heard(native.NativeSearch(lexicon, neural_model.scorer(), config), log_probs, range(0, 8000, 777)))
    assert_same(*found)


@pytest.mark.skipif(not native.available(), reason=NOT_BUILT)
def test_streams_that_wear_different_adapters_do_not_touch_each_other(neural_model, neural_folder):
    lexicon, config = Lexicon.open(neural_folder / "lexicon.bin"), DecodingConfig(beam_size=16)
    log_probs = spoken_frames(lexicon, 7)
    names = [None, "clinic", "court"]

    def search(engine, name):
        adapter = engine.load_adapter(neural_folder / f"{name}.bin") if name else None
        return native.NativeSearch(lexicon, engine.scorer(adapter), config)

    live = [search(neural_model, name) for name in names]
    for part in np.array_split(log_probs, 7):
        for stream in live:
            stream.advance(part)
    together = [stream.finish() for stream in live]
    separate = []
    for name in names:
        alone = search(OnnxLanguageModel(neural_folder / "lm.onnx", neural_folder / "lm.bin"), name)
        alone.advance(log_probs)
        separate.append(alone.finish())
    assert together == separate
    assert together[0] != together[1] != together[2]

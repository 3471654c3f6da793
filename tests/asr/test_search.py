import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import SEMIRINGS, DecodingConfig
from asr.decoder import native
from asr.decoder.history import PathWord
from asr.decoder.lexicon_search import LexiconSearch
from asr.decoder.search import create_search
from asr.errors import OptionError
from lm.backoff import LAST_TWO_WORDS, WORD_BITS, BackoffTrigram
from lm.lexicon import SPECIAL_WORDS, Lexicon
from lm.lexicon_build import build_lexicon
from lm.ngram import NgramModel, NgramScorer
from lm.pack import write_ngram
from lm.phones import BLANK_ID, BOUNDARY_ID, PHONEME_ID, PHONEMES
from lm.scorer import NullScorer
from tests.asr.alignments import HistoryScorer, brute_force, random_frames

EXACT = DecodingConfig(beam_size=10**6, beam_threshold=1e9, token_threshold=1e9, blank_skip_log_prob=0.0)
D, K, T = (PHONEME_ID[symbol] for symbol in "dkt")
NOT_BUILT = "the native search is not built: python setup.py build_ext --inplace"
SEARCHES = {"numpy": LexiconSearch, "native": native.NativeSearch}


@pytest.fixture(params=SEARCHES)
def make_search(request):
    if request.param == "native" and not native.available():
        pytest.skip(NOT_BUILT)
    return SEARCHES[request.param]


@pytest.fixture(scope="module")
def make_lexicon(tmp_path_factory):
    def make(spoken):
        """Lexicon of `spoken`, word -> {phonemes: log-probability}, with falling unigram log-probabilities."""
        path = tmp_path_factory.mktemp("lexicon") / "lexicon.bin"
        words = [*SPECIAL_WORDS, *spoken]
        build_lexicon(words, spoken, -np.linspace(1, 5, len(words)), path)
        return Lexicon.open(path)

    return make


@pytest.fixture(scope="module")
def tiny(make_lexicon):
    """Shared beginnings, words inside words, a homophone pair, a doubled phoneme, two pronunciations of one word."""
    return make_lexicon(
        {
            "a": {(D,): 0.0}, "b": {(K,): 0.0, (T, D): -0.5}, "c": {(D, K): 0.0}, "d": {(D, D): 0.0},
            "e": {(K, D, T): 0.0}, "f": {(D, K): 0.0},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def large(make_lexicon):
    rng = np.random.default_rng(1)
    phonemes = range(2, 22)
    spoken = {}
    for index in range(400):
        variants = [tuple(rng.choice(phonemes, rng.integers(1, 6)).tolist()) for _ in range(rng.integers(1, 3))]
        spoken[f"w{index}"] = {variant: -0.7 * rank for rank, variant in enumerate(variants)}
    return make_lexicon(spoken)


@pytest.fixture(scope="module")
def ngram(large, tmp_path_factory):
    """A random back-off trigram over the words of `large`; half of the words start no bigram."""
    rng = np.random.default_rng(2)
    path, words = tmp_path_factory.mktemp("ngram") / "ngram.bin", len(large)
    triples = rng.integers(3, words, (3, 6000)).astype(np.uint64)
    triples[:2] |= np.uint64(1)
    triples[:2] = np.minimum(triples[:2], np.uint64(words - 2))
    triples[0, :1000] = 1
    trigrams = np.unique(triples[0] << np.uint64(42) | triples[1] << WORD_BITS | triples[2])
    bigrams = np.unique(np.append(trigrams >> WORD_BITS, trigrams[::2] & LAST_TWO_WORDS))
    uni, uni_backoff, bi, bi_backoff, tri = (
        (-5 * rng.random(size)).astype(np.float32) for size in (words, words, bigrams.size, bigrams.size, trigrams.size)
    )
    model = BackoffTrigram(uni, uni_backoff, bigrams, bi, bi_backoff, trigrams, tri)
    write_ngram(path, model, [large.word(word) for word in range(words)])
    return NgramScorer(NgramModel.open(path))


class BigramScorer:
    """Random log-probabilities of each word after each other one; `forbidden` words are impossible."""

    def __init__(self, words, seed, forbidden=()):
        rng = np.random.default_rng(seed)
        self.table = -4 * rng.random((words, words))
        self.table[:, list(forbidden)] = -np.inf
        self.end = -2 * rng.random(words)

    def start(self):
        return 1

    def step(self, state, word):
        return word, float(self.table[state, word])

    def finish(self, state):
        return float(self.end[state])


def frames_of(labels, sure=0.9999):
    """Frames in which `labels` are nearly certain."""
    rest = math.log((1 - sure) / (len(PHONEMES) - 1))
    log_probs = np.full((len(labels), len(PHONEMES)), rest, np.float32)
    log_probs[np.arange(len(labels)), list(labels)] = math.log(sure)
    return log_probs


def spoken_frames(rng, lexicon, words, peak=5.0):
    """Noisy frames in which random words are spoken, some without a boundary after them."""
    labels = []
    for word in rng.integers(len(SPECIAL_WORDS), len(lexicon), words):
        for phoneme in lexicon.pronunciations(int(word))[0][0]:
            labels += [phoneme] * int(rng.integers(1, 3)) + [BLANK_ID] * int(rng.integers(0, 3))
        labels += [BOUNDARY_ID] * int(rng.integers(0, 2))
    logits = rng.standard_normal((len(labels), len(PHONEMES)))
    logits[np.arange(len(labels)), labels] += peak
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def same(words, expected):
    keys = [(word.word, word.start_frame, word.end_frame) for word in words]
    values = [(word.acoustic, word.language) for word in words]
    assert keys == [(word.word, word.start_frame, word.end_frame) for word in expected]
    assert np.allclose(values, [(word.acoustic, word.language) for word in expected])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("has_language", [False, True])
@pytest.mark.parametrize("semiring", SEMIRINGS)
def test_finds_the_best_of_all_readings(make_search, tiny, seed, has_language, semiring):
    rng = np.random.default_rng(seed)
    labels = [BLANK_ID, BOUNDARY_ID, D, K, T]
    log_probs = random_frames(rng, int(rng.integers(3, 7)), labels, peak=2.0)
    scorer = HistoryScorer(BigramScorer(len(tiny), seed) if has_language else NullScorer())
    values = {"lm_weight": 0.6, "word_score": 1.5, "boundary_skip_log_prob": -0.4, "semiring": semiring}
    config = DecodingConfig.from_dict(EXACT.to_dict() | values)
    search = make_search(tiny, scorer, config)
    search.advance(log_probs)
    totals = brute_force(log_probs, tiny, scorer, config, labels)
    assert tuple(word.word for word in search.finish()) == max(totals, key=totals.get)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("semiring", "plus"), [("log", np.logaddexp), ("tropical", max)])
def test_scores_are_over_all_alignments_or_of_the_best(tiny, seed, semiring, plus):
    rng = np.random.default_rng(seed)
    labels = [BLANK_ID, BOUNDARY_ID, D, K]
    log_probs = random_frames(rng, 5, labels)
    scorer = HistoryScorer(BigramScorer(len(tiny), seed))
    config = DecodingConfig.from_dict(EXACT.to_dict() | {"lm_weight": 0.6, "semiring": semiring})
    search = LexiconSearch(tiny, scorer, config)
    search.advance(log_probs)
    found = {}
    for reading in search._complete():
        found[reading.words] = plus(found.get(reading.words, -np.inf), reading.score)
    possible = [score for score in found.values() if score > -1000]  # impossible labels have a floor
    totals = brute_force(log_probs, tiny, scorer, config, labels)
    assert np.allclose(sorted(possible), sorted(totals.values()), rtol=0, atol=1e-9)


@pytest.mark.skipif(not native.available(), reason=NOT_BUILT)
@pytest.mark.parametrize("kind", ["random", "spoken"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("semiring", SEMIRINGS)
def test_native_equals_numpy(large, ngram, kind, seed, semiring):
    rng = np.random.default_rng(seed)
    scorer = [NullScorer(), BigramScorer(len(large), seed, forbidden=range(3, 30, 3)), ngram, ngram][seed]
    config = DecodingConfig(
        beam_size=24, lm_weight=0.7, word_score=0.3, stable_after_frames=40 if seed == 1 else 300, semiring=semiring
    )
    log_probs = random_frames(rng, 120, peak=1.5) if kind == "random" else spoken_frames(rng, large, 15)
    searches = [make(large, scorer, config) for make in SEARCHES.values()]
    seen = [[], []]
    for chunk in np.array_split(log_probs, 9):
        for search, results in zip(searches, seen, strict=True):
            search.advance(chunk)
            results += [search.best(), search.trailing_silence(), search.take_stable()]
    for search, results in zip(searches, seen, strict=True):
        results += [search.finish(), search.trailing_silence(), search.best()]
    assert seen[0] == seen[1]
    assert any(seen[0])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 90), max_size=8), window=st.sampled_from([20, 300]))
@pytest.mark.parametrize("name", SEARCHES)
def test_slicing_and_taking_change_nothing(large, name, seed, cuts, window):
    if name == "native" and not native.available():
        pytest.skip(NOT_BUILT)
    log_probs = spoken_frames(np.random.default_rng(seed), large, 9)
    scorer, config = BigramScorer(len(large), 3), DecodingConfig(beam_size=16, stable_after_frames=window)
    whole, sliced = (SEARCHES[name](large, scorer, config) for _ in range(2))
    whole.advance(log_probs)
    words = []
    for chunk in np.split(log_probs, sorted(cuts)):
        sliced.advance(chunk)
        words += sliced.take_stable()
    assert words + sliced.best() == whole.best()
    assert words + sliced.finish() == whole.finish()


@pytest.mark.parametrize("k", [1, 7, 40])
def test_leading_blanks_shift_the_times(make_search, large, k):
    log_probs = spoken_frames(np.random.default_rng(5), large, 6)
    scorer = BigramScorer(len(large), 3)
    plain, shifted = (make_search(large, scorer, DecodingConfig()) for _ in range(2))
    plain.advance(log_probs)
    shifted.advance(frames_of([BLANK_ID] * k))
    shifted.advance(log_probs)
    expected = plain.finish()
    assert len(expected) > 3
    assert shifted.finish() == [
        PathWord(w.word, w.start_frame + k, w.end_frame + k, w.acoustic, w.language) for w in expected
    ]


def test_sure_blanks_take_the_fast_path_to_the_same_words(make_search, large):
    rng = np.random.default_rng(8)
    pause = frames_of([BLANK_ID] * 10, sure=0.999999)
    parts = [part for _ in range(3) for part in (spoken_frames(rng, large, 3), pause)]
    fast, slow = (make_search(large, NullScorer(), DecodingConfig(blank_skip_log_prob=skip)) for skip in (-0.001, 0.0))
    for part in parts:
        fast.advance(part)
        slow.advance(part)
    assert fast.trailing_silence() == slow.trailing_silence() >= 10
    same(fast.finish(), slow.finish())


def test_unfinished_word_shows_only_where_it_could_end(make_search, make_lexicon):
    lexicon = make_lexicon({"b": {(K,): 0.0}, "e": {(K, D, T): 0.0}})
    search = make_search(lexicon, NullScorer(), DecodingConfig())
    search.advance(frames_of([K, K]))
    assert [lexicon.word(word.word) for word in search.best()] == ["b"]
    search.advance(frames_of([D]))
    assert search.best() == []
    search.advance(frames_of([T, BLANK_ID, BLANK_ID]))
    (word,) = search.best()
    assert (lexicon.word(word.word), word.start_frame, word.end_frame) == ("e", 0, 4)
    assert search.trailing_silence() == 2


def test_incomplete_utterance_ends_without_its_last_word(make_search, make_lexicon):
    lexicon = make_lexicon({"a": {(D,): 0.0}, "e": {(K, D, T): 0.0}})
    search = make_search(lexicon, NullScorer(), DecodingConfig(beam_size=1))
    search.advance(frames_of([D, BOUNDARY_ID, K, K, D]))
    assert [lexicon.word(word.word) for word in search.finish()] == ["a"]


def test_finish_starts_anew_and_counts_on(make_search, tiny):
    search = make_search(tiny, BigramScorer(len(tiny), 0), DecodingConfig())
    log_probs = frames_of([D, D, BOUNDARY_ID, BLANK_ID, K, BLANK_ID, BLANK_ID])
    search.advance(log_probs)
    first = search.finish()
    assert search.best() == search.take_stable() == search.finish() == []
    assert search.trailing_silence() == 0
    search.advance(frames_of([BLANK_ID] * 3))
    assert search.trailing_silence() == 3
    search.advance(log_probs)
    second = search.finish()
    assert [word.start_frame for word in first] == [0, 4]
    assert [word.start_frame for word in second] == [10, 14]
    assert [word.language for word in first] == [word.language for word in second]


class TiedStates(NullScorer):
    """Tells histories apart for ever without preferring one."""

    def step(self, state, word):
        return (31 * state + word) % 10**9, 0.0


def test_words_of_long_ago_are_settled(make_search, tiny):
    search = make_search(tiny, TiedStates(), DecodingConfig(stable_after_frames=20))
    search.advance(frames_of([D, K, BOUNDARY_ID] + [BLANK_ID] * 19))  # "c" or "f"
    assert search.take_stable() == []
    assert len(search.best()) == 1
    search.advance(frames_of([BLANK_ID]))
    assert [tiny.word(word.word) for word in search.take_stable()] == ["c"]
    assert search.finish() == []


def test_memory_stays_flat(make_search, large):
    rng = np.random.default_rng(0)
    config = DecodingConfig(beam_size=16, beam_threshold=30.0, stable_after_frames=50)
    search = make_search(large, TiedStates(), config)
    taken, most = 0, 0
    for _ in range(12):
        search.advance(random_frames(rng, 100, peak=2.0))
        most = max(most, search.history_size())
        taken += len(search.take_stable())
    assert taken > 100
    assert most <= 1024 + 16
    assert search.history_size() < 500


def test_forbidden_words_are_never_found(make_search, tiny):
    forbidden = [tiny.find("c")]
    for words, expected in ((forbidden, ["f"]), (range(3, len(tiny)), [])):
        search = make_search(tiny, BigramScorer(len(tiny), 0, forbidden=words), DecodingConfig(lm_weight=0.0))
        search.advance(frames_of([D, K, BOUNDARY_ID]))
        assert [tiny.word(word.word) for word in search.finish()] == expected


def test_no_frames_change_nothing(make_search, tiny):
    search = make_search(tiny, NullScorer(), DecodingConfig())
    search.advance(np.zeros((0, len(PHONEMES)), np.float32))
    assert search.trailing_silence() == 0
    assert search.best() == search.take_stable() == search.finish() == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_rejects_what_is_no_log_probability(make_search, tiny, value):
    log_probs = frames_of([D, K])
    log_probs[1, 5] = value
    with pytest.raises(ValueError, match="NaN or plus infinity"):
        make_search(tiny, NullScorer(), DecodingConfig()).advance(log_probs)


@pytest.mark.parametrize("shape", [(3,), (2, len(PHONEMES) + 1), (1, 2, len(PHONEMES))])
def test_rejects_other_shapes(make_search, tiny, shape):
    with pytest.raises(ValueError, match="expected \\(frames, 42\\)"):
        make_search(tiny, NullScorer(), DecodingConfig()).advance(np.zeros(shape, np.float32))


def test_impossible_labels_leave_a_hypothesis(make_search, tiny):
    search = make_search(tiny, NullScorer(), DecodingConfig())
    search.advance(frames_of([D, BOUNDARY_ID]))
    search.advance(np.full((2, len(PHONEMES)), -np.inf, np.float32))
    assert [tiny.word(word.word) for word in search.finish()] == ["a"]


@pytest.mark.skipif(not native.available(), reason=NOT_BUILT)
def test_streams_run_in_threads(large):
    inputs = [spoken_frames(np.random.default_rng(seed), large, 30) for seed in range(4)]

    def decode(log_probs):
        search = native.NativeSearch(large, NullScorer(), DecodingConfig())
        search.advance(log_probs)
        return search.finish()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(decode, inputs)) == [decode(log_probs) for log_probs in inputs]


def test_environment_chooses_the_search(monkeypatch, tiny):
    monkeypatch.setenv("SOTTOVOCE_SEARCH", "numpy")
    assert isinstance(create_search(tiny, NullScorer(), DecodingConfig()), LexiconSearch)
    monkeypatch.setenv("SOTTOVOCE_SEARCH", "fast")
    with pytest.raises(OptionError, match="'auto', 'native' or 'numpy'"):
        create_search(tiny, NullScorer(), DecodingConfig())
    monkeypatch.setenv("SOTTOVOCE_SEARCH", "native")
    monkeypatch.setattr(native, "available", lambda: False)
    with pytest.raises(OptionError, match="was not built"):
        create_search(tiny, NullScorer(), DecodingConfig())
    monkeypatch.delenv("SOTTOVOCE_SEARCH")
    assert isinstance(create_search(tiny, NullScorer(), DecodingConfig()), LexiconSearch)

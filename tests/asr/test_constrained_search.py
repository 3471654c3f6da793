"""The search under a grammar, against all alignments of all label sequences."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from asr.config import DecodingConfig
from asr.decoder import native
from asr.decoder.lexicon_search import LexiconSearch
from lm.grammar.grammar import Grammar
from lm.grammar.scorer import ConstrainedScorer, GrammarArcs, GrammarScorer
from lm.lexicon_build import assemble_lexicon
from lm.phones import BLANK_ID, BOUNDARY_ID, PHONEME_ID
from lm.vocabulary import SPECIAL_WORDS
from tests.asr.alignments import HistoryScorer, brute_force, random_frames

EXACT = DecodingConfig(beam_size=10**6, beam_threshold=1e9, token_threshold=1e9, blank_skip_log_prob=0.0)
SEARCHES = {"numpy": LexiconSearch, "native": native.NativeSearch}
D, K, T = (PHONEME_ID[symbol] for symbol in "dkt")
LABELS = [BLANK_ID, BOUNDARY_ID, D, K]
SPOKEN = {"a": {(D,): 0.0}, "b": {(K,): 0.0, (D, K): -0.5}, "five": {(D, K): 0.0}, "six": {(K, D): 0.0}}
PATTERNS = ["(a|b)+", "[56]{1,2}", "a b|b a|5", r"b?6", "(a|b|5)*"]


@pytest.fixture(scope="module")
def lexicon():
    words = [*SPECIAL_WORDS, *SPOKEN]
    return assemble_lexicon(words, SPOKEN, np.zeros(len(words)))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_sum_over_all_alignments(lexicon, search, pattern, seed):
    if search == "native" and not native.available():
        pytest.skip("the native search is not built")
    log_probs = random_frames(np.random.default_rng(seed), 5, LABELS, peak=2.0)
    config = DecodingConfig.from_dict(EXACT.to_dict() | {"lm_weight": 0.7, "boundary_skip_log_prob": -0.6})
    scorer = HistoryScorer(GrammarScorer(Grammar(pattern).automaton, lexicon.word))
    totals = brute_force(log_probs, lexicon, scorer, config, LABELS)
    expected = {words: score for words, score in totals.items() if score > -np.inf}
    decoder = SEARCHES[search](lexicon, scorer, config)
    decoder.advance(log_probs)
    found = decoder.finish_many(10**6)
    assert [reading.score for reading in found] == sorted((reading.score for reading in found), reverse=True)
    possible = {tuple(w.word for w in reading.words): reading.score for reading in found if reading.score > -1000}
    assert possible.keys() == expected.keys()
    for words, score in expected.items():
        assert possible[words] == pytest.approx(score, abs=1e-9)
        spelt = [lexicon.word(word) for word in words]
        assert Grammar(pattern).automaton.writings(spelt)


@pytest.mark.skipif(not native.available(), reason="the native search is not built")
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("with_model", [False, True])
def test_native_equals_numpy(lexicon, pattern, with_model):
    class Bigrams:
        """Log-probabilities of a word after another, made up."""

        def start(self):
            return 1

        def step(self, state, word):
            return word, -0.3 * ((7 * state + 3 * word) % 11)

        def finish(self, state):
            return -0.1 * state

    log_probs = random_frames(np.random.default_rng(5), 60, [*LABELS, T], peak=2.0)
    readings = []
    for search in SEARCHES.values():
        scorer = GrammarScorer(Grammar(pattern).automaton, lexicon.word)
        if with_model:
            ids = np.arange(len(lexicon))
            scorer = ConstrainedScorer(scorer, Bigrams(), ids[::-1], own_shares={int(word): 0.2 for word in ids[3:5]})
        decoder = search(lexicon, scorer, DecodingConfig(beam_size=12, stable_after_frames=1000))
        decoder.advance(log_probs)
        readings.append(decoder.finish_many(8))
    ours, theirs = readings
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert [word.word for word in one.words] == [word.word for word in other.words]
        assert one.score == pytest.approx(other.score, abs=1e-9)


def test_own_words_have_their_share_and_the_model_the_rest(lexicon):
    class Uniform:
        def start(self):
            return 0

        def step(self, state, word):
            return 0, -np.log(len(lexicon))

        def finish(self, state):
            return 0.0

    ids = np.arange(len(lexicon))
    grammar = GrammarScorer(Grammar("(a|b|ab)+").automaton, lexicon.word)
    plain, shared = (
        ConstrainedScorer(grammar, Uniform(), ids, own_shares=shares) for shares in (None, {3: 0.3, 4: 0.3})
    )
    assert plain.step(plain.start(), 3)[1] == pytest.approx(-np.log(len(lexicon)))
    own = np.exp(shared.step(shared.start(), 3)[1])
    assert own == pytest.approx(0.4 / len(lexicon) + 0.6 / 2)
    assert shared.step(shared.start(), 5)[1] == -np.inf


def test_a_scorer_over_a_model_that_remembers_nothing_gets_crowded_too(lexicon):
    class Counting:
        """A model with ever new states, which keeps none of them."""

        def start(self):
            return 0

        def step(self, state, word):
            return state + 1, -1.0

        def finish(self, state):
            return 0.0

    scorer = ConstrainedScorer(
        GrammarScorer(Grammar("(a|b)+").automaton, lexicon.word), Counting(), np.arange(len(lexicon))
    )
    state = scorer.start()
    for _ in range(10_000):
        state, _ = scorer.step(state, 3)
        if crowded := scorer.is_crowded():
            break
    assert crowded
    scorer.retain([state])
    assert not scorer.is_crowded()
    assert scorer.step(state, 3)[1] == -1.0


def test_retain_forgets_the_other_states(lexicon):
    class Counting:
        """A model that remembers."""

        def __init__(self):
            self.kept = []

        def start(self):
            return 0

        def step(self, state, word):
            return state + 1, -1.0

        def finish(self, state):
            return 0.0

        def prepare(self, states):
            self.prepared = list(states)

        def is_crowded(self):
            return True

        def retain(self, states):
            self.kept = list(states)

        def begin_preview(self):
            """Unused."""

        def end_preview(self):
            """Unused."""

    inner = Counting()
    scorer = ConstrainedScorer(GrammarScorer(Grammar("(a|b)+").automaton, lexicon.word), inner, np.arange(len(lexicon)))
    first = scorer.start()
    second, _ = scorer.step(first, 3)
    third, _ = scorer.step(second, 4)
    assert scorer.step(first, 5)[1] == -np.inf
    assert scorer.is_crowded()
    scorer.prepare([second])
    assert inner.prepared == [1]
    scorer.retain([third])
    assert inner.kept == [2]
    assert scorer.step(third, 3)[1] == -1.0
    with pytest.raises(KeyError):
        scorer.step(first, 3)


@pytest.mark.skipif(not native.available(), reason="the native search is not built")
def test_streams_share_what_the_grammar_has_said(lexicon):
    asked = []

    class Counting(GrammarArcs):
        def follow(self, state, word):
            asked.append((state, word))
            return super().follow(state, word)

    scorer = GrammarScorer(Grammar("(a|b|5)*").automaton, lexicon.word)
    scorer.arcs = Counting(scorer.arcs.automaton, lexicon.word)
    log_probs = random_frames(np.random.default_rng(2), 40, LABELS, peak=2.0)
    found = []
    for _ in range(2):
        search = native.NativeSearch(lexicon, scorer, DecodingConfig(beam_size=12, stable_after_frames=1000))
        search.advance(log_probs)
        found.append(search.finish_many(3))
    assert found[0] == found[1]
    assert len(asked) == len(set(asked)) > 5
    with ThreadPoolExecutor(4) as pool:
        searches = [native.NativeSearch(lexicon, scorer, DecodingConfig(beam_size=12)) for _ in range(8)]
        list(pool.map(lambda search: search.advance(log_probs), searches))
    assert all(search.finish_many(1)[0].words == found[0][0].words for search in searches)
    gone = weakref.ref(scorer.arcs)
    del scorer, search, searches
    gc.collect()
    assert gone() is None

"""Previews: what the search would say after frames that it does not take in."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import DecodingConfig
from asr.decoder import native
from asr.decoder.inputs import PREVIEW_BEAM
from asr.decoder.lexicon_search import LexiconSearch
from lm.grammar.grammar import Grammar
from lm.grammar.scorer import ConstrainedScorer, GrammarScorer
from lm.lexicon_build import assemble_lexicon
from lm.phones import BLANK_ID, BOUNDARY_ID, PHONEMES
from lm.phrases import PhraseScorer, compile_phrases
from lm.scorer import NullScorer
from lm.vocabulary import SPECIAL_WORDS

NOT_BUILT = "the native search is not built: python setup.py build_ext --inplace"
SEARCHES = {"numpy": LexiconSearch, "native": native.NativeSearch}
LETTERS = "abcdef"


@pytest.fixture(scope="module", params=SEARCHES)
def make_search(request):
    if request.param == "native" and not native.available():
        pytest.skip(NOT_BUILT)
    return SEARCHES[request.param]


@pytest.fixture(scope="module")
def lexicon():
    rng = np.random.default_rng(3)
    spoken = {letter: {tuple(rng.integers(2, 12, rng.integers(1, 4)).tolist()): 0.0} for letter in LETTERS}
    words = [*SPECIAL_WORDS, *spoken]
    return assemble_lexicon(words, spoken, np.full(len(words), -2.0))


class Remembering:
    """Log-probabilities that depend on the last two words; states that nobody kept are unknown, and few are kept."""

    def __init__(self, words, crowd=12):
        self.table = -4 * np.random.default_rng(5).random((words, words, words))
        self.kept, self.words, self.crowd, self.before = {1}, words, crowd, None

    def start(self):
        return 1

    def step(self, state, word):
        assert state in self.kept
        self.kept.add(after := state % self.words * self.words + word)
        return after, float(self.table[divmod(state, self.words)][word])

    def finish(self, state):
        return -0.1 * (state % 7)

    def prepare(self, states):
        assert set(states) <= self.kept

    def is_crowded(self):
        return self.before is None and len(self.kept) > self.crowd

    def retain(self, states):
        assert self.before is None
        self.kept = {1, *states}

    def begin_preview(self):
        self.before = set(self.kept)

    def end_preview(self):
        self.kept, self.before = self.before, None


def scorers(lexicon):
    grammar = GrammarScorer(Grammar("[a-f](?: [a-f])*").automaton, lexicon.word)
    ids = np.arange(len(lexicon))
    phrases = compile_phrases([((4, 5), (1.0, 0.5)), ((5, 6, 3), (1.0, 0.2, 1.0))])
    return {
        "none": NullScorer,
        "remembering": lambda: Remembering(len(lexicon)),
        "phrases": lambda: PhraseScorer(Remembering(len(lexicon)), phrases, len(lexicon)),
        "grammar": lambda: copy.copy(grammar),
        "constrained": lambda: ConstrainedScorer(grammar, Remembering(len(lexicon)), ids),
    }


def frames(seed, size=90):
    rng = np.random.default_rng(seed)
    labels = [BLANK_ID, BOUNDARY_ID, *range(2, 12)]
    logits = rng.standard_normal((size, len(PHONEMES)))
    logits[np.arange(size), rng.choice(labels, size)] += 4.0
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("kind", ["none", "remembering", "phrases", "grammar", "constrained"])
@settings(max_examples=8)
@given(seed=st.integers(0, 1000), cut=st.integers(0, 60))
def test_it_is_what_comes_after_these_frames(make_search, lexicon, kind, seed, cut):
    config = DecodingConfig(beam_size=PREVIEW_BEAM, lm_weight=0.7)
    log_probs, make_scorer = frames(seed), scorers(lexicon)[kind]
    search, reference = (make_search(lexicon, make_scorer(), config) for _ in range(2))
    search.advance(log_probs[:cut])
    reference.advance(log_probs[:cut])
    assert search.preview(log_probs[cut:cut]) == search.best()
    reference.advance(log_probs[cut : cut + 16])
    assert search.preview(log_probs[cut : cut + 16]) == reference.best()


@pytest.mark.parametrize("kind", ["none", "remembering", "phrases", "grammar", "constrained"])
@settings(max_examples=8)
@given(seed=st.integers(0, 1000), guessed=st.integers(0, 1000))
def test_it_leaves_no_trace(make_search, lexicon, kind, seed, guessed):
    config = DecodingConfig(beam_size=40, lm_weight=0.7, stable_after_frames=20)
    log_probs, make_scorer = frames(seed), scorers(lexicon)[kind]
    found = []
    for looks_ahead in (False, True):
        search, words = make_search(lexicon, make_scorer(), config), []
        for part in np.array_split(log_probs, 6):
            search.advance(part)
            if looks_ahead:
                search.preview(frames(guessed, 30))
            words += [search.best(), search.take_stable(), search.trailing_silence()]
        found.append([*words, search.finish_many(5)])
    assert found[0] == found[1]


@pytest.mark.skipif(not native.available(), reason=NOT_BUILT)
@pytest.mark.parametrize("kind", ["none", "remembering", "phrases", "grammar", "constrained"])
@pytest.mark.parametrize("seed", range(4))
def test_native_equals_numpy(lexicon, kind, seed):
    config = DecodingConfig(beam_size=40, lm_weight=0.7, stable_after_frames=30)
    seen = []
    for make_search in SEARCHES.values():
        search, found = make_search(lexicon, scorers(lexicon)[kind](), config), []
        for part in np.array_split(frames(seed), 6):
            search.advance(part)
            found += [search.preview(frames(seed + 7, 20)), search.take_stable()]
        seen.append([*found, search.finish()])
    assert seen[0] == seen[1]
    assert any(seen[0][::2])


def test_it_is_over_after_an_error_too(make_search, lexicon):
    scorer = Remembering(len(lexicon))
    search = make_search(lexicon, scorer, DecodingConfig())
    search.advance(frames(1, 20))
    step = scorer.step
    scorer.step = lambda state, word: step(state, word) if scorer.before is None else 1 / 0
    with pytest.raises(ZeroDivisionError):
        search.preview(frames(2, 20))
    assert scorer.before is None
    assert search.best()

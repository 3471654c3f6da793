"""Phrases in the beam: the native search against the NumPy one, and what phrases do to what is heard."""

import numpy as np
import pytest

from asr.config import DecodingConfig
from asr.decoder import native
from asr.decoder.lexicon_search import LexiconSearch
from lm.lexicon_build import assemble_lexicon
from lm.phones import BLANK_ID, PHONEME_ID, PHONEMES
from lm.phrase_lexicon import spoken_phrases
from lm.phrases import PhraseScorer, parse_phrases
from lm.scorer import NullScorer
from lm.vocabulary import SPECIAL_WORDS

NOT_BUILT = "the native search is not built: python setup.py build_ext --inplace"
SEARCHES = {"numpy": LexiconSearch, "native": native.NativeSearch}


@pytest.fixture(params=SEARCHES)
def make_search(request):
    if request.param == "native" and not native.available():
        pytest.skip(NOT_BUILT)
    return SEARCHES[request.param]


class Letters:
    """A pronouncer: the n-th letter is the n-th phoneme."""

    def pronounce(self, words):
        return {word: {tuple(ord(letter) - ord("a") + 2 for letter in word): 0.0} for word in words}


class LastWord:
    """A scorer that remembers: what follows depends on the last word; it knows `words` words only."""

    def __init__(self, words):
        self.table = -4 * np.random.default_rng(5).random((words, words))
        self.kept = {1}

    def start(self):
        return 1

    def step(self, state, word):
        assert state in self.kept
        self.kept.add(word)
        return word, float(self.table[state, word])

    def finish(self, state):
        return float(self.table[state, 2])

    def prepare(self, states):
        assert set(states) <= self.kept

    def is_crowded(self):
        return len(self.kept) > 20

    def retain(self, states):
        self.kept = {1, *states}

    def begin_preview(self):
        """Unused."""

    def end_preview(self):
        """Unused."""


def random_word(rng, longest, letters="abcdefg"):
    return "".join(rng.choice(list(letters), rng.integers(1, longest)))


@pytest.fixture(scope="module")
def lexicon():
    rng = np.random.default_rng(11)
    pronounced = list(dict.fromkeys(random_word(rng, 5) for _ in range(700)))
    words = [*SPECIAL_WORDS, *(f"filler{number}" for number in range(1000)), *pronounced]
    return assemble_lexicon(words, Letters().pronounce(pronounced), -np.linspace(1, 9, len(words)))


@pytest.fixture(scope="module")
def spoken(lexicon):
    rng = np.random.default_rng(12)
    entries = [
        (" ".join(random_word(rng, 6, "efghijk") for _ in range(rng.integers(1, 4))), float(rng.integers(1, 3)))
        for _ in range(150)
    ]
    return spoken_phrases(lexicon, Letters(), parse_phrases(entries))


def log_softmax(logits):
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def spoken_frames(rng, lexicon, first_word):
    """Noisy frames in which random words from an id on are spoken."""
    labels = []
    for word in rng.integers(first_word, len(lexicon), 15):
        labels += [part for label in lexicon.pronunciations(int(word))[0][0] for part in (label, BLANK_ID)]
    logits = rng.standard_normal((len(labels), len(PHONEMES)))
    logits[np.arange(len(labels)), labels] += rng.choice([5.0, 14.0], len(labels))
    return log_softmax(logits)


@pytest.mark.skipif(not native.available(), reason=NOT_BUILT)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("inner", ["none", "remembering"])
def test_native_equals_numpy(lexicon, spoken, seed, inner):
    rng = np.random.default_rng(seed)
    frames = spoken_frames(rng, spoken.lexicon, len(lexicon))
    config = DecodingConfig(beam_size=24, lm_weight=0.7, word_score=0.3)
    seen = []
    for make in SEARCHES.values():
        scorer = NullScorer() if inner == "none" else LastWord(len(lexicon))
        search, found = make(spoken.lexicon, PhraseScorer(scorer, spoken.automaton, len(lexicon)), config), []
        for chunk in np.array_split(frames, 9):
            search.advance(chunk)
            found += [search.best(), search.take_stable()]
        seen.append([*found, search.finish()])
    assert seen[0] == seen[1]
    assert any(word.word >= len(lexicon) for words in seen[0] for word in words)  # a word that only the phrases have


def frames_of(symbols, likely=12.0):
    logits = np.random.default_rng(1).standard_normal((len(symbols), len(PHONEMES))) * 0.1
    logits[np.arange(len(symbols)), [PHONEME_ID[symbol] for symbol in symbols]] += likely
    return log_softmax(logits)


def heard(make_search, lexicon, scorer, frames):
    search = make_search(lexicon, scorer, DecodingConfig(lm_weight=1.0, word_score=0.0))
    search.advance(frames)
    return [lexicon.word(word.word) for word in search.finish()]


def test_a_phrase_is_preferred_to_its_homophone_but_not_to_other_words(make_search):
    sounds = {"win": "w ɪ n", "ten": "t ɛ n"}
    variants = {word: {tuple(PHONEME_ID[s] for s in said.split()): 0.0} for word, said in sounds.items()}
    words = [*SPECIAL_WORDS, "win", *(f"filler{number}" for number in range(2000)), "ten"]
    lexicon = assemble_lexicon(words, variants, np.full(len(words), -5.0))

    class Fixed:
        def pronounce(self, words):
            return {word: variants[word] for word in words if word in variants}

    found = spoken_phrases(lexicon, Fixed(), parse_phrases([("Nguyen", "win", 10.0)]))
    scorer = PhraseScorer(NullScorer(), found.automaton, len(lexicon))
    said = frames_of(["w", "ɪ", "n", "<wb>", "t", "ɛ", "n"])
    assert heard(make_search, lexicon, NullScorer(), said) == ["win", "ten"]
    assert heard(make_search, found.lexicon, scorer, said) == ["nguyen", "ten"]

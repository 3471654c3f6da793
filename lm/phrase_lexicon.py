"""How phrases are spoken: their words, pronunciations and boosts, and a lexicon that has all of them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np

from lm.letters import LETTER_NAMES
from lm.lexicon import Lexicon
from lm.lexicon_build import Pronunciation, extend_lexicon
from lm.normalize import normalize_text
from lm.phrases import Phrase, PhraseAutomaton, compile_phrases
from lm.vocabulary import SPECIAL_WORDS

MAX_WORDS = 20
MAX_LETTERS = 40
_SOUNDS_LIKE_VARIANTS = 4
_BOOST_FROM_RANK = 300.0
_BOOST_SLOPE = 1.5
_MAX_BOOST = 8.0
_UNLISTED_LOG_PROB = -16.0
"""About what a scorer makes of a word that it does not know, for the look-ahead."""
_SYMBOL = re.compile(r"[^\w\s.,;:!?'\"()%&$£€°#‘’ʼ‐‑–—-]|_")
_SPOKEN_SYMBOLS = str.maketrans({"@": " at ", "+": " plus "})
_FOREIGN_LETTERS = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})
_WITHOUT_VOWEL = re.compile(r"[b-df-hj-np-tv-xz]{2,}")

Variants = Mapping[Pronunciation, float]


class Pronouncing(Protocol):
    """What this module asks of `lm.pronouncer.Pronouncer`."""

    def pronounce(self, words: Iterable[str]) -> Mapping[str, Variants]:
        """Variants of those words that can be spoken."""


@dataclass(frozen=True, slots=True, eq=False)
class SpokenPhrases:
    """Phrases ready for a search."""

    lexicon: Lexicon
    """The given one, and words and pronunciations that it lacked."""
    automaton: PhraseAutomaton
    unspeakable: tuple[tuple[str, str], ...]
    """(text, reason) of the phrases that were left out."""


@dataclass(frozen=True, slots=True)
class _Worded:
    """A phrase in words."""

    words: tuple[str, ...]
    sounds: tuple[tuple[str, ...], ...] | None
    """The words that each word sounds like."""
    weight: float


def spoken_phrases(lexicon: Lexicon, pronouncer: Pronouncing, phrases: Sequence[Phrase]) -> SpokenPhrases:
    """The lexicon and the automaton that a `PhraseScorer` and its search need.

    A word is pronounced as its phrase says it sounds, and as the lexicon has it where the phrase says nothing.
    """
    unspeakable: list[tuple[str, str]] = []
    worded: list[tuple[Phrase, _Worded]] = []
    for phrase in phrases:
        found = _in_words(phrase)
        if isinstance(found, str):
            unspeakable.append((phrase.text, found))
        else:
            worded.append((phrase, found))
    spoken = _pronounced(lexicon, pronouncer, [found for _, found in worded])
    variants: dict[str, dict[Pronunciation, float]] = {}
    speakable: list[_Worded] = []
    for phrase, found in worded:
        silent = [word for word in _asked_of(found) if not spoken.get(word)]
        if silent:
            unspeakable.append((phrase.text, f"nobody knows how {silent[0]!r} is pronounced; say what it sounds like"))
            continue
        speakable.append(found)
        for index, word in enumerate(found.words):
            said = spoken[word] if found.sounds is None else _joined([spoken[part] for part in found.sounds[index]])
            variants.setdefault(word, {}).update(said)
    return SpokenPhrases(*_compiled(lexicon, speakable, variants), tuple(unspeakable))


def _compiled(
    lexicon: Lexicon, phrases: Sequence[_Worded], variants: Mapping[str, Variants]
) -> tuple[Lexicon, PhraseAutomaton]:
    words = list(variants)
    ids = lexicon.find_many(words)
    rank = np.where(ids < 0, len(lexicon), ids) - len(SPECIAL_WORDS) + 1
    boost = dict(zip(words, map(_boost, rank.tolist()), strict=True))
    weight: dict[str, float] = {}
    for phrase in phrases:
        weight |= {word: max(phrase.weight, weight.get(word, 0.0)) for word in phrase.words}
    base = np.where(ids < 0, _UNLISTED_LOG_PROB, -np.log(12.0 * rank))
    extended = extend_lexicon(lexicon, variants, base + np.array([boost[word] * weight[word] for word in words]))
    word_id = dict(zip(words, extended.find_many(words).tolist(), strict=True))
    automaton = compile_phrases(
        ([word_id[word] for word in phrase.words], [boost[word] * phrase.weight for word in phrase.words])
        for phrase in phrases
    )
    return extended, automaton


def _boost(rank: float) -> float:
    """Boost of a word, natural log: the rarer the word, the more a list that has it tells."""
    return min(_MAX_BOOST, max(0.0, _BOOST_SLOPE * math.log(rank / _BOOST_FROM_RANK)))


def _in_words(phrase: Phrase) -> _Worded | str:
    """The phrase in words, or why that cannot be."""
    words = _words(phrase.text)
    if isinstance(words, str):
        return words
    if phrase.sounds_like is None:
        return _Worded(words, None, phrase.weight)
    sounds = _words(phrase.sounds_like)
    if isinstance(sounds, str):
        return f"its sounds-like {phrase.sounds_like!r} {sounds}"
    if len(words) == 1:
        return _Worded(words, (sounds,), phrase.weight)
    if len(words) == len(sounds):
        return _Worded(words, tuple((sound,) for sound in sounds), phrase.weight)
    return f"its sounds-like has {len(sounds)} words for {len(words)}: give one for each, or list the words one by one"


def _words(text: str) -> tuple[str, ...] | str:
    """What is said, over a-z and the apostrophe, or a reason why there is none."""
    plain = _SYMBOL.sub(" ", text.casefold().translate(_SPOKEN_SYMBOLS).translate(_FOREIGN_LETTERS))
    decomposed = unicodedata.normalize("NFKD", plain)
    foreign = [c for c in decomposed if c.isalpha() and not (c.isascii() or unicodedata.category(c) == "Lm")]
    if foreign:
        return f"has letters other than a to z ({foreign[0]!r}); write it with these"
    words = normalize_text(plain)
    if not words:
        return "has no letters or digits that could be said"
    if len(words) > MAX_WORDS or max(map(len, words)) > MAX_LETTERS:
        return f"is longer than {MAX_WORDS} words, or has a word of more than {MAX_LETTERS} letters"
    return tuple(words)


def _asked_of(phrase: _Worded) -> Iterable[str]:
    return phrase.words if phrase.sounds is None else [word for sounds in phrase.sounds for word in sounds]


def _pronounced(lexicon: Lexicon, pronouncer: Pronouncing, phrases: Sequence[_Worded]) -> dict[str, Variants]:
    """Variants of all words that are asked for; letters, and words without vowels that the lexicon lacks, are spelt."""
    words = list(dict.fromkeys(word for phrase in phrases for word in _asked_of(phrase)))
    is_listed = (lexicon.find_many(words) >= 0).tolist()
    spelt = {
        word
        for word, listed in zip(words, is_listed, strict=True)
        if word in LETTER_NAMES or (not listed and _WITHOUT_VOWEL.fullmatch(word))
    }
    found = dict(pronouncer.pronounce(word for word in words if word not in spelt))
    return found | {word: _joined([{LETTER_NAMES[letter]: 0.0} for letter in word]) for word in spelt}


def _joined(parts: Sequence[Variants]) -> dict[Pronunciation, float]:
    """The most probable ways to speak all parts, one after another."""
    joined: dict[Pronunciation, float] = {(): 0.0}
    for part in parts:
        ways = {before + said: a + b for (before, a), (said, b) in product(joined.items(), part.items())}
        joined = dict(sorted(ways.items(), key=lambda way: -way[1])[:_SOUNDS_LIKE_VARIANTS])
    return joined

"""Phrases made ready for a stream: the lexicon with their words, and a scorer that boosts them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from asr.language import Language
from lm.lexicon import Lexicon
from lm.phrase_lexicon import SpokenPhrases, spoken_phrases
from lm.phrases import Phrase, PhraseScorer
from lm.scorer import Scorer

_KEPT = 8  # lists; a session of many streams has one or a few


@dataclass(frozen=True, slots=True, eq=False)
class Biased:
    """What a search needs instead of the language's own lexicon and scorer."""

    lexicon: Lexicon
    scorer: Scorer
    unspeakable: tuple[tuple[str, str], ...]
    """(text, reason) of the phrases that were left out."""


class Biasing:
    """Lists of phrases of one recogniser; the last few are kept ready, and shared by streams and threads."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._ready: OrderedDict[tuple[Phrase, ...], SpokenPhrases] = OrderedDict()
        self._lock = Lock()

    def biased(self, phrases: Sequence[Phrase], domain: str | None) -> Biased:
        """Lexicon and scorer of one stream.

        Raises:
            OptionError: there is no such domain.
            BundleFileError: the bundle's letter-to-phoneme network is damaged.
        """
        spoken = self._spoken(tuple(phrases))
        inner = self._language.scorer(domain, spoken.lexicon)
        scorer = PhraseScorer(inner, spoken.automaton, self._language.n_scored_words(spoken.lexicon))
        return Biased(spoken.lexicon, scorer, spoken.unspeakable)

    def _spoken(self, phrases: tuple[Phrase, ...]) -> SpokenPhrases:
        with self._lock:
            if phrases not in self._ready:
                self._ready[phrases] = spoken_phrases(self._language.lexicon, self._language.pronouncer, phrases)
            self._ready.move_to_end(phrases)
            while len(self._ready) > _KEPT:
                self._ready.popitem(last=False)
            return self._ready[phrases]

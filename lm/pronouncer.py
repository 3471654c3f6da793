"""How any word is spoken: as the lexicon says, and as its letters suggest where the lexicon lacks it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lm.letters import LETTER_NAMES, letter_variants
from lm.lexicon import Lexicon

if TYPE_CHECKING:
    from lm.g2p import G2P

Pronunciation = tuple[int, ...]
Variants = dict[Pronunciation, float]

_GUESSES = 2
_MOST_GUESSED = 100_000  # words that are kept
_WORST_GUESS = -2.5
"""Log-probability against the best one from which on a second guess is tried."""


class Pronouncer:
    """Pronunciations of many words at once; shared by streams, read-only but for what it keeps."""

    def __init__(self, lexicon: Lexicon, g2p: G2P | None) -> None:
        """Take a lexicon, and a letter-to-phoneme network for what it lacks."""
        self._lexicon, self._g2p = lexicon, g2p
        self._guessed: dict[str, Variants] = {}

    def pronounce(self, words: Iterable[str]) -> dict[str, Variants]:
        """Phoneme ids and log-probabilities of each word (letters a to z and apostrophes) that can be spoken."""
        words = list(dict.fromkeys(words))
        ids = self._lexicon.find_many(words).tolist()
        found = self._listed({word: word_id for word, word_id in zip(words, ids, strict=True) if word_id >= 0})
        found |= {word: letter_variants(word, found.get(word, {})) for word in words if word in LETTER_NAMES}
        missing = [word for word in words if word not in found]
        return found | self._guesses(missing)

    def _listed(self, ids: dict[str, int]) -> dict[str, Variants]:
        order, first = self._entries_by_word
        words = np.fromiter(ids.values(), np.int64, len(ids))
        counts = first[words + 1] - first[words]
        places = [np.arange(first[word], first[word + 1]) for word in words]
        entries = order[np.concatenate(places)] if places else order[:0]
        log_probs = self._lexicon.entry_log_prob[entries].astype(float).tolist()
        spoken = self._phonemes(np.searchsorted(self._lexicon.node_first_entry, entries, side="right") - 1)
        found: dict[str, Variants] = {}
        at = 0
        for word, count in zip(ids, counts.tolist(), strict=True):
            if count:
                found[word] = dict(zip(spoken[at : at + count], log_probs[at : at + count], strict=True))
            at += count
        return found

    def _phonemes(self, nodes: npt.NDArray[np.intp]) -> list[Pronunciation]:
        columns = []
        while nodes.any():
            columns.append(self._lexicon.node_label[nodes])  # the root's label is 0, as padding
            nodes = self._parents[nodes].astype(np.intp)
        rows = np.stack(columns[::-1], 1).tolist() if columns else [[] for _ in nodes]
        return [tuple(label for label in row if label) for row in rows]

    def _guesses(self, words: list[str]) -> dict[str, Variants]:
        """Variants of words that the lexicon lacks; kept, as an application asks for many of them again."""
        if self._g2p is None:
            return {}
        kept = self._guessed
        found = {word: kept[word] for word in words if word in kept}
        unknown = [word for word in words if word not in found]
        if unknown:
            for word, guesses in zip(unknown, self._g2p.pronounce_many(unknown, _GUESSES), strict=True):
                best = guesses[0][1] if guesses else 0.0
                found[word] = {
                    phonemes: log_prob - best for phonemes, log_prob in guesses if log_prob - best > _WORST_GUESS
                }
            self._guessed = found if len(kept) + len(unknown) > _MOST_GUESSED else kept | found
        return {word: found[word] for word in words if word in found}

    @cached_property
    def _entries_by_word(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Entries in order of their words, and where each word's begin."""
        words = self._lexicon.entry_word
        order = np.argsort(words, kind="stable")
        return order, np.searchsorted(words[order], np.arange(len(self._lexicon) + 1))

    @cached_property
    def _parents(self) -> npt.NDArray[np.uint32]:
        """The node above each node; the root's is itself."""
        first = self._lexicon.node_first_child
        parents = np.zeros(len(self._lexicon.node_label), np.uint32)
        parents[1:] = np.repeat(np.arange(len(first) - 1, dtype=np.uint32), np.diff(first))
        return parents

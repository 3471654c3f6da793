"""Counting trigrams of weighted text in bounded memory: packed keys, sorted chunks, merged runs."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm.backoff import LAST_WORD, MAX_WORDS, WORD_BITS, Keys
from lm.vocabulary import END_ID, START_ID, UNKNOWN_ID

CHUNK_TOKENS = 4_000_000  # about 150 MB while a chunk is sorted


@dataclass(frozen=True, slots=True)
class TrigramCounts:
    """How often each trigram was seen; sentences are padded as `<s> <s> words </s>`.

    `raw` counts sightings, `weighted` counts each with its source's weight: `weighted / raw` is the mean weight of the
    trigram's sources.
    """

    key: Keys
    """`(N,)`, ascending, as in `BackoffTrigram`."""
    raw: npt.NDArray[np.uint32]
    """`(N,)`."""
    weighted: npt.NDArray[np.float32]
    """`(N,)`."""


class TrigramCounter:
    """Takes utterances, one at a time, and counts their trigrams."""

    def __init__(self, words: Sequence[str], chunk_tokens: int = CHUNK_TOKENS) -> None:
        """Count over the word list `words`; others are `<unk>`."""
        if len(words) > MAX_WORDS:
            raise ValueError(f"a word list holds at most {MAX_WORDS:,} words here, got {len(words):,}")
        self._ids: Mapping[str, int] = {word: number for number, word in enumerate(words)}
        self._chunk_tokens = chunk_tokens
        self._buffer = array("I")
        self._weight = 1.0
        self._runs: list[TrigramCounts] = []

    def add(self, words: Iterable[str], weight: float) -> None:
        """Count one utterance `weight` times (a positive number)."""
        if weight != self._weight or len(self._buffer) >= self._chunk_tokens:
            self._flush()
            self._weight = weight
        ids = self._ids
        self._buffer.extend((START_ID, START_ID))
        self._buffer.extend([ids.get(word, UNKNOWN_ID) for word in words])
        self._buffer.append(END_ID)

    def finish(self) -> TrigramCounts:
        """All counts so far."""
        self._flush()
        while len(self._runs) > 1:
            self._merge_last_two()
        if not self._runs:
            return _count(np.zeros(0, np.uint64), 1.0)
        return self._runs[0]

    def _flush(self) -> None:
        if not self._buffer:
            return
        tokens = np.frombuffer(self._buffer, np.uintc).astype(np.uint64)
        self._buffer = array("I")
        keys = (tokens[:-2] << WORD_BITS | tokens[1:-1]) << WORD_BITS | tokens[2:]
        self._runs.append(_count(keys[tokens[2:] != START_ID], self._weight))
        # Runs grow geometrically towards the front, so that each count is merged a logarithmic number of times.
        while len(self._runs) > 1 and self._runs[-1].key.size * 2 > self._runs[-2].key.size:
            self._merge_last_two()

    def _merge_last_two(self) -> None:
        second, first = self._runs.pop(), self._runs.pop()
        self._runs.append(_merge(first, second))


def _count(keys: Keys, weight: float) -> TrigramCounts:
    unique, raw = np.unique(keys, return_counts=True)
    return TrigramCounts(unique, raw.astype(np.uint32), (raw * weight).astype(np.float32))


def _merge(a: TrigramCounts, b: TrigramCounts) -> TrigramCounts:
    key = np.concatenate([a.key, b.key])
    order = np.argsort(key, kind="stable")
    key = key[order]
    start = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    raw = np.add.reduceat(np.concatenate([a.raw, b.raw])[order], start)
    weighted = np.add.reduceat(np.concatenate([a.weighted, b.weighted])[order], start)
    return TrigramCounts(key[start], raw.astype(np.uint32), weighted)


def is_start(counts: TrigramCounts) -> npt.NDArray[np.bool_]:
    """Which entries `(N,)` are `<s> <s> word`, that is, bigrams at the start of a sentence."""
    middle: Keys = (counts.key >> WORD_BITS) & LAST_WORD
    starts: npt.NDArray[np.bool_] = middle == np.uint64(START_ID)
    return starts

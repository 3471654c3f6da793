"""Forced alignment: which pronunciation of each word of a transcript was spoken, and when.

Viterbi over a graph of the transcript: gap, word, gap, word ..., gap. A gap is any run of blanks and word boundaries,
or nothing; a word is one of its pronunciations, with blanks between its phonemes where they help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm.phones import BLANK_ID, BOUNDARY_ID

Pronunciation = tuple[int, ...]
NO_BOUNDARY_LOG_PROB = -2.0
"""Cost of a word that follows another without a boundary label between them."""


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """One word of the transcript."""

    pronunciation: Pronunciation
    start_frame: int
    end_frame: int
    """Exclusive; encoder frames."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """The best path."""

    words: tuple[AlignedWord, ...]
    log_prob_per_frame: float

    def targets(self) -> list[int]:
        """Phonemes of all words with a boundary between words: the CTC target."""
        out: list[int] = []
        for number, word in enumerate(self.words):
            out.extend([BOUNDARY_ID] * (number > 0))
            out.extend(word.pronunciation)
        return out


class _Graph:
    """States of the transcript's graph: label, predecessors and entry cost, and the word and variant they belong to."""

    def __init__(self, words: Sequence[Sequence[Pronunciation]]) -> None:
        self.labels: list[int] = []
        self.before: list[list[tuple[int, float]]] = []
        self.owner: list[tuple[int, int]] = []
        self.starts: list[int] = []
        gap = self._gap([])
        self.starts.extend(gap)
        ends: list[int] = []
        for number, variants in enumerate(words):
            entries = [(state, 0.0) for state in gap] + [(state, NO_BOUNDARY_LOG_PROB) for state in ends]
            ends = [self._variant(number, v, phones, entries) for v, phones in enumerate(variants)]
            gap = self._gap(ends)
        self.ends = [*gap, *ends]

    def _state(self, label: int, before: list[tuple[int, float]], owner: tuple[int, int]) -> int:
        index = len(self.labels)
        self.labels.append(label)
        self.before.append([(index, 0.0), *before])
        self.owner.append(owner)
        return index

    def _gap(self, ends: Sequence[int]) -> list[int]:
        entries = [(end, 0.0) for end in ends]
        blank = self._state(BLANK_ID, list(entries), (-1, -1))
        boundary = self._state(BOUNDARY_ID, [*entries, (blank, 0.0)], (-1, -1))
        self.before[blank].append((boundary, 0.0))
        return [blank, boundary]

    def _variant(self, word: int, variant: int, phones: Pronunciation, entries: list[tuple[int, float]]) -> int:
        last = self._state(phones[0], entries, (word, variant))
        if word == 0:
            self.starts.append(last)
        for previous, phone in zip(phones, phones[1:], strict=False):
            blank = self._state(BLANK_ID, [(last, 0.0)], (word, variant))
            direct = [] if phone == previous else [(last, 0.0)]
            last = self._state(phone, [(blank, 0.0), *direct], (word, variant))
        return last

    def tables(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Predecessors (S, P) and their costs, padded with cost -inf."""
        width = max(len(row) for row in self.before)
        index = np.zeros((len(self.before), width), np.int64)
        cost = np.full((len(self.before), width), -np.inf)
        for state, row in enumerate(self.before):
            for column, (previous, value) in enumerate(row):
                index[state, column], cost[state, column] = previous, value
        return index, cost


def align(log_probs: npt.NDArray[np.float32], words: Sequence[Sequence[Pronunciation]]) -> Alignment | None:
    """Align a transcript with the network's output.

    Args:
        log_probs: (T, V).
        words: for each word its pronunciations, at least one each.

    Returns:
        The best alignment, or None where the audio is too short for the words (or there are no words).
    """
    if not words or not len(log_probs):
        return None
    graph = _Graph(words)
    before, cost = graph.tables()
    emissions = log_probs[:, graph.labels].astype(np.float64)  # (T, S)
    score = np.full(len(graph.labels), -np.inf)
    score[graph.starts] = emissions[0, graph.starts]
    choices = np.zeros((len(emissions), len(score)), np.int16)
    rows = np.arange(len(score))
    for frame in range(1, len(emissions)):
        candidates = score[before] + cost
        choices[frame] = candidates.argmax(1)
        score = candidates[rows, choices[frame]] + emissions[frame]
    state = max(graph.ends, key=lambda end: score[end])
    if not np.isfinite(score[state]):
        return None
    return _trace(graph, before, choices, state, words, float(score[state]) / len(emissions))


def _trace(
    graph: _Graph,
    before: npt.NDArray[np.int64],
    choices: npt.NDArray[np.int16],
    state: int,
    words: Sequence[Sequence[Pronunciation]],
    log_prob_per_frame: float,
) -> Alignment:
    variant = [0] * len(words)
    first, last = [-1] * len(words), [-1] * len(words)
    for frame in range(len(choices) - 1, -1, -1):
        word, chosen = graph.owner[state]
        if word >= 0:
            variant[word], first[word] = chosen, frame
            if last[word] < 0:
                last[word] = frame
        state = int(before[state, choices[frame, state]])
    aligned = (AlignedWord(tuple(words[i][variant[i]]), first[i], last[i] + 1) for i in range(len(words)))
    return Alignment(tuple(aligned), log_prob_per_frame)


def pronunciations_of(
    words: Sequence[str], lexicon: Mapping[str, Sequence[Pronunciation]]
) -> list[Sequence[Pronunciation]] | None:
    """The pronunciations of each word, or None where one is unknown."""
    found = [lexicon.get(word) for word in words]
    known = [variants for variants in found if variants]
    return known if len(known) == len(words) else None

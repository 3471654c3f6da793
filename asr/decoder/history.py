"""Words of the hypotheses as a tree of parent links, in which hypotheses share what they have in common.

A node's parent always has the smaller index, so common ancestors are found by walking up from the larger index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_COMPACT_FROM = 1024


@dataclass(frozen=True, slots=True)
class PathWord:
    """A word on the path of a hypothesis."""

    word: int
    """Word id of the lexicon."""
    start_frame: int
    """Output frame (20 ms) of the word's first phoneme, counted from the start of the stream."""
    end_frame: int
    """Frame after the last one that emitted the word's last phoneme."""
    acoustic: float
    """Sum over the word's frames of (log-prob of the path's label - best log-prob of the frame), at most 0."""
    language: float
    """The scorer's log-probability of the word, unweighted."""


class Reading(NamedTuple):
    """A way in which an utterance may have ended."""

    words: list[PathWord]
    score: float
    """Log-probability of all its alignments, frames against their best labels, with the weighted scorer's."""


class History:
    """A tree of words; node 0 is its root, the end of everything that has been settled."""

    def __init__(self) -> None:
        self._parents = [0]
        self._words: list[PathWord | None] = [None]
        self._known: dict[tuple[int, PathWord], int] = {}
        self._limit = _COMPACT_FROM

    def __len__(self) -> int:
        return len(self._parents)

    @property
    def is_full(self) -> bool:
        """True when `compact` is due."""
        return len(self) > self._limit

    def extend(self, parent: int, word: PathWord) -> int:
        """Node of `word` after `parent`; the same node for the same word, so that agreement is equality of nodes."""
        node = self._known.setdefault((parent, word), len(self))
        if node == len(self):
            self._parents.append(parent)
            self._words.append(word)
        return node

    def common(self, leaves: Iterable[int]) -> int:
        """Last node that lies on the way to every leaf."""
        leaves = iter(leaves)
        shared = next(leaves)
        for leaf in leaves:
            while leaf != shared:
                if leaf > shared:
                    leaf = self._parents[leaf]
                else:
                    shared = self._parents[shared]
        return shared

    def last_ended_before(self, leaf: int, frame: int) -> int:
        """The last node up to `leaf` whose word ended before `frame`; the root if there is none."""
        while (word := self._words[leaf]) is not None and word.end_frame >= frame:
            leaf = self._parents[leaf]
        return leaf

    def path(self, leaf: int) -> list[PathWord]:
        """The words from the root, which is left out, to `leaf`."""
        words = []
        while leaf:
            word = self._words[leaf]
            assert word is not None
            words.append(word)
            leaf = self._parents[leaf]
        return words[::-1]

    def compact(self, root: int, leaves: Sequence[int]) -> list[int]:
        """Make `root` the root, forget every node but those from it to `leaves`, and return the leaves' new numbers."""
        live = {root}
        for leaf in leaves:
            while leaf not in live:
                live.add(leaf)
                leaf = self._parents[leaf]
        kept = sorted(live)
        renumber = {old: new for new, old in enumerate(kept)}
        parents = [0, *(renumber[self._parents[old]] for old in kept[1:])]
        words = [None, *(self._words[old] for old in kept[1:])]
        self._parents, self._words = parents, words
        self._known = {(p, w): n for n, (p, w) in enumerate(zip(parents, words, strict=True)) if w is not None}
        self._limit = max(_COMPACT_FROM, 2 * len(kept))
        return [renumber[leaf] for leaf in leaves]

"""A grammar's searches over one stream: a quick one, and a thorough one for when that finds no match to accept.

What was said first may turn out wrong only much later, where nothing that the grammar allows goes on, and in noise most
words of a match are not what each frame's best labels say: then little may be given up early. Most speech is clear,
though, and a tenth of the work finds the same match in it.
"""

from __future__ import annotations

from asr.decoder import PathWord, Reading, Search
from asr.types import FloatArray

HELD_FRAMES = 500
"""Output frames (10 s) that wait for a search that may not be needed; from then on it runs along with the stream."""


class GrammarSearch:
    """A search and the words of its that will not change."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.certain: list[PathWord] = []

    def advance(self, log_probs: FloatArray) -> None:
        """Take in frames (T, V)."""
        self.search.advance(log_probs)
        self.certain += self.search.take_stable()

    def readings(self, count: int) -> list[Reading]:
        """The best ways to end here, all words included; after it there is nothing to be taken in any more."""
        return [Reading([*self.certain, *reading.words], reading.score) for reading in self.search.finish_many(count)]


class LateSearch(GrammarSearch):
    """The same, of frames that are kept until they are asked about."""

    def __init__(self, search: Search) -> None:
        super().__init__(search)
        self._held: list[FloatArray] = []
        self._n_held = 0

    def advance(self, log_probs: FloatArray) -> None:
        """Keep frames (T, V); where there are many of them already, take them in."""
        self._held.append(log_probs)
        self._n_held += len(log_probs)
        if self._n_held > HELD_FRAMES:
            self._take_in()

    def readings(self, count: int) -> list[Reading]:
        """As those of a search that has taken in the frames as they came."""
        self._take_in()
        return super().readings(count)

    def _take_in(self) -> None:
        for log_probs in self._held:
            super().advance(log_probs)
        self._held.clear()

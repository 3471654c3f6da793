"""Scorers over another one: a state stands for one of the inner scorer's and for something of the outer one's own."""

from __future__ import annotations

from collections.abc import Iterable

from lm.scorer import RememberingScorer, Scorer, mixed

CROWD = 4096
"""States kept before the scorer asks which of them still matter."""


class OuterScorer:
    """What such scorers share: all of a `RememberingScorer` but its scores."""

    def __init__(self, inner: Scorer) -> None:
        self.inner = inner
        self._remembering = inner if isinstance(inner, RememberingScorer) else None
        self._pairs: dict[int, tuple[int, int]] = {}
        """State -> (the inner scorer's, what is this one's own)."""
        self._kept: dict[int, tuple[int, int]] | None = None  # pairs of before the preview, while there is one

    def prepare(self, states: Iterable[int]) -> None:
        """Have the inner scorer prepare."""
        if self._remembering:
            self._remembering.prepare([self._pairs[state][0] for state in states])

    def is_crowded(self) -> bool:
        """Whether many states are kept, here or by the inner scorer."""
        if self._kept is not None:
            return False
        return len(self._pairs) >= CROWD or (self._remembering is not None and self._remembering.is_crowded())

    def retain(self, states: Iterable[int]) -> None:
        """Forget all states but these."""
        self._pairs = {state: self._pairs[state] for state in states}
        if self._remembering:
            self._remembering.retain(sorted({inner for inner, _ in self._pairs.values()}))

    def begin_preview(self) -> None:
        """Keep nothing for good until `end_preview`."""
        self._kept = dict(self._pairs)
        if self._remembering:
            self._remembering.begin_preview()

    def end_preview(self) -> None:
        """Forget the states that came up since `begin_preview`."""
        assert self._kept is not None
        self._pairs, self._kept = self._kept, None
        if self._remembering:
            self._remembering.end_preview()

    def _keep(self, inner: int, own: int) -> int:
        """The state of a pair: 63 bits of its hash, the same in the native search."""
        state = mixed(mixed(0, inner), own) >> 1
        self._pairs[state] = inner, own
        return state

"""What the decoder knows of a language model: three functions over integer states; three more where it remembers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

_MASK = (1 << 64) - 1


class Scorer(Protocol):
    """A language model over word ids. A state is one int: hypotheses fork for free, equal states have equal futures."""

    def start(self) -> int:
        """State before the first word of an utterance."""

    def step(self, state: int, word: int) -> tuple[int, float]:
        """Next state, and natural log-probability of word id `word` after `state`."""

    def finish(self, state: int) -> float:
        """Natural log-probability that the utterance ends in `state`."""


@runtime_checkable
class RememberingScorer(Scorer, Protocol):
    """A scorer whose states stand for something that it keeps, so that it serves one search at a time."""

    def prepare(self, states: Iterable[int]) -> None:
        """Work out together what `step` and `finish` will need of these states; it gives the same numbers without."""

    def is_crowded(self) -> bool:
        """Whether so many states are kept that it is time to call `retain`."""

    def retain(self, states: Iterable[int]) -> None:
        """Forget all states but these."""

    def begin_preview(self) -> None:
        """From here to `end_preview`, keep nothing for good: what is scored afterwards is as if this had not been.

        Scores may be rougher until then: nothing is prepared, and it is never crowded.
        """

    def end_preview(self) -> None:
        """Forget the states that came up since `begin_preview`."""


class NullScorer:
    """No language model: one state, and every word costs nothing."""

    def start(self) -> int:
        """Return the only state."""
        return 0

    def step(self, state: int, word: int) -> tuple[int, float]:
        """Return the only state and 0."""
        return 0, 0.0

    def finish(self, state: int) -> float:
        """Return 0."""
        return 0.0


def mixed(state: int, value: int) -> int:
    """64 bits of a hash of `value` on top of `state`, the same in the native search."""
    state = ((state ^ (value + 1)) * 0x9E3779B97F4A7C15) & _MASK
    return state ^ (state >> 29)

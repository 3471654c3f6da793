"""What the decoder knows of a language model: three functions over integer states."""

from __future__ import annotations

from typing import Protocol


class Scorer(Protocol):
    """A language model over word ids. A state is one int: hypotheses fork for free, equal states have equal futures."""

    def start(self) -> int:
        """State before the first word of an utterance."""

    def step(self, state: int, word: int) -> tuple[int, float]:
        """Next state, and natural log-probability of word id `word` after `state`."""

    def finish(self, state: int) -> float:
        """Natural log-probability that the utterance ends in `state`."""


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

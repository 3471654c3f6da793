"""Values that cross the public border: words, results and partial results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Seconds = float


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word."""

    text: str
    """Lower-case spelling, apostrophes kept."""
    start: Seconds
    """First frame of the word, in seconds from the start of the stream."""
    end: Seconds
    """End of the word's last frame; never before `start`, never after the audio's end."""
    confidence: float
    """Estimated probability that the word is right, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that was heard in one stream or file."""

    words: tuple[Word, ...]
    duration: Seconds
    """Length of the audio in seconds."""

    @property
    def text(self) -> str:
        """The words, joined by single spaces."""
        return " ".join(word.text for word in self.words)

    @property
    def confidence(self) -> float:
        """Mean confidence of the words; 0 where nothing was heard."""
        if not self.words:
            return 0.0
        return sum(word.confidence for word in self.words) / len(self.words)


@dataclass(frozen=True, slots=True)
class Partial:
    """What the utterance in progress reads as so far."""

    stable: str
    """Words that no later audio will change."""
    volatile: str
    """Best guess for the rest; may still change."""
    is_endpoint: bool = False
    """True when the speaker has paused: the utterance is over, and the next partial starts a new one."""

    @property
    def text(self) -> str:
        """Stable and volatile words, joined."""
        return f"{self.stable} {self.volatile}".strip()

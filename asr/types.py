"""Values that cross the public border: words, results and partial results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
class Capture:
    """What a named group of a grammar stands for."""

    text: str
    """As it is written."""
    start: Seconds
    """Start of its first word; where the group is empty, the end of the word before it."""
    end: Seconds
    confidence: float
    """Estimated probability that it is right, 0 to 1."""


@dataclass(frozen=True, slots=True)
class GrammarMatch:
    """What a grammar made of the speech."""

    text: str
    """As the pattern writes it; empty where nothing matched, or where rejected speech is to be empty."""
    accepted: bool
    """Whether the speech is taken for a match; then the pattern matches all of `text`."""
    confidence: float
    """Estimated probability that this was said, 0 to 1."""
    groups: Mapping[str, Capture | list[Capture]] = field(default_factory=dict)
    """By name; a list where a group was repeated. Groups that took no part are missing."""
    free_text: str = ""
    """What was heard without the grammar."""


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that was heard in one stream or file."""

    words: tuple[Word, ...]
    """As they were spoken, with a grammar too."""
    duration: Seconds
    """Length of the audio in seconds."""
    match: GrammarMatch | None = None
    """Where the stream had a grammar."""

    @property
    def text(self) -> str:
        """The words, joined by single spaces; with a grammar, the text that its pattern writes."""
        return self.spoken if self.match is None else self.match.text

    @property
    def spoken(self) -> str:
        """The words as they were said, joined by single spaces."""
        return " ".join(word.text for word in self.words)

    @property
    def accepted(self) -> bool:
        """Whether the speech matches the grammar; True where there is none."""
        return self.match is None or self.match.accepted

    @property
    def groups(self) -> Mapping[str, Capture | list[Capture]]:
        """Named groups of the grammar; none where there is no grammar."""
        return {} if self.match is None else self.match.groups

    @property
    def confidence(self) -> float:
        """Of the grammar's match; without a grammar the mean of the words, 0 where nothing was heard."""
        if self.match is not None:
            return self.match.confidence
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

    joiner: str = " "
    """What stands between the two; nothing with a grammar, whose text may be parted inside a word."""

    @property
    def text(self) -> str:
        """Stable and volatile words, joined."""
        return f"{self.stable}{self.joiner}{self.volatile}".strip()

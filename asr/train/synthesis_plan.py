"""What each synthetic clip says and how: a function of the seed and the clip's number, and of nothing else.

So a run that was killed goes on with the same clips, and any number of workers makes the same ones.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asr.train.utterances import KINDS, MOST_WORDS, Names, utterance
from lm.corpus import Source, open_text
from lm.normalize import normalize_text

HELD_OUT_VOICES = ("af_nova", "am_puck", "bf_isabella", "bm_fable")
"""Kept for test sets: one American and one British, female and male."""
_SKIPPED_WORDS = 25  # longer lines are mostly lists and legal text
_TRIES = 1000
_MIXED_SHARE = 0.3
_SPEEDS, _SILENCES_S, _LEVELS_DB = (0.85, 1.25), (0.1, 0.4), (-30.0, -12.0)
_QUESTION_WORDS = frozenset(
    "what who whose where when why how which can could would will is are does did should may".split()
)
_MORNING = re.compile(r"\ba m\b")


class SynthesisError(ValueError):
    """The texts, the voices or the folder cannot be used, or too many clips failed."""


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """One clip to be made."""

    number: int
    text: str
    """Normalised words: the clip's transcript."""
    spoken: str
    """The same words for the voice: letters that stand for their names in capitals, a mark at the end."""
    source: str
    voices: tuple[str, ...]
    """One voice or two; the accent is the first one's."""
    share: float
    """Weight of the first voice, 0.5 to 1."""
    speed: float
    lead_s: float
    tail_s: float
    level_db: float
    """Root mean square of the speech against full scale."""


class TextSource(Protocol):
    """Where sentences come from."""

    @property
    def name(self) -> str:
        """For the manifest."""

    @property
    def weight(self) -> float:
        """Its share of the clips, against the other sources' weights."""

    def draw(self, rng: np.random.Generator) -> tuple[str, str]:
        """A sentence: (text, spoken) as in `ClipPlan`."""


@dataclass(frozen=True, slots=True)
class FileText:
    """Lines of a text file."""

    name: str
    weight: float
    lines: Sequence[str]

    @classmethod
    def read(cls, source: Source) -> FileText:
        """Read a plain or `.xz` file.

        Raises:
            SynthesisError: the file cannot be read, or is empty.
        """
        try:
            with open_text(source.path) as file:
                lines = file.read().splitlines()
        except (lzma.LZMAError, EOFError, OSError) as error:
            raise SynthesisError(f"{source.path}: cannot be read ({error})") from None
        if not lines:
            raise SynthesisError(f"{source.path}: expected one sentence a line, found nothing")
        return cls(source.path.name.removesuffix(".xz").removesuffix(".txt"), source.weight, lines)

    def draw(self, rng: np.random.Generator) -> tuple[str, str]:
        """A random line of 1 to 25 words, cut after 18.

        Raises:
            SynthesisError: 1000 lines in a row were of no use.
        """
        for _ in range(_TRIES):
            line = self.lines[int(rng.integers(len(self.lines)))]
            words = normalize_text(line)
            if words and len(words) <= _SKIPPED_WORDS:
                text = " ".join(words[:MOST_WORDS])
                is_question = words[0] in _QUESTION_WORDS or line.rstrip().endswith("?")
                return text, _MORNING.sub("A M", text) + ("?" if is_question else ".")
        raise SynthesisError(f"{self.name}: found no line of 1 to {_SKIPPED_WORDS} words in {_TRIES} tries")


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """Made-up sentences of one kind."""

    kind: str
    weight: float
    names: Names

    @property
    def name(self) -> str:
        """The kind."""
        return self.kind

    def draw(self, rng: np.random.Generator) -> tuple[str, str]:
        """A sentence of the kind."""
        spoken = utterance(self.kind, rng, self.names)
        return spoken.lower(), f"{spoken}."


def parse_generated(text: str, names: Names) -> GeneratedText:
    """`KIND=WEIGHT` or `KIND` (weight 1) as given on a command line.

    Raises:
        SynthesisError: the kind is not known, or the weight is not a positive number.
    """
    kind, _, weight = text.partition("=")
    try:
        value = float(weight or 1)
    except ValueError:
        value = 0.0
    if kind not in KINDS or not 0 < value < float("inf"):
        raise SynthesisError(f"--generated {text}: expected KIND=WEIGHT; kinds are {', '.join(KINDS)}")
    return GeneratedText(kind, value, names)


class Planner:
    """Plans of clips.

    Args:
        sources: where the text comes from.
        voices: names of the voices to use.
        seed: another seed gives other clips.

    Raises:
        SynthesisError: there are no sources or no voices.
    """

    def __init__(self, sources: Sequence[TextSource], voices: Sequence[str], seed: int = 0) -> None:
        if not sources or not voices:
            raise SynthesisError("expected at least one text and one voice")
        self.sources, self.voices, self.seed = list(sources), list(voices), seed
        weights = np.array([source.weight for source in sources])
        self._cumulative = np.cumsum(weights / weights.sum())

    def settings(self) -> dict[str, object]:
        """What the plans depend on, for JSON."""
        sources = [[source.name, source.weight, _size(source)] for source in self.sources]
        return {"seed": self.seed, "voices": self.voices, "sources": sources}

    def plan(self, number: int) -> ClipPlan:
        """The plan of clip `number` (from 0)."""
        rng = np.random.default_rng([self.seed, number])
        chosen = min(int(np.searchsorted(self._cumulative, rng.random(), "right")), len(self.sources) - 1)
        source = self.sources[chosen]
        voices, share = self._voices(rng)
        speed, level = rng.uniform(*_SPEEDS), rng.uniform(*_LEVELS_DB)
        lead, tail = (rng.uniform(*_SILENCES_S) if rng.random() < 0.5 else 0.0 for _ in range(2))
        text, spoken = source.draw(rng)
        return ClipPlan(
            *(number, text, spoken, source.name, voices, share),
            *(round(speed, 3), round(lead, 3), round(tail, 3), round(level, 2)),
        )

    def _voices(self, rng: np.random.Generator) -> tuple[tuple[str, ...], float]:
        first, second = (self.voices[int(rng.integers(len(self.voices)))] for _ in range(2))
        if rng.random() >= _MIXED_SHARE or first == second:
            return (first,), 1.0
        return (first, second), round(float(rng.uniform(0.5, 1)), 3)


def _size(source: TextSource) -> int:
    return len(source.lines) if isinstance(source, FileText) else 0

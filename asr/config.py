"""Settings of the engine as frozen dataclasses: checked once, on creation, and trusted from then on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from asr.errors import OptionError

SEMIRINGS = ("log", "tropical")


@dataclass(frozen=True, slots=True)
class DecodingConfig:
    """How the search through the lexicon weighs and prunes. All scores are natural logarithms.

    Raises:
        OptionError: a value has the wrong type or lies outside its range.
    """

    beam_size: int = 64
    """Hypotheses kept after each frame."""
    beam_threshold: float = 12.0
    """A hypothesis further than this below the best one is dropped."""
    token_threshold: float = 9.0
    """A phoneme further than this below the frame's best label is not tried in that frame."""
    lm_weight: float = 1.0
    """Factor of the scorer's and the pronunciation's log-probability."""
    word_score: float = 0.0
    """Added for each word: above zero favours many short words."""
    boundary_skip_log_prob: float = -2.0
    """Added for each word that ends without a word boundary label."""
    blank_skip_log_prob: float = -0.001
    """In a frame whose blank has a higher log-probability than this, only the blank is tried; 0 switches that off."""
    stable_after_frames: int = 300
    """Words that ended more than this many output frames ago are settled: other readings of them are given up."""
    semiring: str = "log"
    """A reading's score is over all its alignments (`log`), or that of its best one (`tropical`), as in a decoder of
    weighted automata: sherpa-onnx with an exported `ctc_graph`."""

    def __post_init__(self) -> None:
        if self.semiring not in SEMIRINGS:
            raise OptionError(f"semiring is {self.semiring!r}, expected one of {', '.join(SEMIRINGS)}")
        for name in ("beam_size", "stable_after_frames"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise OptionError(f"{name} is {value!r}, expected a whole number from 1 on")
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if type(value) is bool or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise OptionError(f"{name} is {value!r}, expected a finite number")
            if not low <= value <= high:
                raise OptionError(f"{name} is {value}, expected {low:g} to {high:g}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DecodingConfig:
        """Read what `to_dict` wrote; a missing key keeps its default.

        Raises:
            OptionError: a key is unknown, or a value is not usable.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise OptionError(f"unknown decoding option {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Every setting by name, ready for JSON."""
        return asdict(self)


_RANGES = (
    ("beam_threshold", 0.0, math.inf),
    ("token_threshold", 0.0, math.inf),
    ("lm_weight", 0.0, math.inf),
    ("word_score", -math.inf, math.inf),
    ("boundary_skip_log_prob", -math.inf, 0.0),
    ("blank_skip_log_prob", -math.inf, 0.0),
)

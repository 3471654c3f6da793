"""When an utterance is over: the speaker has paused, or has talked for so long that the next short pause must do."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """The rules' thresholds, all in seconds; the bundle's manifest holds them."""

    min_silence_s: float = 1.0
    """Silence after speech that ends the utterance."""
    max_utterance_s: float = 30.0
    """From this length on, counted from the first word, a pause of `long_utterance_silence_s` ends the utterance; at
    twice this length it is cut wherever it stands."""
    long_utterance_silence_s: float = 0.2

    def __post_init__(self) -> None:
        for name in ("min_silence_s", "max_utterance_s", "long_utterance_silence_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number of seconds, found {value}")


def is_endpoint(config: EndpointConfig, *, silence_s: float, utterance_s: float) -> bool:
    """Whether an utterance that has words ends here.

    Args:
        config: the thresholds.
        silence_s: time since the last phoneme.
        utterance_s: time since the utterance's first word began.
    """
    if silence_s >= config.min_silence_s or utterance_s >= 2 * config.max_utterance_s:
        return True
    return utterance_s >= config.max_utterance_s and silence_s >= config.long_utterance_silence_s

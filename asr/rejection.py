"""Was it said at all? A logistic function of how well a match explains the audio, fitted on held-out speech."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RejectionWeights:
    """Weights of the logistic function, and from where on a match is accepted."""

    bias: float = 3.0
    per_frame: float = 8.0
    against_free: float = 0.1
    log_frames: float = 0.0
    threshold: float = 0.5


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a match."""

    score: float
    """Of the match: log-probability against the best label of each frame, <= 0, the whole stream long."""
    free_score: float
    """The same of the free reading, without its language model."""
    n_frames: int
    """Output frames from the match's first word to its last."""


def acceptance(weights: RejectionWeights, evidence: Evidence) -> float:
    """Estimated probability that the match was said, 0 to 1."""
    frames = max(evidence.n_frames, 1)
    logit = (
        weights.bias
        + weights.per_frame * evidence.score / frames
        + weights.against_free * (evidence.score - evidence.free_score)
        + weights.log_frames * math.log(frames)
    )
    return 0.5 * (1.0 + math.tanh(0.5 * logit))

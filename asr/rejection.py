"""Was it said at all? A logistic function of how well a match explains the audio, fitted on held-out speech."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class RejectionWeights:
    """Weights of the logistic function, and from where on a match is accepted; the bundle's manifest holds them."""

    bias: float = 3.0
    per_frame: float = 8.0
    against_free: float = 0.1
    against_free_per_frame: float = 0.0
    log_frames: float = 0.0
    threshold: float = 0.5


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a match. Scores are log-probabilities against each frame's best label, the whole stream long."""

    score: float
    """Of the match, without what its language model adds."""
    free_score: float
    """The same of the free reading."""
    n_frames: int
    """Output frames from the match's first word to its last."""

    def features(self) -> tuple[float, ...]:
        """Inputs of the logistic function, in the order of the weights."""
        frames = max(self.n_frames, 1)
        behind = self.score - self.free_score
        return (1.0, self.score / frames, behind, behind / frames, math.log(frames))


def acceptance(weights: RejectionWeights, evidence: Evidence) -> float:
    """Estimated probability that the match was said, 0 to 1."""
    logit = sum(weight * value for weight, value in zip(astuple(weights), evidence.features(), strict=False))
    return 0.5 * (1.0 + math.tanh(0.5 * logit))

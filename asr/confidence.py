"""How sure is a word: a logistic function of what the search knows of it, with weights fitted on held-out speech."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConfidenceWeights:
    """Weights of the logistic function; the bundle's manifest holds them."""

    bias: float
    acoustic_per_frame: float
    acoustic: float
    language: float
    log_frames: float


def word_confidence(weights: ConfidenceWeights, *, acoustic: float, language: float, n_frames: int) -> float:
    """Estimated probability that a word is right, 0 to 1.

    Args:
        weights: of the logistic function.
        acoustic: sum over the word's frames of log-prob of the path's label - best log-prob of the frame, <= 0.
        language: the scorer's log-prob of the word.
        n_frames: length of the word in output frames.
    """
    frames = max(n_frames, 1)
    logit = (
        weights.bias
        + weights.acoustic_per_frame * acoustic / frames
        + weights.acoustic * acoustic
        + weights.language * language
        + weights.log_frames * math.log(frames)
    )
    return 0.5 * (1.0 + math.tanh(0.5 * logit))  # the logistic function, without overflow

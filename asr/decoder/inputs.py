"""What both searches share: what they ask of log-probabilities, and how wide a preview is."""

from __future__ import annotations

import numpy as np

from asr.types import FloatArray
from lm.phones import PHONEMES

FLOOR = -1e4
"""Lowest log-probability that is told apart from others: keeps every score finite where a label is impossible."""

PREVIEW_BEAM = 16
"""Hypotheses that a preview follows."""


def check_log_probs(log_probs: FloatArray) -> FloatArray:
    """The frames as contiguous float32 (T, V).

    Raises:
        ValueError: not two-dimensional, not one column a phoneme, or with NaN or plus infinity.
    """
    if log_probs.ndim != 2 or log_probs.shape[1] != len(PHONEMES):
        raise ValueError(f"log_probs has shape {log_probs.shape}, expected (frames, {len(PHONEMES)})")
    frames = np.ascontiguousarray(log_probs, np.float32)
    if not (frames < np.inf).all():
        raise ValueError("log_probs holds NaN or plus infinity, expected natural log-probabilities")
    return frames

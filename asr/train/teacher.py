"""The seed network as a frame-level teacher: full context, its own features, our phonemes."""

from __future__ import annotations

import torch

from asr.nn.seed import build_seed, label_index, read_asset, seed_features, seed_labels
from asr.types import FloatArray
from lm.phones import PHONEMES


class SeedTeacher:
    """Posteriors of the seed over our phonemes, renormalised; callable on samples."""

    def __init__(self) -> None:
        self._asset = read_asset()
        self._model = build_seed(self._asset, label_index(seed_labels())).eval()

    def __call__(self, samples: FloatArray) -> FloatArray:
        """Samples (N,) at 16 kHz -> log-probs (T, V), a row every 20 ms."""
        if len(samples) <= 200:  # too short for the reflected edges of its features
            return torch.zeros(0, len(PHONEMES)).numpy()
        with torch.inference_mode():
            features = seed_features(self._asset, torch.from_numpy(samples))
            log_probs: FloatArray = self._model(features[None, : len(features) // 2 * 2])[0].numpy()
        return log_probs

"""Figures at checkpoints: phoneme errors against the teacher's best labels, streamed. Cheap enough to come often."""

from __future__ import annotations

import numpy as np
import torch

from asr.decoder.greedy import collapse
from asr.metrics import ErrorCounts, count_errors
from asr.nn.model import AcousticModel
from asr.train.evaluate import streamed_log_probs
from asr.train.store import FeatureStore


class Validator:
    """Phoneme error rate and divergence of the model streamed at 640 ms from the full-context teacher on dev clips."""

    def __init__(self, store: FeatureStore, n_clips: int) -> None:
        self._store = store
        dev = [index for index, stored in enumerate(store.clips) if stored.clip.split == "dev" and stored.clip.text]
        self._clips = dev[:: max(1, len(dev) // n_clips)][:n_clips]

    def __call__(self, model: AcousticModel) -> dict[str, float]:
        """`dev_per` and `dev_kl` (nats a frame); empty where the store has no dev clips or no teacher."""
        errors, divergences = ErrorCounts(), []
        for index in self._clips:
            teacher = self._store.posteriors(index, "clean")
            if teacher is None or not len(teacher):
                continue
            expected = torch.from_numpy(teacher.astype(np.float32))
            found = torch.from_numpy(streamed_log_probs(model, self._store.frames(index, "clean"), 32)[: len(teacher)])
            divergences.append(float((expected.exp() * (expected - found)).sum(-1).mean()))
            errors += count_errors(collapse(expected.argmax(-1).tolist()), collapse(found.argmax(-1).tolist()))
        return {"dev_per": errors.rate, "dev_kl": float(np.mean(divergences))} if divergences else {}

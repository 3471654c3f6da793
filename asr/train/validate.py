"""Figures at checkpoints, on development clips, streamed at 640 ms: word errors through the engine's own search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from asr.metrics import ErrorCounts, count_word_errors
from asr.nn.model import AcousticModel
from asr.train.evaluate import Words, open_language, streamed_log_probs
from asr.train.store import FeatureStore
from asr.types import FloatArray
from lm.normalize import normalize_for_wer

CHUNK_FRAMES = 32


class Validator:
    """Word error rate, and divergence from the teacher where the store has one; `language` None leaves words out."""

    def __init__(self, store: FeatureStore, n_clips: int, language: Words | None) -> None:
        self._store, self._language = store, language
        dev = [index for index, stored in enumerate(store.clips) if stored.clip.split == "dev" and stored.clip.text]
        self._clips = dev[:: max(1, len(dev) // n_clips)][:n_clips]

    def __call__(self, model: AcousticModel) -> dict[str, float]:
        """`dev_wer` (share) and `dev_divergence` (nats a frame), as far as they can be told."""
        errors, divergences = ErrorCounts(), []
        for index in self._clips:
            log_probs = streamed_log_probs(model, self._store.frames(index, "clean"), CHUNK_FRAMES)
            teacher = self._store.posteriors(index, "clean")
            if teacher is not None and len(teacher):
                divergences.append(divergence(teacher.astype(np.float32), log_probs[: len(teacher)]))
            if self._language is not None:
                errors += self._word_errors(self._language, log_probs, self._store.clips[index].clip.text or "")
        figures = {"dev_wer": errors.rate} if self._language is not None and self._clips else {}
        return figures | ({"dev_divergence": float(np.mean(divergences))} if divergences else {})

    @staticmethod
    def _word_errors(language: Words, log_probs: FloatArray, text: str) -> ErrorCounts:
        search = language.new_search()
        search.advance(log_probs)
        heard = " ".join(language.lexicon.word(word.word) for word in [*search.take_stable(), *search.finish()])
        return count_word_errors(normalize_for_wer(text), heard)


def divergence(expected: FloatArray, found: FloatArray) -> float:
    """Mean Kullback-Leibler divergence of two streams of log-probs (T, V), nats a frame."""
    teacher, student = torch.from_numpy(expected), torch.from_numpy(found)
    return float((teacher.exp() * (teacher - student)).sum(-1).mean())


def embedded_language(bundle: Path | None) -> Words | None:
    """The language side of a bundle; None where no bundle was named and none is embedded."""
    from asr.errors import BundleNotFoundError

    try:
        return open_language(bundle)
    except BundleNotFoundError:
        if bundle is not None:
            raise
        return None

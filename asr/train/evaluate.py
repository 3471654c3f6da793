"""Word error rate of a checkpoint before export: the network streamed in torch, the engine's own search behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from asr.bundle import Bundle
from asr.decoder import create_search
from asr.features import SILENCE_LOG_MEL
from asr.metrics import ErrorCounts, count_word_errors
from asr.nn.model import AcousticModel
from asr.train.prepare import Track
from asr.train.store import FeatureStore
from asr.types import FloatArray
from lm.lexicon import Lexicon
from lm.ngram import NgramModel, NgramScorer
from lm.normalize import normalize_for_wer


def streamed_log_probs(model: AcousticModel, features: np.ndarray, chunk: int) -> FloatArray:
    """Log-probs (T, V) of features (2T, 80) as a stream of `chunk` encoder frames gives them; silence at the end."""
    padding = np.full((-len(features) % (2 * chunk), features.shape[1]), SILENCE_LOG_MEL, np.float32)
    padded = np.concatenate([features.astype(np.float32), padding])
    with torch.inference_mode():
        log_probs: FloatArray = model(torch.from_numpy(padded)[None], chunk=chunk)[0].numpy()
    return log_probs


@dataclass(frozen=True, slots=True)
class Language:
    """The language side of a bundle."""

    bundle: Bundle
    lexicon: Lexicon
    scorer: NgramScorer


def open_language(path: Path | None) -> Language:
    """Lexicon and n-gram of the bundle at `path`; of the embedded one where None."""
    bundle = Bundle.open(path)
    ngram = NgramModel.open(bundle.file("ngram.bin"))
    return Language(bundle, Lexicon.open(bundle.file("lexicon.bin")), NgramScorer(ngram))


def evaluate(
    model: AcousticModel, store: FeatureStore, clips: Sequence[int], bundle: Path | None, chunk_ms: int, track: Track
) -> ErrorCounts:
    """Pooled word errors on clips of the store (by index), with lexicon, n-gram and weights of a bundle."""
    language = open_language(bundle)
    total = ErrorCounts()
    for index, clip in track(((i, store.clips[i].clip) for i in clips), "evaluate", len(clips)):
        search = create_search(language.lexicon, language.scorer, language.bundle.manifest.decoding)
        search.advance(streamed_log_probs(model, store.frames(index, "clean"), chunk_ms // 20))
        words = [*search.take_stable(), *search.finish()]
        heard = " ".join(language.lexicon.word(word.word) for word in words)
        total += count_word_errors(normalize_for_wer(clip.text or ""), heard)
    return total

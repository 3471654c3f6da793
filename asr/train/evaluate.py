"""Word error rate of a checkpoint before export: the network streamed in torch, the engine's own search behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from asr.bundle import Bundle
from asr.decoder import Search, create_search
from asr.features import SILENCE_LOG_MEL
from asr.language import Language
from asr.metrics import ErrorCounts, count_word_errors
from asr.nn.model import AcousticModel
from asr.train.prepare import Track
from asr.train.store import FeatureStore
from asr.types import FloatArray
from lm.lexicon import Lexicon
from lm.normalize import normalize_for_wer


def streamed_log_probs(model: AcousticModel, features: np.ndarray, chunk: int) -> FloatArray:
    """Log-probs (T, V) of features (2T, 80) as a stream of `chunk` encoder frames gives them; silence at the end."""
    padding = np.full((-len(features) % (2 * chunk), features.shape[1]), SILENCE_LOG_MEL, np.float32)
    padded = np.concatenate([features.astype(np.float32), padding])
    device = next(model.parameters()).device
    with torch.inference_mode():
        log_probs: FloatArray = model(torch.from_numpy(padded)[None].to(device), chunk=chunk)[0].cpu().numpy()
    return log_probs


@dataclass(frozen=True, slots=True)
class Words:
    """The language side of a bundle, as a stream without a domain has it."""

    bundle: Bundle
    language: Language

    @property
    def lexicon(self) -> Lexicon:
        """Of the bundle."""
        return self.language.lexicon

    def new_search(self) -> Search:
        """A search for one clip."""
        return create_search(self.lexicon, self.language.scorer(None), self.language.decoding(None))


def open_language(path: Path | None) -> Words:
    """Words of the bundle at `path`; of the embedded one where None."""
    bundle = Bundle.open(path)
    return Words(bundle, Language(bundle))


def evaluate(
    model: AcousticModel, store: FeatureStore, clips: Sequence[int], bundle: Path | None, chunk_ms: int, track: Track
) -> ErrorCounts:
    """Pooled word errors on clips of the store (by index), with lexicon, language models and weights of a bundle."""
    language = open_language(bundle)
    total = ErrorCounts()
    for index, clip in track(((i, store.clips[i].clip) for i in clips), "evaluate", len(clips)):
        search = language.new_search()
        search.advance(streamed_log_probs(model, store.frames(index, "clean"), chunk_ms // 20))
        words = [*search.take_stable(), *search.finish()]
        heard = " ".join(language.lexicon.word(word.word) for word in words)
        total += count_word_errors(normalize_for_wer(clip.text or ""), heard)
    return total

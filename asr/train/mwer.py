"""Minimum word error training (Prabhavalkar et al. 2018) of a CTC network through the engine's own search.

The search hears each clip of a step in a few ways. Each way's share of their probability, times how many more words
it gets wrong than the ways do on average, is what the network has too much of.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from asr.bundle import Bundle
from asr.config import DecodingConfig
from asr.decoder import create_search
from asr.language import Language
from asr.metrics import count_word_errors
from asr.train.align import align
from asr.types import FloatArray
from lm.normalize import normalize_for_wer
from lm.scorer import NullScorer

_MOST_VARIANTS = 8


@dataclass(frozen=True, slots=True)
class Heard:
    """One way in which a clip was heard."""

    phonemes: tuple[int, ...]
    """As a CTC target: a boundary between words."""
    errors: int
    """Words wrong."""
    score: float
    """Log-probability, acoustic and language, up to a constant of the clip, times the listener's `scale`."""


class Listener:
    """Hears clips in their best ways with a bundle's lexicon, n-gram and weights, without its slower neural model."""

    def __init__(
        self, bundle: Path | None, *, n_ways: int, beam_size: int, scale: float = 1.0, n_threads: int = 1
    ) -> None:
        """Open the bundle, the embedded one where None.

        Args:
            bundle: its folder.
            n_ways: at most so many for a clip.
            beam_size: hypotheses that the search keeps.
            scale: of scores: small values make the ways more equal than the search takes them to be.
            n_threads: clips heard at a time.
        """
        opened = Bundle.open(bundle)
        self._language = Language(opened)
        self._lexicon = self._language.lexicon
        self._scorer = self._language.ngram or NullScorer()
        self._config: DecodingConfig = replace(opened.manifest.decoding, beam_size=beam_size)
        self._n_ways, self._scale = n_ways, scale
        self._pool = ThreadPoolExecutor(max(1, n_threads))

    def hear(self, log_probs: Sequence[FloatArray], texts: Sequence[str]) -> list[list[Heard]]:
        """The ways of each clip, best first.

        Args:
            log_probs: (T, V) of each clip.
            texts: what is said in them.
        """
        return list(self._pool.map(self._hear, log_probs, texts))

    def _hear(self, log_probs: FloatArray, text: str) -> list[Heard]:
        search = create_search(self._lexicon, self._scorer, self._config)
        search.advance(log_probs)
        said = normalize_for_wer(text)
        found = []
        for reading in search.finish_many(self._n_ways):
            words = [word.word for word in reading.words]
            phonemes = self._phonemes(log_probs, words)
            if phonemes is not None:
                errors = count_word_errors(said, " ".join(map(self._lexicon.word, words)))
                found.append(Heard(phonemes, errors.errors, self._scale * reading.score))
        return found

    def _phonemes(self, log_probs: FloatArray, words: Sequence[int]) -> tuple[int, ...] | None:
        """The likeliest pronunciations of the words here; None where the clip is too short for them."""
        if not words:
            return ()
        variants = [[phonemes for phonemes, _ in self._lexicon.pronunciations(word)[:_MOST_VARIANTS]] for word in words]
        alignment = align(log_probs, variants)
        return None if alignment is None else tuple(alignment.targets())


def expected_errors(heard: Sequence[Sequence[Heard]]) -> float:
    """Words wrong in all clips together, each way weighed by its share of the clip's probability."""
    return sum(float((_shares(ways) * _errors(ways)).sum()) for ways in heard if ways)


def mwer_loss(log_probs: Tensor, lens: Tensor, heard: Sequence[Sequence[Heard]]) -> Tensor:
    """What has the gradient of `expected_errors` in the ways' scores, for a scale of 1; its own value says nothing.

    Args:
        log_probs: (B, T, V).
        lens: (B,) frames.
        heard: the ways of each clip, none where it takes no part.
    """
    rows, excess = [], []
    for clip, ways in enumerate(heard):
        if len(ways) > 1:
            errors, shares = _errors(ways), _shares(ways)
            excess.append(shares * (errors - (shares * errors).sum()))
            rows.extend([clip] * len(ways))
    if not rows:
        return log_probs.new_zeros(())
    chosen = [way for ways in heard if len(ways) > 1 for way in ways]
    targets = torch.tensor([label for way in chosen for label in way.phonemes], dtype=torch.int64)
    target_lens = torch.tensor([len(way.phonemes) for way in chosen])
    minus_log_prob = F.ctc_loss(
        log_probs[rows].transpose(0, 1), targets, lens[rows], target_lens, reduction="none", zero_infinity=True
    )
    return -(torch.cat(excess).to(minus_log_prob) * minus_log_prob).sum()


def _errors(ways: Sequence[Heard]) -> Tensor:
    return torch.tensor([float(way.errors) for way in ways])


def _shares(ways: Sequence[Heard]) -> Tensor:
    return torch.softmax(torch.tensor([way.score for way in ways], dtype=torch.float64), 0).float()

"""Word errors of many clips: counts per corpus under two normalisers, with a bootstrap interval over clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from asr.errors import MissingDependencyError
from asr.metrics import ErrorCounts, count_errors, normalize_text
from benchmarks.corpus import Clip

RESAMPLES = 2000
SEED = 0


@cache
def whisper_normalizer() -> Callable[[str], str]:
    """Whisper's English normaliser: numbers to digits, contractions and titles spelt out, British to American.

    Raises:
        MissingDependencyError: the package whisper-normalizer is not installed.
    """
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise MissingDependencyError("whisper-normalizer", "bench") from error
    normalizer: Callable[[str], str] = EnglishTextNormalizer()
    return normalizer


def normalizers() -> dict[str, Callable[[str], str]]:
    """The two ways of scoring; `whisper` is the fair one where a system writes digits and abbreviations."""
    return {"whisper": whisper_normalizer(), "plain": normalize_text}


def interval(errors: Sequence[int], lengths: Sequence[int], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap over clips of pooled errors / pooled reference words.

    Args:
        errors: word errors of each clip.
        lengths: reference words of each clip.
        level: probability that the interval is meant to cover.

    Returns:
        Lower and upper bound; (nan, nan) if there are no reference words.
    """
    if not sum(lengths):
        return float("nan"), float("nan")
    drawn = np.random.default_rng(SEED).integers(0, len(errors), (RESAMPLES, len(errors)))
    rates = np.asarray(errors)[drawn].sum(axis=1) / np.maximum(np.asarray(lengths)[drawn].sum(axis=1), 1)
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def score(references: Sequence[str], hypotheses: Sequence[str], normalize: Callable[[str], str]) -> dict[str, Any]:
    """Pooled word error rate of the clips, its counts and its 95 % interval."""
    counts = [
        count_errors(normalize(reference).split(), normalize(hypothesis).split())
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    ]
    total = sum(counts, ErrorCounts())
    low, high = interval([c.errors for c in counts], [c.reference_length for c in counts])
    return {
        "wer": round(total.rate, 5),
        "interval_95": [round(low, 5), round(high, 5)],
        "substitutions": total.substitutions,
        "insertions": total.insertions,
        "deletions": total.deletions,
        "words": total.reference_length,
    }


def score_corpora(clips: Sequence[Clip], hypotheses: Sequence[str]) -> dict[str, Any]:
    """`score` under both normalisers for every corpus by its name; a clip without text is left out."""
    results: dict[str, Any] = {}
    for corpus in dict.fromkeys(clip.corpus for clip in clips):
        pairs = [
            (clip.text, hypothesis, clip.seconds)
            for clip, hypothesis in zip(clips, hypotheses, strict=True)
            if clip.corpus == corpus and clip.text is not None
        ]
        if not pairs:
            continue
        texts, heard, seconds = zip(*pairs, strict=True)
        scores = {name: score(texts, heard, normalize) for name, normalize in normalizers().items()}
        results[corpus] = {"clips": len(pairs), "audio_s": round(sum(seconds), 1), **scores}
    return results


def last_word_error_rate(clips: Sequence[Clip], hypotheses: Sequence[str]) -> float:
    """Share of the clips whose last reference word is not the last word heard; nan if there are none with a text."""
    normalize = whisper_normalizer()
    wrong = [
        normalize(hypothesis).split()[-1:] != normalize(clip.text).split()[-1:]
        for clip, hypothesis in zip(clips, hypotheses, strict=True)
        if clip.text
    ]
    return sum(wrong) / len(wrong) if wrong else float("nan")

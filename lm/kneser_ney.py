"""Interpolated modified Kneser-Ney smoothing of weighted trigram counts (Chen and Goodman 1999).

Weights and discounts: a discount tells how far a count of one, two or more sightings overstates, which depends on the
number of sightings and not on what a source is thought to be worth. So discounts are estimated from raw counts, and an
n-gram seen `n` times with mean source weight `m` keeps `m * (n - D(n))` and gives `m * D(n)` to its context's back-off.
With equal weights this is the textbook method, and scaling all weights changes nothing.

Lower orders count contexts (`continuation`: Kneser-Ney proper, where a bigram counts once for each word before it) or
sightings (`tokens`: absolute discounting). Kneser-Ney's lower orders presume that the higher ones are there, which they
are not after heavy pruning. `average` takes trigrams from Kneser-Ney and the mean of both for bigrams and unigrams.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from lm.backoff import (
    LAST_TWO_WORDS,
    LAST_WORD,
    WORD_BITS,
    BackoffTrigram,
    Doubles,
    Indices,
    Keys,
    find,
    first_word,
    last_word,
    normalized,
)
from lm.counts import TrigramCounts, is_start
from lm.vocabulary import START_ID

LowerOrder = Literal["continuation", "tokens", "average"]
_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # where the text is too small to estimate them


@dataclass(frozen=True, slots=True)
class Estimate:
    """A model, and how often each of its contexts was seen (for pruning)."""

    model: BackoffTrigram
    unigram_context: Doubles
    """`(W,)`: weighted share of the text's words that follow this word."""
    bigram_context: Doubles
    """`(B,)`: weighted share of the text's words that follow this bigram."""


@dataclass(frozen=True, slots=True)
class _Level:
    key: Keys
    raw: npt.NDArray[np.uint32]
    mean_weight: Doubles


@dataclass(frozen=True, slots=True)
class _Smoothed:
    share: Doubles  # (N,) discounted relative frequency
    backoff: Doubles  # (contexts,) weight of the lower order, 1 for contexts that were never seen


@dataclass(frozen=True, slots=True)
class _LowerOrders:
    unigram_prob: Doubles  # (W,)
    unigram_backoff: Doubles  # (W,)
    bigram_key: Keys  # (B,) the same for both ways to count
    bigram_prob: Doubles  # (B,)
    suffix: Indices  # (trigrams,) position of each trigram's last two words among the bigrams, starts left out


def discounts(raw: npt.NDArray[np.uint32]) -> Doubles:
    """Discounts `(4,)` by count 0, 1, 2, 3 and more, from the counts `(N,)` of one order.

    Falls back to 0.5, 1, 1.5 where there are too few counts for the estimate to lie between 0 and the count.
    """
    n = np.array([np.count_nonzero(raw == k) for k in range(1, 5)], np.float64)
    if not n.all():
        return np.array([0.0, *_FALLBACK_DISCOUNTS])
    y = n[0] / (n[0] + 2 * n[1])
    estimate = [k - (k + 1) * y * n[k] / n[k - 1] for k in (1, 2, 3)]
    if any(not 0 < d < k for k, d in enumerate(estimate, start=1)):
        return np.array([0.0, *_FALLBACK_DISCOUNTS])
    return np.array([0.0, *estimate])


def estimate(counts: TrigramCounts, words: int, lower_order: LowerOrder = "continuation") -> Estimate:
    """Smooth `counts` over a word list of `words` entries into a back-off trigram.

    Raises:
        ValueError: there are no counts.
    """
    if not counts.key.size:
        raise ValueError("there is no text to estimate an n-gram from: all sources are empty or excluded")
    lower = _lower_orders(counts, words, "tokens" if lower_order == "tokens" else "continuation")
    keep = ~is_start(counts)
    key, raw, weighted = counts.key[keep], counts.raw[keep], counts.weighted[keep].astype(np.float64)
    context = find(lower.bigram_key, key >> WORD_BITS)
    three = _smooth(_Level(key, raw, weighted / raw), context, lower.bigram_key.size)
    model = BackoffTrigram(
        unigram_log_prob=_log(lower.unigram_prob),
        unigram_backoff=_log(lower.unigram_backoff),
        bigram_key=lower.bigram_key,
        bigram_log_prob=_log(lower.bigram_prob),
        bigram_backoff=_log(three.backoff),
        trigram_key=key,
        trigram_log_prob=_log(three.share + three.backoff[context] * lower.bigram_prob[lower.suffix]),
    )
    if lower_order == "average":
        model = _with_average(model, lower, _lower_orders(counts, words, "tokens"))
    middle = ((counts.key >> WORD_BITS) & LAST_WORD).astype(np.int64)
    word_seen = np.bincount(middle, counts.weighted.astype(np.float64), words)
    total = float(word_seen.sum())
    return Estimate(model, word_seen / total, np.bincount(context, weighted, lower.bigram_key.size) / total)


def _lower_orders(counts: TrigramCounts, words: int, lower_order: LowerOrder) -> _LowerOrders:
    bigrams, suffix = _bigrams(counts, is_start(counts), lower_order)
    unigrams = _unigrams(bigrams, lower_order, words)
    one = _smooth(unigrams, np.zeros(unigrams.key.size, np.int64), 1)
    # Words of the list that were never seen get their share of a uniform distribution over all but `<s>`.
    unigram_prob = np.full(words, one.backoff[0] / (words - 1))
    unigram_prob[START_ID] = 0.0
    unigram_prob[unigrams.key.astype(np.int64)] += one.share
    first = first_word(bigrams.key)
    two = _smooth(bigrams, first, words)
    bigram_prob = two.share + two.backoff[first] * unigram_prob[last_word(bigrams.key)]
    return _LowerOrders(unigram_prob, two.backoff, bigrams.key, bigram_prob, suffix)


def _with_average(model: BackoffTrigram, a: _LowerOrders, b: _LowerOrders) -> BackoffTrigram:
    unigram = _log((a.unigram_prob + b.unigram_prob) / 2)
    return normalized(
        replace(model, unigram_log_prob=unigram, bigram_log_prob=_log((a.bigram_prob + b.bigram_prob) / 2))
    )


def _log(values: Doubles) -> npt.NDArray[np.float32]:
    with np.errstate(divide="ignore"):
        return np.log(values).astype(np.float32)


def _bigrams(counts: TrigramCounts, starts: npt.NDArray[np.bool_], lower_order: LowerOrder) -> tuple[_Level, Indices]:
    """Adjusted bigram counts, and for each trigram (starts left out) the position of its last two words among them."""
    suffix = counts.key & LAST_TWO_WORDS
    key, inverse = np.unique(suffix, return_inverse=True)
    inverse = inverse.astype(np.int64, copy=False)
    mean = counts.weighted.astype(np.float64) / counts.raw
    # `<s> word` has no word before it: its sightings count, whatever the lower orders count.
    sightings = counts.raw if lower_order == "tokens" else np.where(starts, counts.raw, 1)
    raw = np.bincount(inverse, sightings, key.size)
    weighted = np.bincount(inverse, mean * sightings, key.size)
    return _Level(key, raw.astype(np.uint32), weighted / raw), inverse[~starts]


def _unigrams(bigrams: _Level, lower_order: LowerOrder, words: int) -> _Level:
    last = last_word(bigrams.key)
    sightings = bigrams.raw if lower_order == "tokens" else np.ones(bigrams.raw.size)
    raw = np.bincount(last, sightings, words)
    weighted = np.bincount(last, bigrams.mean_weight * sightings, words)
    seen = np.flatnonzero(raw)
    return _Level(seen.astype(np.uint64), raw[seen].astype(np.uint32), weighted[seen] / raw[seen])


def _smooth(level: _Level, context: Indices, contexts: int) -> _Smoothed:
    discount = discounts(level.raw)[np.minimum(level.raw, 3)]
    total = np.bincount(context, level.mean_weight * level.raw, contexts)
    given = np.bincount(context, level.mean_weight * discount, contexts)
    backoff = np.divide(given, total, out=np.ones(contexts), where=total > 0)
    return _Smoothed(level.mean_weight * (level.raw - discount) / total[context], backoff)

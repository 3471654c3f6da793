"""Entropy pruning of a back-off trigram (Stolcke 1998) down to a size.

An n-gram is worth as much as the relative entropy between the model with and without it (that one n-gram only, its
context's back-off adapted). How often a context occurs is taken from the text, not from the model: Kneser-Ney's lower
orders are no marginals, and would misjudge it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lm.backoff import (
    LAST_TWO_WORDS,
    LAST_WORD,
    WORD_BITS,
    BackoffTrigram,
    Doubles,
    Indices,
    find,
    first_word,
    last_word,
    left_over,
    normalized,
)
from lm.kneser_ney import Estimate
from lm.vocabulary import UNKNOWN_ID

Mask = npt.NDArray[np.bool_]


def drop_rare_words(estimate: Estimate, id_limit: int) -> Estimate:
    """The estimate without bigrams and trigrams that hold `<unk>` or a word id of `id_limit` or above."""
    model = estimate.model
    bigram = _all_within(model.bigram_key, 2, id_limit)
    return _restrict(estimate, bigram, _all_within(model.trigram_key, 3, id_limit))


def prune(estimate: Estimate, *, budget: int, bigram_cost: int = 1, trigram_cost: int = 1) -> Estimate:
    """Keep the n-grams that are worth most, as many as fit.

    Args:
        estimate: What to prune; every trigram's context must be one of its bigrams.
        budget: Most that all kept bigrams and trigrams may cost together.
        bigram_cost: Cost of one bigram.
        trigram_cost: Cost of one trigram.

    Returns:
        An estimate whose contexts sum to one again. Contexts of kept trigrams are kept.
    """
    model = estimate.model
    context = find(model.bigram_key, model.trigram_key >> WORD_BITS)
    trigram_worth = _worth(
        model.trigram_log_prob,
        model.bigram_log_probs(model.trigram_key & LAST_TWO_WORDS),
        context,
        estimate.bigram_context,
    )
    first = first_word(model.bigram_key)
    bigram_worth = _worth(
        model.bigram_log_prob, model.unigram_log_prob[last_word(model.bigram_key)], first, estimate.unigram_context
    )
    np.maximum.at(bigram_worth, context, trigram_worth)
    least = _threshold(bigram_worth, trigram_worth, budget, bigram_cost, trigram_cost)
    return _restrict(estimate, bigram_worth > least, trigram_worth > least)


def _all_within(key: npt.NDArray[np.uint64], order: int, id_limit: int) -> Mask:
    inside = np.ones(key.size, np.bool_)
    for position in range(order):
        word = (key >> (WORD_BITS * np.uint64(position))) & LAST_WORD
        inside &= (word != UNKNOWN_ID) & (word < id_limit)
    return inside


def _threshold(bigram: Doubles, trigram: Doubles, budget: int, bigram_cost: int, trigram_cost: int) -> float:
    """The worth above which all n-grams together fit into the budget."""
    worth = np.concatenate([bigram, trigram])
    cost = np.concatenate([np.full(bigram.size, bigram_cost), np.full(trigram.size, trigram_cost)])
    order = np.argsort(-worth, kind="stable")
    affordable = int(np.searchsorted(np.cumsum(cost[order]), budget, side="right"))
    return float(worth[order[affordable]]) if affordable < worth.size else -np.inf


def _worth(
    log_prob: npt.NDArray[np.float32], lower_log_prob: npt.NDArray[np.float32], context: Indices, seen: Doubles
) -> Doubles:
    """Relative entropy `(N,)`, in nats a word of text, that dropping each n-gram costs."""
    prob, lower = np.exp(log_prob, dtype=np.float64), np.exp(lower_log_prob, dtype=np.float64)
    left, below = left_over(prob, context, seen.size), left_over(lower, context, seen.size)
    old = (np.log(left) - np.log(below))[context]
    new = np.log(left[context] + prob) - np.log(below[context] + lower)
    change = prob * (lower_log_prob + new - log_prob) + left[context] * (new - old)
    return np.asarray(-seen[context] * change, np.float64)


def _restrict(estimate: Estimate, bigrams: Mask, trigrams: Mask) -> Estimate:
    """Keep the marked n-grams and compute all back-offs anew."""
    model = estimate.model
    kept = BackoffTrigram(
        model.unigram_log_prob,
        model.unigram_backoff,
        model.bigram_key[bigrams],
        model.bigram_log_prob[bigrams],
        model.bigram_backoff[bigrams],
        model.trigram_key[trigrams],
        model.trigram_log_prob[trigrams],
    )
    return Estimate(normalized(kept), estimate.unigram_context, estimate.bigram_context[bigrams])

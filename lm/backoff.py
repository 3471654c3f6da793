"""A back-off trigram in memory: sorted packed keys and log-probabilities, looked up many at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

WORD_BITS = np.uint64(21)
MAX_WORDS = 1 << 21
LAST_WORD = np.uint64(MAX_WORDS - 1)
LAST_TWO_WORDS = np.uint64((1 << 42) - 1)

_LEAST_MASS = 1e-9  # keeps logarithms finite where a context leaves nothing to its back-off


def pair_key(first: npt.NDArray[np.integer], second: npt.NDArray[np.integer]) -> Keys:
    """Keys of bigrams; they sort by first word, then second."""
    return (first.astype(np.uint64) << WORD_BITS) | second.astype(np.uint64)


def first_word(pair: Keys) -> Indices:
    """First words of bigram keys."""
    return (pair >> WORD_BITS).astype(np.int64)


def last_word(key: Keys) -> Indices:
    """Last words of bigram or trigram keys."""
    return (key & LAST_WORD).astype(np.int64)


def find(keys: Keys, wanted: Keys) -> Indices:
    """Position of each wanted key in the sorted `keys`, -1 where it is not there."""
    if not keys.size:
        return np.full(wanted.shape, -1, np.int64)
    position = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    position[keys[position] != wanted] = -1
    return position


@dataclass(frozen=True, slots=True)
class BackoffTrigram:
    """Natural log-probabilities and back-off weights; keys ascend.

    A trigram `(a, b, c)` has the key `a << 42 | b << 21 | c`, a bigram `(b, c)` the key `b << 21 | c`. The context
    `(a, b)` of every trigram is a bigram of the model.
    """

    unigram_log_prob: Floats
    """`(W,)`; -inf for `<s>`, which is never predicted."""
    unigram_backoff: Floats
    """`(W,)`, 0 for words that start no bigram."""
    bigram_key: Keys
    """`(B,)`."""
    bigram_log_prob: Floats
    """`(B,)`."""
    bigram_backoff: Floats
    """`(B,)`, 0 for bigrams that start no trigram."""
    trigram_key: Keys
    """`(G,)`."""
    trigram_log_prob: Floats
    """`(G,)`."""

    def bigram_log_probs(self, pair: Keys) -> Floats:
        """Log-probabilities `(N,)` of the last words of bigram keys `(N,)` after the first ones."""
        explicit = find(self.bigram_key, pair)
        backed_off = self.unigram_backoff[first_word(pair)] + self.unigram_log_prob[last_word(pair)]
        if not self.bigram_key.size:
            return backed_off
        return np.where(explicit >= 0, self.bigram_log_prob[explicit], backed_off)

    def trigram_log_probs(self, triple: Keys) -> Floats:
        """Log-probabilities `(N,)` of the last words of trigram keys `(N,)` after the first two."""
        explicit = find(self.trigram_key, triple)
        context = find(self.bigram_key, triple >> WORD_BITS)
        backed_off = self.bigram_log_probs(triple & LAST_TWO_WORDS)
        if self.bigram_key.size:
            backed_off += np.where(context >= 0, self.bigram_backoff[context], np.float32(0))
        if self.trigram_key.size:
            backed_off = np.where(explicit >= 0, self.trigram_log_prob[explicit], backed_off)
        return backed_off


def left_over(prob: Doubles, context: Indices, contexts: int) -> Doubles:
    """What each context `(contexts,)` leaves of one after its probabilities `(N,)`; never quite nothing."""
    left: Doubles = np.maximum(1.0 - np.bincount(context, prob, contexts), _LEAST_MASS)
    return left


def normalized(model: BackoffTrigram) -> BackoffTrigram:
    """The model with all back-offs computed anew, so that every context sums to one."""
    words, bigrams = model.unigram_log_prob.size, model.bigram_key.size
    after_word = _backoffs(
        model.bigram_log_prob,
        model.unigram_log_prob[last_word(model.bigram_key)],
        first_word(model.bigram_key),
        words,
    )
    model = replace(model, unigram_backoff=after_word)
    after_bigram = _backoffs(
        model.trigram_log_prob,
        model.bigram_log_probs(model.trigram_key & LAST_TWO_WORDS),
        find(model.bigram_key, model.trigram_key >> WORD_BITS),
        bigrams,
    )
    return replace(model, bigram_backoff=after_bigram)


def _backoffs(log_prob: Floats, lower_log_prob: Floats, context: Indices, contexts: int) -> Floats:
    left = left_over(np.exp(log_prob, dtype=np.float64), context, contexts)
    below = left_over(np.exp(lower_log_prob, dtype=np.float64), context, contexts)
    return (np.log(left) - np.log(below)).astype(np.float32)

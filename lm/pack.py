"""Writing `ngram.bin`: a pruned back-off trigram, its values quantised to 8 bits, ready to be mapped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm.arrayfile import write_array_file
from lm.backoff import WORD_BITS, BackoffTrigram, Floats, find, first_word, last_word
from lm.vocabulary import UNKNOWN_ID, words_sha256

BIGRAM_WORDS = 65_536
"""Ids from here on have unigrams only: second and third words are stored in 16 bits."""
BIGRAM_BYTES = 5
TRIGRAM_BYTES = 3
_LEVELS = 256
_ITERATIONS = 30
_NEVER = -99.0 * float(np.log(10.0))  # what ARPA files say for the probability of `<s>`


def fixed_bytes(words: int) -> int:
    """Size of a packed model without its bigrams and trigrams, in bytes (header and tables included, rounded up)."""
    rows = min(words, BIGRAM_WORDS)
    return 4 * words + rows + rows // 8 + 3 * 4 * _LEVELS + 4096  # rows of more than a byte counts are in the header


def write_ngram(path: str | Path, model: BackoffTrigram, words: Sequence[str]) -> None:
    """Write `model` over the word list `words` as an `ngram` file.

    Raises:
        ValueError: the word list does not fit the model, an n-gram holds `<unk>` or an id of 65,536 or above, or the
            context of a trigram is no bigram.
    """
    if len(words) != model.unigram_log_prob.size:
        raise ValueError(f"the model has {model.unigram_log_prob.size} words, the word list {len(words)}")
    context = find(model.bigram_key, model.trigram_key >> WORD_BITS)
    _check(model, context)
    rows = min(len(words), BIGRAM_WORDS)
    bigram_code, bigram_table = quantize(model.bigram_log_prob)
    backoff_code, backoff_table = quantize(model.bigram_backoff)
    trigram_code, trigram_table = quantize(model.trigram_log_prob)
    arrays: dict[str, npt.NDArray[Any]] = {
        "unigram_log_prob": np.maximum(model.unigram_log_prob, _NEVER).astype(np.float16),
        "unigram_backoff": model.unigram_backoff.astype(np.float16),
        "bigram_first": _starts(first_word(model.bigram_key), rows),
        "bigram_word": last_word(model.bigram_key).astype(np.uint16),
        "bigram_log_prob": bigram_code,
        "bigram_backoff": backoff_code,
        "bigram_log_prob_table": bigram_table,
        "bigram_backoff_table": backoff_table,
        "trigram_first": _starts(context, model.bigram_key.size),
        "trigram_word": last_word(model.trigram_key).astype(np.uint16),
        "trigram_log_prob": trigram_code,
        "trigram_log_prob_table": trigram_table,
    }
    meta = {"order": 3, "words_sha256": words_sha256(words)}
    write_array_file(path, kind="ngram", arrays=arrays, meta=meta, counts=("bigram_first", "trigram_first"))


def quantize(values: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Codes `(N,)` and table `(256,)` that stand for `values` `(N,)`, by one-dimensional k-means from the quantiles.

    Zero keeps an entry of its own, so that a back-off of 0 stays 0. Up to 255 different values are kept as they are.
    """
    distinct = np.unique(values[values != 0])
    if distinct.size < _LEVELS:
        centres = distinct
    else:
        ordered = np.sort(values[values != 0])
        centres = np.quantile(ordered, (np.arange(_LEVELS - 1) + 0.5) / (_LEVELS - 1))
        for _ in range(_ITERATIONS):
            centres = _means(ordered, centres)
    table = np.unique(np.append(centres, 0.0)).astype(np.float32)
    borders = (table[1:] + table[:-1]) / 2
    codes = np.where(values == 0, np.searchsorted(table, 0.0), np.searchsorted(borders, values))
    return codes.astype(np.uint8), np.pad(table, (0, _LEVELS - table.size), mode="edge")


def _means(ordered: Floats, centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    border = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
    sums = np.concatenate([[0.0], np.cumsum(ordered, dtype=np.float64)])
    edges = np.concatenate([[0], border, [ordered.size]])
    members = np.diff(edges)
    return np.where(members > 0, np.diff(sums[edges]) / np.maximum(members, 1), centres)


def _starts(owner: npt.NDArray[np.int64], owners: int) -> npt.NDArray[np.uint32]:
    return np.searchsorted(owner, np.arange(owners + 1)).astype(np.uint32)


def _check(model: BackoffTrigram, context: npt.NDArray[np.int64]) -> None:
    if (context < 0).any():
        raise ValueError("a trigram's first two words are no bigram of the model")
    ids = np.concatenate([first_word(model.bigram_key), last_word(model.bigram_key), last_word(model.trigram_key)])
    if ids.size and (ids.max() >= BIGRAM_WORDS or (ids == UNKNOWN_ID).any()):
        raise ValueError(f"bigrams and trigrams may not hold <unk> or ids from {BIGRAM_WORDS}: drop_rare_words first")

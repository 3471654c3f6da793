"""The n-gram at run time: `ngram.bin`, mapped in milliseconds, and the scorer over it.

How states are numbered: docs/architecture.md, "N-gram states".
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm.arrayfile import ArrayFile, ArrayFileError, open_array_file
from lm.vocabulary import END_ID, START_ID

NO_CONTEXT = 0
BIGRAM_STATE = 1 << 32
_CACHE_ENTRIES = 1 << 17
_DTYPES = {
    "unigram_log_prob": "<f2",
    "unigram_backoff": "<f2",
    "bigram_first": "<u4",
    "bigram_word": "<u2",
    "bigram_log_prob": "|u1",
    "bigram_backoff": "|u1",
    "bigram_log_prob_table": "<f4",
    "bigram_backoff_table": "<f4",
    "trigram_first": "<u4",
    "trigram_word": "<u2",
    "trigram_log_prob": "|u1",
    "trigram_log_prob_table": "<f4",
}


@dataclass(frozen=True, slots=True)
class NgramModel:
    """A mapped back-off trigram over word ids; all log-probabilities are natural.

    Views are memoryviews, whose elements are Python numbers: a lookup costs a bisection and no NumPy call.
    """

    file: ArrayFile
    words: int
    unigram_log_prob: npt.NDArray[np.float16]
    unigram_backoff: npt.NDArray[np.float16]
    bigram_first: memoryview
    bigram_word: memoryview
    bigram_log_prob: memoryview
    bigram_backoff: memoryview
    trigram_first: memoryview
    trigram_word: memoryview
    trigram_log_prob: memoryview
    bigram_log_prob_table: tuple[float, ...]
    bigram_backoff_table: tuple[float, ...]
    trigram_log_prob_table: tuple[float, ...]

    @staticmethod
    def open(path: str | Path) -> NgramModel:
        """Map the file at `path`.

        Raises:
            ArrayFileError: not an n-gram file, cut off, or its arrays do not fit each other.
        """
        file = open_array_file(path, kind="ngram")
        _check(file)
        arrays = file.arrays
        tables: dict[str, Any] = {name: tuple(arrays[name].tolist()) for name in _DTYPES if name.endswith("_table")}
        file.release()
        views = {name: arrays[name].data for name in _DTYPES if name.startswith(("bigram", "trigram"))}
        return NgramModel(
            file=file,
            words=arrays["unigram_log_prob"].size,
            unigram_log_prob=arrays["unigram_log_prob"],
            unigram_backoff=arrays["unigram_backoff"],
            **{**views, **tables},
        )

    @property
    def words_sha256(self) -> str:
        """Digest of the word list that the ids belong to."""
        return str(self.file.meta["words_sha256"])

    def find_bigram(self, first: int, second: int) -> int:
        """Index of the bigram, -1 where the model has none."""
        if first + 1 >= len(self.bigram_first):
            return -1
        return _find(self.bigram_word, second, self.bigram_first[first], self.bigram_first[first + 1])

    def log_prob(self, first: int, second: int, third: int) -> float:
        """Log-probability of word `third` after the words `first second`."""
        context = self.find_bigram(first, second)
        if context < 0:
            return self.log_prob_after_word(second, third)
        return self.log_prob_after_bigram(context, second, third)

    def log_prob_after_bigram(self, bigram: int, second: int, word: int) -> float:
        """Log-probability of `word` after the bigram of index `bigram`, whose second word is `second`."""
        found = _find(self.trigram_word, word, self.trigram_first[bigram], self.trigram_first[bigram + 1])
        if found >= 0:
            return self.trigram_log_prob_table[self.trigram_log_prob[found]]
        return self.bigram_backoff_table[self.bigram_backoff[bigram]] + self.log_prob_after_word(second, word)

    def log_prob_after_word(self, first: int, word: int) -> float:
        """Log-probability of `word` when only the word `first` before it is known."""
        bigram = self.find_bigram(first, word)
        if bigram >= 0:
            return self.bigram_log_prob_table[self.bigram_log_prob[bigram]]
        return float(self.unigram_backoff[first]) + float(self.unigram_log_prob[word])

    def state_after_bigram(self, bigram: int) -> int:
        """State once the bigram of that index was seen: as short a context as has the same future."""
        if self.trigram_first[bigram + 1] > self.trigram_first[bigram]:
            return BIGRAM_STATE + bigram
        return self.state_after_word(self.bigram_word[bigram])

    def state_after_word(self, word: int) -> int:
        """State once the word was seen, when no bigram ends in it."""
        if word + 1 < len(self.bigram_first) and self.bigram_first[word + 1] > self.bigram_first[word]:
            return 1 + word
        return NO_CONTEXT


class NgramScorer:
    """`Scorer` over a mapped model; keeps a bounded cache of steps, which forks of a beam share."""

    def __init__(self, model: NgramModel) -> None:
        """Score with `model`."""
        self._model = model
        self._cache: dict[tuple[int, int], tuple[int, float]] = {}

    def start(self) -> int:
        """State after `<s>`."""
        return self._model.state_after_word(START_ID)

    def step(self, state: int, word: int) -> tuple[int, float]:
        """Next state, and natural log-probability of word id `word` after `state`."""
        key = (state, word)
        found = self._cache.get(key)
        if found is None:
            if len(self._cache) >= _CACHE_ENTRIES:
                self._cache.clear()
            found = self._cache[key] = self._step(state, word)
        return found

    def finish(self, state: int) -> float:
        """Natural log-probability of `</s>` after `state`."""
        return self.step(state, END_ID)[1]

    def _step(self, state: int, word: int) -> tuple[int, float]:
        model = self._model
        if state == NO_CONTEXT:
            return model.state_after_word(word), float(model.unigram_log_prob[word])
        if state < BIGRAM_STATE:
            previous = state - 1
            log_prob = model.log_prob_after_word(previous, word)
        else:
            previous = model.bigram_word[state - BIGRAM_STATE]
            log_prob = model.log_prob_after_bigram(state - BIGRAM_STATE, previous, word)
        bigram = model.find_bigram(previous, word)
        return (model.state_after_bigram(bigram) if bigram >= 0 else model.state_after_word(word)), log_prob


def _find(words: memoryview, word: int, low: int, high: int) -> int:
    position = bisect_left(words, word, low, high)
    return position if position < high and words[position] == word else -1


def _check(file: ArrayFile) -> None:
    for name, dtype in _DTYPES.items():
        if name not in file.arrays:
            raise ArrayFileError(f"{file.path}: array {name!r} is missing")
        if file.arrays[name].dtype.str != dtype:
            raise ArrayFileError(
                f"{file.path}: array {name!r} has dtype {file.arrays[name].dtype.str}, expected {dtype}"
            )
    size: dict[str, int] = {name: file.arrays[name].size for name in _DTYPES}
    last: dict[str, Any] = {
        name: file.arrays[name][-1] if size[name] else -1 for name in ("bigram_first", "trigram_first")
    }
    bigrams, trigrams = size["bigram_word"], size["trigram_word"]
    fits = (
        size["unigram_backoff"] == size["unigram_log_prob"]
        and size["bigram_first"] - 1 == min(size["unigram_log_prob"], 1 << 16)
        and size["bigram_log_prob"] == size["bigram_backoff"] == bigrams == last["bigram_first"]
        and size["trigram_first"] == bigrams + 1
        and size["trigram_log_prob"] == trigrams == last["trigram_first"]
        and all(size[name] == 256 for name in _DTYPES if name.endswith("_table"))
    )
    if not fits or "words_sha256" not in file.meta:
        raise ArrayFileError(f"{file.path}: the arrays' sizes do not fit each other: {size}")

"""A language model over pieces as a scorer of words: the log-probability of a word is the sum of its pieces'."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lm.outer_scorer import OuterScorer
from lm.scorer import Scorer
from lm.vocabulary import UNKNOWN_ID


class PieceScorer(OuterScorer):
    """Words over a scorer of pieces, alone or mixed with an n-gram; a `RememberingScorer`, so it is for one search.

    A state stands for one of each. Words that the n-gram lacks are spelled all the same: it gives them nothing.
    """

    def __init__(
        self,
        inner: Scorer,
        cut: Callable[[int], Sequence[int]],
        *,
        ngram: Scorer | None = None,
        n_ngram_words: int = 0,
        share: float = 1.0,
    ) -> None:
        """Score words.

        Args:
            inner: the model, over ids of pieces, with no n-gram of its own.
            cut: pieces of a word id, one at least.
            ngram: the other scorer, over word ids.
            n_ngram_words: word ids from this on are unknown to it.
            share: of the model where there is an n-gram, above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}, expected a number above 0 and at most 1")
        super().__init__(inner)
        self.cut, self.ngram, self.n_ngram_words, self.share = cut, ngram, n_ngram_words, share

    def start(self) -> int:
        """State before the first word."""
        return self._keep(self.inner.start(), self.ngram.start() if self.ngram else 0)

    def step(self, state: int, word: int) -> tuple[int, float]:
        """Next state, and natural log-probability of word id `word` after `state`."""
        inner, ngram = self._pairs[state]
        total = 0.0
        for piece in self.cut(word):
            inner, log_prob = self.inner.step(inner, piece)
            total += log_prob
        if self.ngram is None:
            return self._keep(inner, 0), total
        is_known = word < self.n_ngram_words
        after, log_prob = self.ngram.step(ngram, word if is_known else UNKNOWN_ID)
        return self._keep(inner, after), self._mixed(total, log_prob if is_known else -math.inf)

    def finish(self, state: int) -> float:
        """Natural log-probability of the end after `state`."""
        inner, ngram = self._pairs[state]
        end = self.inner.finish(inner)
        return self._mixed(end, self.ngram.finish(ngram)) if self.ngram else end

    def _mixed(self, pieces: float, ngram: float) -> float:
        highest = max(pieces, ngram)
        if highest == -math.inf:
            return highest
        mixed = self.share * math.exp(pieces - highest) + (1 - self.share) * math.exp(ngram - highest)
        return highest + math.log(mixed) if mixed else -math.inf

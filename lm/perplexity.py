"""How well a scorer predicts text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lm.scorer import Scorer
from lm.vocabulary import UNKNOWN_ID


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Perplexity of a text over its known words and sentence ends; unknown words are not predicted, only counted."""

    sentences: int
    words: int
    unknown: int
    log_prob: float
    """Natural, summed over known words and sentence ends."""

    @property
    def value(self) -> float:
        """Perplexity; infinite where nothing was predicted."""
        predicted = self.words - self.unknown + self.sentences
        return math.exp(-self.log_prob / predicted) if predicted else math.inf

    @property
    def unknown_rate(self) -> float:
        """Share of words that the word list lacks."""
        return self.unknown / self.words if self.words else 0.0


def measure_perplexity(scorer: Scorer, ids: Mapping[str, int], sentences: Iterable[Sequence[str]]) -> Perplexity:
    """Perplexity of `scorer` on normalised `sentences`; `ids` gives the words' ids."""
    count = words = unknown = 0
    total = 0.0
    for sentence in sentences:
        state = scorer.start()
        for word in sentence:
            number = ids.get(word, UNKNOWN_ID)
            state, log_prob = scorer.step(state, number)
            if number == UNKNOWN_ID:
                unknown += 1
            else:
                total += log_prob
        total += scorer.finish(state)
        count, words = count + 1, words + len(sentence)
    return Perplexity(count, words, unknown, total)

"""A grammar as a scorer of words: it forbids what may not be said, alone or on top of a language model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from lm.grammar.automaton import DEAD
from lm.grammar.spoken import SpokenAutomaton
from lm.outer_scorer import OuterScorer
from lm.scorer import Scorer

_NEVER = float("-inf")
_SPELLINGS = 20_000


class GrammarArcs:
    """An automaton over ids of words."""

    def __init__(self, automaton: SpokenAutomaton, spell: Callable[[int], str]) -> None:
        """Take the automaton, and the spelling of a word id."""
        self.automaton = automaton
        self._spell = lru_cache(_SPELLINGS)(spell)

    def start(self) -> int:
        """State before the first word."""
        return self.automaton.start

    def follow(self, state: int, word: int) -> int:
        """The state after a word, or `DEAD`."""
        return self.automaton.step(state, self._spell(word))

    def is_final(self, state: int) -> bool:
        """Whether a match is complete."""
        return self.automaton.is_final(state)


class GrammarScorer:
    """A `Scorer`: 0 for every word that may follow, minus infinity for all others.

    Its states are those of the automaton. Streams may share one; the native search remembers for all of them what
    it was told.
    """

    def __init__(self, automaton: SpokenAutomaton, spell: Callable[[int], str]) -> None:
        """Take the automaton, and the spelling of a word id."""
        self.arcs = GrammarArcs(automaton, spell)

    def start(self) -> int:
        """State before the first word."""
        return self.arcs.start()

    def step(self, state: int, word: int) -> tuple[int, float]:
        """Next state, and 0 or minus infinity."""
        following = self.arcs.follow(state, word)
        return (state, _NEVER) if following == DEAD else (following, 0.0)

    def finish(self, state: int) -> float:
        """0 where a match is complete, else minus infinity."""
        return 0.0 if self.arcs.is_final(state) else _NEVER


class ConstrainedScorer(OuterScorer):
    """A grammar over a language model: what may follow is scored by the model; a `RememberingScorer`.

    The grammar's own words may have a share of the probability whatever the model says, since a model of sentences
    expects no "underscore". A state stands for one of the model and one of the grammar.
    """

    def __init__(
        self,
        grammar: GrammarScorer,
        inner: Scorer,
        inner_words: Sequence[int] | np.ndarray,
        *,
        own_shares: Mapping[int, float] | None = None,
    ) -> None:
        """Combine.

        Args:
            grammar: what may follow.
            inner: the language model.
            inner_words: (W,) the model's id of each word of the grammar's lexicon.
            own_shares: of the probability, by the ids of words; less than 1 together, and the model has the rest.
        """
        super().__init__(inner)
        self.grammar = grammar
        self.inner_words = np.asarray(inner_words, np.uint32)
        shares = own_shares or {}
        self.inner_log_share = math.log1p(-sum(shares.values()))
        self.own_log_prob = np.full(len(self.inner_words), _NEVER, np.float32)
        for word, share in shares.items():
            self.own_log_prob[word] = math.log(share)

    def start(self) -> int:
        """State before the first word."""
        return self._keep(self.inner.start(), self.grammar.start())

    def step(self, state: int, word: int) -> tuple[int, float]:
        """Next state, and the word's log-probability; minus infinity for what the grammar forbids."""
        inner, constraint = self._pairs[state]
        following = self.grammar.arcs.follow(constraint, word)
        if following == DEAD:
            return state, _NEVER
        after, log_prob = self.inner.step(inner, int(self.inner_words[word]))
        mixed = np.logaddexp(log_prob + self.inner_log_share, float(self.own_log_prob[word]))
        return self._keep(after, following), float(mixed)

    def finish(self, state: int) -> float:
        """The model's log-probability that this is the end; minus infinity where the grammar has more to come."""
        inner, constraint = self._pairs[state]
        return self.inner.finish(inner) if self.grammar.arcs.is_final(constraint) else _NEVER

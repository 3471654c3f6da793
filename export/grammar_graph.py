"""A grammar as a decoding graph for sherpa-onnx's `ctc_graph`, with the acceptances and scores of our own search."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from asr.config import DecodingConfig
from export.ctc_graph import Backoff, Follower, build_word_graph
from export.openfst import Transducer
from export.restrict import pronunciations
from lm.grammar.automaton import DEAD
from lm.grammar.errors import GrammarError, GrammarTooLargeError
from lm.grammar.grammar import Grammar
from lm.grammar.pronouncing import pronounce_words
from lm.grammar.spoken import SpokenAutomaton
from lm.lexicon_build import assemble_lexicon
from lm.pronouncer import Pronouncer
from lm.vocabulary import SPECIAL_WORDS

MAX_STATES = 5000
_MAX_STEPS = 2_000_000


@dataclass(frozen=True, slots=True)
class GrammarHistories:
    """The states of a grammar from which a match can still be completed; a `WordHistories`."""

    start: int
    arcs: Mapping[int, Sequence[tuple[int, int]]]
    """(word id, next state) of every word that may follow, by state."""
    final: Set[int]
    """States in which a match is complete."""

    def histories(self) -> Sequence[int]:
        """All states."""
        return list(self.arcs)

    def followers(self, history: int) -> Iterable[Follower]:
        """The words that may follow, each at no cost."""
        return [Follower(word, 0.0, after) for word, after in self.arcs[history]]

    def backoff(self, history: int) -> Backoff | None:
        """None: what does not follow is forbidden."""
        return None

    def end_log_prob(self, history: int) -> float:
        """0 where a match is complete."""
        return 0.0 if history in self.final else -math.inf


def build_grammar_graph(
    grammar: Grammar, pronouncer: Pronouncer, config: DecodingConfig, *, max_states: int = MAX_STATES
) -> tuple[Transducer, list[str]]:
    """The decoding graph of everything that may be said for a grammar.

    Returns:
        The graph, and its words by id (the labels of its output), the first three being those of every word list.

    Args:
        grammar: without places that any word may enter.
        pronouncer: how its words are spoken.
        config: weights: `lm_weight`, `word_score`, `boundary_skip_log_prob`.
        max_states: states between words that the grammar may have, once equal ones are one.

    Raises:
        GrammarError: any word may enter the grammar somewhere, or nothing of it can be spoken.
        GrammarTooLargeError: it has more states, or too many words and states to try each word in each state.
    """
    automaton = grammar.automaton
    if automaton.is_open:
        raise GrammarError(
            "a graph holds no words but its own, and a place like `[a-z]+` or `.*` lets any word in; "
            "write a list {name} or the words themselves there",
            grammar.pattern,
        )
    variants = {word: spoken for word, spoken in pronounce_words(automaton, pronouncer).items() if spoken}
    words = [*SPECIAL_WORDS, *sorted(variants)]
    histories = _find_histories(automaton, words, grammar.pattern)
    if len(histories.arcs) > max_states:
        raise _too_large(f"{len(histories.arcs)} states, and a graph may have {max_states}", grammar.pattern)
    lexicon = assemble_lexicon(words, variants, np.zeros(len(words)))
    return build_word_graph(histories, pronunciations(lexicon), config), words


def _find_histories(automaton: SpokenAutomaton, words: Sequence[str], pattern: str) -> GrammarHistories:
    """The smallest automaton of the word sequences that match."""
    arcs = _reach(automaton, words, pattern)
    final = {state for state in arcs if automaton.is_final(state)}
    alive = _leading_to(final, arcs)
    if automaton.start not in alive:
        raise GrammarError("nothing that matches can be spoken", pattern)
    living = {
        state: [(word, after) for word, after in following if after in alive]
        for state, following in arcs.items()
        if state in alive
    }
    return _merged(automaton.start, living, final)


def _reach(automaton: SpokenAutomaton, words: Sequence[str], pattern: str) -> dict[int, list[tuple[int, int]]]:
    """Every state that words lead to, with what follows it."""
    spoken = list(enumerate(words))[len(SPECIAL_WORDS) :]
    arcs: dict[int, list[tuple[int, int]]] = {}
    waiting = [automaton.start]
    while waiting:
        state = waiting.pop()
        if state in arcs or state == DEAD:
            continue
        if (len(arcs) + 1) * len(spoken) > _MAX_STEPS:
            raise _too_large(f"more than {len(arcs)} states with {len(spoken)} words each", pattern)
        steps = [(word, automaton.step(state, spelling)) for word, spelling in spoken]
        arcs[state] = [(word, after) for word, after in steps if after != DEAD]
        waiting += [after for _, after in arcs[state]]
    return arcs


def _leading_to(final: Set[int], arcs: Mapping[int, Sequence[tuple[int, int]]]) -> set[int]:
    """States from which a final one can be reached."""
    before: dict[int, list[int]] = {}
    for state, following in arcs.items():
        for _, after in following:
            before.setdefault(after, []).append(state)
    found, waiting = set(final), list(final)
    while waiting:
        for state in before.get(waiting.pop(), ()):
            if state not in found:
                found.add(state)
                waiting.append(state)
    return found


def _merged(start: int, arcs: Mapping[int, Sequence[tuple[int, int]]], final: Set[int]) -> GrammarHistories:
    """States with equal futures made one (Moore's algorithm): classes are split until all of one behave alike."""
    classes = {state: int(state in final) for state in arcs}
    n_classes = 0
    while True:
        seen: dict[tuple[int, tuple[tuple[int, int], ...]], int] = {}
        classes = {
            state: seen.setdefault(
                (classes[state], tuple((word, classes[after]) for word, after in following)), len(seen)
            )
            for state, following in arcs.items()
        }
        if len(seen) == n_classes:
            break
        n_classes = len(seen)
    merged = {
        classes[state]: [(word, classes[after]) for word, after in following] for state, following in arcs.items()
    }
    return GrammarHistories(classes[start], merged, {classes[state] for state in final & arcs.keys()})


def _too_large(what: str, pattern: str) -> GrammarTooLargeError:
    return GrammarTooLargeError(f"the grammar has {what}; make it simpler, or split it into several", pattern)

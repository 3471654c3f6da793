"""What a question compiles to, before the model is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lm.grammar.grammar import Grammar
from lm.pieces import Pieces
from lm.query.nodes import BEAM
from lm.query.piece_space import make_space
from lm.query.query import Query
from lm.query.space import AnySpace, State

MAX_STATES = 1000
"""States that are looked at."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Size of a question."""

    states: int
    """Reached from the start; all there are where `is_complete`."""
    arcs: int
    """Words that may be said, over all these states."""
    words: int
    """Different ones among them."""
    unknown_words: tuple[str, ...]
    """Words that the patterns may be spoken with, and that the model cannot give as it does not know them."""
    is_complete: bool
    is_bounded: bool
    """Whether the patterns alone bound the length of an answer."""
    sequences: float | None
    """Spoken word sequences of at most `max_words` words; None where not all states were looked at."""
    most_words: int | None
    """Of the longest sequence; None where not all states were looked at."""
    beam_contexts: int | None
    """Contexts that a beam search runs, at most."""

    def __str__(self) -> str:
        """Several lines for people."""
        more = "" if self.is_complete else " or more"
        lines = [
            f"states           {self.states}{more}",
            f"words            {self.words}{more}, {self.arcs / max(1, self.states):.1f} a state",
            f"bounded          {'yes' if self.is_bounded else 'no: max_words bounds it'}",
        ]
        if self.sequences is not None and self.most_words is not None:
            size = f"{self.sequences:.0f}" if self.sequences < 1e6 else f"10^{math.log10(self.sequences):.1f}"
            lines.append(f"spoken forms     {size}, of at most {self.most_words} words")
            lines.append(f"work, beam       at most {self.beam_contexts} contexts")
        if self.unknown_words:
            shown = ", ".join(self.unknown_words[:5])
            lines.append(f"cannot be said   {len(self.unknown_words)} words that the model does not know: {shown}")
        return "\n".join(lines)


def plan(query: Query, words: Sequence[str] | None = None, pieces: Pieces | None = None) -> Plan:
    """What `query` compiles to for a model's word list or pieces; without, for the words that its closed places need.

    Raises:
        GrammarError: a pattern cannot be used.
        QueryError: nothing can be said for it.
    """
    if words is None:
        words = sorted(_closed_words(query))
    space = make_space(query, words, pieces)
    arcs, is_complete = _explore(space)
    said = np.unique(np.concatenate([space.arcs(state).ids for state in arcs]))
    sequences, most_words, contexts = _count(space, arcs, query) if is_complete else (None, None, None)
    return Plan(
        len(arcs), sum(len(space.arcs(state).ids) for state in arcs), len(said), space.unknown_words, is_complete,
        query.is_bounded, sequences, most_words, contexts,
    )  # fmt: skip


def _closed_words(query: Query) -> set[str]:
    patterns = [pattern for pattern in (query.pattern, query.suffix) if pattern]
    grammars = [Grammar(p, spoken=query.spoken, lists=query.lists, edits=query.edits) for p in patterns]
    return {word for grammar in grammars for word in grammar.automaton.words()}


def _explore(space: AnySpace) -> tuple[dict[State, dict[State, int]], bool]:
    """How many words lead from each state to each of the next; and whether these are all states."""
    arcs: dict[State, dict[State, int]] = {}
    waiting = [space.start]
    while waiting:
        state = waiting.pop()
        if state in arcs:
            continue
        if len(arcs) == MAX_STATES:
            return arcs, False
        after, number = np.unique(space.arcs(state).after, return_counts=True)
        arcs[state] = {(state[0], int(s)): int(n) for s, n in zip(after, number, strict=True)}
        waiting += space.successors(state)
    return arcs, True


def _count(space: AnySpace, arcs: dict[State, dict[State, int]], query: Query) -> tuple[float, int, int]:
    """Word sequences, length of the longest, and hypotheses of a beam."""
    level, total, longest, contexts = {space.start: 1.0}, 0.0, 0, 0
    length = 0
    while level:
        for state, ways in list(level.items()) if length else []:
            suffix = space.suffix_start(state)
            if suffix is not None:
                level[suffix] = level.get(suffix, 0.0) + ways
        contexts += int(min(BEAM, sum(level.values())))
        final = sum(ways for state, ways in level.items() if space.is_final(state)) if length else 0.0
        total, longest = total + final, length if final else longest
        if length == query.max_words:
            break
        following: dict[State, float] = {}
        for state, ways in level.items():
            for after, number in arcs[state].items():
                following[after] = following.get(after, 0.0) + ways * number
        level, length = following, length + 1
    return total, longest, contexts

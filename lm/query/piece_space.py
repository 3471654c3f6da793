"""What may be said next at every point of a question to a model of pieces: any word, spelled piece by piece.

A state is one of the pattern's automaton, and the letters of the word in progress. A word ends where the next piece
begins one, or the answer ends; then the automaton takes it. What it could never take is not begun: a word in progress
has to be the beginning of one that the automaton reads (a digit, a symbol), or its letters of something that the
pattern writes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lm.grammar.automaton import DEAD
from lm.grammar.grammar import Grammar
from lm.grammar.readings import START
from lm.pieces import BEGIN, Pieces
from lm.query.query import Query, QueryError
from lm.query.space import AnySpace, Arcs, Space, State
from lm.vocabulary import SPECIAL_WORDS

_LAST = "\U0010ffff"


class _Place(NamedTuple):
    """Where an answer has got to in a part."""

    spoken: int
    """State of the automaton after the words that are over."""
    word: str | None
    """Letters of the word in progress; None where none has begun."""
    cut: tuple[int, ...]
    """Its pieces, where it matters which they are."""


@dataclass(slots=True)
class _Trie:
    """Pieces by their letters."""

    piece: int | None = None
    below: dict[str, _Trie] = field(default_factory=dict)

    def add(self, text: str, piece: int) -> None:
        at = self
        for letter in text:
            at = at.below.setdefault(letter, _Trie())
        at.piece = piece


class _Reach(NamedTuple):
    """What the letters so far may become."""

    chars: frozenset[int]
    """States of the character automaton, where they are written as they are spoken."""
    words: Sequence[str]
    """Of `prefix` and more: words that the automaton knows."""
    prefix: str

    def __bool__(self) -> bool:
        return bool(self.chars) or bool(self.words)


class PieceSpace:
    """States of a question and the pieces between them; made when they are first reached."""

    longest_way = 0
    """Nothing is looked at ahead."""

    def __init__(self, query: Query, pieces: Pieces) -> None:
        """Compile a question for a model of pieces.

        Raises:
            GrammarError: a pattern cannot be used.
            QueryError: nothing can be said for the pattern.
        """
        patterns = [query.pattern] + ([query.suffix] if query.suffix else [])
        grammars = [Grammar(p, spoken=query.spoken, lists=query.lists, edits=query.edits) for p in patterns]
        self._automata = [grammar.automaton for grammar in grammars]
        self._pieces, self._is_canonical = pieces, query.tokens == "canonical"
        self._begin, self._go_on = _Trie(), _Trie()
        for number, text in enumerate(pieces.texts[len(SPECIAL_WORDS) :], len(SPECIAL_WORDS)):
            if text.startswith(BEGIN):
                self._begin.add(text.removeprefix(BEGIN), number)
            else:
                self._go_on.add(text, number)
        self._places: list[tuple[int, _Place]] = []
        self._numbers: dict[tuple[int, _Place], int] = {}
        self._arcs: dict[State, Arcs] = {}
        self._closed: dict[tuple[int, _Place], int] = {}
        self.unknown_words: tuple[str, ...] = ()
        start = self._automata[0].start
        self.start: State = 0, self._number(0, _Place(start, None, ()))
        if start == DEAD or not len(self.arcs(self.start).ids):
            raise QueryError(f"no words can be said for the pattern {query.pattern[:80]!r}")

    def arcs(self, state: State, room: int | None = None) -> Arcs:
        """The pieces that may follow, and where they lead; `room` is not looked at."""
        found = self._arcs.get(state)
        if found is None:
            part, place = self._places[state[1]]
            rows = sorted((piece, self._number(part, after)) for piece, after in self._following(part, place))
            ids = np.array([piece for piece, _ in rows], np.int64)
            found = self._arcs[state] = Arcs(ids, np.array([after for _, after in rows], np.int64))
        return found

    def successors(self, state: State) -> list[State]:
        """The states that follow, after a piece or as the suffix begins; each once."""
        after = [(state[0], int(s)) for s in np.unique(self.arcs(state).after)]
        suffix = self.suffix_start(state)
        return [*after, suffix] if suffix else after

    def is_final(self, state: State) -> bool:
        """Whether the question may end here."""
        return state[0] == len(self._automata) - 1 and self._ends(state)

    def suffix_start(self, state: State) -> State | None:
        """Where the suffix starts if the pattern may end here."""
        if state[0] == len(self._automata) - 1 or not self._ends(state):
            return None
        return 1, self._number(1, _Place(self._automata[1].start, None, ()))

    def write(self, words: Sequence[str], split: int) -> list[tuple[str, str]]:
        """What pattern and suffix write for the pieces, cheapest first; the pattern's are the first `split`."""
        texts = [writing.text for writing in self._automata[0].writings(_words(words[:split]))]
        if len(self._automata) == 1:
            return [(text, "") for text in texts]
        suffix = self._automata[1].writings(_words(words[split:]))[0].text
        return [(text, suffix) for text in texts]

    def _number(self, part: int, place: _Place) -> int:
        number = self._numbers.setdefault((part, place), len(self._places))
        if number == len(self._places):
            self._places.append((part, place))
        return number

    def _ends(self, state: State) -> bool:
        part, place = self._places[state[1]]
        after = self._after_word(part, place) if place.word is not None else DEAD
        return after != DEAD and self._automata[part].is_final(after)

    def _after_word(self, part: int, place: _Place) -> int:
        """State of the automaton after the word in progress, if that may end here."""
        known = self._closed.get((part, place))
        if known is None:
            is_whole = bool(place.word) and (not self._is_canonical or self._pieces.cut(place.word or "") == place.cut)
            known = self._automata[part].step(place.spoken, place.word or "") if is_whole else DEAD
            self._closed[part, place] = known
        return known

    def _following(self, part: int, place: _Place) -> Iterator[tuple[int, _Place]]:
        if place.word is not None:
            reach = self._reach(part, place.spoken, place.word)
            yield from self._grown(part, place, reach, self._go_on)
        spoken = place.spoken if place.word is None else self._after_word(part, place)
        if spoken != DEAD:
            fresh = _Place(spoken, "", ())
            yield from self._grown(part, fresh, self._reach(part, spoken, ""), self._begin)

    def _grown(self, part: int, place: _Place, reach: _Reach, trie: _Trie) -> Iterator[tuple[int, _Place]]:
        """The place after each piece of a trie that the reach allows."""
        waiting = [(trie, reach)] if reach else []
        while waiting:
            node, at = waiting.pop()
            if node.piece is not None:
                cut = (*place.cut, node.piece) if self._is_canonical else ()
                yield node.piece, _Place(place.spoken, at.prefix, cut)
            for letter, below in node.below.items():
                after = self._spelled(part, at, letter)
                if after:
                    waiting.append((below, after))

    def _reach(self, part: int, spoken: int, text: str) -> _Reach:
        automaton = self._automata[part]
        chars = frozenset(c.chars for c in automaton.configurations(spoken) if c.mode == START)
        reach = _Reach(chars, automaton.following(spoken), "")
        for letter in text:
            reach = self._spelled(part, reach, letter)
        return reach

    def _spelled(self, part: int, reach: _Reach, letter: str) -> _Reach:
        chars, prefix = self._automata[part].chars, reach.prefix + letter
        after = {chars.run(state, text) for state in reach.chars for text in {letter, letter.upper()}} - {DEAD}
        first = bisect_left(reach.words, prefix)
        return _Reach(frozenset(after), reach.words[first : bisect_left(reach.words, prefix + _LAST)], prefix)


def make_space(query: Query, words: Sequence[str], pieces: Pieces | None = None) -> AnySpace:
    """The states of a question to a model over a word list, or over pieces.

    Raises:
        GrammarError: a pattern cannot be used.
        QueryError: nothing can be said for the pattern.
    """
    return Space(query, words) if pieces is None else PieceSpace(query, pieces)


def _words(pieces: Sequence[str]) -> list[str]:
    return "".join(pieces).replace(BEGIN, " ").split()

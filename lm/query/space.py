"""What may be said next at every point of a question: the patterns' automata, seen from the model's word list."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np

from lm.grammar.automaton import DEAD, CharAutomaton
from lm.grammar.grammar import Grammar
from lm.grammar.readings import START
from lm.query.model import IntArray
from lm.query.query import Query, QueryError

State = tuple[int, int]
"""The pattern (0) or the suffix (1), and a state of its automaton."""
MAX_LOOKED_AHEAD = 40
"""States from which the way to the end is worked out; from others it is taken to be short. An open place has the whole
word list in each of its states, so that this takes seconds there."""
_NEVER = 1 << 30
_LAST = "\U0010ffff"
_Ends = frozenset[
    tuple[int, int]
]  # (where a word began, or 0 where it does not matter; where it led): character states


@dataclass(frozen=True, slots=True)
class Arcs:
    """What may follow a state."""

    ids: IntArray
    """(K,) words."""
    after: IntArray
    """(K,) states of the same automaton that they lead to."""


class Space:
    """States of a question and the words between them; made when they are first reached."""

    start: State = (0, 0)

    def __init__(self, query: Query, words: Sequence[str]) -> None:
        """Compile a question for a word list.

        Raises:
            GrammarError: a pattern cannot be used.
            QueryError: no word of the list can be said for the pattern.
        """
        ids = {word: number for number, word in enumerate(words)}
        patterns = [query.pattern] + ([query.suffix] if query.suffix else [])
        grammars = [Grammar(p, spoken=query.spoken, lists=query.lists, edits=query.edits) for p in patterns]
        self._parts = [_Part(grammar, words, ids) for grammar in grammars]
        self.start = 0, self._parts[0].start
        self.unknown_words = tuple(sorted({word for part in self._parts for word in part.unknown_words}))
        """Words that the patterns may be spoken with and the list lacks: they cannot be answers."""
        self._with_room: dict[tuple[State, int], Arcs] = {}
        self._ways: dict[State, int] = {}
        self.longest_way = 0
        """Words from one of the first states to the nearest end, at most: with more room nothing is left out."""
        if self.start[1] != DEAD:
            self._look_ahead()
        if self.start[1] == DEAD or self._ways[self.start] == _NEVER or not len(self.arcs(self.start).ids):
            raise QueryError(f"no words of the model's list can be said for the pattern {query.pattern[:80]!r}")

    def arcs(self, state: State, room: int | None = None) -> Arcs:
        """The words that may follow, and where they lead.

        Args:
            state: the state.
            room: words that the answer may still have; those after which it cannot be completed are left out.
        """
        room = _NEVER if room is None else room
        known = self._with_room.get((state, room))
        if known is None:
            arcs = self._parts[state[0]].arcs(state[1])
            after, place = np.unique(arcs.after, return_inverse=True)
            fits = np.array([self.words_to_end((state[0], int(s))) < room for s in after], bool)[place]
            known = arcs if fits.all() else Arcs(arcs.ids[fits], arcs.after[fits])
            self._with_room[state, room] = known
        return known

    def words_to_end(self, state: State) -> int:
        """At least so many words are missing."""
        return self._ways.get(state, 0)

    def successors(self, state: State) -> list[State]:
        """The states that follow, after a word or as the suffix begins; each once."""
        after = [(state[0], int(s)) for s in np.unique(self._parts[state[0]].arcs(state[1]).after)]
        suffix = self.suffix_start(state)
        return [*after, suffix] if suffix else after

    def _look_ahead(self) -> None:
        """Works out how many words each of the first states is from an end."""
        before: dict[State, list[State]] = {}
        seen, waiting, reached = {self.start}, deque([self.start]), 0
        while waiting and reached < MAX_LOOKED_AHEAD:
            state = waiting.popleft()
            reached += 1
            for following in self.successors(state):
                before.setdefault(following, []).append(state)
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
        ways = dict.fromkeys((*waiting, *filter(self.is_final, seen)), 0)
        border = deque(ways)
        while border:
            state = border.popleft()
            for previous in before.get(state, []):
                is_suffix = previous[0] != state[0]
                if previous not in ways or ways[previous] > ways[state] + (not is_suffix):
                    ways[previous] = ways[state] + (not is_suffix)
                    border.append(previous)
        self._ways = {state: ways.get(state, _NEVER) for state in seen}
        self.longest_way = max((way for way in self._ways.values() if way < _NEVER), default=0)

    def is_final(self, state: State) -> bool:
        """Whether the question may end here."""
        return state[0] == len(self._parts) - 1 and self._parts[state[0]].automaton.is_final(state[1])

    def suffix_start(self, state: State) -> State | None:
        """Where the suffix starts if the pattern may end here."""
        if state[0] == len(self._parts) - 1 or not self._parts[0].automaton.is_final(state[1]):
            return None
        return 1, self._parts[1].start

    def write(self, words: Sequence[str], split: int) -> list[tuple[str, str]]:
        """What pattern and suffix write for the words, cheapest first; the pattern's are the first `split`."""
        texts = [writing.text for writing in self._parts[0].automaton.writings(words[:split])]
        if len(self._parts) == 1:
            return [(text, "") for text in texts]
        suffix = self._parts[1].automaton.writings(words[split:])[0].text
        return [(text, suffix) for text in texts]


class _PlainWords:
    """Words that are written as they are spoken, by their spelling: a trie as a sorted list."""

    def __init__(self, chars: CharAutomaton, written: Mapping[str, int]) -> None:
        self._chars = chars
        self.entries = sorted(written)
        self._ids = [written[text] for text in self.entries]
        self._has_only_letters = [text.isascii() and text.isalpha() for text in self.entries]
        self._loops: dict[_Ends, bool] = {}

    def walk(self, starts: _Ends) -> dict[int, _Ends]:
        """Where each word leads that may be written, in any case of its letters, from one of the starts."""
        found: dict[int, _Ends] = {}
        waiting = [(0, len(self.entries), 0, starts)] if self.entries and starts else []
        while waiting:
            low, high, depth, ends = waiting.pop()
            if depth and self._is_loop(ends):
                self._take_all(low, high, depth, ends, found)
                continue
            if len(self.entries[low]) == depth:
                found[self._ids[low]] = found.get(self._ids[low], frozenset()) | ends
                low += 1
            while low < high:
                begin = self.entries[low][: depth + 1]
                end = bisect_right(self.entries, begin + _LAST, low, high)
                after = self._after(ends, begin[-1])
                if after:
                    waiting.append((low, end, depth + 1, after))
                low = end
        return found

    def _after(self, ends: _Ends, letter: str) -> _Ends:
        letters = {letter, letter.upper()}
        after = {(origin, self._chars.step(state, char)) for origin, state in ends for char in letters}
        return frozenset(pair for pair in after if pair[1] != DEAD)

    def _is_loop(self, ends: _Ends) -> bool:
        """Whether every letter leads back here, so that no word under here has to be looked at."""
        known = self._loops.get(ends)
        if known is None:
            known = self._loops[ends] = all(self._after(ends, letter) == ends for letter in ascii_lowercase)
        return known

    def _take_all(self, low: int, high: int, depth: int, ends: _Ends, found: dict[int, _Ends]) -> None:
        after_apostrophe = self._after(ends, "'")
        for place in range(low, high):
            after = ends
            if not self._has_only_letters[place]:
                rest = self.entries[place][depth:]
                if "'" in rest and not after_apostrophe:
                    continue
                for char in rest:
                    after = self._after(after, char)
            if after:
                found[self._ids[place]] = found.get(self._ids[place], frozenset()) | after


class _Part:
    """One pattern."""

    def __init__(self, grammar: Grammar, words: Sequence[str], ids: Mapping[str, int]) -> None:
        self.automaton = grammar.automaton
        self.start = self.automaton.start
        self._has_edits = bool(grammar.edits)
        self._words = words
        sayable = self.automaton.words()
        self.unknown_words = sayable - ids.keys()
        plain = self.automaton.spellings.keys()
        read = self.automaton.reading_words()
        self._read = {word: ids[word] for word in read | (sayable - plain) if word in ids}
        self._read_ids = frozenset(self._read.values())
        self._arcs: dict[int, Arcs] = {}
        self._plain_arcs: dict[_Ends, Arcs] = {}
        self._plain = _PlainWords(self.automaton.chars, self._plain_words(words, ids))

    def _plain_words(self, words: Sequence[str], ids: Mapping[str, int]) -> dict[str, int]:
        spellings = self.automaton.spellings.items()
        written = {text: ids[word] for word, texts in spellings if word in ids for text in texts}
        if self.automaton.is_open:
            written.update({word: ids[word] for word in words if word[0] != "<" and self.automaton.takes_plain(word)})
        return written

    def arcs(self, state: int) -> Arcs:
        """The words that may follow, and where they lead."""
        found = self._arcs.get(state)
        if found is None:
            found = self._arcs[state] = self._find_arcs(state)
        return found

    def _find_arcs(self, state: int) -> Arcs:
        automaton = self.automaton
        configs = automaton.configurations(state)
        starts = frozenset((c.chars if self._has_edits else 0, c.chars) for c in configs if c.mode == START)
        steps = {number: automaton.step(state, word) for word, number in self._read.items()}
        read = {number: following for number, following in steps.items() if following != DEAD}
        plain = self._plain_arcs.get(starts)
        if plain is None:
            plain = self._find_plain_arcs(state, starts)
            if not self._has_edits:  # then what follows depends on more than where plain words start
                self._plain_arcs[starts] = plain
        words = np.concatenate([plain.ids, np.fromiter(read, np.int64, len(read))])
        states = np.concatenate([plain.after, np.fromiter(read.values(), np.int64, len(read))])
        order = np.argsort(words)
        return Arcs(words[order], states[order])

    def _find_plain_arcs(self, state: int, starts: _Ends) -> Arcs:
        """Asks the automaton once for all plain words that are nothing else and lead to the same characters."""
        after: dict[_Ends, int] = {}
        found: dict[int, int] = {}
        for number, ends in self._plain.walk(starts).items():
            if number in self._read_ids:
                continue
            if ends not in after:
                after[ends] = self.automaton.step(state, self._words[number])
            found[number] = after[ends]
        return Arcs(np.fromiter(found, np.int64, len(found)), np.fromiter(found.values(), np.int64, len(found)))

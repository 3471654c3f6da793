"""What may be said next at every point of a question: the patterns' automata, seen from the model's word list."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Protocol

import numpy as np

from lm.grammar.automaton import DEAD, CharAutomaton
from lm.grammar.grammar import Grammar
from lm.grammar.readings import START
from lm.grammar.spoken import Configuration
from lm.query.model import IntArray
from lm.query.query import Query, QueryError

State = tuple[int, int]
"""The pattern (0) or the suffix (1), and a state of its automaton."""
MAX_LOOKED_AHEAD = 1000
"""Configurations of a pattern from which the way to the end is worked out; from others it is taken to be short."""
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


class AnySpace(Protocol):
    """What the searches ask of a question's states: see `Space`, whose words may be pieces elsewhere."""

    start: State
    unknown_words: tuple[str, ...]

    @property
    def longest_way(self) -> int:
        """Words from what was looked at to the nearest end, at most."""

    def arcs(self, state: State, room: int | None = None) -> Arcs:
        """The words that may follow, and where they lead."""

    def successors(self, state: State) -> list[State]:
        """The states that follow."""

    def is_final(self, state: State) -> bool:
        """Whether the question may end here."""

    def suffix_start(self, state: State) -> State | None:
        """Where the suffix starts if the pattern may end here."""

    def write(self, words: Sequence[str], split: int) -> list[tuple[str, str]]:
        """What pattern and suffix write for the words."""


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
        self._words_to_end: dict[State, int] = {}
        self._ways = self._look_ahead()
        self.longest_way = max((way for ways in self._ways for way in ways.values() if way < _NEVER), default=0)
        """Words from what was looked at to the nearest end, at most: with more room nothing is left out."""
        if self.start[1] == DEAD or self.words_to_end(self.start) == _NEVER or not len(self.arcs(self.start).ids):
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
        known = self._words_to_end.get(state)
        if known is None:
            ways, configs = self._ways[state[0]], self._parts[state[0]].automaton.configurations(state[1])
            known = self._words_to_end[state] = min((ways.get(config, 0) for config in configs), default=_NEVER)
        return known

    def successors(self, state: State) -> list[State]:
        """The states that follow, after a word or as the suffix begins; each once."""
        after = [(state[0], int(s)) for s in np.unique(self._parts[state[0]].arcs(state[1]).after)]
        suffix = self.suffix_start(state)
        return [*after, suffix] if suffix else after

    def _look_ahead(self) -> list[dict[Configuration, int]]:
        """How many words the configurations of each part are from the end of the whole question."""
        found: list[dict[Configuration, int]] = []
        missing = 0
        for part in reversed(self._parts):
            ways = part.ways(missing)
            found.insert(0, ways)
            missing = min((ways.get(config, 0) for config in part.first), default=_NEVER)
        return found

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
        self._odd = [place for place, is_plain in enumerate(self._has_only_letters) if not is_plain]
        self._loops: dict[_Ends, bool] = {}

    def walk(self, starts: _Ends) -> dict[int, _Ends]:
        """Where each word leads that may be written, in any case of its letters, from one of the starts."""
        found: dict[int, _Ends] = {}
        for low, high, depth, ends in self._branches(starts):
            self._take_all(low, high, depth, ends, found)
        return found

    def ends(self, start: int) -> frozenset[int]:
        """Character states after any word that may be written at `start`."""
        found: set[tuple[int, int]] = set()
        for low, high, depth, ends in self._branches(frozenset({(0, start)})):
            odd = self._odd[bisect_left(self._odd, low) : bisect_left(self._odd, high)]
            if len(odd) < high - low:
                found |= ends
            for place in odd:
                found |= self._spelt(ends, self.entries[place][depth:])
        return frozenset(state for _, state in found)

    def _branches(self, starts: _Ends) -> Iterator[tuple[int, int, int, _Ends]]:
        """Ranges of entries that may be written, and where their first `depth` letters lead.

        All of a range may be: it is one whole entry, or every letter that follows leads back to the same states.
        """
        waiting = [(0, len(self.entries), 0, starts)] if self.entries and starts else []
        while waiting:
            low, high, depth, ends = waiting.pop()
            if depth and self._is_loop(ends):
                yield low, high, depth, ends
                continue
            if len(self.entries[low]) == depth:
                yield low, low + 1, depth, ends
                low += 1
            while low < high:
                begin = self.entries[low][: depth + 1]
                end = bisect_right(self.entries, begin + _LAST, low, high)
                after = self._after(ends, begin[-1])
                if after:
                    waiting.append((low, end, depth + 1, after))
                low = end

    def _spelt(self, ends: _Ends, text: str) -> _Ends:
        for char in text:
            ends = self._after(ends, char)
        return ends

    def _after(self, ends: _Ends, letter: str) -> _Ends:
        letters = {letter, letter.upper()}  # the capital may be several characters
        after = {(origin, self._chars.run(state, text)) for origin, state in ends for text in letters}
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
                after = self._spelt(ends, rest)
            if after:
                found[self._ids[place]] = found.get(self._ids[place], frozenset()) | after


class _Part:
    """One pattern."""

    first: frozenset[Configuration]
    """Those of its start."""

    def __init__(self, grammar: Grammar, words: Sequence[str], ids: Mapping[str, int]) -> None:
        self.automaton = grammar.automaton
        self.start = self.automaton.start
        self.first = self.automaton.configurations(self.start) if self.start != DEAD else frozenset()
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

    def ways(self, missing: int) -> dict[Configuration, int]:
        """Words from configurations to the end of this part, and the `missing` ones of the next.

        A state is a set of configurations, and there are far more sets than configurations. The first
        `MAX_LOOKED_AHEAD` are looked at; those after them have 0, and those without an end `_NEVER`.
        """
        before: dict[Configuration, list[Configuration]] = {}
        seen, waiting, n_reached = set(self.first), deque(sorted(self.first, key=repr)), 0
        while waiting and n_reached < MAX_LOOKED_AHEAD:
            config = waiting.popleft()
            n_reached += 1
            for following in sorted(self._following(config), key=repr):
                before.setdefault(following, []).append(config)
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
        ways = {config: missing for config in seen if self.automaton.is_end(config)} | dict.fromkeys(waiting, 0)
        border = deque(ways)
        while border:
            config = border.popleft()
            for previous in before.get(config, []):
                if ways.get(previous, _NEVER) > ways[config] + 1:
                    ways[previous] = ways[config] + 1
                    border.append(previous)
        return {config: ways.get(config, _NEVER) for config in seen}

    def _following(self, config: Configuration) -> set[Configuration]:
        """The configurations one word after another."""
        found: set[Configuration] = set()
        if config.mode == START:
            ends = self._plain.ends(config.chars)
            found.update(self.automaton.closed(config._replace(chars=chars) for chars in ends))
        for word in self._read:
            found.update(self.automaton.after(config, word))
        return found

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

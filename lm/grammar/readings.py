"""How what is written is said: digits, numbers, letters, symbols, amounts, times, dates.

A unit is one reading of one thing ("double five", "twenty two", "half past three"); units follow one another freely,
and the character automaton decides what fits. A `Machine` reads the words of one family of units. What it writes it may
write late: speech has another order than writing ("eighteen dollars", "$18").
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from typing import NamedTuple, Protocol, TypeAlias

from lm.g2p import normalize_word
from lm.grammar.errors import GrammarError

Mode: TypeAlias = Hashable
START: Mode = None
"""Between two units."""
ANY_DIGIT = "\N{REPLACEMENT CHARACTER}"
"""In a shape."""
Allows: TypeAlias = Callable[[str], bool]
Writings: TypeAlias = Sequence[tuple[str, float]]
"""(written, cost) pairs."""


class Reading(NamedTuple):
    """What one spoken word may do."""

    output: str
    """Characters that are written when it is said; empty where they are written later."""
    mode: Mode
    cost: float
    """Between written forms of the same words the cheapest wins; a unit costs about 1."""


class Step(NamedTuple):
    """What a word does inside a machine: a state, or None where the unit ends with the word."""

    output: str
    state: Hashable
    cost: float = 0.0


class Machine(Protocol):
    """Units of one family. `None` is the state before a unit's first word."""

    def steps(self, state: Hashable, word: str) -> Iterable[Step]:
        """What `word` does in `state`."""

    def endings(self, state: Hashable) -> Writings:
        """What may be written where the unit ends in `state` without another word."""

    def shapes(self, state: Hashable) -> Iterable[str]:
        """Beginnings of all that may still be written for the unit in `state`; `ANY_DIGIT` stands for any one.

        A pattern that none of them fits has no use for the unit.
        """

    def vocabulary(self, allows: Allows, spells: Allows) -> Iterable[str]:
        """Words of the units that can be written with allowed characters, and of the letters that are spelt."""


class Shapes:
    """Shapes as a tree that grows where it is looked at; equal parts are one object, and are worked out once."""

    def __init__(self, shapes: frozenset[str], known: dict[frozenset[str], Shapes]) -> None:
        self.shapes = shapes
        """All of them."""
        self._known = known
        self.is_end = "" in shapes
        """Whether one of them is over, so that nothing more is asked."""

    @cached_property
    def following(self) -> tuple[tuple[str, Shapes], ...]:
        """First characters, and what follows each."""
        by_first: dict[str, set[str]] = {}
        for shape in self.shapes:
            by_first.setdefault(shape[0], set()).add(shape[1:])
        return tuple((first, Shapes.of(frozenset(by_first[first]), self._known)) for first in sorted(by_first))

    @staticmethod
    def of(shapes: frozenset[str], known: dict[frozenset[str], Shapes]) -> Shapes:
        """The tree of some shapes; `known` holds those that there are."""
        found = known.get(shapes)
        if found is None:
            if len(known) > _MOST_KNOWN:
                known.clear()
            found = known[shapes] = Shapes(shapes, known)
        return found


class Readings:
    """All families together; immutable, shared."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self._machines = tuple(machines)
        self._known_steps: dict[tuple[Mode, str], tuple[Reading, ...]] = {}
        self._known_shapes: dict[Mode, Shapes] = {}
        self._shape_trees: dict[frozenset[str], Shapes] = {}
        self._known_endings: dict[Mode, Writings] = {START: (("", 0.0),)}

    def after(self, mode: Mode, word: str) -> tuple[Reading, ...]:
        """What `word` may do in a mode."""
        known = self._known_steps.get((mode, word))
        if known is None:
            if len(self._known_steps) > _MOST_KNOWN:
                self._known_steps.clear()
            known = self._known_steps[mode, word] = tuple(self._find(mode, word))
        return known

    def shapes(self, mode: Mode) -> Shapes:
        """Beginnings of all that may still be written for the unit in progress; `ANY_DIGIT` stands for any one."""
        assert isinstance(mode, tuple)
        known = self._known_shapes.get(mode)
        if known is None:
            if len(self._known_shapes) > _MOST_KNOWN:
                self._known_shapes.clear()
            shapes = frozenset(self._machines[mode[0]].shapes(mode[1]))
            known = self._known_shapes[mode] = Shapes.of(shapes, self._shape_trees)
        return known

    def words(self, mode: Mode) -> list[str]:
        """Words that may follow in a mode."""
        return [word for word in self._all_words if self.after(mode, word)]

    def endings(self, mode: Mode) -> Writings:
        """What is written, at what cost, where a unit ends in this mode without another word."""
        known = self._known_endings.get(mode)
        if known is None:
            if len(self._known_endings) > _MOST_KNOWN:
                self._known_endings = {START: (("", 0.0),)}
            assert isinstance(mode, tuple)
            index, state = mode
            best: dict[str, float] = {}
            for written, cost in self._machines[index].endings(state):
                best[written] = min(cost, best.get(written, cost))
            known = self._known_endings[mode] = tuple(best.items())
        return known

    def vocabulary(self, allows: Allows, spells: Allows) -> frozenset[str]:
        """Words of the units that a pattern may need.

        Args:
            allows: whether a character may be written.
            spells: whether a letter may be said by its name.
        """
        return frozenset(word for machine in self._machines for word in machine.vocabulary(allows, spells))

    def extended(self, spoken: Mapping[str, Sequence[str]]) -> Readings:
        """These, and ways of one's own to say things, by what is written for them.

        Raises:
            GrammarError: nothing is written, or a way to say it is no sequence of words.
        """
        phrases: dict[tuple[str, ...], list[tuple[str, float]]] = {}
        for written, ways in spoken.items():
            if not written or isinstance(ways, str) or not ways:
                raise GrammarError(f"readings: expected written text and a list of ways to say it, found {written!r}")
            for way in ways:
                phrases.setdefault(_words(way), []).append((written, 1.0))
        return Readings([*self._machines, Phrases(phrases)])

    @cached_property
    def all_words(self) -> frozenset[str]:
        """Every word that means something in some mode."""
        return self.vocabulary(lambda char: True, lambda letter: True)

    @cached_property
    def _all_words(self) -> list[str]:
        return sorted(self.all_words)

    def _find(self, mode: Mode, word: str) -> Iterable[Reading]:
        if mode is START:
            places = [(index, None) for index in range(len(self._machines))]
        else:
            assert isinstance(mode, tuple)
            places = [mode]
        for index, state in places:
            for output, following, cost in self._machines[index].steps(state, word):
                yield Reading(output, START if following is None else (index, following), cost)


_MOST_KNOWN = 100_000


class Phrases:
    """A table: what is written for some words in a row."""

    def __init__(self, phrases: Mapping[tuple[str, ...], Writings]) -> None:
        self._phrases = dict(phrases)
        self._beginnings: dict[tuple[str, ...], list[str]] = {}  # what phrases that begin so write
        for words, writings in phrases.items():
            for length in range(1, len(words)):
                self._beginnings.setdefault(words[:length], []).extend(written for written, _ in writings)

    def steps(self, state: Hashable, word: str) -> Iterable[Step]:
        """See `Machine`."""
        words = (*state, word) if isinstance(state, tuple) else (word,)
        for written, cost in self._phrases.get(words, ()):
            yield Step(written, None, cost)
        if words in self._beginnings:
            yield Step("", words)

    def endings(self, state: Hashable) -> Writings:
        """See `Machine`: a phrase is over with its last word."""
        return ()

    def shapes(self, state: Hashable) -> Iterable[str]:
        """See `Machine`."""
        assert isinstance(state, tuple)
        return self._beginnings[state]

    def vocabulary(self, allows: Allows, spells: Allows) -> Iterable[str]:
        """See `Machine`."""
        for words, writings in self._phrases.items():
            if any(all(map(spells if _is_letter(written) else allows, written)) for written, _ in writings):
                yield from words


def _is_letter(written: str) -> bool:
    return len(written) == 1 and written.isalpha()


def _words(way: str) -> tuple[str, ...]:
    try:
        words = tuple(normalize_word(word) for word in way.split())
    except ValueError as error:
        raise GrammarError(f"readings: {error}") from None
    if not words:
        raise GrammarError("readings: expected words, found an empty way to say something")
    return words


@cache
def default_readings() -> Readings:
    """The readings of English."""
    from lm.grammar.readings_amounts import Amounts
    from lm.grammar.readings_dates import Clock, Dates
    from lm.grammar.readings_letters import Repeats, SpeltLetters, letter_phrases, symbol_phrases

    letters, symbols = letter_phrases(), symbol_phrases()
    both = {words: (*letters.get(words, ()), *symbols.get(words, ())) for words in letters | symbols}
    return Readings([Phrases(both), Repeats(), SpeltLetters(), Amounts(), Clock(), Dates()])

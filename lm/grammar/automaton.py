"""A lazily built automaton over the characters of a pattern, and matching with groups."""

from __future__ import annotations

import operator
import threading
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from lm.grammar.compiler import compile_program
from lm.grammar.errors import GrammarTooLargeError
from lm.grammar.matching import Match, match_text
from lm.grammar.nodes import Node
from lm.grammar.program import Accept, Counts, Read, ReadEntry, after_reading, followers, narrow

DEAD: Final = -1
"""The state after a text that no text can complete."""
MAX_STATES = 100_000
MAX_STATE_CONFIGURATIONS = 20_000
MAX_CONFIGURATIONS = 500_000
_MAX_MEMOISED = 100_000

Configuration: TypeAlias = tuple[int, Counts, int, int, int]
"""An instruction that reads or accepts, its counts; in a list, the entries low:high that share `length` characters."""


class CharAutomaton:
    """The texts of a pattern, character by character; states are numbers, made when they are first reached.

    Threads may share one. All limits raise GrammarTooLargeError.
    """

    start: int
    """The state before the first character."""

    def __init__(self, node: Node, lists: Mapping[str, Sequence[str]], pattern: str) -> None:
        """Compile a tree.

        Args:
            node: what `lm.grammar.syntax.parse` returned.
            lists: the entries of every list by its name; an empty list matches nothing.
            pattern: for error messages.

        Raises:
            GrammarError: a list is not known, or one of its entries is empty.
        """
        self._pattern = pattern
        self._program = compile_program(node, lists, pattern)
        self._lock = threading.Lock()
        self._states: dict[frozenset[Configuration], int] = {}
        self._configurations: list[frozenset[Configuration]] = []
        self._next: list[dict[str, int]] = []
        self._accepting: list[bool] = []
        self._reads: list[frozenset[int] | None] = []
        """Of each state, the numbers of the sets that it reads from; None where it reads from lists too."""
        self._total = 0
        self._memoised = 0
        self._closures: dict[tuple[int, Counts], tuple[Configuration, ...]] = {}
        self._containing: dict[str, frozenset[int]] = {}
        start = self._program.start
        self.start = DEAD if start == DEAD else self._intern(set(self._closure(start, ())))

    @property
    def n_states(self) -> int:
        """States that have been reached so far."""
        return len(self._configurations)

    def step(self, state: int, char: str) -> int:
        """Returns the state after one more character, DEAD where nothing can follow."""
        if state == DEAD:
            return DEAD
        after = self._next[state].get(char)
        if after is not None:
            return after
        reads = self._reads[state]
        if reads is not None and reads.isdisjoint(self._containing_sets(char)):
            return DEAD
        return self._first_step(state, char)

    def run(self, state: int, text: str) -> int:
        """Returns the state after all characters of `text`."""
        for char in text:
            if state == DEAD:
                return DEAD
            state = self.step(state, char)
        return state

    def is_accepting(self, state: int) -> bool:
        """Returns whether the text may end in this state."""
        return state != DEAD and self._accepting[state]

    def allows(self, char: str) -> bool:
        """Returns whether some text that matches may hold the character `char`, as far as its sets and lists tell."""
        if self._containing_sets(char):
            return True
        return any(entries.folded(char) in entries.alphabet for entries in self._program.lists)

    def fullmatch(self, text: str) -> Match | None:
        """Returns the match that Python's `re.fullmatch` prefers, None where the text does not match.

        In a list, longer entries are preferred.
        """
        if not self.is_accepting(self.run(self.start, text)):
            return None
        return match_text(self._program, text, self._pattern)

    def _first_step(self, state: int, char: str) -> int:
        with self._lock:
            after = self._next[state].get(char)
            if after is None:
                reached = self._read(self._configurations[state], char)
                after = self._intern(reached) if reached else DEAD
                self._memoise(state, char, after)
            return after

    def _memoise(self, state: int, char: str, after: int) -> None:
        self._memoised += 1
        if self._memoised > _MAX_MEMOISED:
            self._memoised = 1
            self._next = [{} for _ in self._next]
        self._next[state][char] = after

    def _read(self, configurations: frozenset[Configuration], char: str) -> set[Configuration]:
        """The configurations after a character."""
        reached: set[Configuration] = set()
        containing = self._containing_sets(char)
        instructions = self._program.instructions
        for at, counts, low, high, length in configurations:
            instruction = instructions[at]
            if isinstance(instruction, Read):
                if instruction.charset in containing:
                    reached.update(self._closure(instruction.after, counts))
            elif isinstance(instruction, ReadEntry):
                entries = self._program.lists[instruction.entries]
                low, high = narrow(entries, low, high, length, char)
                if low == high:
                    continue
                if len(entries.sorted[low]) == length + 1:
                    reached.update(self._closure(instruction.after, counts))
                    low += 1
                if low < high:
                    reached.add((at, counts, low, high, length + 1))
        return reached

    def _containing_sets(self, char: str) -> frozenset[int]:
        """The numbers of the sets that hold a character."""
        found = self._containing.get(char)
        if found is None:
            found = frozenset(index for index, chars in enumerate(self._program.charsets) if char in chars)
            if len(self._containing) > _MAX_MEMOISED:
                self._containing = {}
            self._containing[char] = found
        return found

    def _closure(self, at: int, counts: Counts) -> tuple[Configuration, ...]:
        """The configurations that are reached from an instruction without reading."""
        key = at, counts
        found = self._closures.get(key)
        if found is None:
            found = self._find_closure(at, counts)
            if len(self._closures) > _MAX_MEMOISED:
                self._closures = {}
            self._closures[key] = found
        return found

    def _find_closure(self, at: int, counts: Counts) -> tuple[Configuration, ...]:
        found: list[Configuration] = []
        seen = {(at, counts)}
        waiting = [(at, counts)]
        while waiting:
            at, counts = waiting.pop()
            instruction = self._program.instructions[at]
            if isinstance(instruction, Read | Accept):
                found.append((at, after_reading(counts), 0, 0, 0))
                continue
            if isinstance(instruction, ReadEntry):
                size = len(self._program.lists[instruction.entries].sorted)
                found.append((at, after_reading(counts), 0, size, 0))
                continue
            for follower in followers(self._program, at, counts, skip_empty=True):
                if follower not in seen:
                    seen.add(follower)
                    waiting.append(follower)
            if len(seen) > MAX_STATE_CONFIGURATIONS:
                self._fail()
        return tuple(found)

    def _intern(self, reached: set[Configuration]) -> int:
        """The number of a state."""
        key = frozenset(self._without_dominated(reached) if len(reached) > 1 else reached)
        state = self._states.get(key)
        if state is None:
            state = len(self._configurations)
            self._total += len(key)
            if len(key) > MAX_STATE_CONFIGURATIONS or self._total > MAX_CONFIGURATIONS or state == MAX_STATES:
                self._total -= len(key)
                self._fail()
            instructions = [self._program.instructions[at] for at in {configuration[0] for configuration in key}]
            reads = frozenset(instruction.charset for instruction in instructions if isinstance(instruction, Read))
            reads_lists = any(isinstance(instruction, ReadEntry) for instruction in instructions)
            self._configurations.append(key)
            self._next.append({})
            self._reads.append(None if reads_lists else reads)
            self._accepting.append(any(isinstance(instruction, Accept) for instruction in instructions))
            self._states[key] = state
        return state

    def _without_dominated(self, reached: set[Configuration]) -> set[Configuration]:
        """Leaves out every configuration whose texts are all texts of another one, one that has counted less."""
        rivals: dict[Configuration, list[Configuration]] = {}
        for configuration in reached:
            counts, minimums = configuration[1], self._program.minimums[configuration[0]]
            # Where the minimum is met after this iteration, having counted less allows more.
            fixed = tuple([-1 if n + 1 >= least else n for n, least in zip(counts, minimums, strict=True)])
            rivals.setdefault((configuration[0], fixed, *configuration[2:]), []).append(configuration)
        return {best for among in rivals.values() for best in _counted_least(among)}

    def _fail(self) -> None:
        raise GrammarTooLargeError(
            "this pattern reaches more states than a grammar is given; "
            "use fewer alternatives that overlap, or repeats without a maximum (write + instead of {1,129})",
            self._pattern[:100],
        )


def _counted_least(rivals: list[Configuration]) -> list[Configuration]:
    """Those for which no other one has counted as little or less in every loop."""
    if len(rivals) == 1:
        return rivals
    kept: list[Configuration] = []
    for rival in sorted(rivals, key=lambda configuration: sum(configuration[1])):
        if not any(all(map(operator.le, best[1], rival[1])) for best in kept):
            kept.append(rival)
    return kept

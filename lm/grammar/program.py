"""The instructions of the character automaton and what they do; repeats are counted as they run, not unrolled."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import TypeAlias

from lm.grammar.charset import MAX_CODE, CharSet, fold


@dataclass(slots=True)
class Read:
    """Reads one character of set number `charset`."""

    charset: int
    after: int


@dataclass(slots=True)
class ReadEntry:
    """Reads an entry of list number `entries`."""

    entries: int
    after: int


@dataclass(slots=True)
class Split:
    """Goes on at any of the targets, the first preferred."""

    targets: list[int]


@dataclass(slots=True)
class Enter:
    """Starts counting for the loop at `loop`."""

    loop: int


@dataclass(slots=True)
class Loop:
    """An iteration has ended: another one at `body`, or `after`."""

    minimum: int
    maximum: int | None
    lazy: bool
    nullable: bool
    body: int = -1
    after: int = -1


@dataclass(slots=True)
class Mark:
    """A named group starts or ends."""

    group: str
    opens: bool
    after: int = -1


@dataclass(slots=True)
class Accept:
    """The end."""


Counts: TypeAlias = tuple[int, ...]
"""How often every loop around an instruction has been completed, outermost first; ~count where the present iteration
may be left out and has not read anything."""
Instruction: TypeAlias = Read | ReadEntry | Split | Enter | Loop | Mark | Accept


@dataclass(frozen=True, slots=True)
class Entries:
    """A list: its entries sorted, each once; folded where case is ignored."""

    sorted: list[str]
    ignore_case: bool
    ascii_only: bool
    alphabet: frozenset[str]

    def folded(self, char: str) -> str:
        """Returns the character as the entries write it."""
        return fold(char, self.ascii_only) if self.ignore_case else char


@dataclass(slots=True)
class Program:
    """Instructions, in which every path can reach `Accept`."""

    instructions: list[Instruction] = field(default_factory=list)
    minimums: list[Counts] = field(default_factory=list)
    """For every instruction the minimums of the loops around it, outermost first; 0 where the body may be empty."""
    start: int = -1
    """The first instruction; -1 where nothing matches."""
    charsets: list[CharSet] = field(default_factory=list)
    lists: list[Entries] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)


def narrow(entries: Entries, low: int, high: int, length: int, char: str) -> tuple[int, int]:
    """Returns the range of the entries in low:high, which share `length` characters, that go on with `char`."""
    code = ord(entries.folded(char))
    prefix = entries.sorted[low][:length]
    if code < MAX_CODE:
        high = bisect.bisect_left(entries.sorted, prefix + chr(code + 1), low, high)
    return bisect.bisect_left(entries.sorted, prefix + chr(code), low, high), high


def after_reading(counts: Counts) -> Counts:
    """Returns the counts when a character is read: no iteration is empty any more."""
    if counts and min(counts) < 0:
        return tuple([~count if count < 0 else count for count in counts])
    return counts


def followers(program: Program, at: int, counts: Counts, skip_empty: bool = False) -> list[tuple[int, Counts]]:
    """Returns where an instruction that reads nothing goes on, the preferred first.

    Args:
        program: the program.
        at: a Split, Enter, Loop or Mark.
        counts: before it.
        skip_empty: iterations that read nothing need not be counted, because only texts matter and no groups.
    """
    instruction = program.instructions[at]
    if isinstance(instruction, Split):
        return [(target, counts) for target in instruction.targets]
    if isinstance(instruction, Mark):
        return [(instruction.after, counts)]
    if isinstance(instruction, Enter):
        loop = program.instructions[instruction.loop]
        assert isinstance(loop, Loop)
        return _iterations(loop, counts, 0, False, skip_empty)
    assert isinstance(instruction, Loop)
    last = counts[-1]
    done = (~last if last < 0 else last) + 1
    return _iterations(instruction, counts[:-1], done, last < 0, skip_empty)


def _iterations(loop: Loop, outer: Counts, done: int, was_empty: bool, skip_empty: bool) -> list[tuple[int, Counts]]:
    """After `done` iterations: another one, the end of the loop, or both."""
    minimum = 0 if skip_empty and loop.nullable else loop.minimum
    count = done if loop.maximum is not None else min(done, max(minimum - 1, 0))
    if done < minimum:
        return [(loop.body, (*outer, count))]
    leave = (loop.after, outer)
    if was_empty or (loop.maximum is not None and done >= loop.maximum):
        return [leave]
    again = (loop.body, (*outer, ~count if loop.nullable else count))
    return [leave, again] if loop.lazy else [again, leave]

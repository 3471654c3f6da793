"""Matches a whole text as Python's `re.fullmatch` does, with the spans of all iterations of the named groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from lm.grammar.errors import GrammarTooLargeError
from lm.grammar.program import (
    Accept,
    Counts,
    Mark,
    Program,
    Read,
    ReadEntry,
    after_reading,
    followers,
    narrow,
)

MAX_MATCH_STEPS = 500_000

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Match:
    """How a text was matched."""

    groups: dict[str, list[Span]]
    """The (start, end) of every iteration of every named group, in order; the last is the one of Python's `re`."""


@dataclass(frozen=True, slots=True)
class _Trail:
    """The starts and ends of groups on the way to a place, the last one first."""

    before: _Trail | None
    mark: Mark
    position: int


_Place: TypeAlias = tuple[int, Counts, int, int, int, int]
"""Instruction, counts, position in the text; inside a list the entries low:high that share `length` characters."""
_Way: TypeAlias = tuple[_Place, "_Trail | None"]


def match_text(program: Program, text: str, pattern: str) -> Match | None:
    """Returns the match that backtracking finds first, None where there is none; no place is tried twice.

    Args:
        program: what to match.
        text: all of it must match.
        pattern: for the error message.

    Raises:
        GrammarTooLargeError: too many ways had to be tried.
    """
    waiting: list[_Way] = [((program.start, (), 0, 0, 0, 0), None)] if program.start >= 0 else []
    seen: set[_Place] = set()
    while waiting:
        place, trail = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        if len(seen) > MAX_MATCH_STEPS:
            message = (
                f"this pattern matches a text of {len(text)} characters in too many ways; use fewer nested repeats"
            )
            raise GrammarTooLargeError(message, pattern)
        if place[2] == len(text) and isinstance(program.instructions[place[0]], Accept):
            return Match(_spans(program.groups, trail))
        waiting.extend(reversed(_onward(program, text, place, trail)))
    return None


def _onward(program: Program, text: str, place: _Place, trail: _Trail | None) -> list[_Way]:
    """The ways that lead on from a place, the preferred first."""
    at, counts, position = place[:3]
    instruction = program.instructions[at]
    if isinstance(instruction, Read):
        if position < len(text) and text[position] in program.charsets[instruction.charset]:
            return [((instruction.after, after_reading(counts), position + 1, 0, 0, 0), trail)]
        return []
    if isinstance(instruction, ReadEntry):
        return _onward_in_list(program, instruction, text, place, trail)
    if isinstance(instruction, Accept):
        return []
    if isinstance(instruction, Mark):
        trail = _Trail(trail, instruction, position)
    return [((*follower, position, 0, 0, 0), trail) for follower in followers(program, at, counts)]


def _onward_in_list(
    program: Program, instruction: ReadEntry, text: str, place: _Place, trail: _Trail | None
) -> list[_Way]:
    at, counts, position, low, high, length = place
    if position == len(text):
        return []
    entries = program.lists[instruction.entries]
    low, high = narrow(entries, low, high or len(entries.sorted), length, text[position])
    onward: list[_Way] = []
    if low < high and len(entries.sorted[low]) == length + 1:
        onward.append(((instruction.after, after_reading(counts), position + 1, 0, 0, 0), trail))
        low += 1
    if low < high:
        onward.insert(0, ((at, after_reading(counts), position + 1, low, high, length + 1), trail))
    return onward


def _spans(groups: list[str], trail: _Trail | None) -> dict[str, list[Span]]:
    """The spans of every group, from the marks on the way to the end."""
    spans: dict[str, list[Span]] = {group: [] for group in groups}
    ends: dict[str, list[int]] = {group: [] for group in groups}
    while trail is not None:
        group = trail.mark.group
        if trail.mark.opens:
            spans[group].append((trail.position, ends[group].pop()))
        else:
            ends[group].append(trail.position)
        trail = trail.before
    return {group: found[::-1] for group, found in spans.items()}

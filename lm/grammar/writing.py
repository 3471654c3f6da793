"""How spoken words are written: ways through a grammar, and the text and pieces of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Trail(NamedTuple):
    """The cheapest way to one configuration."""

    cost: float
    before: Trail | None
    word: int  # index of the spoken word that wrote `output`; -1 for silent characters
    output: str
    is_closed: bool  # a unit is complete after this


@dataclass(frozen=True, slots=True)
class Piece:
    """Words `first_word` to `last_word` - 1 wrote the characters `start` to `end` - 1."""

    first_word: int
    last_word: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Writing:
    """One way to write spoken words."""

    text: str
    cost: float
    pieces: tuple[Piece, ...]


def writing_of(last: Trail) -> Writing:
    """Text and pieces of a way."""
    steps: list[Trail] = []
    trail: Trail | None = last
    while trail is not None:
        steps.append(trail)
        trail = trail.before
    text, pieces = "", []
    first_word, start, last_word = -1, 0, -1
    for step in reversed(steps):
        if step.word >= 0:
            if first_word < 0:
                first_word, start = step.word, len(text)
            last_word = step.word
        text += step.output
        if step.is_closed and first_word >= 0 and step.word >= 0:
            pieces.append(Piece(first_word, last_word + 1, start, len(text)))
            first_word = -1
    return Writing(text, last.cost, tuple(pieces))

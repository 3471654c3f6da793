"""What a pattern is made of, as a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from lm.grammar.charset import CharSet


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing is written."""


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    chars: CharSet


@dataclass(frozen=True, slots=True)
class Sequence:
    """One part after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alternation:
    """One of the options, the first that fits before the others; without options, nothing matches."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`minimum` to `maximum` times the body; as often as possible, or as seldom where `lazy`."""

    body: Node
    minimum: int
    maximum: int | None
    lazy: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """A capturing group: `index` counts from 1 in the order of the opening parentheses."""

    body: Node
    name: str | None
    index: int


@dataclass(frozen=True, slots=True)
class ListReference:
    """One entry of a list that is given at run time; `column` is where the pattern names it."""

    name: str
    column: int
    ignore_case: bool = False
    ascii_only: bool = False


Node: TypeAlias = Empty | Chars | Sequence | Alternation | Repeat | Group | ListReference

NEVER = Alternation(())


def sequence(parts: list[Node]) -> Node:
    """Returns the parts one after the other, in the simplest form."""
    kept = [part for part in parts if part != Empty()]
    if len(kept) == 1:
        return kept[0]
    return Sequence(tuple(kept)) if kept else Empty()


def alternation(options: list[Node]) -> Node:
    """Returns the choice between the options, in the simplest form."""
    return options[0] if len(options) == 1 else Alternation(tuple(options))

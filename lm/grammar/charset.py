"""Sets of characters, with Python's meaning of the classes and of ignored case."""

from __future__ import annotations

import bisect
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

MAX_CODE = sys.maxunicode
_CASED_BEFORE = 0x20000  # no character from here on has two cases
_FOLDED_ONE_BY_ONE = 512
_WITNESSES = tuple(map(chr, range(0x250)))

_CATEGORIES: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "s": str.isspace,
    "w": lambda char: char.isalnum() or char == "_",
}
_MULTIPLE_UPPER = {
    "\u1fd3": "\u0390",
    "\u1fe3": "\u03b0",
    "\ufb05": "\ufb06",
}  # the same letters, upper case is no single one


def fold(char: str, ascii_only: bool = False) -> str:
    """Returns the one character that stands for `char` and all that Python's IGNORECASE takes for the same.

    Args:
        char: one character.
        ascii_only: only A to Z have two cases, as under re.ASCII.
    """
    if char < "\x80" or ascii_only:
        return char.upper() if char < "\x80" else char
    lower = char.lower()[0]
    upper = lower.upper()
    return upper if len(upper) == 1 else _MULTIPLE_UPPER.get(lower, lower)


def fold_text(text: str, ascii_only: bool = False) -> str:
    """Returns `text` with every character folded; the length stays."""
    if text.isascii():
        return text.upper()
    return "".join([fold(char, ascii_only) for char in text])


@functools.lru_cache(maxsize=2)
def _folded_elsewhere(ascii_only: bool) -> tuple[tuple[int, int], ...]:
    """(code, code of its fold) of every character that is not its own fold."""
    codes = ((code, ord(fold(chr(code), ascii_only))) for code in range(_CASED_BEFORE))
    return tuple((code, folded) for code, folded in codes if code != folded)


def _merged(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sorted, disjoint ranges with the same members."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _fold_range(low: int, high: int, ascii_only: bool) -> Iterator[tuple[int, int]]:
    """Ranges that hold the fold of every member; other members are never the fold of anything outside."""
    if high - low < _FOLDED_ONE_BY_ONE:
        codes = (ord(fold(chr(code), ascii_only)) for code in range(low, high + 1))
        yield from ((code, code) for code in codes)
    else:
        yield low, high
        yield from ((folded, folded) for code, folded in _folded_elsewhere(ascii_only) if low <= code <= high)


@functools.lru_cache(maxsize=16)
def _category_ranges(category: str, ascii_only: bool) -> tuple[tuple[int, int], ...]:
    r"""The characters of \d, \D, \s ... as ranges."""
    everything = "".join(map(chr, range(MAX_CODE + 1)))
    found = re.finditer(rf"\{category}+", everything, re.ASCII if ascii_only else 0)
    return tuple((match.start(), match.end() - 1) for match in found)


@dataclass(frozen=True, slots=True)
class CharSet:
    """A set of characters: ranges and categories, or everything but them.

    Make one with `charset`, which folds the ranges where case is ignored.
    """

    ranges: tuple[tuple[int, int], ...]
    """Sorted, disjoint (first, last) codes; folded where `ignore_case`."""
    categories: str = ""
    """Letters of d, D, s, S, w, W."""
    negated: bool = False
    ignore_case: bool = False
    ascii_only: bool = False

    def __contains__(self, char: str) -> bool:
        """Whether the one character `char` is a member."""
        code = ord(fold(char, self.ascii_only)) if self.ignore_case else ord(char)
        at = bisect.bisect_right(self.ranges, (code, MAX_CODE)) - 1
        return (at >= 0 and code <= self.ranges[at][1] or self._in_category(char)) != self.negated

    def _in_category(self, char: str) -> bool:
        known = char < "\x80" or not self.ascii_only
        return any((known and _CATEGORIES[name.lower()](char)) == name.islower() for name in self.categories)

    def is_empty(self) -> bool:
        """Returns whether there is no member."""
        if not self.negated:
            return not self.ranges and not self.categories
        return next(self.members(), None) is None

    def members(self) -> Iterator[str]:
        """Yields the members; the first ones come at once, all of a wide set take their time."""
        yield from (char for char in _WITNESSES if char in self)
        positive = self.negated or self.ignore_case
        ranges = list(self.ranges) if not positive or self.negated else [(0, MAX_CODE)]
        for category in self.categories:
            ranges.extend(_category_ranges(category, self.ascii_only))
        merged = _complement(_merged(ranges)) if self.negated else _merged(ranges)
        for low, high in merged:
            codes = range(max(low, len(_WITNESSES)), high + 1)
            yield from (chr(code) for code in codes if chr(code) in self)


def _complement(ranges: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    start = 0
    for low, high in ranges:
        if start < low:
            yield start, low - 1
        start = high + 1
    if start <= MAX_CODE:
        yield start, MAX_CODE


def charset(
    ranges: Iterable[tuple[int, int]],
    categories: str = "",
    *,
    negated: bool = False,
    ignore_case: bool = False,
    ascii_only: bool = False,
) -> CharSet:
    """Returns the set of the ranges' and the categories' characters.

    Args:
        ranges: (first, last) codes, both included.
        categories: letters of d, D, s, S, w, W.
        negated: everything but these.
        ignore_case: a character is a member where its other case is.
        ascii_only: the categories and the cases are those of ASCII.
    """
    if ignore_case:
        ranges = [folded for low, high in ranges for folded in _fold_range(low, high, ascii_only)]
    return CharSet(_merged(ranges), categories, negated, ignore_case, ascii_only)

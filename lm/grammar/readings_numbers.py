"""Readings of numbers: cardinals, ordinals, amounts of money. They are written where the last word is said."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

from lm.grammar.readings import ANY_DIGIT, Allows, Step, Writings

ONES = {word: value for value, word in enumerate("one two three four five six seven eight nine".split(), 1)}
_TEENS = {
    word: value
    for value, word in enumerate(
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(), 10
    )
}
_TENS = {
    word: 10 * value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_ORDINAL_ONES = dict(
    zip("first second third fourth fifth sixth seventh eighth ninth".split(), range(1, 10), strict=True)
)
_ORDINAL_TEENS = {
    word: value
    for value, word in enumerate(
        "tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth".split(), 10
    )
}
_ORDINAL_TENS = {
    word: 10 * value
    for value, word in enumerate(
        "twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth".split(), 2
    )
}
_ORDINAL_SCALES = {"hundredth": 100, "thousandth": 1000, "millionth": 10**6}
CARDINAL_WORDS = (*ONES, *_TEENS, *_TENS, *_SCALES, "hundred", "and", "a")
ORDINAL_WORDS = (*_ORDINAL_ONES, *_ORDINAL_TEENS, *_ORDINAL_TENS, *_ORDINAL_SCALES)
DIGITS = "0123456789"

_GROUPED = 0.2  # extra cost of 1,200


class Number(NamedTuple):
    """A cardinal or an ordinal in progress."""

    total: int
    """What stands before the scale words that were said."""
    group: int
    """What has been said since, below 1000, or 1100 to 9900 in hundreds."""
    last: str
    """Kind of the last word."""
    scale: int
    """Of the last scale word."""

    @property
    def value(self) -> int:
        """The number."""
        return self.total + self.group

    @property
    def is_complete(self) -> bool:
        """Whether it may end here."""
        return self.last not in ("start", "and", "a", "oh")

    @property
    def is_ordinal(self) -> bool:
        """Whether an ordinal was said; nothing follows it."""
        return self.last == "ordinal"


EMPTY = Number(0, 0, "start", 10**12)


def next_number(number: Number, word: str) -> Number | None:
    """The number with one more word; None where that is none."""
    total, group, last, scale = number
    if last == "ordinal":
        return None
    takes_tens = last in ("start", "hundred", "and", "scale")
    takes_ones = takes_tens or last == "tens"
    if word in ONES and takes_ones:
        return Number(total, group + ONES[word], "ones", scale)
    if word in _TEENS and takes_tens:
        return Number(total, group + _TEENS[word], "teen", scale)
    if word in _TENS and takes_tens:
        return Number(total, group + _TENS[word], "tens", scale)
    if word == "a" and last == "start":
        return Number(0, 1, "a", scale)
    if word == "and" and last in ("hundred", "scale"):
        return Number(total, group, "and", scale)
    if word == "hundred" and last in ("a", "ones", "teen", "tens") and 0 < group < (10 if scale == 1000 else 100):
        return Number(total, 100 * group, "hundred", scale)
    if word in _SCALES and last != "and" and 0 < group < 1000 and _SCALES[word] < scale:
        return Number(total + group * _SCALES[word], 0, "scale", _SCALES[word])
    return _ordinal(number, word, takes_ones, takes_tens)


def _ordinal(number: Number, word: str, takes_ones: bool, takes_tens: bool) -> Number | None:
    total, group, last, scale = number
    for table, fits in ((_ORDINAL_ONES, takes_ones), (_ORDINAL_TEENS, takes_tens), (_ORDINAL_TENS, takes_tens)):
        if fits and word in table:
            return Number(total, group + table[word], "ordinal", scale)
    if word in _ORDINAL_SCALES and 0 < group < 1000 and last != "and":
        return Number(total + group * _ORDINAL_SCALES[word], 0, "ordinal", scale)
    return None


def rank(value: int) -> str:
    """22 as 22nd."""
    suffix = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{suffix}"


def written_number(number: Number) -> list[tuple[str, float]]:
    """Ways to write a complete number."""
    value = number.value
    if number.is_ordinal:
        return [(rank(value), 1.0)]
    ways = [(str(value), 1.0)]
    if value >= 1000:
        ways.append((f"{value:,}", 1.0 + _GROUPED))
    return ways


def number_shapes(number: Number) -> list[str]:
    """Beginnings of what a number in progress may be written as."""
    total, group, last, scale = number
    if last == "start":
        return [ANY_DIGIT]
    if last == "ordinal":
        return [str(number.value)]
    if total:
        lead, rests = total // scale, [ANY_DIGIT * (len(str(scale)) - 1)]
        if scale == 1000 and group:
            rests = [_known_digits(total + group, last)[len(str(lead)) :]]
            if last == "ones" and group < 10:  # "hundred" may follow
                rests.append(f"{group}{2 * ANY_DIGIT}")
        return [shape for rest in rests for shape in (f"{lead}{rest}", f"{lead:,},{rest[:3]}")]
    digits = _known_digits(group, last)
    if last == "a":
        return [digits, f"{group},"]
    return [digits, f"{digits[0]},{digits[1:]}"] if len(digits) in (2, 4) else [digits]  # "fifteen hundred"


def _known_digits(value: int, last: str) -> str:
    """Digits of a number below a million to which tens and ones may still be added."""
    unknown = {"hundred": 2, "and": 2, "a": 2, "tens": 1}.get(last, 0)
    written = str(value) if last != "a" else "100"
    return written[: len(written) - unknown] + ANY_DIGIT * unknown


class _Money(NamedTuple):
    signs: tuple[str, ...]
    whole: int
    cents: Number | None
    """None before a number of cents."""
    is_said: bool
    """Whether the word for cents was said."""


_CURRENCIES = {
    "$": "dollars,dollar,bucks,buck", "€": "euros,euro", "£": "pounds,pound,quid", "¥": "yen", "₹": "rupees,rupee",
}  # fmt: skip
_SIGNS_OF = {word: (sign,) for sign, words in _CURRENCIES.items() for word in words.split(",")}
_CENT_WORDS = ("cents", "cent", "pence", "p")
_CENT_SIGNS = ("$", "€", "£")


class Amounts:
    """Numbers, and amounts of money: the sign is written before what is said before it."""

    def steps(self, state: Hashable, word: str) -> Iterable[Step]:
        """See `Machine`: a state is a number or an amount of money."""
        if state is None or isinstance(state, Number):
            number = state if isinstance(state, Number) else EMPTY
            following = next_number(number, word)
            if following is not None:
                yield Step("", following)
            if number.is_complete and not number.is_ordinal:
                yield from self._money(number, word)
            return
        assert isinstance(state, _Money)
        if state.is_said:
            return
        if word == "and" and state.cents is None:
            yield Step("", state._replace(cents=EMPTY))
        if word in _CENT_WORDS and state.cents is not None and state.cents.is_complete:
            yield Step("", state._replace(is_said=True))
        cents = next_number(state.cents or EMPTY, word)
        if cents is not None and cents.value < 100 and not cents.is_ordinal:
            yield Step("", state._replace(cents=cents))

    def endings(self, state: Hashable) -> Writings:
        """See `Machine`."""
        if isinstance(state, Number):
            return written_number(state) if state.is_complete else ()
        assert isinstance(state, _Money)
        if state.cents is None:
            return [way for sign in state.signs for way in _written_money(sign, state.whole, None, 1.0)]
        if not state.cents.is_complete or (state.cents.value < 10 and not state.is_said):
            return ()
        cost = 1.0 if state.is_said else 1.4
        ways = [way for sign in state.signs for way in _written_money(sign, state.whole, state.cents.value, cost)]
        return [*ways, (f"{state.cents.value}¢", cost)] if not state.whole else ways

    def shapes(self, state: Hashable) -> Iterable[str]:
        """See `Machine`."""
        if isinstance(state, Number):
            shapes = number_shapes(state)
            return [
                *shapes,
                *(sign + shape for sign in _CURRENCIES for shape in shapes),
                *(f"{sign}0.{zero}{shape}" for sign in _CENT_SIGNS for zero in ("", "0") for shape in shapes),
            ]
        assert isinstance(state, _Money)
        wholes = (str(state.whole), f"{state.whole:,}")
        shapes = [sign + whole for sign in state.signs for whole in wholes]
        return [*shapes, f"{state.cents.value}¢"] if state.cents and not state.whole else shapes

    def vocabulary(self, allows: Allows, spells: Allows) -> Iterable[str]:
        """See `Machine`: ordinals where a rank can be written; in a date they come with it."""
        if not any(map(allows, DIGITS)):
            return
        yield from CARDINAL_WORDS
        if any(all(map(allows, suffix)) for suffix in ("st", "nd", "rd", "th")):
            yield from ORDINAL_WORDS
        signs = [sign for sign in _CURRENCIES if allows(sign)]
        for sign in signs:
            yield from _CURRENCIES[sign].split(",")
        if signs or allows("¢"):
            yield from _CENT_WORDS

    def _money(self, number: Number, word: str) -> Iterable[Step]:
        if word in _SIGNS_OF:
            yield Step("", _Money(_SIGNS_OF[word], number.value, None, False))
        if word in _CENT_WORDS and number.value < 100:
            yield Step("", _Money(_CENT_SIGNS, 0, number, True))
        cents = next_number(EMPTY, word)
        if cents is not None and 10 <= cents.value < 100 and not cents.is_ordinal:  # "twenty five fifty"
            yield Step("", _Money(_CENT_SIGNS, number.value, cents, False), 0.5)


def _written_money(sign: str, whole: int, cents: int | None, cost: float) -> list[tuple[str, float]]:
    parts = [(str(whole), 0.0)] + ([(f"{whole:,}", _GROUPED)] if whole >= 1000 else [])
    ways = []
    for part, extra in parts:
        if cents is None:
            ways += [(f"{sign}{part}", cost + extra), (f"{sign}{part}.00", cost + extra + 0.3)]
        else:
            ways.append((f"{sign}{part}.{cents:02}", cost + extra))
    return ways

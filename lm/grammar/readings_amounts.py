"""Readings of numbers and of amounts of money. They are written where the last word is said."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

from lm.grammar.readings import ANY_DIGIT, Allows, Step, Writings
from lm.grammar.readings_numbers import (
    CARDINAL_WORDS,
    DIGITS,
    EMPTY,
    GROUPED,
    ONES,
    ORDINAL_WORDS,
    SCALES,
    Number,
    next_number,
    number_shapes,
    written_number,
)

_SCALED = -0.1
"""Extra cost of "$50 billion" against "$50000000000"."""
_SCALE_SIGNS = {"thousand": ("K", "k"), "million": ("M", "m"), "billion": ("B", "bn"), "trillion": ("T", "tn")}
_SCALE_SIGN = 0.3
_DECIMALS = {"zero": "0", "oh": "0", **{word: str(value) for word, value in ONES.items()}}
_MAX_DECIMALS = 6


class _Money(NamedTuple):
    signs: tuple[str, ...]
    whole: int
    cents: Number | None = None
    """None before a number of cents."""
    is_said: bool = False
    """Whether the word for cents was said."""
    scaled: tuple[str, str] | None = None
    """"50" and "billion", where the whole was said with one scale word, the last."""


class _Decimal(NamedTuple):
    """An amount with a point in progress: "three point five million"; and a zero, which no cardinal is."""

    whole: int
    digits: str | None
    """None before "point"."""
    scale: str = ""


_CURRENCIES = {
    "$": "dollars,dollar,bucks,buck", "€": "euros,euro", "£": "pounds,pound,quid", "¥": "yen", "₹": "rupees,rupee",
}  # fmt: skip
_SIGNS_OF = {word: (sign,) for sign, words in _CURRENCIES.items() for word in words.split(",")}
_CENT_WORDS = ("cents", "cent", "pence", "p")
_CENT_SIGNS = ("$", "€", "£")


class Amounts:
    """Numbers, and amounts of money: the sign is written before what is said before it."""

    def steps(self, state: Hashable, word: str) -> Iterable[Step]:
        """See `Machine`: a state is a number, an amount of money, or a decimal of which one will be."""
        if state is None and word == "zero":
            yield Step("", _Decimal(0, None))
        if state is None or isinstance(state, Number):
            yield from self._after_number(state if isinstance(state, Number) else EMPTY, word)
            return
        if isinstance(state, _Decimal):
            yield from self._after_decimal(state, word)
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
        if isinstance(state, _Decimal):  # without a scale word the point and the digits are units of their own
            return _written_decimal(("",), state.whole, state.digits or "", state.scale) if state.scale else ()
        assert isinstance(state, _Money)
        if state.cents is None:
            ways = [way for sign in state.signs for way in _written_money(sign, state.whole, None, 1.0)]
            return ways + (_written_scaled(state.signs, *state.scaled, 1.0 + _SCALED) if state.scaled else [])
        if not state.cents.is_complete or (state.cents.value < 10 and not state.is_said):
            return ()
        cost = 1.0 if state.is_said else 1.4
        ways = [way for sign in state.signs for way in _written_money(sign, state.whole, state.cents.value, cost)]
        return [*ways, (f"{state.cents.value}¢", cost)] if _is_cents(state) else ways

    def shapes(self, state: Hashable) -> Iterable[str]:
        """See `Machine`."""
        if isinstance(state, Number):
            shapes = number_shapes(state)
            scaled = _scaled(state)
            leads = [scaled[0]] if scaled else ["1"] if state.last == "a" else []
            return [
                *shapes,
                *(sign + shape for sign in _CURRENCIES for shape in (*shapes, *leads)),
                *(f"{sign}0.{zero}{shape}" for sign in _CENT_SIGNS for zero in ("", "0") for shape in shapes),
            ]
        if isinstance(state, _Decimal):
            return [sign + shape for sign in ("", *_CURRENCIES) for shape in _decimal_shapes(state, bool(sign))]
        assert isinstance(state, _Money)
        wholes = [str(state.whole), f"{state.whole:,}", *(state.scaled or ())[:1]]
        shapes = [sign + whole for sign in state.signs for whole in wholes]
        return [*shapes, f"{state.cents.value}¢"] if state.cents and _is_cents(state) else shapes

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
        if signs:
            yield from ("point", *_DECIMALS)
        if signs or allows("¢"):
            yield from _CENT_WORDS

    def _after_number(self, number: Number, word: str) -> Iterable[Step]:
        following = next_number(number, word)
        if following is not None:
            yield Step("", following)
        if number.last == "a" and word in _SIGNS_OF:  # "a dollar"
            yield Step("", _Money(_SIGNS_OF[word], 1))
        if number.is_complete and not number.is_ordinal:
            yield from self._money(number, word)
            if word == "point":
                yield Step("", _Decimal(number.value, ""))

    @staticmethod
    def _after_decimal(decimal: _Decimal, word: str) -> Iterable[Step]:
        whole, digits, scale = decimal
        if digits is None:
            if word == "point":
                yield Step("", decimal._replace(digits=""))
            if word in _SIGNS_OF:
                yield Step("", _Money(_SIGNS_OF[word], whole))
            return
        if word in _DECIMALS and not scale and len(digits) < _MAX_DECIMALS:
            yield Step("", decimal._replace(digits=digits + _DECIMALS[word]))
        if word in SCALES and not scale and digits:
            yield Step("", decimal._replace(scale=word))
        if word in _SIGNS_OF and digits:
            for written, cost in _written_decimal(_SIGNS_OF[word], whole, digits, scale):
                yield Step(written, None, cost)

    def _money(self, number: Number, word: str) -> Iterable[Step]:
        if word in _SIGNS_OF:
            yield Step("", _Money(_SIGNS_OF[word], number.value, scaled=_scaled(number)))
        if word in _CENT_WORDS and number.value < 100:
            yield Step("", _Money(_CENT_SIGNS, 0, number, True))
        cents = next_number(EMPTY, word)
        if cents is not None and 10 <= cents.value < 100 and not cents.is_ordinal:  # "twenty five fifty"
            yield Step("", _Money(_CENT_SIGNS, number.value, cents, False), 0.5)


def _written_money(sign: str, whole: int, cents: int | None, cost: float) -> list[tuple[str, float]]:
    parts = [(str(whole), 0.0)] + ([(f"{whole:,}", GROUPED)] if whole >= 1000 else [])
    ways = []
    for part, extra in parts:
        if cents is None:
            ways += [(f"{sign}{part}", cost + extra), (f"{sign}{part}.00", cost + extra + 0.3)]
        else:
            ways.append((f"{sign}{part}.{cents:02}", cost + extra))
    return ways


def _is_cents(money: _Money) -> bool:
    """Whether nothing but cents was said."""
    return not money.whole and money.signs == _CENT_SIGNS


def _scaled(number: Number) -> tuple[str, str] | None:
    """What was said before the last scale word, and that; None where something was said after it."""
    if number.last != "scale" or number.total >= 1000 * number.scale:
        return None
    return str(number.total // number.scale), next(word for word, scale in SCALES.items() if scale == number.scale)


def _written_scaled(signs: Iterable[str], lead: str, scale: str, cost: float) -> list[tuple[str, float]]:
    """$50 billion, $50B."""
    endings = [(f" {scale}", 0.0), *((letters, _SCALE_SIGN) for letters in _SCALE_SIGNS[scale])]
    return [(f"{sign}{lead}{ending}", cost + extra) for sign in signs for ending, extra in endings]


def _written_decimal(signs: Iterable[str], whole: int, digits: str, scale: str) -> list[tuple[str, float]]:
    """$3.5 million, $3500000; $3.50."""
    lead = f"{whole}.{digits}"
    if not scale:
        padded = [f"{whole}.{digits}0"] if len(digits) == 1 else []
        return [(sign + text, 1.0 - 0.1 * (text != lead)) for sign in signs for text in (lead, *padded)]
    ways = _written_scaled(signs, lead, scale, 1.0 + _SCALED)
    value, rest = divmod(int(f"{whole}{digits}") * SCALES[scale], 10 ** len(digits))
    if rest == 0:
        ways += [way for sign in signs for way in _written_money(sign, value, None, 1.0) if whole]
    return ways


def _decimal_shapes(decimal: _Decimal, has_sign: bool) -> list[str]:
    """Beginnings of what a decimal may be written as, after a currency's sign or without one."""
    whole = str(decimal.whole)
    shapes = [f"{whole}."]
    if decimal.whole:  # and thousands at least
        shapes += [f"{whole}{3 * ANY_DIGIT}", f"{decimal.whole:,},{3 * ANY_DIGIT}"]
    return [*shapes, whole] if has_sign and decimal.digits is None else shapes

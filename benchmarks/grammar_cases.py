"""Things that a product asks its users to say, as they are written and as people say them: test cases for grammars.

What is said is drawn from usual ways of saying it, without a look at what `lm.grammar` accepts. A capital letter is the
name of that letter, as in `asr.train.utterances`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from asr.train.utterances import say_digits, say_time
from lm.verbalize import cardinal, ordinal, year

_MONTHS = "January February March April May June July August September October November December".split()
_PROVIDERS = ("gmail", "outlook", "yahoo", "hotmail", "icloud", "example", "acme")
_WORDS = (
    "james mary robert linda david susan carlos priya smith johnson garcia miller davis lopez wilson info support "
    "sales hello team office contact orders billing news"
).split()
_NATO = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec romeo "
    "sierra tango uniform victor whiskey x-ray yankee zulu"
).split()


@dataclass(frozen=True, slots=True)
class Case:
    """One utterance."""

    kind: str
    written: str
    """What a form should hold; the pattern of `PATTERNS` matches it."""
    spoken: str
    """What the voice says."""


PATTERNS = {
    "phone": r"[2-9]\d{2}-\d{3}-\d{4}",
    "code": r"[A-Z0-9]{6}",
    "time": r"(1[0-2]|[1-9]):[0-5]\d( (AM|PM))?",
    "date": r"(January|February|March|April|May|June|July|August|September|October|November|December) "
    r"([1-9]|[12]\d|3[01])(, (19|20)\d\d)?",
    "amount": r"\$[1-9]\d{0,4}(\.\d\d)?",
    "email": r"[a-z]+[._-]?[a-z]*\d{0,2}@[a-z]+\.(com|org|net|edu)",
    "contact": r"{contact}",
}
"""A grammar for each kind; `contact` needs a list of that name."""


def make_cases(kind: str, count: int, seed: int, contacts: Sequence[str]) -> list[Case]:
    """`count` different cases of one of `PATTERNS`.

    Args:
        kind: key of `PATTERNS`.
        count: how many.
        seed: the same seed makes the same cases.
        contacts: names for the kind `contact`.
    """
    rng = np.random.default_rng([seed, sorted(PATTERNS).index(kind)])
    found: dict[tuple[str, str], Case] = {}
    while len(found) < count:
        written, spoken = _pick(rng, contacts, 1) * 2 if kind == "contact" else _MAKERS[kind](rng)
        found[written, spoken] = Case(kind, written, spoken)
    return list(found.values())


def _pick(rng: np.random.Generator, items: Sequence[str], n: int) -> tuple[str, ...]:
    return tuple(items[int(rng.integers(len(items)))] for _ in range(n))


def _one(rng: np.random.Generator, *items: str) -> str:
    return _pick(rng, items, 1)[0]


def _random_digits(rng: np.random.Generator, n: int) -> str:
    return "".join(str(rng.integers(10)) for _ in range(n))


def _phone(rng: np.random.Generator) -> tuple[str, str]:
    area = str(rng.integers(2, 10)) + (_one(rng, "00", "") or _random_digits(rng, 2))
    groups = [area, _random_digits(rng, 3), _random_digits(rng, 4)]
    zero, doubles = _one(rng, "zero", "oh"), rng.random() < 0.25
    said = [say_digits(group, zero=zero, doubles=doubles) for group in groups]
    if area.endswith("00") and rng.random() < 0.7:
        said[0] = f"{cardinal(int(area[0]))} hundred"
    return "-".join(groups), ", ".join(said)


def _code(rng: np.random.Generator) -> tuple[str, str]:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    code = "".join(_one(rng, *letters) if rng.random() < 0.5 else str(rng.integers(10)) for _ in range(6))
    in_nato, zero = rng.random() < 0.25, _one(rng, "zero", "oh") if "O" not in code else "zero"
    said = [_NATO[letters.index(c)] if c in letters and in_nato else c for c in code]
    return code, " ".join(c if not c.isdecimal() else say_digits(c, zero=zero) for c in said)


def _time(rng: np.random.Generator) -> tuple[str, str]:
    hour, minute = int(rng.integers(1, 13)), int(rng.choice([0, 5, 15, 30, 45, int(rng.integers(1, 60))]))
    written, form = f"{hour}:{minute:02}", rng.random()
    if form < 0.2 and minute in (15, 30, 45):
        after = hour % 12 + 1
        return written, {
            15: f"quarter past {cardinal(hour)}",
            30: f"half past {cardinal(hour)}",
            45: f"quarter to {cardinal(after)}",
        }[minute]
    if form < 0.3 and minute == 0:
        return written, f"{cardinal(hour)} o'clock"
    half = _one(rng, "AM", "PM")
    return f"{written} {half}", say_time(hour, minute, " ".join(half))


def _date(rng: np.random.Generator) -> tuple[str, str]:
    month, day = _one(rng, *_MONTHS), int(rng.integers(1, 29))
    number = int(rng.integers(1950, 2035))
    said = _one(rng, f"{month} {ordinal(day)}", f"the {ordinal(day)} of {month}", f"{month} {cardinal(day)}")
    if rng.random() < 0.5:
        return f"{month} {day}", said
    return f"{month} {day}, {number}", f"{said}, {year(number)}"


def _amount(rng: np.random.Generator) -> tuple[str, str]:
    whole, cents = int(10 ** rng.uniform(0.3, 4.5)), int(rng.integers(2, 100))
    if rng.random() < 0.5:
        return f"${whole}", f"{cardinal(whole)} dollars"
    return f"${whole}.{cents:02}", f"{cardinal(whole)} dollars and {cardinal(cents)} cents"


def _email(rng: np.random.Generator) -> tuple[str, str]:
    first, last = _pick(rng, _WORDS, 2)
    mark, link = [(".", " dot "), ("_", " underscore "), ("-", " dash "), ("", None)][int(rng.integers(4))]
    user, said = (first, first) if link is None else (f"{first}{mark}{last}", f"{first}{link}{last}")
    if rng.random() < 0.2:
        number = _random_digits(rng, 2)
        user, said = f"{user}{number}", f"{said} {say_digits(number)}"
    domain, ending = _one(rng, *_PROVIDERS), _one(rng, "com", "com", "org", "net")
    return f"{user}@{domain}.{ending}", f"{said} at {domain} dot {ending}"


_MAKERS: dict[str, Callable[[np.random.Generator], tuple[str, str]]] = {
    "phone": _phone,
    "code": _code,
    "time": _time,
    "date": _date,
    "amount": _amount,
    "email": _email,
}

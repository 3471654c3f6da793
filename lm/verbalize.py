"""Numbers as they are spoken: `$3.50` -> `three dollars and fifty cents`, `1984` -> `nineteen eighty four`.

American English, without `and` in whole numbers. Good enough for language model text; it is no full text normaliser:
where the writing is ambiguous (dates, fractions) the digits are read one group after another.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# fmt: off
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen",
    "sixteen", "seventeen", "eighteen", "nineteen",
)
# fmt: on
_TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_CURRENCIES = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}
_MAGNITUDES = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion"}
_UNITS = {
    "km": "kilometers",
    "kg": "kilograms",
    "cm": "centimeters",
    "mm": "millimeters",
    "mph": "miles per hour",
    "lb": "pounds",
    "lbs": "pounds",
    "oz": "ounces",
    "ft": "feet",
    "gb": "gigabytes",
    "mb": "megabytes",
}
_LONGEST_CARDINAL = 6  # digits without separators: longer runs are codes or telephone numbers, read digit by digit


def cardinal(number: int) -> str:
    """`number` (at least 0, below 10**15) in words: 1205 -> `one thousand two hundred five`."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f" {_ONES[ones]}" if ones else "")
    scale, name = next(pair for pair in _SCALES if number >= pair[0])
    count, rest = divmod(number, scale)
    return f"{cardinal(count)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """`number` (at least 0) as a rank in words: 21 -> `twenty first`."""
    head, _, last = cardinal(number).rpartition(" ")
    if last not in _ORDINALS:
        last = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return f"{head} {_ORDINALS.get(last, last)}".strip()


def year(number: int) -> str:
    """A year between 1000 and 2099 in words: 1905 -> `nineteen oh five`, 2004 -> `two thousand four`."""
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def digits(text: str) -> str:
    """The digits of `text`, one by one: `555-01` -> `five five five zero one`."""
    return " ".join(_ONES[int(c)] for c in text if c.isdecimal())


def number_in_words(text: str) -> str:
    """A run of digits, perhaps with thousands separators, in the reading that its form suggests."""
    bare = text.replace(",", "")
    if len(bare) > 15 or (bare == text and (len(bare) > _LONGEST_CARDINAL or (bare[0] == "0" and len(bare) > 1))):
        return digits(bare)
    if bare == text and len(bare) == 4 and 1100 <= int(bare) <= 2099:
        return year(int(bare))
    return cardinal(int(bare))


def _plural(words: str) -> str:
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def _money(match: re.Match[str]) -> str:
    unit, cent = _CURRENCIES[match["sign"]]
    whole, part, magnitude = match["whole"], match["part"], match["magnitude"]
    if magnitude:
        decimals = f" point {digits(part)}" if part else ""
        return f" {number_in_words(whole)}{decimals} {_MAGNITUDES.get(magnitude, magnitude)} {unit}s "
    count, cents = int(whole.replace(",", "")), int((part or "0").ljust(2, "0")[:2])
    amount = f"{number_in_words(whole)} {unit}{'' if count == 1 else 's'}"
    if not cents:
        return f" {amount} "
    many = "pence" if cent == "penny" else _plural(cent)
    small = f"{cardinal(cents)} {cent if cents == 1 else many}"
    return f" {small} " if count == 0 else f" {amount} and {small} "


def _time(match: re.Match[str]) -> str:
    hour, minute, half = int(match["hour"]), int(match["minute"]), match["half"]
    words = cardinal(hour)
    if minute:
        words += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    return f" {words} {half[0] + ' m' if half else ''} "


def _decimal(match: re.Match[str]) -> str:
    return f" {number_in_words(match['whole'])} point {digits(match['part'])} "


def _decade(match: re.Match[str]) -> str:
    number = match["number"]
    return f" {_plural(year(int(number)) if len(number) == 4 else cardinal(int(number)))} "


def _rank(match: re.Match[str]) -> str:
    bare = match["number"].replace(",", "")
    return f" {ordinal(int(bare)) if len(bare) <= 15 else digits(bare)} "


_DIGIT = re.compile(r"\d")
_NUMBER = r"\d+(?:,\d{3})+|\d+"
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\b\d{3}[-. ]\d{3}[-. ]\d{4}\b|\b\d{3}-\d{4}\b"), lambda m: f" {digits(m[0])} "),
    (
        re.compile(
            rf"(?P<sign>[$£€])\s?(?P<whole>{_NUMBER})(?:\.(?P<part>\d{{1,2}}))?"
            r"(?:\s?(?P<magnitude>hundred|thousand|million|billion|trillion|bn|[kmb])\b)?"
        ),
        _money,
    ),
    (re.compile(r"\b(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)\b(?:\s?(?P<half>[ap]\.?m\b\.?))?"), _time),
    (re.compile(r"\b(\d{1,2})\s?([ap])\.?m\b\.?"), lambda m: f" {number_in_words(m[1])} {m[2]} m "),
    (re.compile(r"'?\b(?P<number>[12]\d\d0|[1-9]0)'?s\b"), _decade),
    (re.compile(rf"\b(?P<number>{_NUMBER})(?:st|nd|rd|th)\b"), _rank),
    (re.compile(rf"\b(?P<whole>{_NUMBER})\.(?P<part>\d+)"), _decimal),
    (re.compile(rf"({_NUMBER})\s?-\s?({_NUMBER})"), lambda m: f" {number_in_words(m[1])} to {number_in_words(m[2])} "),
    (re.compile(rf"({_NUMBER})\s?({'|'.join(_UNITS)})\b"), lambda m: f" {number_in_words(m[1])} {_UNITS[m[2]]} "),
    (re.compile(rf"#\s?({_NUMBER})"), lambda m: f" number {number_in_words(m[1])} "),
    (re.compile(_NUMBER), lambda m: f" {number_in_words(m[0])} "),
)


def verbalize_numbers(text: str) -> str:
    """Lower-case ASCII `text` (and the signs £ and €) with every digit spelt out; other characters stay as they are."""
    if not _DIGIT.search(text):
        return text
    for pattern, spoken in _RULES:
        text = pattern.sub(spoken, text)
    return text

"""Numbers in words: cardinals and ordinals, word by word."""

from __future__ import annotations

from typing import NamedTuple

from lm.grammar.readings import ANY_DIGIT

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
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
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
CARDINAL_WORDS = (*ONES, *_TEENS, *_TENS, *SCALES, "hundred", "and", "a")
ORDINAL_WORDS = (*_ORDINAL_ONES, *_ORDINAL_TEENS, *_ORDINAL_TENS, *_ORDINAL_SCALES)
DIGITS = "0123456789"

GROUPED = 0.2  # extra cost of 1,200


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


EMPTY = Number(0, 0, "start", 10**15)


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
    if word in SCALES and last != "and" and 0 < group < 1000 and SCALES[word] < scale:
        return Number(total + group * SCALES[word], 0, "scale", SCALES[word])
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
        ways.append((f"{value:,}", 1.0 + GROUPED))
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

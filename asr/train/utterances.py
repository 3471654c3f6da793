"""Made-up sentences for what grammars need: digits, spelt words, codes, times, dates, money, addresses, names.

Text is as it is spoken, words only; a capital letter is the name of that letter (`B A four`), so that the voice does
not take `a` for the article. Lower-cased it is what `lm.normalize` makes of it. Half of the sentences have a few
words around the value (`my code is B A four`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np

from lm.corpus import read_lines
from lm.verbalize import cardinal, digits, ordinal, year

MOST_WORDS = 18
_T = TypeVar("_T")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NATO = (
    *"alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec".split(),
    *"romeo sierra tango uniform victor whiskey".split(),
    *("X ray", "yankee", "zulu"),
)
_OTHER_NAMES_OF_LETTERS = dict(
    zip(
        _LETTERS,
        "apple boy cat dog easy frank george henry ice john king london mary nancy orange peter queen robert sam tom "
        "umbrella vegas water xylophone yellow zebra".split(),
        strict=True,
    )
)
_MONTHS = "january february march april may june july august september october november december".split()
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_FIRST_NAMES = (
    "james mary robert patricia john jennifer michael linda david elizabeth william susan richard jessica joseph sarah "
    "thomas karen daniel nancy matthew lisa anthony emily mark ashley paul olivia andrew amina kevin priya brian wei "
    "carlos fatima diego yuki omar chloe liam zoe noah grace ivan hannah pedro leila oscar ruth"
).split()
_LAST_NAMES = (
    "smith johnson williams brown jones garcia miller davis rodriguez martinez hernandez lopez wilson anderson thomas "
    "taylor moore jackson martin lee perez thompson white harris clark lewis robinson walker young allen king wright "
    "scott nguyen hill green adams baker hall rivera campbell mitchell carter roberts patel kim singh chen murphy ali"
).split()
_PROVIDERS = ("gmail", "outlook", "yahoo", "hotmail", "icloud", "proton mail", "example", "acme", "my company", "work")
_ENDINGS = ("com", "com", "com", "org", "net", "edu", "co dot U K", "I O", "D E")
_CURRENCIES = (("dollar", "cent"), ("dollar", "cent"), ("euro", "cent"), ("pound", "pence"))
_FRAMES = {
    "phone": ("call {}", "dial {}", "text {}", "my number is {}", "you can reach me at {}", "the number is {} thanks"),
    "pin": ("my pin is {}", "enter {}", "the code is {}", "unlock with {}", "the passcode is {}", "use pin {} please"),
    "card": ("my card number is {}", "the card is {}", "charge {}", "card number {}"),
    "spelling": ("it is spelled {}", "spelled {}", "that's {}", "my last name is {}", "spell {}"),
    "nato": ("it is {}", "that's {}", "call sign {}", "the letters are {}"),
    "code": ("my code is {}", "confirmation code {}", "flight {}", "the booking reference is {}", "plate number {}"),
    "time": ("wake me up at {}", "set an alarm for {}", "the meeting is at {}", "remind me at {}", "let's meet at {}"),
    "date": ("schedule it for {}", "what happened on {}", "book a table for {}", "i was born on {}", "is {} free"),
    "money": ("transfer {}", "it costs {}", "send {} to mom", "i owe you {}", "the total is {}", "pay {} now"),
    "percent": ("set the volume to {}", "dim the lights to {}", "it went up by {}", "the battery is at {}", "tip {}"),
    "ordinal": ("the {} one", "open the {} result", "go to the {} floor", "she finished {}", "the {} of the month"),
    "email": ("send it to {}", "my email is {}", "email {}", "write to {} please", "forward this to {}"),
    "name": ("call {}", "text {} please", "send a message to {}", "my name is {}", "who is {}", "tell {} i'm late"),
}


@dataclass(frozen=True, slots=True)
class Names:
    """Names to draw from."""

    first: Sequence[str] = tuple(_FIRST_NAMES)
    last: Sequence[str] = tuple(_LAST_NAMES)


def read_names(path: Path) -> Names:
    """Names of a file, one a line; each serves as first and as last name.

    Raises:
        ValueError: the file holds no name.
    """
    names = [" ".join(words) for words in read_lines(path) if len(words) <= 3]
    if not names:
        raise ValueError(f"{path}: expected names, one a line, found none")
    return Names(names, names)


def utterance(kind: str, rng: np.random.Generator, names: Names) -> str:
    """A sentence of one of `KINDS`, at most 18 words."""
    value = KINDS[kind](rng, names)
    framed = _pick(rng, _FRAMES[kind]).format(value)
    fits = len(framed.split()) <= MOST_WORDS
    return framed if fits and rng.random() < 0.5 else value


def say_digits(number: str, *, zero: str = "zero", doubles: bool = False) -> str:
    """Digits one by one: `5507` -> `five five zero seven`, or `double five oh seven`.

    Args:
        number: decimal digits.
        zero: the word for 0: `zero` or `oh`.
        doubles: say `double` and `triple` for runs of two and three equal digits; longer runs stay as they are.
    """
    words = []
    for digit, run in groupby(number):
        n, word = len(list(run)), zero if digit == "0" else digits(digit)
        words += [f"{'double' if n == 2 else 'triple'} {word}"] if doubles and n in (2, 3) else [word] * n
    return " ".join(words)


def say_time(hour: int, minute: int, half: str) -> str:
    """A clock time of twelve hours: `three fifteen P M`; `half` is `A M`, `P M`, or empty."""
    minutes = "" if minute == 0 else f"{'oh ' if minute < 10 else ''}{cardinal(minute)}"
    return " ".join(filter(None, (cardinal(hour), minutes, half or ("" if minute else "o'clock"))))


def _pick(rng: np.random.Generator, items: Sequence[_T]) -> _T:
    return items[int(rng.integers(len(items)))]


def _random_digits(rng: np.random.Generator, n: int) -> str:
    """`n` digits, of which neighbours are equal more often than by chance."""
    made = str(rng.integers(10))
    while len(made) < n:
        made += made[-1] if rng.random() < 0.15 else str(rng.integers(10))
    return made


def _say_randomly(rng: np.random.Generator, *groups: str) -> str:
    zero, doubles = _pick(rng, ("zero", "oh")), rng.random() < 0.4
    return " ".join(say_digits(group, zero=zero, doubles=doubles) for group in groups)


def _phone(rng: np.random.Generator, names: Names) -> str:
    form = rng.integers(5)
    local = _random_digits(rng, 3), _random_digits(rng, 4)
    if form == 0:
        return _say_randomly(rng, *local)
    if form == 1:
        return f"{_pick(rng, ('one ', ''))}{_pick(rng, ('eight', 'nine'))} hundred {_say_randomly(rng, *local)}"
    if form == 2:
        return f"plus {_say_randomly(rng, _pick(rng, ('1', '44', '49', '61')), _random_digits(rng, 3), *local)}"
    if form == 3:
        return _say_randomly(rng, "07" + _random_digits(rng, 3), _random_digits(rng, 3), _random_digits(rng, 3))
    return _say_randomly(rng, _random_digits(rng, 3), *local)


def _pin(rng: np.random.Generator, names: Names) -> str:
    return _say_randomly(rng, _random_digits(rng, int(rng.integers(3, 9))))


def _card(rng: np.random.Generator, names: Names) -> str:
    form = rng.integers(3)
    if form == 0:
        return f"ending in {_say_randomly(rng, _random_digits(rng, 4))}"
    lengths = (4, 4, 4, 4) if form == 1 else (4, 6, 5)
    return _say_randomly(rng, *(_random_digits(rng, n) for n in lengths))


def _spelling(rng: np.random.Generator, names: Names) -> str:
    """The letters of a name or of nothing, some with a word that tells them."""
    name = _pick(rng, names.last).replace(" ", "").replace("'", "").upper()
    letters = name[:10] if rng.random() < 0.5 else _random_letters(rng, int(rng.integers(3, 8)))
    if rng.random() < 0.5:
        return " ".join(letters)
    link = _pick(rng, ("as in", "for", "like"))
    return " ".join(f"{letter} {link} {_word_for(rng, letter)}" for letter in letters[: rng.integers(1, 5)])


def _random_letters(rng: np.random.Generator, n: int) -> str:
    return "".join(_pick(rng, _LETTERS) for _ in range(n))


def _word_for(rng: np.random.Generator, letter: str) -> str:
    return _NATO[_LETTERS.index(letter)] if rng.random() < 0.6 else _OTHER_NAMES_OF_LETTERS[letter]


def _nato(rng: np.random.Generator, names: Names) -> str:
    words = [_NATO[_LETTERS.index(letter)] for letter in _random_letters(rng, int(rng.integers(2, 7)))]
    return " ".join(words) + (f" {_pin(rng, names)}" if rng.random() < 0.3 else "")


def _code(rng: np.random.Generator, names: Names) -> str:
    """4 to 8 letters and digits, mixed, or letters before digits as on a ticket."""
    n = int(rng.integers(4, 9))
    mixed = [_pick(rng, _LETTERS) if rng.random() < 0.5 else str(rng.integers(10)) for _ in range(n)]
    runs = mixed if rng.random() < 0.6 else sorted(mixed, key=str.isdecimal)
    groups = ("".join(run) for _, run in groupby(runs, str.isdecimal))
    return " ".join(_say_randomly(rng, group) if group.isdecimal() else " ".join(group) for group in groups)


def _time(rng: np.random.Generator, names: Names) -> str:
    hour, minute = int(rng.integers(1, 13)), _pick(rng, (0, 0, 15, 30, 45, int(rng.integers(1, 60))))
    form = rng.integers(10)
    if form == 0:
        return _pick(rng, ("noon", "midnight"))
    if form == 1:
        return f"{_pick(rng, ('half past', 'quarter past', 'quarter to', 'a quarter past'))} {cardinal(hour)}"
    if form == 2:
        return f"{cardinal(int(rng.integers(2, 30)))} {_pick(rng, ('past', 'to', 'minutes to'))} {cardinal(hour)}"
    if form == 3:
        return say_time(int(rng.integers(13, 24)), max(1, minute), "")
    part = _pick(rng, ("", "", "in the morning", "in the evening", "tonight", "tomorrow"))
    clock = say_time(hour, minute, _pick(rng, ("A M", "P M")) if not part and rng.random() < 0.8 else "")
    return f"{clock} {part}".strip()


def _date(rng: np.random.Generator, names: Names) -> str:
    month = int(rng.integers(12))
    day, word = ordinal(int(rng.integers(1, _MONTH_DAYS[month] + 1))), _MONTHS[month]
    if rng.random() < 0.15:
        return f"{_pick(rng, ('next', 'this', 'last'))} {_pick(rng, _WEEKDAYS)}"
    value = _pick(rng, (f"{word} {day}", f"the {day} of {word}", f"{word} the {day}", f"{day} {word}"))
    if rng.random() < 0.4:
        value += f" {year(int(rng.integers(1940, 2035)))}"
    return f"{_pick(rng, _WEEKDAYS)} {value}" if rng.random() < 0.2 else value


def _amount(rng: np.random.Generator) -> int:
    """1 to 99,999, small ones more often; large ones are round more often."""
    value = int(10 ** rng.uniform(0, 5))
    return value if value < 1000 or rng.random() < 0.3 else value // 100 * 100


def _money(rng: np.random.Generator, names: Names) -> str:
    unit, cent = _pick(rng, _CURRENCIES)
    whole, cents = _amount(rng), int(rng.integers(2, 100))
    units = f"{cardinal(whole)} {unit}{'' if whole == 1 else 's'}"
    form = rng.integers(6)
    if form == 0:
        return f"{units} and {cardinal(cents)} {cent}{'' if cent == 'pence' else 's'}"
    if form == 1:
        return f"{cardinal(whole % 100 + 1)} {cardinal(max(cents, 10))}"
    if form == 2:
        scale = _pick(rng, ("million", "billion"))
        return f"{cardinal(whole % 100 + 1)} point {digits(str(rng.integers(1, 10)))} {scale} {unit}s"
    return units.replace("dollars", _pick(rng, ("dollars", "bucks"))) if form == 3 else units


def _percent(rng: np.random.Generator, names: Names) -> str:
    part = f" point {digits(_random_digits(rng, int(rng.integers(1, 3))))}" if rng.random() < 0.3 else ""
    return f"{cardinal(int(rng.integers(101)))}{part} percent"


def _ordinal(rng: np.random.Generator, names: Names) -> str:
    return ordinal(int(rng.integers(1, 32)) if rng.random() < 0.7 else int(rng.integers(32, 1000)))


def _email(rng: np.random.Generator, names: Names) -> str:
    first, last = _pick(rng, names.first), _pick(rng, names.last)
    number = _pick(rng, (cardinal(int(rng.integers(10, 100))), _say_randomly(rng, _random_digits(rng, 2))))
    owner = _pick(
        rng,
        (
            f"{first} {_pick(rng, ('dot', 'dot', 'underscore', 'dash'))} {last}",
            f"{first} {last}",
            f"{first[0].upper()} {_pick(rng, ('dot ', ''))}{last}",
            f"{first} {number}",
            f"{first} dot {last} {number}",
            _pick(rng, ("info", "support", "hello", "sales", "contact")),
        ),
    )
    return f"{owner} at {_pick(rng, _PROVIDERS)} dot {_pick(rng, _ENDINGS)}"


def _name(rng: np.random.Generator, names: Names) -> str:
    first = _pick(rng, names.first)
    form = rng.random()
    if form < 0.1:
        return f"{_pick(rng, ('doctor', 'mister', 'missus', 'professor'))} {_pick(rng, names.last)}"
    return first if form < 0.4 else f"{first} {_pick(rng, names.last)}"


KINDS: dict[str, Callable[[np.random.Generator, Names], str]] = {
    "phone": _phone,
    "pin": _pin,
    "card": _card,
    "spelling": _spelling,
    "nato": _nato,
    "code": _code,
    "time": _time,
    "date": _date,
    "money": _money,
    "percent": _percent,
    "ordinal": _ordinal,
    "email": _email,
    "name": _name,
}
"""What can be made up; each function gives the value, without words around it."""

"""Readings of dates and of clock times whose words come in another order than their writing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import product
from typing import NamedTuple

from lm.grammar.readings import ANY_DIGIT, Allows, Step, Writings
from lm.grammar.readings_numbers import CARDINAL_WORDS, DIGITS, EMPTY, ONES, ORDINAL_WORDS, Number, next_number

_MONTHS = "January February March April May June July August September October November December".split()
_MONTH_NUMBER = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DATE_COST, _DAY_FIRST, _UNUSUAL = 1.2, 0.3, 0.2
_HOURS = {word: value for value, word in enumerate((*ONES, "ten", "eleven", "twelve"), 1)}
_TIME_COST = 1.2
_CONVERTED_COST = 8.0  # where "p m" can be written it is


class _Date(NamedTuple):
    """A date in progress; 0 is what has not been said."""

    month: int = 0
    day: Number | None = None
    is_day_over: bool = False
    wants_month: bool = False
    century: int = 0
    """The first half of a year in two numbers."""
    year: Number | None = None
    is_oh: bool = False
    """Whether "oh" was said between the halves."""


class Dates:
    """A month, a day and perhaps a year, in American or British order."""

    def steps(self, state: Hashable, word: str) -> Iterable[Step]:
        """See `Machine`."""
        date = state if isinstance(state, _Date) else _Date()
        if not date.month and word in _MONTH_NUMBER and (date.day is None or date.day.is_ordinal):
            yield Step(
                "", date._replace(month=_MONTH_NUMBER[word], is_day_over=date.day is not None, wants_month=False)
            )
        elif date.day is None and word == "the" and state in (None, _Date(month=date.month)):
            yield Step("", date._replace(day=EMPTY))
        elif date.day is not None and not date.month and word == "of" and date.day.is_ordinal:
            yield Step("", date._replace(wants_month=True))
        if not date.wants_month and not date.is_day_over:
            day = next_number(date.day or EMPTY, word)
            if day is not None and day.value <= 31 and (date.month or day.is_ordinal or day.last == "tens"):
                yield Step("", date._replace(day=day))
        if self._has_day(date):
            yield from self._year(date._replace(is_day_over=True), word)

    def endings(self, state: Hashable) -> Writings:
        """See `Machine`."""
        assert isinstance(state, _Date)
        if not self._has_day(state):
            return ()
        assert state.day is not None
        if state.year is None and not state.century:
            return _written_date(state.month, state.day.value, None)
        year = self._said_year(state)
        return _written_date(state.month, state.day.value, year) if year else ()

    def shapes(self, state: Hashable) -> Iterable[str]:
        """See `Machine`: with what is known of month and day, in all orders."""
        assert isinstance(state, _Date)
        unknown = (ANY_DIGIT, 2 * ANY_DIGIT)
        months = (str(state.month), f"{state.month:02}") if state.month else unknown
        names = _MONTHS[state.month - 1 : state.month] if state.month else _MONTHS
        is_known = state.day is not None and (state.is_day_over or state.day.is_ordinal)
        days = (str(state.day.value), f"{state.day.value:02}") if state.day and is_known else unknown
        for mark in "/-.":
            yield from (f"{first}{mark}{second}" for first, second in (*product(months, days), *product(days, months)))
            yield f"{4 * ANY_DIGIT}{mark}{months[1]}{mark}{days[1]}"
        for name in names:
            yield from (f"{text} {days[0]}" for text in (name, name[:3], f"{name[:3]}."))
            yield from (f"{day} {name[:3]}" for day in days)

    def vocabulary(self, allows: Allows, spells: Allows) -> Iterable[str]:
        """See `Machine`."""
        if not any(map(allows, DIGITS)):
            return
        in_numbers = (allows("/") or allows("-") or allows(".")) and all(map(allows, "123"))
        months = [name for name in _MONTHS if in_numbers or all(map(allows, name[:3]))]
        if months:
            yield from (name.lower() for name in months)
            yield from (*CARDINAL_WORDS, *ORDINAL_WORDS, "the", "of", "oh")

    @staticmethod
    def _has_day(date: _Date) -> bool:
        day = date.day
        return (
            bool(date.month) and day is not None and day.is_complete and 1 <= day.value <= _MONTH_DAYS[date.month - 1]
        )

    @staticmethod
    def _said_year(date: _Date) -> int | None:
        if date.year is None or not date.year.is_complete:
            return None
        value = date.year.value
        if not date.century:
            return value if 1000 <= value < 3000 else None
        return 100 * date.century + value if (value < 10 if date.is_oh else 10 <= value < 100) else None

    @staticmethod
    def _year(date: _Date, word: str) -> Iterable[Step]:
        year = next_number(date.year or EMPTY, word)
        if year is not None and year.value < 3000 and not year.is_ordinal and not (date.year is None and word == "a"):
            yield Step("", date._replace(year=year))
        if not date.century and date.year is not None and date.year.is_complete and 10 <= date.year.value < 30:
            halved = date._replace(century=date.year.value)
            if word == "oh":
                yield Step("", halved._replace(year=EMPTY, is_oh=True))
            rest = next_number(EMPTY, word)
            if rest is not None and 10 <= rest.value < 100 and not rest.is_ordinal:
                yield Step("", halved._replace(year=rest))


def _written_date(month: int, day: int, year: int | None) -> list[tuple[str, float]]:
    """Every usual way to write a date, the American ones first."""
    name, days = _MONTHS[month - 1], ((str(day), 0.0), (f"{day:02}", _UNUSUAL))
    months = ((str(month), 0.0), (f"{month:02}", _UNUSUAL))
    years = [] if year is None else [(str(year), 0.0), (f"{year % 100:02}", _UNUSUAL)]
    ways = []
    for mark in "/-.":
        for (m, first), (d, second) in product(months, days):
            for tail, third in [(f"{mark}{text}", cost) for text, cost in years] or [("", 0.0)]:
                cost = _DATE_COST + first + second + third
                ways += [(f"{m}{mark}{d}{tail}", cost), (f"{d}{mark}{m}{tail}", cost + _DAY_FIRST)]
    if year is not None:
        ways.append((f"{year}-{month:02}-{day:02}", _DATE_COST))
        ways.append((f"{year}/{month:02}/{day:02}", _DATE_COST + _UNUSUAL))
    for word, extra in ((name, 0.0), (name[:3], 0.1), (f"{name[:3]}.", 0.15)):
        tails = [""] if year is None else [f", {year}", f" {year}"]
        ways += [(f"{word} {day}{tail}", _DATE_COST + extra) for tail in tails]
        tail = "" if year is None else f" {year}"
        ways.append((f"{day} {word}{tail}", _DATE_COST + extra + 0.05))
    return ways


class _Time(NamedTuple):
    """A clock time in progress."""

    hour: int = 0
    minutes: Number | None = None
    """Before an hour: to be added or taken; after it: minutes of a time whose half of the day follows."""
    sign: int = 0
    is_whole: bool = False
    """Hour and minute are known."""
    half: str = ""
    """"p" or "a" was said, or all of it."""


class Clock:
    """Times on the hour, relative ones ("quarter to nine"), and those of twelve hours written with twenty-four."""

    def steps(self, state: Hashable, word: str) -> Iterable[Step]:
        """See `Machine`."""
        time = state if isinstance(state, _Time) else _Time()
        if state is None:
            yield from self._first(word)
        elif time.half:
            if word == "m" and len(time.half) == 1:
                yield Step("", time._replace(half=f"{time.half}m"))
        elif time.is_whole:
            if word in ("a", "p"):
                yield Step("", time._replace(half=word))
        elif time.sign:
            if word in _HOURS:
                hour, minute = _relative(_HOURS[word], time.sign * (time.minutes.value if time.minutes else 0))
                yield Step("", _Time(hour, Number(0, minute, "ones", 1), is_whole=True))
        elif time.hour:
            yield from self._after_hour(time, word)
        else:
            yield from self._after_minutes(time, word)

    def endings(self, state: Hashable) -> Writings:
        """See `Machine`."""
        assert isinstance(state, _Time)
        minute = state.minutes.value if state.minutes else 0
        if len(state.half) == 2:
            hour = state.hour % 12 + (12 if state.half == "pm" else 0)
            return [(f"{hour:02}:{minute:02}", _CONVERTED_COST)]
        if state.half:
            return ()
        if state.is_whole:
            return [(f"{state.hour}:{minute:02}", _TIME_COST), (f"{state.hour:02}:{minute:02}", _TIME_COST + 0.3)]
        if state.hour and state.minutes is None:  # "three" where the minutes must be written
            return [(f"{state.hour}:00", 2.0), (f"{state.hour:02}:00", 2.3)]
        if state.hour and state.minutes is not None and state.minutes.is_complete:
            return [(f"{state.hour}:{minute:02}", 2.0), (f"{state.hour:02}:{minute:02}", 2.3)]
        return ()

    def shapes(self, state: Hashable) -> Iterable[str]:
        """See `Machine`."""
        assert isinstance(state, _Time)
        two = 2 * ANY_DIGIT
        hours = (str(state.hour), f"{state.hour:02}", str(state.hour + 12), "00") if state.hour else (ANY_DIGIT, two)
        minute = two
        if state.minutes is not None and state.is_whole:
            minute = f"{state.minutes.value:02}"
        elif state.minutes is not None and state.sign:
            minute = f"{state.sign * state.minutes.value % 60:02}"
        return [f"{hour}:{minute}" for hour in hours]

    def vocabulary(self, allows: Allows, spells: Allows) -> Iterable[str]:
        """See `Machine`."""
        if allows(":") and any(map(allows, DIGITS)):
            yield from (*CARDINAL_WORDS, "half", "quarter", "past", "after", "to", "till", "of", "before", "minutes")
            yield from ("minute", "o'clock", "oh", "a", "p", "m")

    @staticmethod
    def _first(word: str) -> Iterable[Step]:
        if word in ("half", "quarter"):
            yield Step("", _Time(minutes=Number(0, 30 if word == "half" else 15, "fraction", 1)))
        if word == "a":
            yield Step("", _Time(minutes=Number(0, 0, "article", 1)))
        number = next_number(EMPTY, word)
        if number is not None and not number.is_ordinal and word != "a":
            yield Step("", _Time(minutes=number))
        if word in _HOURS:
            yield Step("", _Time(hour=_HOURS[word]))

    @staticmethod
    def _after_minutes(time: _Time, word: str) -> Iterable[Step]:
        """Minutes that an hour will be counted from."""
        minutes = time.minutes
        assert minutes is not None
        if minutes.last == "article":
            if word == "quarter":
                yield Step("", _Time(minutes=Number(0, 15, "fraction", 1)))
            return
        if word in ("past", "after"):
            yield Step("", time._replace(sign=1))
        if word in ("to", "till", "of", "before") and minutes.value != 30:
            yield Step("", time._replace(sign=-1))
        if minutes.last == "fraction":
            return
        if word in ("minutes", "minute"):
            yield Step("", time._replace(minutes=Number(0, minutes.value, "counted", 1)))
        following = next_number(minutes, word) if minutes.last != "counted" else None
        if following is not None and following.value < 30 and not following.is_ordinal:
            yield Step("", time._replace(minutes=following))

    @staticmethod
    def _after_hour(time: _Time, word: str) -> Iterable[Step]:
        """Minutes after an hour, and the half of the day."""
        if word == "o'clock" and time.minutes is None:
            yield Step("", _Time(time.hour, is_whole=True))
        if word in ("a", "p") and (time.minutes is None or time.minutes.is_complete):
            yield Step("", time._replace(half=word))
        if word == "oh" and time.minutes is None:
            yield Step("", time._replace(minutes=Number(0, 0, "oh", 1)))
            return
        if time.minutes is not None and time.minutes.last == "oh":
            if word in ONES:
                yield Step("", time._replace(minutes=Number(0, ONES[word], "ones", 1)))
            return
        following = next_number(time.minutes or EMPTY, word)
        is_first = time.minutes is None and (word in ONES or word == "a")
        if following is not None and not is_first and following.value < 60 and not following.is_ordinal:
            yield Step("", time._replace(minutes=following))


def _relative(hour: int, minutes: int) -> tuple[int, int]:
    """The time so many minutes after (or, below zero, before) a full hour of twelve."""
    total = (60 * hour + minutes - 60) % 720 + 60
    return total // 60, total % 60

"""Readings of single characters: digits, letters, symbols; and abbreviations."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from lm.grammar.readings import ANY_DIGIT, Allows, Step, Writings

Phrase = tuple[str, ...]

DIGITS = dict(zip("zero one two three four five six seven eight nine".split(), "0123456789", strict=True))
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_UPPER = 0.01  # where both cases may be written, the lower one is
_OTHER_ZEROS = {"oh": 1.0, "o": 1.1, "nought": 1.0, "nil": 1.1}
_NATO = (
    "alpha alfa bravo charlie delta echo foxtrot golf hotel india juliet juliett kilo lima mike november oscar "
    "papa quebec romeo sierra tango uniform victor whiskey whisky xray yankee zulu"
).split()
_EXAMPLES = (
    "apple adam able boy baby baker cat david dog easy edward elephant frank fox friend george good henry harry "
    "house ice igloo ida john jack jane king kite larry lion love london mary mother man nancy nora no nut orange "
    "ocean peter paul queen quick robert roger red sam sugar susan snake tom tiger thomas umbrella uncle union "
    "victoria van vegas water william xylophone yellow york young zebra zero"
).split()
_SYMBOLS = {
    ".": "dot,point,period,full stop", "@": "at,at sign", "_": "underscore,under score", "-": "dash,hyphen,minus",
    "/": "slash,forward slash,stroke", "\\": "backslash,back slash", ":": "colon", ",": "comma", ";": "semicolon",
    "+": "plus", "#": "hash,number,number sign,pound sign,sharp,hashtag", "*": "star,asterisk,times",
    "%": "percent,per cent", "&": "and,ampersand", "=": "equals,equal sign", "~": "tilde", "'": "apostrophe",
    '"': "quote,double quote", "!": "exclamation mark,exclamation point", "?": "question mark",
    "(": "open parenthesis,left parenthesis,open bracket", "$": "dollar sign",
    ")": "close parenthesis,right parenthesis,close bracket", "<": "less than", ">": "greater than", "^": "caret",
    "|": "pipe", "°": "degrees,degree", "°C": "degrees celsius,degrees c,celsius",
    "°F": "degrees fahrenheit,degrees f,fahrenheit",
}  # fmt: skip
_ABBREVIATIONS = {
    "kg": "kilograms,kilogram,kilos,kilo", "g": "grams,gram", "mg": "milligrams,milligram", "lb": "pounds,pound",
    "lbs": "pounds", "oz": "ounces,ounce", "km": "kilometers,kilometer,kilometres,kilometre",
    "m": "meters,meter,metres,metre", "cm": "centimeters,centimeter,centimetres,centimetre",
    "mm": "millimeters,millimeter,millimetres,millimetre", "mi": "miles,mile", "ft": "feet,foot",
    "in": "inches,inch", "yd": "yards,yard", "l": "liters,liter,litres,litre",
    "ml": "milliliters,milliliter,millilitres,millilitre", "mph": "miles per hour,miles an hour",
    "km/h": "kilometers per hour,kilometres per hour,kilometers an hour,kilometres an hour", "h": "hours,hour",
    "min": "minutes,minute",
    "s": "seconds,second", "ms": "milliseconds,millisecond", "GB": "gigabytes,gigabyte", "MB": "megabytes,megabyte",
    "KB": "kilobytes,kilobyte", "TB": "terabytes,terabyte", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "W": "watts,watt", "kW": "kilowatts,kilowatt", "MW": "megawatts,megawatt",
    "kWh": "kilowatt hours,kilowatt hour", "mA": "milliamps,milliamp", "mAh": "milliamp hours,milliamp hour",
    "dB": "decibels,decibel", "kcal": "kilocalories,kilocalorie", "kPa": "kilopascals", "psi": "pounds per square inch",
    "rpm": "revolutions per minute", "Mbps": "megabits per second", "m/s": "meters per second,metres per second",
    "m²": "square meters,square meter,square metres,square metre", "km²": "square kilometers,square kilometres",
    "sq ft": "square feet,square foot", "gal": "gallons,gallon", "tsp": "teaspoons,teaspoon",
    "tbsp": "tablespoons,tablespoon", "mcg": "micrograms,microgram", "µg": "micrograms,microgram",
    "hr": "hours,hour", "hrs": "hours", "sec": "seconds,second", "secs": "seconds", "mins": "minutes",
    "V": "volts,volt", "Dr.": "doctor",
    "Dr": "doctor", "Mr.": "mister", "Mr": "mister", "Mrs.": "missus", "Mrs": "missus", "Ms.": "miss", "Ms": "miss",
    "Prof.": "professor", "St.": "saint,street", "St": "saint,street", "Ave.": "avenue", "Ave": "avenue",
    "Rd.": "road", "Rd": "road", "Blvd.": "boulevard", "Blvd": "boulevard", "Apt.": "apartment", "Apt": "apartment",
    "No.": "number", "vs.": "versus", "etc.": "et cetera", "ext.": "extension", "ext": "extension", "Jr.": "junior",
    "Sr.": "senior", "Inc.": "incorporated", "Corp.": "corporation", "www": "double you double you double you",
    "1/2": "half,a half,one half", "1/4": "quarter,a quarter,one quarter,one fourth",
    "3/4": "three quarters,three fourths", "1/3": "a third,one third", "2/3": "two thirds", ".5": "and a half",
    " 1/2": "and a half", " 1/4": "and a quarter", " 3/4": "and three quarters", ".25": "and a quarter",
    "p.m.": "p m", "a.m.": "a m", "P.M.": "p m", "A.M.": "a m", "12:00": "noon,midday", "12:00 PM": "noon,midday",
    "0:00": "midnight", "00:00": "midnight", "12:00 AM": "midnight", "Mon": "monday", "Tue": "tuesday",
    "Wed": "wednesday", "Thu": "thursday", "Fri": "friday", "Sat": "saturday", "Sun": "sunday", "Jan": "january",
    "Feb": "february", "Mar": "march", "Apr": "april", "Jun": "june", "Jul": "july", "Aug": "august",
    "Sep": "september", "Sept": "september", "Oct": "october", "Nov": "november", "Dec": "december",
}  # fmt: skip
_ABBREVIATION_COST = 1.2


def letter_phrases() -> dict[Phrase, Writings]:
    """Digits one by one, letters by their names or in NATO's alphabet, and as capitals."""
    found: dict[Phrase, list[tuple[str, float]]] = {}
    for word, digit in DIGITS.items():
        found.setdefault((word,), []).append((digit, 1.0))
    for word, cost in _OTHER_ZEROS.items():
        found.setdefault((word,), []).append(("0", cost))
    names: list[tuple[Phrase, str, float]] = [((letter,), letter, 1.0) for letter in LETTERS]
    names += [(("zee",), "z", 1.0), (("zed",), "z", 1.0), (("double", "you"), "w", 1.0), (("x", "ray"), "x", 1.0)]
    names += [((word,), word[0], 1.0) for word in _NATO]
    for words, letter, cost in names:
        cost += 0.2 if letter == "o" and words == ("o",) else 0.0  # mostly "oh", the digit
        found.setdefault(words, []).extend([(letter, cost), (letter.upper(), cost + _UPPER)])
        for prefix in (("capital",), ("upper", "case"), ("uppercase",)):
            found.setdefault((*prefix, *words), []).append((letter.upper(), cost))
        for prefix in (("lower", "case"), ("lowercase",), ("small",)):
            found.setdefault((*prefix, *words), []).append((letter, cost))
    return {words: tuple(writings) for words, writings in found.items()}


def symbol_phrases() -> dict[Phrase, Writings]:
    """Symbols by their names, units, titles and other abbreviations."""
    found: dict[Phrase, list[tuple[str, float]]] = {}
    for table, cost in ((_SYMBOLS, 1.0), (_ABBREVIATIONS, _ABBREVIATION_COST)):
        for written, ways in table.items():
            for way in ways.split(","):
                found.setdefault(tuple(way.split()), []).append((written, cost))
    return {words: tuple(writings) for words, writings in found.items()}


class Repeats:
    """Two or three of a digit or of a letter: "double five", "triple w"."""

    def steps(self, state: Hashable, word: str) -> Iterable[Step]:
        """See `Machine`."""
        if state is None:
            if word in ("double", "triple"):
                yield Step("", 2 if word == "double" else 3)
            return
        assert isinstance(state, int)
        if word in DIGITS or word in ("oh", "o"):
            yield Step(DIGITS.get(word, "0") * state, None, 1.0)
        if len(word) == 1:
            yield Step(word * state, None, 1.0)
            yield Step(word.upper() * state, None, 1.0 + _UPPER)

    def endings(self, state: Hashable) -> Writings:
        """See `Machine`."""
        return ()

    def shapes(self, state: Hashable) -> Iterable[str]:
        """See `Machine`."""
        assert isinstance(state, int)
        return [ANY_DIGIT * state, *(letter * state for letter in LETTERS + LETTERS.upper())]

    def vocabulary(self, allows: Allows, spells: Allows) -> Iterable[str]:
        """See `Machine`."""
        return ("double", "triple") if any(map(allows, "0123456789")) or any(map(spells, LETTERS)) else ()


class SpeltLetters:
    """A letter and a word that begins with it: "v as in victor", "b for boy"."""

    _EXAMPLES = frozenset([*_NATO, *_EXAMPLES])
    _LINKS = {"as": ("in",), "for": (), "like": (), "in": ()}

    def steps(self, state: Hashable, word: str) -> Iterable[Step]:
        """See `Machine`: a state is the letter and the words that must follow before the example."""
        if state is None:
            if len(word) == 1:
                yield Step("", (word, None))
            return
        assert isinstance(state, tuple)
        letter, links = state
        if links is None:
            if word in ("as", "for", "like"):
                yield Step("", (letter, self._LINKS[word]))
        elif links:
            if word == links[0]:
                yield Step("", (letter, links[1:]))
        elif word in self._EXAMPLES and word[0] == letter:
            yield Step(letter, None, 1.0)
            yield Step(letter.upper(), None, 1.0 + _UPPER)

    def endings(self, state: Hashable) -> Writings:
        """See `Machine`."""
        return ()

    def shapes(self, state: Hashable) -> Iterable[str]:
        """See `Machine`."""
        assert isinstance(state, tuple)
        return (state[0], state[0].upper())

    def vocabulary(self, allows: Allows, spells: Allows) -> Iterable[str]:
        """See `Machine`."""
        letters = set(filter(spells, LETTERS))
        if len(letters) < 5:
            return ()
        return ["as", "in", "for", "like", *(word for word in self._EXAMPLES if word[0] in letters)]

"""Spoken words to what is written, against lm.verbalize, which goes the other way."""

import re

import numpy as np
import pytest

from lm.grammar.errors import GrammarError
from lm.grammar.readings import ANY_DIGIT, START, Shapes, default_readings
from lm.verbalize import cardinal, digits, ordinal, year


def written(spoken, readings=None):
    """Everything that may be written for the words, units without anything between them, and the least cost of each."""
    readings = readings or default_readings()
    ways = {("", START): 0.0}
    for word in spoken.split():
        following = {}
        for (text, mode), cost in ways.items():
            for output, after, price in readings.after(mode, word):
                for ending, more in [("", 0.0)] if after is START else [(None, 0.0), *readings.endings(after)]:
                    key = (text + output, after) if ending is None else (text + output + ending, START)
                    following[key] = min(following.get(key, np.inf), cost + price + more)
        ways = following
    return {text: cost for (text, mode), cost in ways.items() if mode is START}


def cheapest(spoken, pattern):
    """The cheapest text that matches a pattern."""
    fitting = {text: cost for text, cost in written(spoken).items() if re.fullmatch(pattern, text)}
    return min(fitting, key=fitting.get) if fitting else None


_LARGE = np.random.default_rng(0).integers(100, 10**9, 100).tolist()
NUMBERS = sorted({*range(130), *(10**k for k in range(9)), *_LARGE})


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_are_read_back(number):
    found = written(cardinal(number))
    assert str(number) in found
    assert cheapest(cardinal(number), r"\d+") == str(number) or number < 10
    assert f"{number:,}" in found
    with_and = re.sub(r"hundred (?=\w)", "hundred and ", cardinal(number))
    if not re.search(r"and (thousand|million)", with_and):
        assert str(number) in written(with_and)


@pytest.mark.parametrize("number", [n for n in NUMBERS if 0 < n < 100_000])
def test_ranks_are_read_back(number):
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    assert f"{number}{suffix}" in written(ordinal(number))


@pytest.mark.parametrize("number", range(1100, 2100, 13))
def test_years_are_read_back(number):
    assert str(number) in written(year(number))


@pytest.mark.parametrize("number", ["0", "5551234", "9071", "11122", "00"])
def test_digits_are_read_back(number):
    assert cheapest(digits(number), r"\d+") == number


@pytest.mark.parametrize(
    ("spoken", "pattern", "expected"),
    [
        ("double five triple oh seven", r"\d+", "550007"),
        ("nine hundred five five five", r"\d{6}", "900555"),
        ("twenty two", r"\d+", "22"),
        ("a hundred and one", r"\d+", "101"),
        ("nineteen hundred", r"\d+", "1900"),
        ("four point five", r"\d\.\d", "4.5"),
        ("b x ray double a", "[A-Z]+", "BXAA"),
        ("v as in victor e for easy capital q", "[A-Z]+", "VEQ"),
        ("capital j smith", "[A-Z].*", None),
        ("zed zee double you", "[a-z]+", "zzw"),
        ("dot at underscore dash slash", r"\W+|\W+_\W+", ".@_-/"),
        ("eighteen dollars and four cents", r"\$.+", "$18.04"),
        ("twelve hundred dollars", r"\$[\d,]+", "$1200"),
        ("nineteen pounds ninety nine", r"£.+", "£19.99"),
        ("ninety nine cents", r"\$.+|\d+¢", "$0.99"),
        ("twenty five fifty", r"\$.+", "$25.50"),
        ("thirty percent", ".*%", "30%"),
        ("half past three", r".*:.*", "3:30"),
        ("quarter to one", r".*:.*", "12:45"),
        ("a quarter after twelve", r".*:.*", "12:15"),
        ("twenty minutes to six", r".*:.*", "5:40"),
        ("twelve o'clock", r".*:.*", "12:00"),
        ("three fifteen p m", r"\d\d:\d\d", "15:15"),
        ("seven oh five a m", r"\d\d:\d\d", "07:05"),
        ("three p m", r"\d+:\d\dPM", "3:00PM"),
        ("midnight", r"\d:\d\d", "0:00"),
        ("november twenty second twenty twenty six", r"\d{4}-\d\d-\d\d", "2026-11-22"),
        ("the fifth of may nineteen oh five", r"\d+/\d+/\d{4}", "5/5/1905"),
        ("march third", r"\d+/\d+", "3/3"),
        ("march four two thousand and nine", r"\d\d/\d\d/\d\d", "03/04/09"),
        ("the first of june", r"[A-Z]\w+ \d+", "June 1"),
        ("february thirtieth", r"\d+/\d+", None),
        ("two and a half", r"\d\.\d", "2.5"),
        ("twelve thirty p m", r"\d\d:\d\d", "12:30"),
        ("twelve thirty a m", r"\d\d:\d\d", "00:30"),
        ("twelve p m", r"\d\d:\d\d", "12:00"),
        ("kilo november", r"[A-Z]{2}", "KN"),
        ("november", r"Nov|Dec", "Nov"),
        ("five kilos", r"5kg", "5kg"),
        ("five miles an hour", r"\d+mph", "5mph"),
        ("nine kilowatt hours", r"\d+kWh", "9kWh"),
        ("two trillion", r"[\d,]+", "2000000000000"),
        ("a dollar", r"\$\d+", "$1"),
        ("a dollar fifty", r"\$\d+\.\d\d", "$1.50"),
        ("zero dollars", r"\$\d+", "$0"),
        ("fifty billion dollars", r"\$[\d,]+( billion)?", "$50 billion"),
        ("fifty billion dollars", r"\$[\d,]+", "$50000000000"),
        ("a million pounds", r"£\d+[MK]", "£1M"),
        ("one million two hundred thousand dollars", r"\$\d+ \w+", None),
        ("three point five million dollars", r"\$\d\.\d million", "$3.5 million"),
        ("three point five million dollars", r"\$[\d,]+", "$3500000"),
        ("three point five million dollars", r"\$\d,[\d,]+", "$3,500,000"),
        ("three point five million", r"[\d.]+( million)?", "3.5 million"),
        ("zero point two five dollars", r"\$0\.\d+", "$0.25"),
        ("three point five dollars", r"\$\d\.\d\d", "$3.50"),
        ("three point oh five million", r"\d+", "3050000"),
    ],
)
def test_what_is_written(spoken, pattern, expected):
    assert cheapest(spoken, pattern) == expected


@pytest.mark.parametrize(
    ("spoken", "never"),
    [
        ("twenty two", {"220", "2022"}),
        ("two hundred", {"2100", "2"}),
        ("five", {"50", "500", "55"}),
        ("hundred", {"100"}),
        ("fifteen minutes to", {"15"}),
        ("double", {"", "2"}),
        ("v as in boy", {"v", "V"}),
        ("november thirty first", {"11/31"}),
        ("thirteen p m", {"25:00", "13:00"}),
        ("fifteen thousand fifteen hundred", {"16500", "16,500"}),
    ],
)
def test_what_is_never_written(spoken, never):
    assert not never & written(spoken).keys()


def test_vocabulary_has_what_a_pattern_needs_and_little_more():
    of_digits = default_readings().vocabulary(str.isdecimal, lambda letter: False)
    assert {"five", "oh", "double", "twenty", "hundred", "thousand", "and"} <= of_digits
    assert not {"dot", "dollars", "x", "alpha", "o'clock", "percent", "november", "first"} & of_digits
    of_code = default_readings().vocabulary(lambda char: char.isdecimal() or char.isupper(), lambda letter: True)
    assert {"x", "ray", "alpha", "victor", "as", "in"} <= of_code
    assert default_readings().vocabulary(lambda char: False, lambda letter: False) == frozenset()


@pytest.mark.parametrize("ending", ["st", "nd", "rd", "th"])
def test_vocabulary_has_ranks_for_every_ending(ending):
    allowed = {*"0123456789", *ending}
    assert {"first", "second", "third", "fourth"} <= default_readings().vocabulary(
        allowed.__contains__, lambda _: False
    )


def unfit_shapes(spoken):
    """(words so far, what is written after them) of one unit where no shape of the mode announced it."""
    readings, words = default_readings(), spoken.split()
    trails = [("", START, ())]
    for said, word in enumerate(words, 1):
        trails = [
            (text + output, after, (*places, (said, after, len(text + output))))
            for text, mode, places in trails
            if mode is not START or said == 1
            for output, after, _ in readings.after(mode, word)
        ]
    return [
        (words[:said], text[start:] + ending)
        for text, mode, places in trails
        for ending, _ in readings.endings(mode)
        for said, at, start in places
        if at is not START
        and not any(
            re.match(re.escape(shape).replace(ANY_DIGIT, r"\d"), text[start:] + ending)
            for shape in readings.shapes(at).shapes
        )
    ]


@pytest.mark.parametrize(
    "spoken",
    [
        *(cardinal(number) for number in NUMBERS),
        *(f"{cardinal(number)} dollars and five cents" for number in NUMBERS[::9]),
        *(year(number) for number in range(1100, 2100, 41)),
        *(f"{ones} hundred" for ones in ("a", "ten", "twelve", "fifteen", "thirty", "thirty five")),
        "a thousand", "a thousand and five", "a hundred thousand dollars", "two thousand five hundred",
        "two million five hundred", "five million three thousand two",
        "five million three thousand two hundred dollars", "fifteen hundred dollars", "twelve hundred and six",
        "two million fifteen hundred", "thirty five fifty", "thirty first of may",
        "the thirty first of may two thousand five", "may thirteenth", "may five nineteen oh five",
        "november twenty second twenty twenty six", "the second of february", "half past three",
        "twenty five to nine", "three fifteen p m", "three p m", "twelve a m", "twelve thirty a m",
        "nine oh five a m", "a quarter to one", "eleven o'clock", "five minutes past ten", "twenty two to twelve",
        "forty cents", "five cents", "fifty billion dollars", "a million dollars", "a dollar fifty", "two trillion",
        "two hundred fifty thousand pounds", "three point five million dollars", "zero point five million dollars",
        "one thousand two hundred point five million", "three point two five dollars", "zero dollars",
        "v as in victor", "double you", "twelve fifteen", "three twenty five",
    ],
)  # fmt: skip
def test_shapes_announce_all_that_may_be_written(spoken):
    assert unfit_shapes(spoken) == []


def test_words_of_a_mode_are_those_that_lead_on():
    readings = default_readings()
    modes = {reading.mode for reading in readings.after(START, "double")} - {START}
    words = set().union(*map(readings.words, modes))
    assert {"five", "oh", "b", "quote", "you"} <= words
    assert not {"double", "dollars", "twenty"} & words


def test_ways_of_ones_own():
    readings = default_readings().extended({"☎": ["phone", "phone number"]})
    assert "☎5" in written("phone number five", readings)
    assert "phone" in readings.vocabulary(lambda char: char == "☎", lambda letter: False)
    assert "☎5" not in written("phone number five")


@pytest.mark.parametrize("spoken", [{"": ["x"]}, {"x": []}, {"x": "word"}, {"x": [""]}, {"x": ["4 you"]}])
def test_ways_that_cannot_be_used(spoken):
    with pytest.raises(GrammarError, match="readings"):
        default_readings().extended(spoken)


def test_shapes_share_what_is_equal_and_end_with_the_shortest():
    known = {}
    tree = Shapes.of(frozenset({"1:00", "2:00", "$"}), known)
    following = dict(tree.following)
    assert sorted(following) == ["$", "1", "2"]
    assert following["1"] is following["2"] is Shapes.of(frozenset({":00"}), known)
    assert following["$"].is_end
    assert not tree.is_end
    assert Shapes.of(frozenset({"", "5"}), known).is_end

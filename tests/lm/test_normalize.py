import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.normalize import normalize_for_wer, normalize_text
from lm.verbalize import cardinal, ordinal, year


@pytest.mark.parametrize(
    ("line", "spoken"),
    [
        ("Hello, world!\n", "hello world"),
        ("Mr. O'Neil met Mrs. Smith, etc.", "mister o'neil met missus smith et cetera"),
        ("Dr. Jones Jr. vs. Prof. X", "doctor jones junior versus professor x"),
        ("Wait—what? A café, naïve.", "wait what a cafe naive"),
        ("well-known and/or late", "well known and or late"),
        ("don’t ‘quote’ “me”", "don't quote me"),
        ("'I am here,' he said, 'Tis true.", "i am here he said 'tis true"),
        ("the boys' and parents' goin' home o' late", "the boys' and parents' goin' home o' late"),
        ("'the boys' said", "the boys said"),
        ("I 'd say we do n't, it 's fine", "i'd say we don't it's fine"),
        (
            "in 1984, 2004, 1905 and 1900",
            "in nineteen eighty four two thousand four nineteen oh five and nineteen hundred",
        ),
        ("the 80's and 1990s", "the eighties and nineteen nineties"),
        ("on the 21st and the 3rd", "on the twenty first and the third"),
        ("at 7:30 PM, 9:05 or 6pm", "at seven thirty p m nine oh five or six p m"),
        ("3.14 and 5,000 and 2,000,000", "three point one four and five thousand and two million"),
        ("call 555-1234", "call five five five one two three four"),
        ("$3.50, $1 and £2.02", "three dollars and fifty cents one dollar and two pounds and two pence"),
        ("$48 billion or $2.5m", "forty eight billion dollars or two point five million dollars"),
        ("45% & 70° + #5", "forty five percent and seventy degrees plus number five"),
        ("won 24-20 in 5km", "won twenty four to twenty in five kilometers"),
        ("agent 007 dialled 12345678", "agent zero zero seven dialled one two three four five six seven eight"),
        ("see Digital.gov now", "see digital dot gov now"),
        ("he did so [17].", "he did so"),
        ("Jan. 16, 2034", "january sixteen twenty thirty four"),
    ],
)
def test_spoken_forms(line, spoken):
    assert normalize_text(line) == spoken.split()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   \n",
        "... --- !!!",
        "see https://example.org/a",
        "write to me@example.org",
        "call foo_bar now",
        "if (x == y) { return; }",
        "| a | b |",
        "open src/main/file and run",
        "read README.md first",
        "a = b * c * d @ e # f / g",
    ],
)
def test_lines_without_speech(line):
    assert normalize_text(line) is None


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_words_are_letters_and_apostrophes(line):
    words = normalize_text(line)
    if words is not None:
        assert words
        assert all(set(word) <= set("abcdefghijklmnopqrstuvwxyz'") and word.strip("'") for word in words)


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_normalised_text_stays(line):
    """Words that came out go in again unchanged, but for apostrophes that read as quotes in another place."""
    words = normalize_text(line.replace("'", " "))
    if words is not None:
        assert normalize_text(" ".join(words)) == words


@given(st.integers(0, 10**15 - 1))
def test_cardinals_can_be_read_back(number):
    assert read_number(cardinal(number)) == number


def read_number(text):
    """An independent reader of English numbers."""
    small = {cardinal(n): n for n in range(20)} | {cardinal(n): n for n in range(20, 100, 10)}
    total = group = 0
    for word in text.split():
        if word == "hundred":
            group *= 100
        elif word in ("thousand", "million", "billion", "trillion"):
            total += group * {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}[word]
            group = 0
        else:
            group += small[word]
    return total + group


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "zeroth"), (1, "first"), (2, "second"), (3, "third"), (5, "fifth"), (8, "eighth"), (12, "twelfth"),
     (9, "ninth"), (20, "twentieth"), (42, "forty second"), (100, "one hundredth"), (1003, "one thousand third")],
)  # fmt: skip
def test_ordinals(number, words):
    assert ordinal(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(1066, "ten sixty six"), (1800, "eighteen hundred"), (2000, "two thousand"), (2009, "two thousand nine"),
     (2010, "twenty ten"), (2024, "twenty twenty four")],
)  # fmt: skip
def test_years(number, words):
    assert year(number) == words


def test_normalize_for_wer():
    assert normalize_for_wer("  DON'T—Stop, 'now' ’tis\n") == "don't stop 'now' 'tis"
    assert normalize_for_wer("Émile's 5 cafés") == "emile's cafes"
    assert normalize_for_wer("' -- '") == ""

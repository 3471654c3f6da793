"""The plain words that a pattern writes."""

import pytest

from lm.grammar.errors import GrammarTooLargeError
from lm.grammar.syntax import parse
from lm.grammar.vocabulary import spoken_vocabulary

NAMES = ["John Smith", "ann", "O'Neil 2"]


@pytest.mark.parametrize(
    ("pattern", "words", "open_classes"),
    [
        ("colou?r", "color colour", 0),
        ("(un)?likely lights?", "unlikely likely light lights", 0),
        ("(?i)Don't stop", "don't stop", 0),
        ("[bc]at [a-z]-[A-Z]", "bat cat", 0),
        ("mc[a-z]+", "mc", 1),
        (r"\w{2,20} .{0,9}", "", 1),
        ("(ha){1,3}", "ha haha hahaha", 0),
        ("(?:[bc]at )+x{0}", "bat cat", 0),
        ("{names}-{names}", "john smith ann o'neil", 0),
        ("{names}s", "john smith smiths anns o'neil s", 0),
        (r"\d\d:\d\d", "", 0),
        ("", "", 0),
    ],
)
def test_words_and_open_classes(pattern, words, open_classes):
    vocabulary = spoken_vocabulary(parse(pattern), {"names": NAMES})
    assert vocabulary.words == set(words.split())
    assert len(vocabulary.open_classes) == open_classes


@pytest.mark.parametrize("pattern", ["(a|b)(c|d)" * 12, "{names}{names}"])
def test_too_many_words_are_refused(pattern):
    names = ["".join(chr(97 + index // 26**place % 26) for place in range(4)) for index in range(2_000)]
    with pytest.raises(GrammarTooLargeError):
        spoken_vocabulary(parse(pattern), {"names": names})

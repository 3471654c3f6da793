"""Patterns: what is refused, and where; which characters a set holds."""

import re

import pytest

from lm.grammar.charset import charset, fold
from lm.grammar.errors import GrammarError
from lm.grammar.nodes import Chars, Group, ListReference, Repeat, Sequence
from lm.grammar.syntax import parse


@pytest.mark.parametrize(
    ("pattern", "column", "message"),
    [
        ("ab)", 2, "closes nothing"),
        ("a(b", 1, "never closed"),
        ("a[b", 1, "never closed"),
        ("*a", 0, "nothing to repeat"),
        ("^*", 1, "nothing to repeat"),
        ("{3}", 0, "nothing to repeat"),
        ("a**", 1, "multiple repeat"),
        ("a{2}{3}", 1, "multiple repeat"),
        ("a++", 2, "possessive"),
        ("a{3,2}", 1, "minimum"),
        ("a{", 1, "literal|write"),
        ("(a)\\1", 3, "back-reference"),
        ("a(?=b)", 1, "look-ahead"),
        ("a(?<!b)", 1, "look-behind"),
        ("(?>a)", 0, "atomic"),
        ("(a)(?(1)b)", 3, "conditional"),
        ("(?P=a)", 0, "back-reference"),
        ("a\\b", 1, "not supported"),
        ("\\q", 0, "unknown escape"),
        ("\\x1", 0, "hexadecimal"),
        ("[b-a]", 1, "bad range"),
        ("[a-\\d]", 1, "bad range"),
        ("(?m)a", 2, "unsupported flag m"),
        ("a(?i)", 1, "at its start"),
        ("(?i)(?sm)a", 7, "unsupported flag m"),
        ("(?P<1>a)", 4, "bad group name"),
        ("(?P<a>a)(?P<a>b)", 12, "already"),
        ("a?^b", 2, "depends on the text"),
        ("(?:a$)+", 4, "depends on the text"),
        ("a\\", 1, "backslash"),
    ],
)
def test_says_what_is_wrong_and_where(pattern, column, message):
    with pytest.raises(GrammarError, match=message) as caught:
        parse(pattern)
    assert caught.value.column == column


def test_flags_may_stand_in_several_groups():
    assert parse("(?i)(?s)a.") == parse("(?is)a.") != parse("(?i)a.")


def test_a_list_is_told_from_a_repeat():
    node = parse("{names}{2,}?b")
    assert isinstance(node, Sequence)
    assert node.parts[0] == Repeat(ListReference("names", 0), 2, None, lazy=True)


def test_groups_are_numbered_by_their_opening_parentheses():
    node = parse("((?P<x>a))")
    assert isinstance(node, Group)
    assert isinstance(node.body, Group)
    assert (node.index, node.name, node.body.index, node.body.name) == (1, None, 2, "x")


@pytest.mark.parametrize("flags", [0, re.IGNORECASE, re.ASCII, re.IGNORECASE | re.ASCII])
@pytest.mark.parametrize(
    "pattern",
    [
        "k",
        "[a-z]",
        "[^a-z]",
        r"\w",
        r"\W",
        r"[^\d_]",
        r"[\Dé]",
        "[À-Ö]",
        "[ß-\u02af]",
        "[^\x00-\U0001ffff]",
        "[]a^-]",
        r"[\b\-]",
    ],
)
def test_sets_hold_what_re_holds(pattern, flags):
    node = parse(pattern, flags)
    assert isinstance(node, Chars)
    expected = re.compile(pattern, flags)
    every = [*map(chr, range(0x3000)), *map(chr, range(0x3000, 0x110000, 97)), *"\ufb05\ufb06\u212a\u1fd3"]
    assert [char for char in every if char in node.chars] == [char for char in every if expected.fullmatch(char)]


def test_fold_is_the_same_for_exactly_what_re_takes_for_the_same():
    cased = "".join(char for char in map(chr, range(0x20000)) if {char.lower(), char.upper()} != {char})
    folded: dict[str, set[str]] = {}
    for char in cased:
        folded.setdefault(fold(char), set()).add(char)
    for char in cased[::7]:
        assert set(re.findall(f"[{re.escape(char)}]", cased, re.IGNORECASE)) == folded[fold(char)], char


@pytest.mark.parametrize(
    ("ranges", "categories", "empty"),
    [
        ([], "dD", True),
        ([(0, 0x10FFFF)], "", True),
        ([(0, 0x10FFFE)], "", False),
        ([(0x80, 0x10FFFF)], "W", False),
        ([], "Sw", False),
    ],
)
def test_knows_whether_a_negated_set_is_empty(ranges, categories, empty):
    assert charset(ranges, categories, negated=True).is_empty() == empty

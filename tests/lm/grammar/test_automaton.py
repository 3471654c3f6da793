"""The character automaton against Python's `re`, and against hostile patterns."""

import random
import re

import pytest

from lm.grammar.automaton import DEAD, CharAutomaton
from lm.grammar.errors import GrammarError, GrammarTooLargeError
from lm.grammar.syntax import parse


def automaton(pattern, flags=0, **lists):
    return CharAutomaton(parse(pattern, flags), lists, pattern)


def accepts(pattern, text, flags=0, **lists):
    built = automaton(pattern, flags, **lists)
    return built.is_accepting(built.run(built.start, text))


class RandomPattern:
    """A random pattern, and random texts that it may match."""

    ATOMS = (
        "a b c ab ba . [ab] [^a] [b-d] \\d \\w \\s \\D [\\da] [^\\Wa] é ſ K \\x41 \\- A".split(),
        "aaaabbbbcdAB1 \n-é".replace(" ", "") + " ",
    )
    REPEATS = ("*", "+", "?", "{2}", "{1,2}", "{,2}", "{2,}", "{0}", "{0,3}", "{1,}", "{2,3}")

    def __init__(self, source):
        self.source = source
        self.groups = 0

    def alternation(self, depth):
        return "|".join(self.sequence(depth) for _ in range(self.source.choice((1, 1, 2, 3))))

    def sequence(self, depth):
        return "".join(self.repeated(depth) for _ in range(self.source.choice((0, 1, 1, 2, 3))))

    def repeated(self, depth):
        item = self.item(depth)
        if self.source.random() < 0.4:
            item = (item if len(item) == 1 or item[0] in "([" else f"(?:{item})") + self.source.choice(self.REPEATS)
            item += self.source.choice(("", "", "?"))
        return item

    def item(self, depth):
        if depth == 0 or self.source.random() < 0.4:
            return self.source.choice(self.ATOMS[0])
        kind = self.source.choice(("?:", "?i:", "?s:", "named", "named", "named"))
        if kind == "named":
            self.groups += 1
            kind = f"?P<g{self.groups}>"
        return f"({kind}{self.alternation(depth - 1)})"

    def text(self):
        return "".join(self.source.choice(self.ATOMS[1]) for _ in range(self.source.choice((0, 1, 2, 3, 4, 6))))


def text_of(automaton_, source):
    """A random walk through the automaton, which ends where the text matches."""
    state, text = automaton_.start, ""
    while state != DEAD and len(text) < 8:
        if automaton_.is_accepting(state) and source.random() < 0.3:
            return text
        onward = [char for char in RandomPattern.ATOMS[1] if automaton_.step(state, char) != DEAD]
        if not onward:
            break
        text += source.choice(onward)
        state = automaton_.step(state, text[-1])
    return text


def test_agrees_with_re_on_acceptance_and_on_the_last_span_of_every_group():
    source = random.Random(20)
    pairs = matches = groups = 0
    while pairs < 20_000:
        made = RandomPattern(source)
        pattern = made.alternation(2)
        if len(pattern) > 40:  # in the bigger ones `re` may take for ever
            continue
        flags = source.choice((0, 0, 0, re.IGNORECASE, re.DOTALL, re.ASCII, re.IGNORECASE | re.ASCII))
        expected, built = re.compile(pattern, flags), automaton(pattern, flags)
        for text in [made.text() for _ in range(6)] + [text_of(built, source) for _ in range(6)]:
            pairs += 1
            match, oracle = built.fullmatch(text), expected.fullmatch(text)
            accepted = built.is_accepting(built.run(built.start, text))
            assert (match is not None) == accepted == (oracle is not None), (pattern, flags, text)
            if match is not None and oracle is not None:
                matches += 1
                last = {name: spans[-1] if spans else (-1, -1) for name, spans in match.groups.items()}
                assert last == {name: oracle.span(name) for name in oracle.groupdict()}, (pattern, flags, text)
                groups += sum(span != (-1, -1) for span in last.values())
    assert matches > pairs / 4
    assert groups > 2_000


@pytest.mark.parametrize(
    ("pattern", "text", "accepted"),
    [
        ("((a*)*)*b", "a" * 300 + "b", True),
        ("((a*)*)*b", "a" * 300, False),
        ("(a|b|ab)*c", "ab" * 300 + "c", True),
        ("(a?){1,129}", "a" * 129, True),
        ("(a?){1,129}", "a" * 130, False),
        (r"(\d{1,129}){1,129}", "7" * 500, True),
        (r"(\d{2,129}){2,129}x", "7" * 200 + "x", True),
        ("(((a{1,100}){1,100}){1,100})", "a" * 500, True),
        ("|".join(f"word{index}" for index in range(10_000)), "word9876", True),
        ("(" * 50 + "a" + ")" * 50, "a", True),
        ("", "", True),
        ("", "a", False),
        ("\U0001d538+\u00e9", "\U0001d538\U0001d538\u00e9", True),
        ("[\U0001f600-\U0001f64f]", "\U0001f610", True),
    ],
)
def test_hostile_patterns_are_decided(pattern, text, accepted):
    assert accepts(pattern, text) == accepted


@pytest.mark.parametrize(
    "pattern", ["a" * 1_000_000, "(" * 5_000 + ")" * 5_000, "a{1,10001}", "a{99999999999999999999}"]
)
def test_hostile_patterns_are_refused(pattern):
    with pytest.raises(GrammarTooLargeError):
        parse(pattern)


def test_too_many_configurations_are_refused():
    built = automaton(r"(?:(?:a|aa){3000,5000}|b){3000,5000}")
    with pytest.raises(GrammarTooLargeError):
        built.run(built.start, "a" * 5_000)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"ab[^\s\S]|ac", "ab"),
        (r"a(?:b[^\d\D])*c", "ab"),
        ("ab{none}|ac", "ab"),
        ("aab^c|ad", "aa"),
        ("ab$c|ad", "ab"),
        ("(?:abc){2}", "abcabca"),
        ("(?i)a[^\\W\\w]|b", "A"),
    ],
)
def test_a_text_that_nothing_can_complete_is_dead(pattern, text):
    built = automaton(pattern, none=[])
    assert built.run(built.start, text) == DEAD


def test_a_pattern_that_matches_nothing_starts_dead():
    built = automaton(r"a[^\w\W]")
    assert built.start == DEAD
    assert built.step(built.start, "a") == DEAD
    assert built.fullmatch("") is None


def test_lists_agree_with_re_alternatives():
    source = random.Random(3)
    for _ in range(60):
        entries = ["".join(source.choices("abAé", k=source.randint(1, 4))) for _ in range(source.randint(1, 12))]
        flags = source.choice((0, re.IGNORECASE))
        longest_first = "|".join(map(re.escape, sorted(entries, key=len, reverse=True)))
        built = automaton("(?P<name>{names})+-?(?P<last>{names})?", flags, names=entries)
        expected = re.compile(f"(?P<name>{longest_first})+-?(?P<last>{longest_first})?", flags)
        for _ in range(60):
            text = "".join(source.choices([*entries, "a", "-"], k=source.randint(0, 4)))
            match, oracle = built.fullmatch(text), expected.fullmatch(text)
            assert (match is None) == (oracle is None), (entries, text)
            if match is not None and oracle is not None:
                for group in ("name", "last"):
                    assert (match.groups[group] or [(-1, -1)])[-1] == oracle.span(group)


def test_every_iteration_of_a_group_has_its_span():
    match = automaton("(?:(?P<word>{names}) ?)+", names=["ann", "jo", "john"]).fullmatch("ann johnjo")
    assert match is not None
    assert match.groups == {"word": [(0, 3), (4, 8), (8, 10)]}


def test_allows_the_characters_of_sets_and_lists():
    built = automaton("a[0-3](?i:{names})", names=["Zoë"])
    assert all(built.allows(char) for char in "a03zZoOëË")
    assert not any(built.allows(char) for char in "b4A-")


def test_unknown_lists_and_empty_entries_are_refused():
    with pytest.raises(GrammarError, match="unknown list 'name'; the known lists: cities, names"):
        automaton("a{name}", names=["a"], cities=["b"])
    with pytest.raises(GrammarError, match="none of them empty"):
        automaton("a{names}", names=["a", ""])

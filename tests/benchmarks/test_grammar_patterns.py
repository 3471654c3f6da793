"""The patterns that grammars are timed on, and the cases of the benchmarks next to them."""

import re

import pytest

from benchmarks.grammar_compile import HOSTILE, compiled, read_patterns
from benchmarks.grammar_rivals import ByteWords
from lm.grammar.errors import GrammarError
from lm.grammar.grammar import Grammar

PATTERNS = read_patterns()


def test_one_for_each_use_case():
    assert len(PATTERNS) == len({pattern.name for pattern in PATTERNS}) == 66


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_examples_match_as_they_should(pattern):
    grammar = compiled(pattern)
    for text in pattern.matches:
        assert grammar.fullmatch(text)
        assert re.fullmatch(pattern.expanded, text)
    assert not grammar.fullmatch(pattern.matches_not)
    assert not re.fullmatch(pattern.expanded, pattern.matches_not)


@pytest.mark.parametrize("name", ["1 MB of brackets", "huge repeat", "back-reference", "unknown list"])
def test_hostile_patterns_are_refused(name):
    with pytest.raises(GrammarError):
        Grammar(HOSTILE[name])


def test_tokenizer_takes_the_longest_word():
    tokenizer = ByteWords(["call", "caller", "é"])
    assert [tokenizer.tokens[token] for token in tokenizer("callers é")] == [b"caller", b"s", b" ", "é".encode()]

"""Pronunciations of a grammar's words: what differs from those of a lexicon."""

import numpy as np
import pytest

from lm.grammar.grammar import Grammar
from lm.grammar.pronouncing import pronounce_words
from lm.letters import LETTER_NAMES, letter_variants
from lm.lexicon_build import assemble_lexicon
from lm.phones import arpabet_to_ids
from lm.pronouncer import Pronouncer
from lm.vocabulary import SPECIAL_WORDS

ARTICLE, VERB, STUTTER = ((4,), (3, 24), (24, 4, 24))
NAMES = {half: LETTER_NAMES[half[0]] + LETTER_NAMES["m"] for half in ("am", "pm")}


@pytest.fixture(scope="module")
def pronouncer():
    listed = {"a": {ARTICLE: 0.0}, "am": {VERB: 0.0}, "m": {VERB: -0.5, STUTTER: 0.0}, "cat": {(5, 6): 0.0}}
    words = [*SPECIAL_WORDS, *listed]
    return Pronouncer(assemble_lexicon(words, listed, np.zeros(len(words))), None)


def spoken(pattern, pronouncer):
    return pronounce_words(Grammar(pattern).automaton, pronouncer)


@pytest.mark.parametrize("pattern", [r"\d:\d\d (AM|PM)", r"[A-Z]{3}\d", r"\d:\d\d"])
def test_a_letter_is_no_article(pronouncer, pattern):
    assert spoken(pattern, pronouncer)["a"] == {LETTER_NAMES["a"]: 0.0}


@pytest.mark.parametrize("pattern", ["a cat", r"a cat at \d:\d\d", r"a [A-Z]\d", r"\$\d+"])
def test_an_article_stays_one(pronouncer, pattern):
    assert ARTICLE in spoken(pattern, pronouncer)["a"]


def test_halves_of_the_day_are_spelt(pronouncer):
    found = spoken(r"\d (AM|PM)", pronouncer)
    assert {half: found[half] for half in NAMES} == {half: {names: 0.0} for half, names in NAMES.items()}
    assert spoken("I am", pronouncer)["am"] == {VERB: 0.0}


def test_other_words_are_as_the_lexicon_says(pronouncer):
    assert spoken("a cat", pronouncer)["cat"] == {(5, 6): 0.0}


def test_a_letter_does_not_stutter():
    variants = letter_variants("m", {VERB: -0.5, STUTTER: 0.0})
    assert variants == {LETTER_NAMES["m"]: 0.0, VERB: -1.5}


def test_a_letter_is_not_another_one():
    (name,) = arpabet_to_ids(["IY"])
    assert name not in letter_variants("h", {name: 0.0})

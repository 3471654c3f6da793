"""How the words of a grammar are spoken, where a lexicon alone would mislead."""

from __future__ import annotations

from lm.grammar.spoken import SpokenAutomaton
from lm.letters import LETTER_NAMES
from lm.pronouncer import Pronouncer, Variants

_HALVES_OF_THE_DAY = ("am", "pm")


def pronounce_words(automaton: SpokenAutomaton, pronouncer: Pronouncer) -> dict[str, Variants]:
    """Pronunciations of each word that may be said, those of open places apart.

    The article's weak vowel before "m" is all that is left of many a "p m", so where letters are said and the pattern
    writes no word "a", that is the letter's name alone; and "AM" beside "PM" is no verb.

    Args:
        automaton: what may be said.
        pronouncer: how words are spoken otherwise.
    """
    words = automaton.words()
    found = pronouncer.pronounce(words)
    if {"a", "m"} <= words and "a" not in automaton.spellings:
        found["a"] = {LETTER_NAMES["a"]: 0.0}
    if words.issuperset(_HALVES_OF_THE_DAY):
        found |= {half: {LETTER_NAMES[half[0]] + LETTER_NAMES["m"]: 0.0} for half in _HALVES_OF_THE_DAY}
    return found

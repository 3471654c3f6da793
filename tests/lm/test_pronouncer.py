"""Pronunciations of words that a lexicon lacks are kept, but not without end."""

import numpy as np

from lm.lexicon_build import assemble_lexicon
from lm.pronouncer import Pronouncer
from lm.vocabulary import SPECIAL_WORDS


class Guesser:
    """A letter-to-phoneme network that says one phoneme for each letter, and counts what it is asked."""

    def __init__(self):
        self.asked = []

    def pronounce_many(self, words, count):
        self.asked += words
        return [[(tuple(2 + ord(letter) - ord("a") for letter in word), -1.0)] for word in words]


def make_pronouncer():
    guesser = Guesser()
    words = [*SPECIAL_WORDS, "cat"]
    lexicon = assemble_lexicon(words, {"cat": {(4, 5, 6): 0.0}}, np.zeros(len(words)))
    return Pronouncer(lexicon, guesser), guesser


def test_unknown_words_are_asked_for_once():
    pronouncer, guesser = make_pronouncer()
    assert pronouncer.pronounce(["cat", "bab", "dad"]) == pronouncer.pronounce(["dad", "cat", "bab"])
    assert pronouncer.pronounce(["cat", "bab"]) == {"cat": {(4, 5, 6): 0.0}, "bab": {(3, 2, 3): 0.0}}
    assert guesser.asked == ["bab", "dad"]


def test_only_so_many_are_kept(monkeypatch):
    monkeypatch.setattr("lm.pronouncer._MOST_GUESSED", 3)
    pronouncer, guesser = make_pronouncer()
    for words in (["aa", "ab"], ["ac", "ad"], ["ad", "ae"], ["aa", "ad"]):
        assert list(pronouncer.pronounce(words)) == words
    assert guesser.asked == ["aa", "ab", "ac", "ad", "ae", "aa"]

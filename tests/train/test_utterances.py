import numpy as np
import pytest

from asr.train.utterances import KINDS, MOST_WORDS, Names, read_names, say_digits, say_time, utterance
from lm.normalize import normalize_text

N = 400


def made(kind, names=Names()):  # noqa: B008
    return [utterance(kind, np.random.default_rng([7, number]), names) for number in range(N)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_is_words_only_and_stays_as_it_is_when_normalised(kind):
    for text in made(kind):
        assert normalize_text(text) == text.lower().split()
        assert len(text.split()) <= MOST_WORDS


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_text_and_others_give_others(kind):
    assert made(kind)[:50] == made(kind)[:50]
    assert len(set(made(kind))) > N / 5


@pytest.mark.parametrize("kind", KINDS)
def test_about_half_have_words_around_them(kind):
    """A value alone is what the kind's function gives from the same random numbers; compare how often it is all."""
    bare = sum(
        text == KINDS[kind](np.random.default_rng([7, number]), Names()) for number, text in enumerate(made(kind))
    )
    assert 0.4 < bare / N < (0.9 if kind == "card" else 0.65)  # long card numbers have no room for more


@pytest.mark.parametrize(
    ("number", "options", "words"),
    [
        ("5507", {}, "five five zero seven"),
        ("5507", {"doubles": True, "zero": "oh"}, "double five oh seven"),
        ("90005", {"doubles": True}, "nine triple zero five"),
        ("77771", {"doubles": True}, "seven seven seven seven one"),
        ("0", {"zero": "oh"}, "oh"),
    ],
)
def test_digits(number, options, words):
    assert say_digits(number, **options) == words


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        ((3, 15, "P M"), "three fifteen P M"),
        ((7, 0, ""), "seven o'clock"),
        ((12, 5, ""), "twelve oh five"),
        ((6, 0, "A M"), "six A M"),
    ],
)
def test_times(clock, words):
    assert say_time(*clock) == words


def test_all_letters_of_the_alphabet_are_spelled_in_capitals():
    words = {word for text in made("spelling") + made("code") for word in text.split()}
    assert set("ABCDEFGHIJKLMNOPQRSTUVWXYZ") <= words
    assert not words & set("abcdefghjklmnopqrstuvwxyz")


def test_words_that_tell_letters_begin_with_them():
    for text in made("spelling"):
        words = text.split()
        for at, word in enumerate(words[:-2]):
            if word.isupper() and words[at + 1] == "for":
                assert words[at + 2][0].upper() == word
            elif word.isupper() and words[at + 1] == "as":
                assert words[at + 3][0].upper() == word


def test_names_come_from_the_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("Siobhán\nO'Neill\n\n")
    names = read_names(path)
    assert list(names.first) == ["siobhan", "o'neill"]
    words = {word for text in made("name", names) for word in text.split()}
    assert {"siobhan", "o'neill"} <= words
    assert "james" not in words


def test_a_file_without_names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("...\n")
    with pytest.raises(ValueError, match=r"names\.txt: expected names"):
        read_names(path)

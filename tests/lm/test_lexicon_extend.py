"""A lexicon with more words against one that was assembled with them."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.lexicon import Lexicon
from lm.lexicon_build import assemble_lexicon, extend_lexicon

SPECIAL = ["<unk>", "<s>", "</s>"]
Spoken = dict[str, dict[tuple[int, ...], float]]

variants = st.dictionaries(
    st.lists(st.integers(2, 6), min_size=1, max_size=5).map(tuple), st.integers(-8, 8).map(float), max_size=3
)
spoken_words = st.dictionaries(st.text("abcé'z", min_size=1, max_size=4), variants, max_size=10)


def shifted(spoken: Spoken) -> Spoken:
    """Log-probabilities relative to the best of the word."""
    return {word: {p: value - max(found.values()) for p, value in found.items()} for word, found in spoken.items()}


def log_probs(words: list[str]) -> np.ndarray:
    """Some log-probability of each word, the same for the same word."""
    return np.array([-1.0 - sum(word.encode()) % 13 / 2 for word in words])


def assemble(spoken: Spoken) -> Lexicon:
    words = [*SPECIAL, *spoken]
    return assemble_lexicon(words, spoken, log_probs(words))


@given(listed=spoken_words.filter(lambda spoken: any(spoken.values())), extra=spoken_words)
def test_equals_a_lexicon_assembled_with_all_words(listed: Spoken, extra: Spoken) -> None:
    both = {word: dict(found) for word, found in shifted(listed).items()}
    for word, found in shifted(extra).items():
        known = both.setdefault(word, {})
        for phonemes, value in found.items():
            known[phonemes] = max(value, known.get(phonemes, -np.inf))
    extended, expected = extend_lexicon(assemble(listed), extra, log_probs(list(extra))), assemble(both)
    for field in fields(Lexicon):
        value, other = getattr(extended, field.name), getattr(expected, field.name)
        assert np.array_equal(value, other), field.name
        assert field.name == "words_sha256" or value.dtype == other.dtype


@given(listed=spoken_words.filter(lambda spoken: any(spoken.values())), asked=st.lists(st.text("abcé'z", max_size=4)))
def test_finds_many_words_as_it_finds_one(listed: Spoken, asked: list[str]) -> None:
    lexicon = assemble(listed)
    one_by_one = [lexicon.find(word) for word in asked]
    assert lexicon.find_many(asked).tolist() == [-1 if found is None else found for found in one_by_one]


def test_raises_the_look_ahead_of_words_it_has() -> None:
    lexicon = assemble({"cat": {(3, 4): 0.0}, "dog": {(3, 5): 0.0}})
    raised = extend_lexicon(lexicon, {"cat": {(3, 4): 0.0}}, np.array([-0.5]))
    assert raised.node_lookahead.tolist() == [-0.5, -0.5, -0.5, float(lexicon.node_lookahead[3])]
    assert raised.entry_word.tolist() == lexicon.entry_word.tolist()


@pytest.mark.parametrize(
    ("extra", "n_log_probs", "message"),
    [
        ({"new": {(): 0.0}}, 1, "empty"),
        ({"": {(3,): 0.0}}, 1, "empty"),
        ({"new": {(3, 1): 0.0}}, 1, "no phoneme"),
        ({"new": {(3, 300): 0.0}}, 1, "no phoneme"),
        ({"new": {(3,): 0.0}}, 2, "log-probabilities"),
    ],
)
def test_refuses_what_cannot_be_spoken(extra: Spoken, n_log_probs: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extend_lexicon(assemble({"cat": {(3, 4): 0.0}}), extra, np.zeros(n_log_probs))

"""How many words a question is from its end: against a search over whole states, and where it decides what is drawn."""

from collections import deque
from itertools import islice

import pytest

from lm.query import Query, open_query_model, search
from lm.query.space import _NEVER, Space
from tests.lm.toy_query import WORDS, write_toy

PATTERNS = [
    r"\d{4}", r"\d{2}-?\d{3}", r"(call )?(anna|bob) now", r"[a-z]{3,12} at \d", r"[a-z]+ dot (?:anna|bob)",
    r"1[0-9]|the \d+ ten",
]  # fmt: skip


def nearest_end(space, state):
    """The oracle: whole states, breadth first."""
    waiting, seen = deque([(state, 0)]), {state}
    while waiting:
        state, n_words = waiting.popleft()
        if space.is_final(state):
            return n_words
        for following in space.successors(state):
            is_suffix = following[0] != state[0]
            if following not in seen:
                seen.add(following)
                (waiting.appendleft if is_suffix else waiting.append)((following, n_words + (not is_suffix)))
    return _NEVER


@pytest.mark.parametrize("suffix", ["", r" please| \d\d"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_words_to_the_end_are_those_of_a_search(pattern, suffix):
    space = Space(Query(pattern, suffix=suffix), WORDS)
    waiting, seen = deque([space.start]), {space.start}
    while waiting and len(seen) < 60:
        state = waiting.popleft()
        assert space.words_to_end(state) == nearest_end(space, state), state
        for following in space.successors(state):
            if following not in seen:
                seen.add(following)
                waiting.append(following)


def test_draws_of_an_open_place_end_within_their_words(tmp_path):
    model, _ = open_query_model(write_toy(tmp_path), words=tmp_path / "words.txt")
    query = Query("[a-z]+ dot (?:anna|bob)", max_words=5)
    answers = list(islice(search(model, query, strategy="sample", seed=3, limit=600), 600))
    assert len(answers) == 600
    assert max(len(answer.words) for answer in answers) == 5

"""Phrases: what a word sequence gets against a brute-force sum, lists that are refused, and how phrases are spoken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.lexicon import Lexicon
from lm.lexicon_build import assemble_lexicon
from lm.phones import PHONEME_ID
from lm.phrase_lexicon import MAX_LETTERS, MAX_WORDS, spoken_phrases
from lm.phrases import (
    MAX_PHRASES,
    MAX_WEIGHT,
    UNLISTED_LOG_SHARE,
    Phrase,
    PhraseError,
    PhraseScorer,
    compile_phrases,
    parse_phrases,
    read_phrases,
)
from lm.scorer import NullScorer, RememberingScorer

SPECIAL = ["<unk>", "<s>", "</s>"]
Boosted = dict[tuple[int, ...], tuple[float, ...]]

word_sequences = st.lists(st.integers(3, 6), max_size=12)


@st.composite
def boosted_phrases(draw: st.DrawFn) -> Boosted:
    words = draw(st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=4).map(tuple), max_size=8, unique=True))
    return {phrase: tuple(draw(st.integers(0, 12)) / 4 for _ in phrase) for phrase in words}


def ids(symbols: str) -> tuple[int, ...]:
    return tuple(PHONEME_ID[symbol] for symbol in symbols.split())


def occurrences(phrase: Sequence[int], words: Sequence[int]) -> int:
    return sum(tuple(words[i : i + len(phrase)]) == tuple(phrase) for i in range(len(words) - len(phrase) + 1))


def values(phrases: Boosted) -> dict[tuple[int, ...], float]:
    """Each phrase's boost less the values of the phrases in it, the shortest first."""
    found: dict[tuple[int, ...], float] = {}
    for phrase in sorted(phrases, key=len):
        inside = sum(value * occurrences(other, phrase) for other, value in found.items())
        found[phrase] = max(0.0, sum(phrases[phrase]) - inside)
    return found


def scores(scorer: PhraseScorer, words: Sequence[int]) -> list[float]:
    """What each word, and the end, gets."""
    state, found = scorer.start(), []
    for word in words:
        state, log_prob = scorer.step(state, word)
        found.append(log_prob)
    return [*found, scorer.finish(state)]


def boosts(phrases: Boosted, words: Sequence[int]) -> list[float]:
    return scores(PhraseScorer(NullScorer(), compile_phrases(phrases.items()), 100), words)


@given(phrases=boosted_phrases(), words=word_sequences)
def test_a_sequence_gets_the_values_of_all_phrases_in_it(phrases: Boosted, words: list[int]) -> None:
    expected = sum(value * occurrences(phrase, words) for phrase, value in values(phrases).items())
    assert sum(boosts(phrases, words)) == pytest.approx(expected, abs=1e-9)


@given(phrases=boosted_phrases(), words=word_sequences)
def test_what_is_lent_is_the_longest_beginning_less_what_was_earned_in_it(phrases: Boosted, words: list[int]) -> None:
    beginnings = {phrase[:n] for phrase in phrases for n in range(len(phrase) + 1)} | {()}
    end = next(tuple(words[i:]) for i in range(len(words) + 1) if tuple(words[i:]) in beginnings)
    begun = max((sum(boost[: len(end)]) for phrase, boost in phrases.items() if phrase[: len(end)] == end), default=0.0)
    earned = sum(value * occurrences(phrase, end) for phrase, value in values(phrases).items())
    assert -boosts(phrases, words)[-1] == pytest.approx(max(0.0, begun - earned), abs=1e-9)


def test_an_unfinished_phrase_gives_back_exactly_its_boost() -> None:
    phrases = {(3, 4, 5): (1.0, 2.0, 3.0)}
    assert boosts(phrases, [3, 4, 9]) == [1.0, 2.0, -3.0, 0.0]
    assert boosts(phrases, [3, 4]) == [1.0, 2.0, -3.0]
    assert boosts(phrases, [3, 4, 5, 9]) == [1.0, 2.0, 3.0, 0.0, 0.0]
    assert boosts(phrases, [3, 4, 3, 4, 5]) == [1.0, 2.0, -2.0, 2.0, 3.0, 0.0]  # the new beginning keeps its own


def test_a_phrase_inside_another_is_not_paid_twice() -> None:
    phrases = {(3,): (1.0,), (3, 4): (1.0, 2.0)}
    assert boosts(phrases, [3, 4, 3]) == [1.0, 2.0, 1.0, 0.0]
    assert boosts({(4,): (2.0,), (3, 4, 5): (1.0, 2.0, 3.0)}, [3, 4, 9]) == [1.0, 2.0, -1.0, 0.0]


class Bigram:
    """A scorer whose state is the last word; remembers what it was asked to."""

    def __init__(self, words: int) -> None:
        self.table = -np.random.default_rng(3).random((words, words))
        self.prepared: list[int] = []
        self.retained: list[int] = []

    def start(self) -> int:
        return 1

    def step(self, state: int, word: int) -> tuple[int, float]:
        return word, float(self.table[state, word])

    def finish(self, state: int) -> float:
        return float(self.table[state, 2])

    def prepare(self, states: Sequence[int]) -> None:
        self.prepared += states

    def is_crowded(self) -> bool:
        return False

    def retain(self, states: Sequence[int]) -> None:
        self.retained += states

    def begin_preview(self) -> None:
        """Unused."""

    def end_preview(self) -> None:
        """Unused."""


def test_the_inner_scorer_is_asked_about_words_it_knows() -> None:
    inner = Bigram(7)
    scorer = PhraseScorer(inner, compile_phrases([((8, 4), (1.0, 0.5))]), 7)
    table = inner.table
    expected = [
        table[1, 0] + UNLISTED_LOG_SHARE + 1.0,
        table[0, 4] + 0.5,
        table[4, 0] + UNLISTED_LOG_SHARE,
        table[0, 2],
    ]
    assert scores(scorer, [8, 4, 7]) == pytest.approx(expected)


def test_forgets_all_states_but_those_it_is_told() -> None:
    inner = Bigram(7)
    scorer = PhraseScorer(inner, compile_phrases([((3, 4), (1.0, 1.0))]), 7)
    assert isinstance(scorer, RememberingScorer)
    begun, plain = scorer.step(scorer.start(), 3)[0], scorer.step(scorer.start(), 5)[0]
    scorer.prepare([begun, plain])
    scorer.retain([begun])
    assert (inner.prepared, inner.retained) == ([3, 5], [3])
    assert scorer.step(begun, 4)[1] == pytest.approx(inner.table[3, 4] + 1.0)
    with pytest.raises(KeyError):
        scorer.step(plain, 4)


def test_reads_every_form_of_entry() -> None:
    assert parse_phrases(["a b", ("c", 2), ("d", "dee"), ("e", "ee", 0.5), Phrase("f")]) == [
        Phrase("a b"), Phrase("c", None, 2.0), Phrase("d", "dee"), Phrase("e", "ee", 0.5), Phrase("f"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("Siobhan", "list of phrases"),
        (3, "list of phrases"),
        (["a", 3], r"phrases\[1\]"),
        ([("a", "b", "c")], "weight must be a number"),
        ([("a", 1.0, "b")], "sounds-like, weight"),
        ([("a", "b", 1.0, 2.0)], "sounds-like, weight"),
        ([()], "sounds-like, weight"),
        ([(3, "b")], "sounds-like, weight"),
        ([" "], "empty"),
        ([("a", "")], "empty"),
        ([("a", 0)], "weight"),
        ([("a", -1.0)], "weight"),
        ([("a", float("nan"))], "weight"),
        ([("a", float("inf"))], "weight"),
        ([("a", MAX_WEIGHT + 1)], "weight"),
        ([("a", True)], "sounds-like"),
        (["a"] * (MAX_PHRASES + 1), f"at most {MAX_PHRASES}"),
    ],
)
def test_refuses_what_is_no_list_of_phrases(entries: object, message: str) -> None:
    with pytest.raises(PhraseError, match=message):
        parse_phrases(entries)  # type: ignore[arg-type]


def test_reads_files(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("\ufeffSiobhan\n\nNguyen\twin\t1.5\nXoloitzcuintli\t\t2\n", encoding="utf-8")
    assert read_phrases(path) == [Phrase("Siobhan"), Phrase("Nguyen", "win", 1.5), Phrase("Xoloitzcuintli", None, 2.0)]


@pytest.mark.parametrize("line", ["a\tb\tc", "a\tb\t1\t2", "a\tb\t-1", "\tb", "a\tb\tnan"])
def test_names_the_line_of_a_file_that_is_wrong(tmp_path: Path, line: str) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text(f"fine\n{line}\n")
    with pytest.raises(PhraseError, match=r"phrases\.txt:2"):
        read_phrases(path)


def test_refuses_files_that_are_no_text_or_too_long(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PhraseError, match="UTF-8"):
        read_phrases(path)
    path.write_text("a\n" * (MAX_PHRASES + 1))
    with pytest.raises(PhraseError, match="at most"):
        read_phrases(path)


LISTED = {"win": {ids("w ɪ n"): 0.0}, "she": {ids("ʃ i"): 0.0}, "jin": {ids("d͡ʒ ɪ n"): 0.0}, "ten": {ids("t ɛ n"): 0.0}}


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    words = [*SPECIAL, *(f"filler{n}" for n in range(1000)), *LISTED]
    return assemble_lexicon(words, LISTED, np.linspace(-1, -9, len(words)))


class Spelling:
    """Pronounces listed words as they are listed, and others letter by letter, as far as it knows the letters."""

    letters = {"a": "æ", "b": "b", "o": "ɑ", "n": "n", "s": "s", "i": "ɪ", "h": "h"}

    def __init__(self) -> None:
        self.n_asked = 0

    def pronounce(self, words: Sequence[str]) -> dict[str, dict[tuple[int, ...], float]]:
        words = list(words)
        self.n_asked += len(words)
        spelt = {
            word: {ids(" ".join(self.letters[letter] for letter in word)): 0.0}
            for word in words
            if set(word) <= set(self.letters)
        }
        return spelt | {word: LISTED[word] for word in words if word in LISTED}


def spoken_as(lexicon: Lexicon, word: str) -> set[tuple[int, ...]]:
    word_id = lexicon.find(word)
    assert word_id is not None
    return {phonemes for phonemes, _ in lexicon.pronunciations(word_id)}


def test_new_words_and_pronunciations_join_the_lexicon(lexicon: Lexicon) -> None:
    found = spoken_phrases(
        lexicon,
        Spelling(),
        parse_phrases(["Siobhan", ("Nguyen", "win"), ("Xi Jinping", "she jin"), ("Ten", "jin win"), "NBS", "10"]),
    )
    assert found.unspeakable == ()
    assert spoken_as(found.lexicon, "siobhan") == {ids("s ɪ ɑ b h æ n")}
    assert spoken_as(found.lexicon, "nguyen") == {ids("w ɪ n")}
    assert spoken_as(found.lexicon, "xi") == {ids("ʃ i")}
    assert spoken_as(found.lexicon, "jinping") == {ids("d͡ʒ ɪ n")}
    assert spoken_as(found.lexicon, "ten") == {ids("t ɛ n"), ids("d͡ʒ ɪ n w ɪ n")}
    assert spoken_as(found.lexicon, "nbs") == {ids("ɛ n b i ɛ s")}
    assert [found.lexicon.word(n) for n in range(len(lexicon))] == [lexicon.word(n) for n in range(len(lexicon))]


def test_rare_words_and_weights_get_more(lexicon: Lexicon) -> None:
    def boost(entry: object, word: str) -> float:
        found = spoken_phrases(lexicon, Spelling(), parse_phrases([entry]))  # type: ignore[list-item]
        word_id = found.lexicon.find(word)
        assert word_id is not None
        return scores(PhraseScorer(NullScorer(), found.automaton, 10**6), [word_id])[0]

    assert 0 < boost("she", "she") <= boost("Siobhan", "siobhan")
    assert boost(("Siobhan", 2.0), "siobhan") == pytest.approx(2 * boost("Siobhan", "siobhan"))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("!!!", "no letters"),
        ("北京", "letters other than a to z"),
        (("Siobhan", "北京"), "sounds-like"),
        (("Xi Jinping", "she jin win"), "3 words for 2"),
        ("xylophone", "'xylophone' is pronounced"),
        (("Siobhan", "xylophone"), "'xylophone' is pronounced"),
        ("she " * (MAX_WORDS + 1), "longer"),
        ("a" * (MAX_LETTERS + 1), "longer"),
    ],
)
def test_says_why_a_phrase_cannot_be_spoken(lexicon: Lexicon, entry: object, reason: str) -> None:
    found = spoken_phrases(lexicon, Spelling(), parse_phrases([entry, "win"]))  # type: ignore[list-item]
    ((text, why),) = found.unspeakable
    assert text == (entry if isinstance(entry, str) else entry[0])  # type: ignore[index]
    assert reason in why
    assert len(found.automaton.fail) == 2


def test_a_list_of_nothing_changes_nothing(lexicon: Lexicon) -> None:
    found = spoken_phrases(lexicon, Spelling(), [])
    assert len(found.lexicon) == len(lexicon)
    assert scores(PhraseScorer(NullScorer(), found.automaton, len(lexicon)), [3, 4]) == [0.0, 0.0, 0.0]


def test_the_longest_list_is_asked_for_at_once_and_stays_small(lexicon: Lexicon) -> None:
    letters = np.random.default_rng(7).choice(list("aoi"), (MAX_PHRASES, 9))
    entries = [" ".join("".join(part) for part in (row[:4], row[4:])) for row in letters]
    pronouncer = Spelling()
    found = spoken_phrases(lexicon, pronouncer, parse_phrases(entries))
    words = {word for entry in entries for word in entry.split()}
    assert pronouncer.n_asked == len(words)  # each once
    assert len(found.automaton.fail) <= 1 + 2 * MAX_PHRASES
    word_id = [found.lexicon.find(word) for word in entries[-1].split()]
    assert all(word is not None for word in word_id)

"""Alignment and error counts, against recursion over all alignments, jiwer, and the axioms of a distance."""

import functools

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.metrics import EditKind, ErrorCounts, align, count_errors, count_word_errors, edit_distance, normalize_text

short = st.lists(st.sampled_from("abc"), max_size=6)
sentence = st.lists(st.sampled_from(["the", "cat", "sat", "mat", "on"]), min_size=1, max_size=12).map(" ".join)


@functools.cache
def recursive_distance(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(
        recursive_distance(a[1:], b[1:]) + (a[0] != b[0]),
        recursive_distance(a[1:], b) + 1,
        recursive_distance(a, b[1:]) + 1,
    )


@given(short, short)
def test_distance_is_that_of_the_definition(a, b):
    assert edit_distance(a, b) == recursive_distance(tuple(a), tuple(b))


@given(short, short, short)
def test_distance_is_a_metric(a, b, c):
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


@given(short, short)
def test_alignment_reads_as_both_sequences_and_costs_the_distance(a, b):
    edits = align(a, b)
    assert [edit.reference for edit in edits if edit.kind is not EditKind.INSERTION] == a
    assert [edit.hypothesis for edit in edits if edit.kind is not EditKind.DELETION] == b
    for edit in edits:
        assert (edit.reference == edit.hypothesis) == (edit.kind is EditKind.MATCH)
    assert sum(edit.kind is not EditKind.MATCH for edit in edits) == edit_distance(a, b)


@given(sentence, sentence)
def test_rate_is_that_of_jiwer(reference, hypothesis):
    assert count_word_errors(reference, hypothesis).rate == pytest.approx(jiwer.wer(reference, hypothesis))


def test_counts_of_a_textbook_example():
    counts = count_errors(["the", "cat", "sat", "on", "the", "mat"], ["now", "the", "cat", "sit", "on", "mat"])
    assert counts == ErrorCounts(substitutions=1, deletions=1, insertions=1, reference_length=6)
    assert counts.rate == 0.5


def test_counts_pool():
    pooled = count_errors("ab", "b") + count_errors("abc", "abxcd")
    assert pooled == ErrorCounts(0, 1, 2, 5)


def test_empty_reference():
    assert count_errors([], []).rate == 0.0
    assert count_errors([], ["a"]).rate == float("inf")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop!", "don't stop"),
        ("  It\u2019s 'quoted',\nwell-known  ", "it's quoted well known"),
        ("Caf\u00e9 \u2014 3 p.m.", "caf\u00e9 3 p m"),
        ("", ""),
    ],
)
def test_normaliser(text, expected):
    assert normalize_text(text) == expected
    assert normalize_text(expected) == expected

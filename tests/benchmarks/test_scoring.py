import math
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.metrics import normalize_text
from benchmarks import scoring
from benchmarks.corpus import Clip


def clip(corpus, text):
    return Clip(Path("a.wav"), text, corpus, "dev", 2.0)


def test_counts_are_pooled_over_clips():
    counts = scoring.score(["a b c", "d e"], ["a x c y", "d"], normalize_text)
    assert (counts["substitutions"], counts["insertions"], counts["deletions"], counts["words"]) == (1, 1, 1, 5)
    assert counts["wer"] == 0.6


def test_interval_matches_all_resamples_of_two_clips():
    errors, lengths = [0, 10], [10, 10]
    rates = sorted(sum(errors[i] for i in draw) / 20 for draw in product(range(2), repeat=2))
    low, high = scoring.interval(errors, lengths)
    assert (low, high) == (rates[0], rates[-1])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=30))
def test_interval_lies_within_the_clips_rates_and_is_the_same_each_time(clips):
    errors, lengths = zip(*clips, strict=True)
    low, high = scoring.interval(errors, lengths)
    rates = [e / n for e, n in clips]
    assert min(rates) - 1e-9 <= low <= high <= max(rates) + 1e-9
    assert scoring.interval(errors, lengths) == (low, high)


def test_interval_narrows_with_more_clips():
    few = scoring.interval([0, 1, 2, 1], [10] * 4)
    many = scoring.interval([0, 1, 2, 1] * 50, [10] * 200)
    assert many[1] - many[0] < (few[1] - few[0]) / 3


def test_no_reference_words_have_no_interval():
    assert all(map(math.isnan, scoring.interval([1], [0])))


def test_whisper_normaliser_makes_spelt_and_written_forms_equal():
    pytest.importorskip("whisper_normalizer")
    clips = [clip("books", "MISTER SMITH PAID TWENTY FIVE DOLLARS"), clip("none", None)]
    scores = scoring.score_corpora(clips, ["Mr. Smith paid $25.", "anything"])
    assert list(scores) == ["books"]
    assert scores["books"]["whisper"]["wer"] == 0
    assert scores["books"]["plain"]["wer"] > 0
    assert scores["books"]["audio_s"] == 2.0


def test_last_word_errors():
    pytest.importorskip("whisper_normalizer")
    clips = [clip("a", "good night"), clip("a", "good morning"), clip("a", None), clip("a", "yes")]
    assert scoring.last_word_error_rate(clips, ["a night", "good", "x", ""]) == pytest.approx(2 / 3)

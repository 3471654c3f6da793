from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.types import Partial, Result, Word
from benchmarks import latency


def result(*words):
    return Result(tuple(Word(text, end - 0.2, end, 1.0) for text, end in words), 9.0)


def timeline(*partials):
    line, ended = latency.Timeline(), []
    for clock, partial in partials:
        ended = line.add(clock, ended, partial)
    return line


def test_words_are_timed_from_when_they_stand_for_good():
    line = timeline(
        (1.0, Partial("", "the cap")), (2.0, Partial("the", "cat")), (3.0, Partial("the", "cap sat")),
        (4.0, Partial("the cat", "sat")), (5.0, Partial("the cat sat", "", is_endpoint=True)), (6.0, Partial("", "")),
    )  # fmt: skip
    figures = latency.clip_figures(line, result(("the", 0.5), ("cat", 1.0), ("sat", 2.0)), "THE CAT SAT")
    assert figures["stable"] == pytest.approx([1.5, 3.0, 3.0])
    assert figures["shown"] == pytest.approx([0.5, 3.0, 1.0])
    assert figures["endpoint"] == pytest.approx([3.0])
    assert figures["changed"] == 3  # cap -> cat -> cap -> cat
    assert figures["early_endpoints"] == 0


def test_only_right_words_are_timed_and_words_of_finish_are_counted():
    line = timeline((1.0, Partial("a dog", "")))
    figures = latency.clip_figures(line, result(("a", 0.1), ("dog", 0.5), ("ran", 0.9)), "a hog ran")
    assert figures["stable"] == pytest.approx([0.9])
    assert figures["unsettled"] == 1


def test_an_endpoint_before_the_last_word_is_early_and_later_utterances_follow():
    line = timeline(
        (1.0, Partial("one", "", is_endpoint=True)),
        (2.0, Partial("", "two")),
        (3.0, Partial("two", "", is_endpoint=True)),
    )
    figures = latency.clip_figures(line, result(("one", 0.5), ("two", 1.5)), "one two")
    assert figures["stable"] == pytest.approx([0.5, 1.5])
    assert figures["early_endpoints"] == 1
    assert figures["endpoint"] == pytest.approx([1.5])


@given(st.lists(st.lists(st.sampled_from("ab"), max_size=4), min_size=1, max_size=6))
def test_first_time_is_the_start_of_the_last_unchanged_run(shown):
    line = [(float(i), words) for i, words in enumerate(shown)]
    final = shown[-1]
    for place, found in enumerate(latency.first_time(line, final)):
        stands = [place < len(words) and words[place] == final[place] for words in shown]
        expected = next(i for i in range(len(stands)) if all(stands[i:]))
        assert found == expected


def test_the_clock_waits_for_slow_blocks_and_for_the_audio():
    compute = iter([0.5, 0.01])
    now = [0.0]

    def accept(block, rate):
        now[0] += next(compute, 0.0)
        return Partial("", "")

    stream = SimpleNamespace(accept=accept, finish=lambda: None)
    line, _ = latency.listen(stream, np.zeros(3200, np.float32), timer=lambda: now[0])
    clocks = [clock for clock, _ in line.stable]
    assert clocks[:2] == pytest.approx([0.6, 0.61])
    assert clocks[-1] == pytest.approx(2.2)


def test_percentiles_are_in_ms():
    assert latency.percentiles([0.1, 0.2, 0.3]) == {"n": 3, "p50_ms": 200.0, "p90_ms": 280.0, "p99_ms": 298.0}
    assert latency.percentiles([]) == {"n": 0}

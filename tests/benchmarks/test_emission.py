import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.bundle import Bundle
from asr.metrics import edit_distance
from asr.types import Partial, Result, Word
from benchmarks import emission
from benchmarks.alignment import ForcedAligner, bundle_pronounce
from benchmarks.cli import main
from benchmarks.corpus import read_audio
from benchmarks.latency import listen, matches
from benchmarks.worker import TASKS
from lm.phones import PHONEME_ID

WORDS = st.lists(st.sampled_from("abc"), max_size=6)
CHUNK_S, LOOK_AHEAD_S = 0.32, 0.4


@pytest.fixture(scope="module")
def selftest():
    """Samples and text of the embedded bundle's self-test clip."""
    bundle = Bundle.open()
    clip = bundle.manifest.selftest
    return read_audio(bundle.file(clip.audio)), clip.text


@pytest.fixture(scope="module")
def aligner():
    pytest.importorskip("pocketsphinx")
    return ForcedAligner(bundle_pronounce({}))


@pytest.fixture(scope="module")
def bare_aligner():
    """Speaks one word besides those of its dictionary."""
    pytest.importorskip("pocketsphinx")
    sounds = tuple(PHONEME_ID[symbol] for symbol in ["k", "ə", "n", "t", "ʌ", "k", "i"])
    return ForcedAligner(lambda words: {"kentukkee": [sounds]})


def fake_stream(shown, stable, compute, timer):
    """Shows (audio heard in s, word) as volatile and then as stable words; each `accept` takes what `compute` says."""
    heard = 0

    def accept(block, rate):
        nonlocal heard
        heard += len(block)
        timer.now += compute(heard / rate)
        ready = [word for at, word in stable if heard >= round(at * rate)]
        guess = [word for at, word in shown if heard >= round(at * rate)]
        return Partial(" ".join(ready), " ".join(guess[len(ready) :]))

    return SimpleNamespace(accept=accept, finish=lambda: None)


@given(st.lists(WORDS, max_size=6), WORDS)
def test_first_shown_is_the_first_partial_with_the_word_at_its_place(shown, words):
    found = emission.first_shown(shown, words)
    for place, word in enumerate(words):
        there = [number for number, partial in enumerate(shown) if partial[place : place + 1] == [word]]
        assert found[place] == (there[0] if there else math.inf)


def test_revised_words_are_those_that_were_shown_and_changed_or_taken_back():
    shown = [[], ["a"], ["a", "b"], ["a", "c", "d"], ["a", "c", "d"], ["a"], ["b", "c", "d"]]
    assert emission.revised(shown) == 1 + 2 + 1
    assert emission.revised([]) == emission.revised([["a"]]) == 0


@given(WORDS, WORDS)
def test_matches_are_equal_words_in_order_and_as_many_as_a_cheapest_alignment_has(reference, heard):
    pairs = matches(reference, heard)
    assert all(reference[said] == heard[place] for said, place in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in zip(pairs, pairs[1:], strict=False))
    assert len(pairs) >= max(len(reference), len(heard)) - edit_distance(reference, heard)


@given(end=st.integers(1, 500), chunks=st.integers(1, 60), blocks=st.integers(0, 15), compute=st.integers(0, 3000))
def test_parts_add_up_to_the_latency_and_say_which_chunk_was_searched(end, chunks, blocks, compute):
    end_s, compute_s = end / 100, compute / 1000
    heard_s = chunks * CHUNK_S + LOOK_AHEAD_S + blocks * 0.02
    parts = emission.latency_parts(end_s, heard_s, heard_s + compute_s, chunk_s=CHUNK_S, look_ahead_s=LOOK_AHEAD_S)
    assert tuple(parts) == emission.PARTS
    assert sum(parts.values()) == pytest.approx(heard_s + compute_s - end_s)
    assert 0 <= parts["waiting"] < CHUNK_S
    own_chunk = -(-end * 10 // 320)  # whole ms, rounded up
    assert parts["later"] == pytest.approx((chunks - own_chunk) * CHUNK_S)
    assert parts["buffering"] == pytest.approx(blocks * 0.02)


def test_a_stream_with_known_emission_times_has_exactly_these_latencies():
    timer = SimpleNamespace(now=100.0)
    stream = fake_stream(
        [(0.76, "the"), (1.08, "big"), (1.40, "cat")], [(1.40, "the"), (2.04, "big")], lambda heard: 0.003, timer
    )
    timeline, _ = listen(stream, np.zeros(16000, np.float32), block_samples=320, timer=lambda: timer.now)
    words = Result(tuple(Word(text, 0.0, end, 1.0) for text, end in (("the", 0.3), ("big", 0.6), ("cat", 0.9))), 1.0)
    spoken = [["the", 0.1, 0.25], ["pig", 0.3, 0.5], ["cat", 0.6, 0.95]]
    figures = emission.clip_figures(timeline, words.words, spoken, chunk_s=CHUNK_S, look_ahead_s=LOOK_AHEAD_S)
    total = {moment: [sum(parts.values()) for parts in figures[moment]] for moment in emission.MOMENTS}
    assert total["first"] == pytest.approx([0.76 + 0.003 - 0.25, 1.40 + 0.003 - 0.95])
    assert total["lasting"] == total["first"]
    assert total["stable"] == pytest.approx([1.40 + 0.003 - 0.25])
    assert figures["missing"] == {"first": 0, "lasting": 0, "stable": 1}
    assert figures["own_end"] == pytest.approx([0.05, -0.05])
    assert figures["first"][0] == pytest.approx(
        {"waiting": 0.07, "later": 0.0, "look_ahead": 0.4, "buffering": 0.04, "compute": 0.003}
    )


def test_compute_that_takes_longer_than_the_audio_delays_what_comes_later():
    timer = SimpleNamespace(now=0.0)
    stream = fake_stream([(0.04, "a"), (0.08, "b")], [], lambda heard: 0.1 if heard < 0.05 else 0.0, timer)
    timeline, _ = listen(stream, np.zeros(1600, np.float32), block_samples=320, timer=lambda: timer.now)
    words = [Word("a", 0.0, 0.02, 1.0), Word("b", 0.0, 0.06, 1.0)]
    spoken = [["a", 0.0, 0.02], ["b", 0.0, 0.06]]
    figures = emission.clip_figures(timeline, words, spoken, chunk_s=0.02, look_ahead_s=0.0)
    assert [parts["compute"] for parts in figures["first"]] == pytest.approx([0.18, 0.14])  # 0.02 + 2 * 0.1 each


def test_a_word_that_was_taken_back_is_shown_first_and_lasts_later():
    timer = SimpleNamespace(now=0.0)
    shown = {2: "cap", 3: "cat", 4: "cap", 5: "cat"}
    calls = iter(range(1, 1000))
    stream = SimpleNamespace(
        accept=lambda block, rate: Partial("", shown.get(min(next(calls), 5), "")), finish=lambda: None
    )
    timeline, _ = listen(stream, np.zeros(3200, np.float32), block_samples=320, timer=lambda: timer.now)
    figures = emission.clip_figures(
        timeline, [Word("cat", 0.0, 0.02, 1.0)], [["cat", 0.0, 0.02]], chunk_s=0.02, look_ahead_s=0.0
    )
    assert sum(figures["first"][0].values()) == pytest.approx(0.04)
    assert sum(figures["lasting"][0].values()) == pytest.approx(0.08)
    assert figures["stable"] == []


def test_a_summary_has_percentiles_of_the_sums_and_means_of_the_parts():
    words = [dict.fromkeys(emission.PARTS, 0.0) | {"waiting": wait, "compute": 0.01} for wait in (0.1, 0.2, 0.3)]
    clips = [
        dict.fromkeys(emission.MOMENTS, part)
        | {"missing": dict.fromkeys(emission.MOMENTS, 1), "revised": 1, "n_words": 4}
        for part in (words[:1], words[1:])
    ]
    first, *_ = emission.summarize(320, clips)
    assert (first["chunk_ms"], first["moment"], first["n"], first["only_in_result"]) == (320, "first", 3, 2)
    assert first["revised_per_100"] == 25.0
    assert (first["p50_ms"], first["p90_ms"], first["p99_ms"]) == (210.0, 290.0, 308.0)
    assert (first["mean_ms"]["waiting"], first["mean_ms"]["compute"], first["mean_ms"]["later"]) == (200.0, 10.0, 0.0)
    assert emission.summarize(320, [])[0] == {
        "chunk_ms": 320, "moment": "first", "n": 0, "revised_per_100": 0.0, "only_in_result": 0, "mean_ms": {}
    }  # fmt: skip


def test_an_alignment_lies_within_the_clip_in_order(aligner, selftest):
    samples, text = selftest
    spoken = aligner.align(samples, text.upper() + ".")
    assert [word.text for word in spoken] == text.split()
    times = [time for word in spoken for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert all(word.start_s < word.end_s for word in spoken)
    assert times[0] >= 0
    assert times[-1] <= len(samples) / 16000


def test_an_alignment_moves_with_the_speech(aligner, selftest):
    samples, text = selftest
    quiet = samples[:8000][::-1]  # half a second of the same room
    before = [word.end_s for word in aligner.align(samples, text)]
    after = [word.end_s for word in aligner.align(np.concatenate([quiet, samples]), text)]
    assert np.median(np.subtract(after, before)) == pytest.approx(0.5, abs=0.02)


def test_words_that_the_dictionary_lacks_are_spoken_by_the_lexicon(bare_aligner, selftest):
    samples, text = selftest
    strange = text.replace("kentucky", "kentukkee")
    spoken = bare_aligner.align(samples, strange)
    known = bare_aligner.align(samples, text)
    assert [word.text for word in spoken] == strange.split()
    assert [word.end_s for word in spoken] == pytest.approx([word.end_s for word in known], abs=0.05)


def test_what_cannot_be_aligned_is_left_out(bare_aligner, selftest):
    samples, text = selftest
    assert bare_aligner.align(samples, f"{text} kentukkie") is None
    assert bare_aligner.align(samples, "") is None
    assert bare_aligner.align(samples[:0], text) is None
    assert bare_aligner.align(samples[:3200], text) is None  # nine words do not fit 0.2 s


def run_here(job):
    """The events of a worker, from this process."""
    happened = []
    TASKS[job["task"]](job, happened.append)
    return happened


def test_the_command_measures_every_word_of_a_clip(aligner, selftest, tmp_path, monkeypatch):
    monkeypatch.setattr(emission, "events", run_here)
    _, text = selftest
    clip = Bundle.open().file("selftest.flac")
    shutil.copyfile(clip, tmp_path / clip.name)
    entry = {"audio": clip.name, "text": text.upper(), "seconds": 6.0, "split": "dev"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(entry))
    out = tmp_path / "emission.json"
    assert main(["emission", "--speech", str(tmp_path), "--chunk-ms", "320", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    first = next(row for row in result["rows"] if row["moment"] == "first")
    assert first["n"] == len(text.split())
    assert first["mean_ms"]["look_ahead"] == 400
    assert abs(result["reference"]["own_end_minus_reference_by_chunk_ms"]["320"]["p50_ms"]) < 150
    assert result["reference"]["clips_left_out"] == 0

"""What streams share: threads, memory over a long time; and the English bundle, where it is installed."""

import threading
import tracemalloc

import numpy as np
import pytest
import soundfile

import asr
from asr.bundle import default_bundle_path
from asr.decoder import PathWord

RATE_HZ = 16000


@pytest.fixture(scope="module")
def recognizer(tiny_bundle):
    return asr.Recognizer(tiny_bundle)


def run_in_threads(jobs):
    results = [None] * len(jobs)

    def work(index):
        results[index] = jobs[index]()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_threads_and_interleaved_streams_hear_what_they_hear_alone(recognizer, speak):
    talks = [speak(text).samples for text in ("stop cat pin", "tack | | spot", "it's it's pin", "cat tack stop spot")]
    alone = [recognizer.transcribe((samples, RATE_HZ)) for samples in talks]
    jobs = [
        lambda s=samples, c=c: recognizer.transcribe((s, RATE_HZ), chunk_ms=c) for samples in talks for c in (640, 320)
    ]
    together = run_in_threads(jobs)
    assert together[::2] == alone
    assert [result.text for result in together[1::2]] == [result.text for result in alone]
    streams = [recognizer.create_stream() for _ in talks]
    for start in range(0, max(map(len, talks)), 4000):
        for stream, samples in zip(streams, talks, strict=True):
            stream.accept(samples[start : start + 4000])
    assert [stream.finish() for stream in streams] == alone


def test_threads_share_a_grammar_a_domain_and_phrases(recognizer, speak):
    grammar = asr.Grammar(r"(?P<first>\w+) (?P<second>cat|tack)")
    texts = ["stop cat", "spot tack", "pin cat", "stop tack"]
    talks = [(speak(text).samples, RATE_HZ) for text in texts]
    options = {"grammar": grammar, "phrases": ["stop cat", ("tack", 2.0)]}
    alone = [recognizer.transcribe(talk, **options) for talk in talks]
    assert [result.text for result in alone] == texts
    jobs = [lambda talk=talk: recognizer.transcribe(talk, **options) for talk in talks * 2]
    assert run_in_threads(jobs) == alone * 2


class TalkativeSearch:
    """Finds two words in every chunk at once, so that what is measured is the stream's own memory."""

    def __init__(self):
        self.n_frames, self.words = 0, []

    def advance(self, log_probs):
        start = self.n_frames
        self.n_frames += len(log_probs)
        self.words += [PathWord(3, start, start + 10, -1.0, -2.0), PathWord(4, start + 10, start + 20, -1.0, -2.0)]

    def take_stable(self):
        words, self.words = self.words, []
        return words

    def preview(self, log_probs):
        return []

    def trailing_silence(self):
        return 0

    def finish(self):
        return self.take_stable()


def test_memory_does_not_grow_with_the_stream(recognizer, monkeypatch):
    monkeypatch.setattr("asr.recognizer.create_search", lambda *_: TalkativeSearch())
    stream = recognizer.create_stream()
    minute = np.zeros(60 * RATE_HZ, np.int16)
    tracemalloc.start()
    try:
        stream.accept(minute)
        early = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            stream.accept(minute)
        late = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(stream.finish().words) > 1000
    assert (late - early) / 5 < 5e6 / 120  # 5 MB in two hours


# --- the bundle that comes with the package -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def english():
    try:
        default_bundle_path()
    except asr.BundleNotFoundError:
        pytest.skip("this tree holds no English bundle")
    return asr.Recognizer()


@pytest.fixture(scope="module")
def clip(english):
    return soundfile.read(english.bundle.file(english.bundle.manifest.selftest.audio), dtype="float32")


def test_english_selftest(english, clip):
    assert english.transcribe(clip).text == english.bundle.manifest.selftest.text


def test_english_partials_show_the_look_ahead_and_results_stay(english, clip, monkeypatch):
    samples, rate = clip
    said = english.bundle.manifest.selftest.text.split()
    results, firsts = [], []
    for frames in (0, 18):
        monkeypatch.setattr("asr.stream.PREVIEW_FRAMES", frames)
        stream = english.create_stream(chunk_ms=320)
        texts = [stream.accept(part, rate).text.split() for part in np.split(samples, range(800, len(samples), 800))]
        firsts.append([next(i for i, text in enumerate(texts) if text[: n + 1] == said[: n + 1]) for n in range(6)])
        results.append(stream.finish())
    assert results[0] == results[1]
    assert all(early <= late for late, early in zip(*firsts, strict=True))
    assert sum(firsts[1]) < sum(firsts[0]) - 6 * 3  # 50 ms blocks


@pytest.mark.parametrize("chunk_ms", [320, 640, 1280])
def test_english_slicing(english, clip, rng, chunk_ms):
    samples, rate = clip
    results = []
    for n_cuts in (0, 10, 200):
        stream = english.create_stream(chunk_ms=chunk_ms)
        for part in np.split(samples, sorted(rng.integers(0, len(samples), n_cuts))):
            stream.accept(part, rate)
        results.append(stream.finish())
    assert results[1] == results[0]
    assert results[2] == results[0]


def test_english_threads(english, clip):
    alone = english.transcribe(clip)
    assert run_in_threads([lambda: english.transcribe(clip)] * 3) == [alone] * 3


def test_english_memory_is_flat(english, clip):
    samples, rate = clip
    stream = english.create_stream()
    tracemalloc.start()
    try:
        for _ in range(5):
            stream.accept(samples, rate)
        early = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            stream.accept(samples, rate)
        late = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert late - early < 1e6

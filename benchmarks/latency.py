"""When words come out: emission latency of words, endpoint latency and finalisation delay, by a simulated clock.

Blocks of 100 ms arrive in real time; `accept` of a block starts when the block is complete and the one before
it has been dealt with, and takes as long as it takes here. A word's latency is the clock when it came out minus
the end of the word. As the word's end serves `Result.words`, the engine's own CTC path;
`benchmarks/emission.py` measures against an independent alignment. Only words that the alignment of the result with
the reference counts as right are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asr.metrics import EditKind, align, normalize_text
from benchmarks.corpus import SAMPLE_RATE_HZ, FloatArray, cut_trailing_silence, read_audio
from benchmarks.systems import BLOCK_SAMPLES, open_recognizer

SILENCE_S = 2.0
"""Silence that follows each clip while words and the endpoint are waited for."""
PERCENTILES = (50, 90, 99)


@dataclass(slots=True)
class Timeline:
    """What a stream had said at which clock time."""

    stable: list[tuple[float, list[str]]] = field(default_factory=list)
    """(clock in s, all words settled so far)."""
    shown: list[tuple[float, list[str]]] = field(default_factory=list)
    """(clock in s, settled words and the guess after them)."""
    endpoints: list[tuple[float, int]] = field(default_factory=list)
    """(clock in s, words settled then)."""
    heard_s: list[float] = field(default_factory=list)
    """How much audio the stream had been given, for each of `shown`; `listen` fills it."""

    def add(self, clock: float, ended: list[str], partial: Any) -> list[str]:
        """Record one partial; `ended` are the words of earlier utterances, the new list of them is returned."""
        stable: list[str] = ended + partial.stable.split()
        self.stable.append((clock, stable))
        self.shown.append((clock, stable + partial.volatile.split()))
        if not partial.is_endpoint:
            return ended
        self.endpoints.append((clock, len(stable)))
        return stable


def first_time(timeline: Sequence[tuple[float, list[str]]], words: Sequence[str]) -> list[float]:
    """For each word of the final text: since when it stood at its place for good; inf if it never did."""
    times = [float("inf")] * len(words)
    unchanged = set(range(len(words)))
    for clock, shown in reversed(timeline):
        unchanged = {place for place in unchanged if place < len(shown) and shown[place] == words[place]}
        for place in unchanged:
            times[place] = clock
    return times


def changed_words(timeline: Sequence[tuple[float, list[str]]]) -> int:
    """Words that were shown and then changed or taken back, over all partial results."""
    changed = 0
    for (_, before), (_, after) in zip(timeline, timeline[1:], strict=False):
        changed += sum(i >= len(after) or after[i] != word for i, word in enumerate(before))
    return changed


def right_words(reference: str, heard: Sequence[str]) -> list[int]:
    """Places in `heard` of the words that the alignment with the reference counts as right."""
    return [place for _, place in matches(normalize_text(reference).split(), heard)]


def matches(reference: Sequence[str], heard: Sequence[str]) -> list[tuple[int, int]]:
    """Place in the reference and place in `heard` of each word that a cheapest alignment of the two matches."""
    pairs, said, place = [], 0, 0
    for edit in align(list(reference), list(heard)):
        if edit.kind is EditKind.MATCH:
            pairs.append((said, place))
        said += edit.reference is not None
        place += edit.hypothesis is not None
    return pairs


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 90th and 99th percentile in ms, and how many values there were."""
    if not values:
        return {"n": 0}
    found = np.percentile(np.asarray(values) * 1000, PERCENTILES)
    return {
        "n": len(values),
        **{f"p{p}_ms": round(float(value), 1) for p, value in zip(PERCENTILES, found, strict=True)},
    }


def listen(
    stream: Any,
    samples: FloatArray,
    *,
    block_samples: int = BLOCK_SAMPLES,
    timer: Callable[[], float] = time.perf_counter,
) -> tuple[Timeline, Any]:
    """Feed a clip and silence behind it by the simulated clock; returns what came when, and the result.

    `timer` says how long a call took: wall time, or CPU time where other processes share the core.
    """
    padded = np.concatenate([samples, np.zeros(round(SILENCE_S * SAMPLE_RATE_HZ), np.float32)])
    timeline, clock = Timeline(), 0.0
    ended: list[str] = []
    for start in range(0, len(padded), block_samples):
        block = padded[start : start + block_samples]
        begin = timer()
        partial = stream.accept(block, SAMPLE_RATE_HZ)
        compute = timer() - begin
        heard_s = (start + len(block)) / SAMPLE_RATE_HZ
        clock = max(clock, heard_s) + compute
        ended = timeline.add(clock, ended, partial)
        timeline.heard_s.append(heard_s)
    return timeline, stream.finish()


def finish_delay(stream: Any, samples: FloatArray, timer: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that `finish()` takes right after the last word, everything before having been dealt with."""
    for start in range(0, len(samples), BLOCK_SAMPLES):
        stream.accept(samples[start : start + BLOCK_SAMPLES], SAMPLE_RATE_HZ)
    begin = timer()
    stream.finish()
    return timer() - begin


def clip_figures(timeline: Timeline, result: Any, reference: str) -> dict[str, Any]:
    """Latencies in seconds of one clip's right words, of its endpoint, and how its partial results moved."""
    words = [word.text for word in result.words]
    ends = [word.end for word in result.words]
    stable, shown = first_time(timeline.stable, words), first_time(timeline.shown, words)
    right = right_words(reference, words)
    final = [clock for clock, n_words in timeline.endpoints if n_words == len(words)]
    return {
        "stable": [stable[i] - ends[i] for i in right if stable[i] != float("inf")],
        "shown": [shown[i] - ends[i] for i in right if shown[i] != float("inf")],
        "unsettled": sum(stable[i] == float("inf") for i in right),
        "endpoint": [final[0] - ends[-1]] if final and words else [],
        "early_endpoints": sum(n_words < len(words) for _, n_words in timeline.endpoints),
        "words": len(words),
        "changed": changed_words(timeline.shown),
    }


def measure(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Worker task: one event with `clip_figures` and the finalisation delay for each of `paths` and `texts`."""
    recognizer = open_recognizer(job["options"])
    for path, text in zip(job["paths"], job["texts"], strict=True):
        samples = read_audio(Path(path))
        timeline, result = listen(recognizer.create_stream(), samples)
        figures = clip_figures(timeline, result, text)
        finish_s = finish_delay(recognizer.create_stream(), cut_trailing_silence(samples))
        emit({"clip": figures, "finish_s": finish_s})


def summarize(clips: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Percentiles over all clips' events."""
    figures = [clip["clip"] for clip in clips]
    n_words = sum(f["words"] for f in figures)
    return {
        "word_end": "Result.words (the engine's own CTC path)",
        "block_ms": 1000 * BLOCK_SAMPLES // SAMPLE_RATE_HZ,
        "stable": percentiles([value for f in figures for value in f["stable"]]),
        "shown": percentiles([value for f in figures for value in f["shown"]]),
        "unsettled_words": sum(f["unsettled"] for f in figures),
        "endpoint": percentiles([value for f in figures for value in f["endpoint"]]),
        "clips_without_endpoint": sum(not f["endpoint"] for f in figures),
        "early_endpoints": sum(f["early_endpoints"] for f in figures),
        "finish": percentiles([clip["finish_s"] for clip in clips]),
        "changed_words_per_word": round(sum(f["changed"] for f in figures) / n_words, 3) if n_words else None,
    }

"""Emission latency: when a word came out, minus when it had been said by an independent forced alignment.

20 ms of audio arrive at a time, by the simulated clock of `benchmarks.latency`; compute is CPU time, so that other
processes on the core do not count. Three moments of a word: `first` shown at its place in the text, `lasting`
(shown and not changed any more), and `stable` (the stream promised not to change it). A latency has five parts that
add up to it:

    waiting      from the end of the word to the end of the chunk that holds it
    later        whole chunks after that one; below zero for a word that was guessed before it had ended
    look_ahead   audio that the encoder wants to see beyond the chunk
    buffering    the rest of the feature window and of the 20 ms
    compute      of that chunk, and of earlier ones that were not done in time
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alignment import METHOD
from benchmarks.corpus import SAMPLE_RATE_HZ, read_audio
from benchmarks.latency import Timeline, first_time, listen, matches, percentiles
from benchmarks.runner import events
from benchmarks.systems import open_recognizer

BLOCK_MS = 20
BLOCK_SAMPLES = BLOCK_MS * SAMPLE_RATE_HZ // 1000
MOMENTS = ("first", "lasting", "stable")
SPREAD = (10, 50, 90)
PARTS = ("waiting", "later", "look_ahead", "buffering", "compute")
TICK_S = 1e-6
"""Slack of comparisons between times that were added up from blocks."""


def first_shown(shown: Sequence[Sequence[str]], words: Sequence[str]) -> list[float]:
    """For each word of the final text: number of the first partial that has it at its place; inf if none has."""
    found = [math.inf] * len(words)
    missing = set(range(len(words)))
    for number, partial in enumerate(shown):
        there = {place for place in missing if place < len(partial) and partial[place] == words[place]}
        for place in there:
            found[place] = number
        missing -= there
    return found


def revised(shown: Sequence[Sequence[str]]) -> int:
    """How many words were shown and then changed or taken back, each as often as it was."""
    pairs = zip(shown, shown[1:], strict=False)
    return sum(word != after for old, new in pairs for word, after in zip_longest(old, new[: len(old)]))


def moments(timeline: Timeline, words: Sequence[str]) -> dict[str, list[float]]:
    """For each of `MOMENTS`, the number of the partial at which each word of the final text reached it; or inf."""
    shown = [partial for _, partial in timeline.shown]
    stable = [partial for _, partial in timeline.stable]
    return {
        "first": first_shown(shown, words),
        "lasting": first_time([(float(number), partial) for number, partial in enumerate(shown)], words),
        "stable": first_time([(float(number), partial) for number, partial in enumerate(stable)], words),
    }


def latency_parts(
    end_s: float, heard_s: float, clock_s: float, *, chunk_s: float, look_ahead_s: float
) -> dict[str, float]:
    """What the latency `clock_s - end_s` of a word consists of, in seconds by `PARTS`; they add up to it.

    Args:
        end_s: end of the word.
        heard_s: audio that had arrived when the word came out.
        clock_s: time at which it came out.
        chunk_s: length of a chunk.
        look_ahead_s: length of the encoder's look-ahead.
    """
    own_chunk_s = chunk_s * math.ceil((end_s - TICK_S) / chunk_s)
    searched_s = chunk_s * max(0, math.floor((heard_s - look_ahead_s + TICK_S) / chunk_s))
    return {
        "waiting": own_chunk_s - end_s,
        "later": searched_s - own_chunk_s,
        "look_ahead": look_ahead_s,
        "buffering": heard_s - searched_s - look_ahead_s,
        "compute": clock_s - heard_s,
    }


def clip_figures(
    timeline: Timeline, words: Sequence[Any], spoken: Sequence[Sequence[Any]], *, chunk_s: float, look_ahead_s: float
) -> dict[str, Any]:
    """Parts of the latency of each right word of a clip.

    Args:
        timeline: what the stream had said when.
        words: of the result.
        spoken: [text, start, end] of each word of the transcript, in seconds.
        chunk_s: length of a chunk.
        look_ahead_s: length of the encoder's look-ahead.

    Returns:
        For each of `MOMENTS` a list of `latency_parts`; `missing`, how many right words never reached it before
        `finish()`; `revised` and `n_words` of the result; `own_end`, the end of each right word by the engine
        minus that of the alignment.
    """
    heard = [word.text for word in words]
    pairs = matches([text for text, _, _ in spoken], heard)
    figures: dict[str, Any] = {
        "own_end": [words[place].end - spoken[said][2] for said, place in pairs],
        "missing": {},
        "revised": revised([partial for _, partial in timeline.shown]),
        "n_words": len(heard),
    }
    for moment, numbers in moments(timeline, heard).items():
        reached = [(spoken[said][2], int(numbers[place])) for said, place in pairs if math.isfinite(numbers[place])]
        figures["missing"][moment] = len(pairs) - len(reached)
        figures[moment] = [
            latency_parts(
                end_s, timeline.heard_s[number], timeline.shown[number][0], chunk_s=chunk_s, look_ahead_s=look_ahead_s
            )
            for end_s, number in reached
        ]
    return figures


def measure(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Worker task: one event with `clip_figures` for each of `paths`, whose words are in `spoken`."""
    recognizer = open_recognizer(job["options"])
    encoder = recognizer.bundle.manifest.encoder
    chunk_ms = job["options"].get("chunk_ms", encoder.default_chunk_ms)
    for path, spoken in zip(job["paths"], job["spoken"], strict=True):
        stream = recognizer.create_stream(domain=job["options"].get("domain"))
        samples = read_audio(Path(path))
        timeline, result = listen(stream, samples, block_samples=BLOCK_SAMPLES, timer=time.process_time)
        figures = clip_figures(
            timeline, result.words, spoken, chunk_s=chunk_ms / 1000, look_ahead_s=encoder.look_ahead_ms / 1000
        )
        emit({"clip": figures})


def summarize(chunk_ms: int, clips: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each of `MOMENTS`: percentiles over all clips' right words, and the mean of each part.

    `revised_per_100` is how often a word was shown and then changed or taken back, for 100 words of the results.
    """
    rows = []
    n_words = sum(clip["n_words"] for clip in clips)
    revised_per_100 = 100 * sum(clip["revised"] for clip in clips) / n_words if n_words else 0.0
    for moment in MOMENTS:
        words = [word for clip in clips for word in clip[moment]]
        means = {part: float(np.mean([word[part] for word in words])) for part in PARTS} if words else {}
        rows.append({
            "chunk_ms": chunk_ms,
            "moment": moment,
            **percentiles([sum(word[part] for part in PARTS) for word in words]),
            "revised_per_100": round(revised_per_100, 1),
            "only_in_result": sum(clip["missing"][moment] for clip in clips),
            "mean_ms": {part: round(1000 * mean, 1) for part, mean in means.items()},
        })  # fmt: skip
    return rows


def spread(differences_s: Sequence[float]) -> dict[str, float]:
    """10th, 50th and 90th percentile in ms; nothing where there are no differences."""
    if not differences_s:
        return {}
    found = np.percentile(np.asarray(differences_s) * 1000, SPREAD)
    return {f"p{p}_ms": round(float(value), 1) for p, value in zip(SPREAD, found, strict=True)}


def run(
    paths: Sequence[str],
    texts: Sequence[str],
    options: dict[str, Any],
    chunks_ms: Sequence[int],
    tick: Callable[[], Any],
) -> dict[str, Any]:
    """Align the clips, then stream each of them at each chunk size.

    Args:
        paths: audio files.
        texts: what is said in them.
        options: of the recogniser, without `chunk_ms`.
        chunks_ms: chunk sizes.
        tick: called after every clip that has been streamed.

    Returns:
        The figures of a result file: the alignment, and `rows` for each chunk size.
    """
    alignment = {"task": "alignment", "paths": list(paths), "texts": list(texts), "options": options}
    found = [event for event in events(alignment) if "words" in event]
    aligned = [(path, event["words"]) for path, event in zip(paths, found, strict=True) if event["words"]]
    rows, own_ends = [], {}
    for chunk_ms in chunks_ms:
        job = {
            "task": "emission",
            "options": {**options, "chunk_ms": chunk_ms},
            "paths": [path for path, _ in aligned],
            "spoken": [words for _, words in aligned],
        }
        clips = []
        for event in events(job):
            if "clip" in event:
                clips.append(event["clip"])
                tick()
        rows += summarize(chunk_ms, clips)
        own_ends[str(chunk_ms)] = spread([end for clip in clips for end in clip["own_end"]])
    reference = {
        "method": METHOD,
        "clips": len(aligned),
        "clips_left_out": len(paths) - len(aligned),
        "last_end_minus_quiet": spread([e["words"][-1][2] - e["quiet_s"] for e in found if e["words"]]),
        "own_end_minus_reference_by_chunk_ms": own_ends,
    }
    return {"block_ms": BLOCK_MS, "reference": reference, "rows": rows}

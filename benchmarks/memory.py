"""What the engine holds: peak memory on a long file, growth on a long stream, start-up time, bytes on disk."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corpus import SAMPLE_RATE_HZ, Clip, join, read_audio, write_wav
from benchmarks.process import cpu_seconds, folder_bytes, rss_bytes
from benchmarks.runner import events, run_job
from benchmarks.systems import BLOCK_SAMPLES, bundle_folder, open_recognizer

START_RUNS = 5
FILE_S = 600.0
WARM_UP_MINUTES = 10
"""Minutes of the long stream after which growth is fitted: buffers have their final size by then."""


def measure_start(options: dict[str, Any]) -> dict[str, Any]:
    """Median over fresh processes of `import asr` and `Recognizer()`, wall and CPU seconds, and memory after them."""
    runs = [run_job({"task": "start", "options": options}) for _ in range(START_RUNS)]
    return {key: _rounded(statistics.median(run[key] for run in runs)) for key in runs[0]} | {"runs": START_RUNS}


def measure_file(clips: Sequence[Clip], options: dict[str, Any]) -> dict[str, Any]:
    """Peak memory and CPU time of `asr transcribe` on ten minutes of joined clips."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ten-minutes.wav"
        write_wav(path, join(clips, FILE_S))
        chosen = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        run = run_job({"task": "command", "argv": ["transcribe", str(path), *chosen]})
    return {
        "audio_s": FILE_S,
        "peak_rss_bytes": run["peak_rss_bytes"],
        "rtf": _rounded(run["cpu_s"] / FILE_S),
        "status": run["status"],
    }


def measure_stream(
    clips: Sequence[Clip], hours: float, options: dict[str, Any], tick: Callable[[], Any]
) -> dict[str, Any]:
    """Memory of one stream fed with `hours` of audio as fast as it takes it; `tick` is called every minute of it."""
    job = {"task": "soak", "paths": [str(clip.path.resolve()) for clip in clips], "minutes": round(hours * 60)}
    samples: list[int] = []
    closing: dict[str, Any] = {}
    for event in events(job | {"options": options}):
        if "rss_bytes" in event:
            samples.append(event["rss_bytes"])
            tick()
        else:
            closing.update(event)
    return {
        "audio_s": 60 * len(samples),
        "rss_after_first_minute_bytes": samples[0],
        "rss_at_end_bytes": samples[-1],
        "growth_bytes_per_hour": growth_per_hour(samples),
        "rtf": _rounded(closing["cpu_s"] / (60 * len(samples))),
        "words": closing["words"],
    }


def growth_per_hour(rss_each_minute: Sequence[int]) -> int | None:
    """Slope of a line through the samples after the warm-up, in bytes an hour; None where fewer than three are left."""
    rest = np.asarray(rss_each_minute[WARM_UP_MINUTES:], dtype=np.float64)
    if len(rest) < 3:
        return None
    return round(60 * float(np.polyfit(np.arange(len(rest)), rest, 1)[0]))


def measure_soak(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Worker task: one event with the memory held after every minute of audio."""
    stream = open_recognizer(job["options"]).create_stream()
    minute = 60 * SAMPLE_RATE_HZ
    cpu, fed, minutes = cpu_seconds(), 0, 0
    for path in cycle(job["paths"]):
        samples = read_audio(Path(path))
        for start in range(0, len(samples), BLOCK_SAMPLES):
            stream.accept(samples[start : start + BLOCK_SAMPLES], SAMPLE_RATE_HZ)
        fed += len(samples)
        if fed < minute * (minutes + 1):
            continue
        minutes += 1
        emit({"rss_bytes": rss_bytes()})
        if minutes == job["minutes"]:
            break
    emit({"words": len(stream.finish().words), "cpu_s": cpu_seconds() - cpu})


def measure_bundle(options: dict[str, Any]) -> dict[str, Any]:
    """Bytes on disk of the bundle and of each of its files."""
    folder = bundle_folder(options)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "bytes": folder_bytes(folder),
        "files": {str(path.relative_to(folder)): path.stat().st_size for path in files},
    }


def _rounded(value: float) -> float:
    return round(value, 4)

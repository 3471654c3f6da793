"""The measured process: `python -m benchmarks.worker`, a job as JSON on stdin, one JSON event a line on stdout.

Job: `{"task": ..., "options": {...}, ...}`; see `TASKS`. CPU time is taken around the decoding only: loading
the model and reading audio are apart. Libraries that print are heard on stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from benchmarks.process import cpu_seconds, folder_bytes, peak_rss_bytes, rss_bytes, stay_on_one_core

Job = dict[str, Any]
Emit = Callable[[dict[str, Any]], None]


def transcribe(job: Job, emit: Emit) -> None:
    """Transcribe `paths` with `system`; `cut_end` cuts each clip's trailing silence first."""
    from benchmarks.corpus import SAMPLE_RATE_HZ, cut_trailing_silence, read_audio
    from benchmarks.systems import SYSTEMS

    cpu, wall = cpu_seconds(), time.perf_counter()
    system = SYSTEMS[job["system"]](job["options"])
    emit({
        "load_cpu_s": cpu_seconds() - cpu,
        "load_s": time.perf_counter() - wall,
        "mode": system.mode,
        "model_bytes": folder_bytes(*system.model_paths),
    })  # fmt: skip
    for path in job["paths"]:
        samples = read_audio(Path(path))
        if job.get("cut_end"):
            samples = cut_trailing_silence(samples)
        cpu, wall = cpu_seconds(), time.perf_counter()
        text = system.transcribe(samples)
        emit({
            "text": text,
            "seconds": len(samples) / SAMPLE_RATE_HZ,
            "cpu_s": cpu_seconds() - cpu,
            "wall_s": time.perf_counter() - wall,
        })  # fmt: skip


def start(job: Job, emit: Emit) -> None:
    """What `import asr` and `Recognizer()` cost in a fresh process."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    import asr

    imported = time.perf_counter()
    recognizer = asr.Recognizer(job["options"].get("bundle"), chunk_ms=job["options"].get("chunk_ms"))
    emit({
        "import_s": imported - wall,
        "recognizer_s": time.perf_counter() - imported,
        "cpu_s": cpu_seconds() - cpu,
        "rss_bytes": rss_bytes(),
    })  # fmt: skip
    del recognizer


def command(job: Job, emit: Emit) -> None:
    """Run the command `asr` with `argv` inside this process."""
    import asr.cli

    cpu, wall = cpu_seconds(), time.perf_counter()
    status = asr.cli.main(job["argv"])
    emit({"status": status or 0, "cpu_s": cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall})


def latency(job: Job, emit: Emit) -> None:
    """See `benchmarks.latency`."""
    from benchmarks.latency import measure

    measure(job, emit)


def soak(job: Job, emit: Emit) -> None:
    """See `benchmarks.memory`."""
    from benchmarks.memory import measure_soak

    measure_soak(job, emit)


def alignment(job: Job, emit: Emit) -> None:
    """See `benchmarks.alignment`."""
    from benchmarks.alignment import measure

    measure(job, emit)


def emission(job: Job, emit: Emit) -> None:
    """See `benchmarks.emission`."""
    from benchmarks.emission import measure

    measure(job, emit)


def chunks(job: Job, emit: Emit) -> None:
    """See `benchmarks.engine`."""
    from benchmarks.engine import measure_chunks

    measure_chunks(job, emit)


def encoder(job: Job, emit: Emit) -> None:
    """See `benchmarks.engine`."""
    from benchmarks.engine import measure_encoder

    measure_encoder(job, emit)


def calibrated(job: Job, emit: Emit) -> None:
    """See `benchmarks.device_check`."""
    from benchmarks.device_check import measure_calibrated

    measure_calibrated(job, emit)


TASKS = {
    task.__name__: task
    for task in (transcribe, start, command, latency, soak, alignment, emission, chunks, encoder, calibrated)
}


def main() -> int:
    """Read the job, run it, and close with the process' peak memory."""
    events = _own_stdout()
    job: Job = json.load(sys.stdin)

    def emit(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    if job.get("one_core", True):
        stay_on_one_core()
    TASKS[job["task"]](job, emit)
    emit({"peak_rss_bytes": peak_rss_bytes()})
    return 0


def _own_stdout() -> TextIO:
    """A private copy of stdout; what anything else writes there, native code included, goes to stderr from now on."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


if __name__ == "__main__":
    sys.exit(main())

"""Memory of processes that hold nothing of the benchmark: they are looked at from outside while they wait."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.process import ONE_THREAD, anonymous_bytes, peak_rss_bytes, rss_bytes
from benchmarks.runner import WorkerError

RUNS = 3
STEADY_S = 60.0
EMPTY_PROGRAM = "import numpy"
STREAM_PROGRAM = """
import sys
from itertools import chain, cycle
import asr
from asr.audio import open_audio
bundle, seconds, *paths = sys.argv[1:]
stream = asr.Recognizer(bundle or None).create_stream()
missing = round(float(seconds) * 16000)
for block in chain.from_iterable(open_audio(path).blocks(0.1) for path in cycle(paths)):
    stream.accept(block, 16000)
    missing -= len(block)
    if missing <= 0:
        break
"""
WAIT = "\nprint(flush=True)\ninput()"


def measure_footprint(paths: Sequence[Path], bundle: Path | None) -> dict[str, int]:
    """Memory after a minute of streamed speech, and that of a process that has imported NumPy and nothing else.

    Args:
        paths: recordings; they are streamed over and over to `STEADY_S`, in blocks of 100 ms.
        bundle: folder of a bundle; None is the embedded one.
    """
    folder = "" if bundle is None else str(bundle.resolve())
    streaming = _held(STREAM_PROGRAM, [folder, str(STEADY_S), *(str(path.resolve()) for path in paths)])
    empty = _held(EMPTY_PROGRAM, [])
    return {
        "steady_rss_bytes": streaming["rss"],
        "peak_rss_bytes": streaming["peak"],
        "steady_anonymous_bytes": streaming["anonymous"],
        "empty_rss_bytes": empty["rss"],
        "steady_above_empty_bytes": streaming["rss"] - empty["rss"],
    }


def _held(program: str, arguments: Sequence[str]) -> dict[str, int]:
    """What a program holds at its end, without mapped files too, and the most it held: medians over fresh processes."""
    runs = [_run(program, arguments) for _ in range(RUNS)]
    return {name: round(statistics.median(run[name] for run in runs)) for name in runs[0]}


def _run(program: str, arguments: Sequence[str]) -> dict[str, int]:
    command = [sys.executable, "-c", program + WAIT, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD}
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.readline():
            raise WorkerError(f"memory: the process ended with status {process.wait()}")
        rss = rss_bytes(process.pid)
        held = {"rss": rss, "peak": peak_rss_bytes(process.pid), "anonymous": anonymous_bytes(process.pid) or rss}
        process.stdin.write("\n")
    return held

"""Start worker processes and collect what they report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from asr.errors import MissingDependencyError
from benchmarks.corpus import Clip
from benchmarks.process import ONE_THREAD
from benchmarks.scoring import score_corpora
from benchmarks.systems import PHONEME_SYSTEMS

LAST_LINES = 15


class WorkerError(RuntimeError):
    """A measured process failed; the message holds the end of what it printed."""


def events(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Run one job in a fresh process, offline and on one thread, and yield its events as they come.

    Raises:
        WorkerError: the process ended with an error.
    """
    environment = {**os.environ, **ONE_THREAD, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryFile("w+") as errors:
        worker = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
        )  # fmt: skip
        assert worker.stdin is not None
        assert worker.stdout is not None
        with worker:
            try:
                worker.stdin.write(json.dumps(job))
                worker.stdin.close()
                for line in worker.stdout:
                    yield json.loads(line)
            except BaseException:
                worker.kill()
                raise
        if worker.returncode:
            errors.seek(0)
            tail = "".join(errors.readlines()[-LAST_LINES:])
            name = job.get("system", job["task"])
            raise WorkerError(f"{name}: the process ended with status {worker.returncode}\n{tail}")


def progress_bar(**options: Any) -> Any:
    """A `tqdm.tqdm` bar on stderr.

    Raises:
        MissingDependencyError: tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise MissingDependencyError("tqdm", "bench") from error
    return tqdm(**options)


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """All events of a job as one dict; later ones override earlier ones."""
    result: dict[str, Any] = {}
    for event in events(job):
        result.update(event)
    return result


def run_system(
    system: str, clips: Sequence[Clip], options: dict[str, Any], *, cut_end: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Transcribe the clips with one system in a process of its own.

    Returns:
        The figures for the result file, and the texts in the order of the clips.
    """
    paths = [str(clip.path.resolve()) for clip in clips]
    job = {"task": "transcribe", "system": system, "options": options, "paths": paths, "cut_end": cut_end}
    done: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    with progress_bar(total=round(sum(clip.seconds for clip in clips)), desc=system, unit="s", smoothing=0.1) as bar:
        for event in events(job):
            if "text" in event:
                bar.update(min(round(clips[len(done)].seconds), bar.total - bar.n))
                done.append(event)
            else:
                figures.update(event)
    texts = [event["text"] for event in done]
    seconds, cpu_s, wall_s = (sum(event[key] for event in done) for key in ("seconds", "cpu_s", "wall_s"))
    result = {
        "mode": figures["mode"],
        "options": options if system == "sottovoce" else {},
        "clips": len(done),
        "audio_s": round(seconds, 1),
        "cpu_s": round(cpu_s, 4),
        "wall_s": round(wall_s, 2),
        "rtf": round(cpu_s / seconds, 5),
        "load_s": round(figures["load_s"], 3),
        "load_cpu_s": round(figures["load_cpu_s"], 3),
        "peak_rss_bytes": figures["peak_rss_bytes"],
        "model_bytes": figures["model_bytes"],
    }
    if system not in PHONEME_SYSTEMS:
        result["corpora"] = score_corpora(clips, texts)
    return result, texts

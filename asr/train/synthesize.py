"""Speech made from text: plans (`asr/train/synthesis_plan.py`) to Ogg Opus clips of 16 kHz and a manifest of them.

A clip is written under another name and renamed when it is whole, its line of the manifest comes after that; so a run
may be killed at any time, and goes on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from asr.audio import SAMPLE_RATE
from asr.train.kokoro import SAMPLE_RATE_HZ, Kokoro, accent_of, read_styles
from asr.train.manifest import read_manifest
from asr.train.synthesis_plan import ClipPlan, Planner, SynthesisError
from asr.types import FloatArray, Seconds

Speaker = Callable[[ClipPlan], FloatArray]
"""Plan -> samples (N,) at 24 kHz, without silence or level applied."""
MANIFEST, SETTINGS = "manifest.jsonl", "synthesis.json"
CORPUS = "synthetic"
_HIGHEST_PEAK = 0.95
_FAILURES_IN_A_ROW = 10
_AHEAD = 3  # clips a worker that are handed out before the oldest one is back
_FOLDER_CLIPS = 1000


class KokoroSpeaker:
    """Speaks plans with Kokoro.

    Args:
        folder: the model folder.
    """

    def __init__(self, folder: Path) -> None:
        self._kokoro = Kokoro(folder)
        self._folder = folder
        self._styles: dict[str, FloatArray] = {}

    def __call__(self, plan: ClipPlan) -> FloatArray:
        """Samples (N,) at 24 kHz."""
        first, last = self._styles_of(plan.voices[0]), self._styles_of(plan.voices[-1])
        styles = np.float32(plan.share) * first + np.float32(1 - plan.share) * last
        return self._kokoro.speak(plan.spoken, styles, plan.speed, accent_of(plan.voices[0]))

    def _styles_of(self, voice: str) -> FloatArray:
        if voice not in self._styles:
            self._styles[voice] = read_styles(self._folder, voice)
        return self._styles[voice]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan: a clip of so many seconds, or the reason why there is none."""

    plan: ClipPlan
    seconds: Seconds = 0.0
    failure: str = ""


@dataclass(slots=True)
class Report:
    """What the folder holds, and what went wrong on the way."""

    n_clips: int = 0
    seconds: Seconds = 0.0
    n_failed: int = 0


def synthesize(
    planner: Planner, make_speaker: Callable[[], Speaker], out: Path, seconds: Seconds, *, workers: int = 1,
    split: str = "train", on_clip: Callable[[Report], None] = lambda report: None,
) -> Report:  # fmt: skip
    """Make clips until the folder holds `seconds` of them; clips that it holds already count and are not made again.

    Args:
        planner: says what to make.
        make_speaker: opens a voice; called once in each worker (pickled, where there are several).
        out: folder of the clips and of `manifest.jsonl`, whose paths are relative to it; made where missing.
        seconds: how much speech.
        workers: processes; a single one is this process.
        split: for the manifest.
        on_clip: told the state at the start and after every clip.

    Raises:
        SynthesisError: the folder was begun with other settings; ten clips in a row failed; a worker died.
    """
    out.mkdir(parents=True, exist_ok=True)
    suffix = _check_settings(out, {**planner.settings(), "split": split})
    report, done = _read_state(out / MANIFEST)
    on_clip(report)
    plans = (planner.plan(number) for number in count() if number not in done)
    failures: list[str] = []
    outcomes = _outcomes(plans, make_speaker, out, suffix, workers)
    with (out / MANIFEST).open("a", encoding="utf-8") as manifest, closing(outcomes):
        while report.seconds < seconds:
            outcome = next(outcomes)
            if outcome.failure:
                failures.append(f"clip {outcome.plan.number} ({outcome.plan.spoken!r}): {outcome.failure}")
                report.n_failed += 1
                if len(failures) >= _FAILURES_IN_A_ROW:
                    raise SynthesisError(f"{len(failures)} clips in a row failed; the last: {failures[-1]}")
                continue
            failures.clear()
            manifest.write(json.dumps(_row(outcome, suffix, split)) + "\n")
            manifest.flush()
            report.n_clips, report.seconds = report.n_clips + 1, report.seconds + outcome.seconds
            on_clip(report)
    return report


def finish_clip(speech: FloatArray, plan: ClipPlan) -> FloatArray:
    """Speech (N,) at 24 kHz to a clip (M,) at 16 kHz: resampled, at its level, silence around it.

    Raises:
        ValueError: the speech is empty, silent or not finite.
    """
    samples = soxr.resample(speech, SAMPLE_RATE_HZ, SAMPLE_RATE)
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    if not 1e-12 < power < np.inf:
        raise ValueError(f"the voice gave {len(samples)} samples of power {power:.1e}")
    gain = min(10 ** (plan.level_db / 20) / power**0.5, _HIGHEST_PEAK / float(np.abs(samples).max()))
    silence = (round(plan.lead_s * SAMPLE_RATE), round(plan.tail_s * SAMPLE_RATE))
    return np.pad(samples * np.float32(gain), silence)


def _check_settings(out: Path, settings: dict[str, object]) -> str:
    """Compare with the settings that the folder was begun with, or write them; returns the clips' suffix."""
    path = out / SETTINGS
    if not path.is_file():
        has_opus = "OPUS" in soundfile.available_subtypes("OGG")
        part = path.with_suffix(".part")
        part.write_text(json.dumps({**settings, "suffix": ".opus" if has_opus else ".flac"}, indent=1))
        os.replace(part, path)
    begun: dict[str, Any] = json.loads(path.read_text())
    suffix = str(begun.pop("suffix"))
    other = [key for key, value in settings.items() if begun.get(key) != value]
    if other:
        raise SynthesisError(
            f"{out}: was begun with other settings ({', '.join(other)}; see {SETTINGS}); choose another folder"
        )
    return suffix


def _read_state(manifest: Path) -> tuple[Report, set[int]]:
    """Clips of the manifest and their numbers; half a line at its end, from a kill, is removed."""
    manifest.touch()
    content = manifest.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(manifest, whole)
    clips = read_manifest(manifest)
    return Report(len(clips), sum(clip.seconds for clip in clips)), {int(Path(clip.audio).stem) for clip in clips}


def _clip_name(number: int, suffix: str) -> str:
    return f"{number // _FOLDER_CLIPS:04d}/{number:07d}{suffix}"


def _row(outcome: Outcome, suffix: str, split: str) -> dict[str, object]:
    plan = outcome.plan
    return {
        "audio": _clip_name(plan.number, suffix), "text": plan.text, "seconds": round(outcome.seconds, 3),
        "corpus": CORPUS, "split": split, "source": plan.source, "voice": "+".join(plan.voices),
        "share": plan.share, "speed": plan.speed,
    }  # fmt: skip


def _make(plan: ClipPlan, speaker: Speaker, out: Path, suffix: str) -> Outcome:
    try:
        samples = finish_clip(speaker(plan), plan)
    except Exception as error:  # a text that one voice cannot speak must not end a run of days
        return Outcome(plan, failure=f"{type(error).__name__}: {error}")
    path = out / _clip_name(plan.number, suffix)
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    kind = {"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {"format": "FLAC", "subtype": "PCM_16"}
    soundfile.write(part, samples, SAMPLE_RATE, **kind)
    os.replace(part, path)
    return Outcome(plan, len(samples) / SAMPLE_RATE)


def _outcomes(
    plans: Iterator[ClipPlan], make_speaker: Callable[[], Speaker], out: Path, suffix: str, workers: int
) -> Generator[Outcome, None, None]:
    """Outcomes in the order of the plans."""
    if workers == 1:
        speaker = make_speaker()
        yield from (_make(plan, speaker, out, suffix) for plan in plans)
        return
    spawn = multiprocessing.get_context("spawn")  # threads of libraries do not survive a fork
    pool = ProcessPoolExecutor(workers, spawn, _start_worker, (make_speaker, out, suffix))
    pending: deque[Future[Outcome]] = deque()
    try:
        for plan in plans:
            pending.append(pool.submit(_work, plan))
            if len(pending) >= _AHEAD * workers:
                yield pending.popleft().result()
    except BrokenProcessPool:
        raise SynthesisError("a worker died (out of memory?); the same command goes on where it was") from None
    finally:
        pool.shutdown(cancel_futures=True)


_of_worker: tuple[Speaker, Path, str]


def _start_worker(make_speaker: Callable[[], Speaker], out: Path, suffix: str) -> None:
    global _of_worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers itself
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _of_worker = make_speaker(), out, suffix


def _end_with_parent() -> None:
    """A pool's workers wait for ever for work from a parent that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(plan: ClipPlan) -> Outcome:
    return _make(plan, *_of_worker)

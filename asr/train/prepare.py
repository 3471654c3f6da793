"""From a manifest to a feature store: decode, change speed, put in a room, take features, ask the teacher.

A view that is complete is not made again, so a run that was stopped goes on with the next one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import soxr

from asr.audio import open_audio
from asr.features import SILENCE_LOG_MEL, compute_features
from asr.train.manifest import Clip
from asr.train.rooms import Room
from asr.train.store import StoreWriter, write_index
from asr.types import FloatArray

Teacher = Callable[[FloatArray], FloatArray]
"""Samples (N,) at 16 kHz -> log-probs (T/2, V), one row every 20 ms."""
Track = Callable[[Iterable[tuple[int, Clip]], str, int], Iterable[tuple[int, Clip]]]
"""Wraps an iteration to show its progress: (items, label, total)."""

SPEEDS = {"clean": 1.0, "room": 1.0, "slow": 0.9, "fast": 1.1}
"""Known views. Slow and fast change tempo and pitch together (Ko et al. 2015)."""


def read_samples(path: Path) -> FloatArray:
    """All samples of a file, mono, 16 kHz."""
    with open_audio(path) as source:
        return np.concatenate(list(source.blocks()))


def read_features(path: Path) -> FloatArray:
    """Features (T, 80) of a whole file."""
    return compute_features(read_samples(path))


def windows(features: FloatArray, chunk_frames: int, look_ahead_frames: int) -> Iterator[FloatArray]:
    """Chunks of features (T, 80), each followed by its look-ahead; silence follows the last frame."""
    silent = -len(features) % chunk_frames + look_ahead_frames
    padded = np.pad(features, ((0, silent), (0, 0)), constant_values=SILENCE_LOG_MEL)
    for start in range(0, len(padded) - look_ahead_frames, chunk_frames):
        yield padded[start : start + chunk_frames + look_ahead_frames]


def change_speed(samples: FloatArray, speed: float) -> FloatArray:
    """Play faster (`speed` above 1) or slower, by resampling."""
    if speed == 1.0:
        return samples
    return np.asarray(soxr.resample(samples, 16_000 * speed, 16_000), np.float32)


def prepare(
    clips: Sequence[Clip], audio_dir: Path, out: Path, views: Sequence[str], teacher: Teacher | None,
    rooms: Sequence[Room], track: Track, seed: int = 1,
) -> None:  # fmt: skip
    """Write the store. Clips of other splits than "train" get the clean view only.

    Args:
        clips: the manifest.
        audio_dir: what the clips' paths are relative to.
        out: folder of the store; made where missing.
        views: names out of `SPEEDS`.
        teacher: asked for clean and room views (for the room, about the dry sound: the rows are the same frames).
        rooms: simulated responses; needed for the room view.
        track: shows progress.
        seed: which room a clip gets.
    """
    out.mkdir(parents=True, exist_ok=True)
    spans: dict[str, list[tuple[int, int]]] = {}
    for number, view in enumerate(views):
        done = out / f"{view}.spans.json"
        if not done.is_file():
            rng = np.random.default_rng([seed, number])
            made = _write_view(clips, audio_dir, out, view, teacher, rooms, track, rng)
            part = done.with_suffix(".part")
            part.write_text(json.dumps(made))
            os.replace(part, done)
        spans[view] = [(start, n) for start, n in json.loads(done.read_text())]
    write_index(out, clips, spans)


def _write_view(
    clips: Sequence[Clip], audio_dir: Path, out: Path, view: str, teacher: Teacher | None, rooms: Sequence[Room],
    track: Track, rng: np.random.Generator,
) -> list[tuple[int, int]]:  # fmt: skip
    speed = SPEEDS[view]
    taught = teacher if speed == 1.0 else None
    with closing(StoreWriter(out, view, with_teacher=taught is not None)) as writer:
        for _, clip in track(enumerate(clips), view, len(clips)):
            if view != "clean" and clip.split != "train":
                samples = sounding = np.zeros(0, np.float32)
            else:
                samples = read_samples(audio_dir / clip.audio)
                sounding = change_speed(samples, speed)
                if view == "room":
                    sounding = rooms[int(rng.integers(len(rooms)))].apply(sounding)
            features = compute_features(sounding)
            writer.add(features, None if taught is None else fit_rows(taught(samples), len(features) // 2))
    return writer.spans


def fit_rows(log_probs: FloatArray, n_rows: int) -> FloatArray:
    """Cut or extend (T, V) to `n_rows`: the teacher's framing may differ by a row at the end."""
    if not n_rows:
        return log_probs[:0]
    missing = max(0, n_rows - len(log_probs))
    return np.concatenate([log_probs[:n_rows], np.repeat(log_probs[-1:], missing, 0)])

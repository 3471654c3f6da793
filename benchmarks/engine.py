"""Worker tasks that measure the engine on one device: time for each chunk, and the encoder alone.

Each runs in a process of its own that holds nothing else. With one thread compute is CPU time, so that other processes
on the core do not count; with more it is wall time, since threads work at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corpus import SAMPLE_RATE_HZ, FloatArray, cut_trailing_silence, read_audio
from benchmarks.process import energy_joules
from benchmarks.systems import bundle_folder, open_recognizer

EDGE_MS = 20
"""Audio that the last feature frame of a window reaches beyond the window, rounded up."""
Emit = Callable[[dict[str, Any]], None]


def measure_chunks(job: dict[str, Any], emit: Emit) -> None:
    """Stream each of `paths` up to its last word, a chunk of audio a call, then `finish()`.

    One event a clip: `seconds`, `chunks_s` (compute of each call that completed a chunk), `finish_s`, and `cpu_s`,
    `wall_s` and `joules` (None where the machine does not tell) of all of it.
    """
    recognizer = open_recognizer(job["options"])
    encoder = recognizer.bundle.manifest.encoder
    chunk_ms = job["options"].get("chunk_ms", encoder.default_chunk_ms)
    block_samples = chunk_ms * SAMPLE_RATE_HZ // 1000
    n_filling = -(-(encoder.look_ahead_ms + EDGE_MS) // chunk_ms)  # calls before the first window is whole
    timer = time.process_time if job["options"].get("n_threads", 1) == 1 else time.perf_counter
    for path in job["paths"]:
        samples = cut_trailing_silence(read_audio(Path(path)))
        joules, cpu, wall = energy_joules(), time.process_time(), time.perf_counter()
        stream = recognizer.create_stream(domain=job["options"].get("domain"))
        times = [timer()]
        for start in range(0, len(samples), block_samples):
            stream.accept(samples[start : start + block_samples], SAMPLE_RATE_HZ)
            times.append(timer())
        stream.finish()
        finish_s = timer() - times[-1]
        emit({
            "seconds": len(samples) / SAMPLE_RATE_HZ,
            "chunks_s": np.diff(times)[n_filling : len(samples) // block_samples].tolist(),
            "finish_s": finish_s,
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.perf_counter() - wall,
            "joules": None if joules is None else (energy_joules() or 0.0) - joules,
        })  # fmt: skip


def measure_encoder(job: dict[str, Any], emit: Emit) -> None:
    """The encoder session alone on the features of `paths`: one event a clip with `seconds`, `cpu_s`, `wall_s`."""
    from asr.onnx_encoder import OnnxEncoder

    options = job["options"]
    encoder = OnnxEncoder(bundle_folder(options) / "encoder.onnx", options.get("n_threads", 1))
    chunk = options["chunk_ms"] // 10
    for path in job["paths"]:
        windows = feature_windows(read_audio(Path(path)), chunk, encoder.look_ahead_frames)
        state = encoder.initial_state()
        cpu, wall = time.process_time(), time.perf_counter()
        for window in windows:
            _, state = encoder.step(window, state)
        emit({
            "seconds": len(windows) * options["chunk_ms"] / 1000,
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.perf_counter() - wall,
        })  # fmt: skip


def feature_windows(samples: FloatArray, chunk_frames: int, look_ahead_frames: int) -> list[FloatArray]:
    """The whole windows (chunk_frames + look_ahead_frames, 80) of a clip, one each chunk."""
    from asr.features import FeatureStream

    frames = FeatureStream().accept(samples)
    starts = range(0, len(frames) - chunk_frames - look_ahead_frames + 1, chunk_frames)
    return [np.ascontiguousarray(frames[start : start + chunk_frames + look_ahead_frames]) for start in starts]

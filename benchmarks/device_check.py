"""Is the engine still as small and fast as a committed sheet says? Compares ratios that hold from machine to machine.

Times are CPU seconds on the bundle's self-test clip, divided by those of a fixed NumPy workload that runs in the same
process in turn with them, or by those of another recogniser. Bytes are compared as they are.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.bundle import Bundle
from benchmarks.corpus import SAMPLE_RATE_HZ, FloatArray, read_audio
from benchmarks.engine import feature_windows
from benchmarks.footprint import measure_footprint
from benchmarks.memory import measure_start
from benchmarks.report import ResultError, load, table
from benchmarks.runner import events
from benchmarks.systems import BLOCK_SAMPLES, bundle_folder, open_recognizer

ROUNDS = 9
PEER_ROUNDS = 3
PEERS = ("pocketsphinx", "faster-whisper-tiny.en")
"""Recognisers that are quick enough to be compared with in every check."""
TOLERANCES = {"time": 1.5, "memory": 1.2, "bytes": 1.1}
"""How many times as much as in the sheet is still good, by the first part of a ratio's name."""
Emit = Callable[[dict[str, Any]], None]
Tick = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One ratio in the sheet and now."""

    name: str
    committed: float
    now: float

    @property
    def limit(self) -> float:
        """The largest value that passes."""
        return self.committed * TOLERANCES[self.name.split(".")[0]]

    def __str__(self) -> str:
        return f"{self.name} got worse: {self.now:g}, at most {self.limit:g} expected ({self.committed:g} in the sheet)"

    @property
    def is_worse(self) -> bool:
        """Whether it is larger now than the tolerance allows."""
        return self.now > self.limit


class Calibration:
    """The fixed workload: matrix products as in the encoder, sorting and gathering as in the search."""

    def __init__(self) -> None:
        generator = np.random.default_rng(1)
        self._left = generator.standard_normal((36, 576)).astype(np.float32)
        self._right = generator.standard_normal((576, 576)).astype(np.float32)
        self._order = generator.permutation(200_000)

    def run(self) -> float:
        """CPU seconds of one round."""
        begin = time.process_time()
        for _ in range(200):
            _ = self._left @ self._right
        for _ in range(2):
            _ = np.argsort(self._order)[self._order]
        return time.process_time() - begin


def measure_calibrated(job: dict[str, Any], emit: Emit) -> None:
    """Worker task: one event with the CPU seconds of `calibration`, `engine`, `finish` and `encoder` in every round."""
    from asr.onnx_encoder import OnnxEncoder

    recognizer, calibration = open_recognizer(job["options"]), Calibration()
    encoder = OnnxEncoder(bundle_folder(job["options"]) / "encoder.onnx")
    samples = read_audio(Path(job["path"]))
    chunk_frames = recognizer.bundle.manifest.encoder.default_chunk_ms // 10
    windows = feature_windows(samples, chunk_frames, encoder.look_ahead_frames)
    for _ in range(job["rounds"] + 1):
        calibration_s = calibration.run()
        engine_s, finish_s = _stream(recognizer.create_stream(), samples)
        emit({
            "calibration": calibration_s,
            "engine": engine_s,
            "finish": finish_s,
            "encoder": _encode(encoder, windows),
        })  # fmt: skip


def _stream(stream: Any, samples: FloatArray) -> tuple[float, float]:
    """CPU seconds of the whole clip, and those of `finish()` alone."""
    begin = time.process_time()
    for start in range(0, len(samples), BLOCK_SAMPLES):
        stream.accept(samples[start : start + BLOCK_SAMPLES], SAMPLE_RATE_HZ)
    fed = time.process_time()
    stream.finish()
    ended = time.process_time()
    return ended - begin, ended - fed


def _encode(encoder: Any, windows: Sequence[FloatArray]) -> float:
    state, begin = encoder.initial_state(), time.process_time()
    for window in windows:
        _, state = encoder.step(window, state)
    return time.process_time() - begin


def measure_ratios(bundle: Path | None, peers: Sequence[str], tick: Tick) -> dict[str, float]:
    """Every ratio of one bundle by name; the first part of a name says which tolerance it has.

    Args:
        bundle: folder of the bundle; None is the embedded one.
        peers: recognisers of `PEERS` to compare with.
        tick: called with its name before each of the `n_steps` steps.
    """
    opened = Bundle.open(bundle)
    path = opened.file(opened.manifest.selftest.audio)
    options = {} if bundle is None else {"bundle": str(bundle.resolve())}
    tick("calibrated")
    job = {"task": "calibrated", "options": options, "path": str(path.resolve()), "rounds": ROUNDS}
    rounds = [event for event in events(job) if "calibration" in event][1:]  # the first one warms up
    tick("start")
    start_s = measure_start(options)["cpu_s"]
    tick("memory")
    footprint = measure_footprint([path], bundle)
    calibration_s = statistics.median(event["calibration"] for event in rounds)
    ratios = {
        f"time.{name}/calibration": statistics.median(event[name] / event["calibration"] for event in rounds)
        for name in ("engine", "finish", "encoder")
    }
    ratios["time.start/calibration"] = start_s / calibration_s
    engine_s = statistics.median(event["engine"] for event in rounds)
    for peer in peers:
        tick(peer)
        ratios[f"time.engine/{peer}"] = engine_s / _peer_seconds(peer, path)
    ratios["memory.steady_anonymous_bytes"] = footprint["steady_anonymous_bytes"]  # of mapped files the system decides
    ratios["bytes.bundle"] = opened.size_bytes
    ratios["bytes.encoder"] = opened.manifest.files["encoder.onnx"].bytes
    return {name: round(value, 4) for name, value in ratios.items()}


def n_steps(peers: Sequence[str]) -> int:
    """How many times `measure_ratios` calls `tick`."""
    return 3 + len(peers)


def _peer_seconds(peer: str, path: Path) -> float:
    """Median CPU seconds of a recogniser on the clip."""
    job = {"task": "transcribe", "system": peer, "options": {}, "paths": [str(path.resolve())] * PEER_ROUNDS}
    times: list[float] = [event["cpu_s"] for event in events(job) if "text" in event]
    return statistics.median(times)


def committed_ratios(sheet: Path, bundle: str) -> Mapping[str, float]:
    """The ratios of a bundle in a sheet of `asr-bench device`.

    Raises:
        ResultError: the file is no such sheet, or has no bundle of this name.
    """
    variants = load(sheet).get("bundles")
    if not isinstance(variants, dict):
        raise ResultError(f"{sheet}: expected a sheet of asr-bench device, found no bundles in it")
    if bundle not in variants:
        raise ResultError(f"{sheet}: holds the bundles {', '.join(variants)}, not {bundle}; name one with --bundle")
    ratios: Mapping[str, float] = variants[bundle]["ratios"]
    return ratios


def compare(committed: Mapping[str, float], now: Mapping[str, float]) -> list[Comparison]:
    """Every ratio of the sheet; those to recognisers that are not installed are left out.

    Raises:
        ResultError: another one is missing: the sheet is of another version of this check.
    """
    peers = tuple(f"time.engine/{peer}" for peer in PEERS)
    if missing := [name for name in committed if name not in now and name not in peers]:
        raise ResultError(f"the sheet has ratios that were not measured now: {', '.join(missing)}; write it again")
    return [Comparison(name, value, now[name]) for name, value in committed.items() if name in now]


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """All of them as a Markdown table, the worse ones marked."""
    rows = [
        [c.name, f"{c.committed:g}", f"{c.now:g}", f"{c.now / c.committed:.2f}", f"{c.limit:g}",
         "WORSE" if c.is_worse else "good"]
        for c in comparisons
    ]  # fmt: skip
    return table(["ratio", "sheet", "now", "now / sheet", "limit", ""], rows)

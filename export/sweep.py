"""Measure variants of an encoder side by side: bytes, speed, divergence from float32, phonemes, words.

Every variant's figures are written when they are there, so a run that was cut off goes on where it stopped.
Speed is CPU time of the encoder alone with one thread, its runs alternating with runs of float32: a busy machine slows
both, so `time_ratio` says more than either.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from asr.bundle import Bundle, sha256_of
from asr.decoder.greedy import collapse
from asr.metrics import ErrorCounts, count_word_errors, edit_distance
from asr.nn.model import AcousticModel
from asr.onnx_encoder import OnnxEncoder
from asr.recognizer import Recognizer
from asr.train.checkpoint import open_checkpoint
from asr.types import FloatArray
from export.onnx_graph import export_encoder
from export.ranges import read_features
from export.sensitivity import mean_divergence, stream
from export.variants import Variant, build_variant, with_encoder
from lm.normalize import normalize_for_wer

CHUNK_MS = 640
FRAMES_PER_S = 100
RUNS = 3
Advance = Callable[[str], None]


class SweepError(ValueError):
    """The sweep cannot be run as asked."""


@dataclass(frozen=True, slots=True)
class SpokenClip:
    """An audio file and what is said in it."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is measured on what.

    Raises:
        SweepError: no clips, or no variants.
    """

    checkpoint: Path
    bundle: Path
    """Lexicon, language models and search for the word error rate."""
    clips: Sequence[SpokenClip]
    speech: Sequence[Path]
    """Files that ranges, sensitivities and compression are measured on; not those of `clips`."""
    variants: Sequence[Variant]
    out: Path
    timed_s: float = 30.0
    """Seconds of the clips that speed is measured on."""

    def __post_init__(self) -> None:
        if not self.clips:
            raise SweepError("no clips to measure on: name a manifest that has some with a text")
        if not self.variants:
            raise SweepError("no variants to measure")
        if common := {clip.path for clip in self.clips} & set(self.speech):
            raise SweepError(f"{min(common)}: this clip is measured on and may not be calibrated on too")


def run_sweep(sweep: Sweep, advance: Advance) -> dict[str, Any]:
    """Measure what is not measured yet, and write `sweep.json`.

    Args:
        sweep: what to do.
        advance: called with the name of a variant for each of its clips, once it is done.

    Returns:
        What is in `sweep.json`: kind, date, machine, versions, `rows` and, by name, `variants`.

    Raises:
        SweepError: the folder holds a sweep over something else.
        CheckpointError, BundleError, AudioError: an input cannot be used.
    """
    rows_dir = sweep.out / "rows"
    _claim(sweep, Bundle.open(sweep.bundle))
    rows_dir.mkdir(exist_ok=True)
    done = {variant.name: rows_dir / f"{_slug(variant.name)}.json" for variant in sweep.variants}
    missing = [variant for variant in sweep.variants if not done[variant.name].is_file()]
    for variant in sweep.variants:
        if variant not in missing:
            for _ in sweep.clips:
                advance(variant.name)
    if missing:
        measured = _Measured.prepare(sweep, open_checkpoint(sweep.checkpoint).model().eval())
        for variant in missing:
            _write_json(done[variant.name], measured.measure(variant, advance))
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in done.values()]
    result = {
        **_circumstances(),
        "clips": len(sweep.clips),
        "chunk_ms": CHUNK_MS,
        "rows": [entry["figures"] for entry in entries],
        "variants": {entry["figures"]["variant"]: entry["config"] for entry in entries},
    }
    _write_json(sweep.out / "sweep.json", result)
    return result


def _slug(name: str) -> str:
    return name.replace(":", "-").replace("+", "_")


def _write_json(path: Path, value: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _claim(sweep: Sweep, bundle: Bundle) -> None:
    """Note in the folder what its rows are about, or check that they are about the same."""
    setup = {
        "checkpoint": sha256_of(open_checkpoint(sweep.checkpoint).folder / "model.pt"),
        "bundle": sha256_of(bundle.path / "manifest.json"),
        "clips": [clip.path.name for clip in sweep.clips],
        "speech": [path.name for path in sweep.speech],
    }
    path = sweep.out / "setup.json"
    sweep.out.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if different := [key for key, value in setup.items() if found.get(key) != value]:
            raise SweepError(f"{sweep.out} holds a sweep with another {different[0]}: choose another folder")
    _write_json(path, setup)


def _circumstances() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {
        "kind": "sweep",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": "asr-export sweep",
        "machine": {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {package: version(package) for package in ("onnxruntime", "onnx", "torch", "numpy")},
        "commit": "",
    }


@dataclass(frozen=True, slots=True)
class _Measured:
    """What all variants are compared with."""

    sweep: Sweep
    model: AcousticModel
    bundle: Bundle
    features: list[FloatArray]
    timed: list[FloatArray]
    reference: Path
    log_probs: list[FloatArray]

    @classmethod
    def prepare(cls, sweep: Sweep, model: AcousticModel) -> _Measured:
        features = [read_features(clip.path) for clip in sweep.clips]
        reference = sweep.out / "reference.onnx"
        if not reference.is_file():
            export_encoder(model, reference)
        encoder = OnnxEncoder(reference)
        log_probs = [stream(encoder, clip) for clip in features]
        timed = _first_seconds(features, sweep.timed_s)
        return cls(sweep, model, Bundle.open(sweep.bundle), features, timed, reference, log_probs)

    def measure(self, variant: Variant, advance: Advance) -> dict[str, Any]:
        """`figures` of one variant, flat, and its `config`."""
        path = self.sweep.out / f"{_slug(variant.name)}.onnx"
        config = build_variant(self.model, variant, self.sweep.speech, path, self.reference)
        encoder = OnnxEncoder(path)
        log_probs = [stream(encoder, clip) for clip in self.features]
        times = _alternated(OnnxEncoder(self.reference), encoder, self.timed)
        words = self._words(path, config, lambda: advance(variant.name))
        figures = {
            "variant": variant.name,
            "bytes": path.stat().st_size,
            **times,
            "kl_nats": mean_divergence(self.log_probs, log_probs),
            **phoneme_differences(self.log_probs, log_probs),
            "wer": round(words.rate, 5),
            "word_errors": words.errors,
            "words": words.reference_length,
        }
        return {"figures": figures, "config": config}

    def _words(self, encoder: Path, config: dict[str, Any], advance: Callable[[], None]) -> ErrorCounts:
        """Word errors of the whole engine with another encoder."""
        total = ErrorCounts()
        with tempfile.TemporaryDirectory() as folder:
            made = with_encoder(self.bundle, encoder, config, Path(folder) / "bundle")
            recognizer = Recognizer(made.path, chunk_ms=CHUNK_MS)
            for clip in self.sweep.clips:
                heard = recognizer.transcribe(clip.path).text
                total += count_word_errors(normalize_for_wer(clip.text), normalize_for_wer(heard))
                advance()
        return total


def _first_seconds(features: Sequence[FloatArray], seconds: float) -> list[FloatArray]:
    """As many clips as it takes, one at least."""
    chosen: list[FloatArray] = []
    for clip in features:
        if sum(map(len, chosen)) < seconds * FRAMES_PER_S:
            chosen.append(clip)
    return chosen


def _alternated(reference: OnnxEncoder, encoder: OnnxEncoder, features: Sequence[FloatArray]) -> dict[str, float]:
    """CPU seconds for each second of audio, median of runs that take turns."""
    seconds = sum(map(len, features)) / FRAMES_PER_S
    runs = [tuple(_cpu_seconds(one, features) / seconds for one in (reference, encoder)) for _ in range(RUNS)]
    return {
        "rtf": round(median(run[1] for run in runs), 5),
        "float32_rtf": round(median(run[0] for run in runs), 5),
        "time_ratio": round(median(run[1] / run[0] for run in runs), 3),
    }


def _cpu_seconds(encoder: OnnxEncoder, features: Sequence[FloatArray]) -> float:
    stream(encoder, features[0][: 2 * CHUNK_MS // 10])  # the first chunks plan their memory
    start = time.process_time()
    for clip in features:
        stream(encoder, clip)
    return time.process_time() - start


def phoneme_differences(expected: Sequence[FloatArray], found: Sequence[FloatArray]) -> dict[str, int]:
    """Edits between the best phonemes of two lists of log-probs (T, V), and how many clips have any."""
    edits = []
    n_phonemes = 0
    for p, q in zip(expected, found, strict=True):
        one, other = (collapse(x.argmax(1).tolist()) for x in (p, q))
        edits.append(edit_distance(one, other))
        n_phonemes += len(one)
    return {"phoneme_edits": sum(edits), "phonemes": n_phonemes, "clips_changed": sum(map(bool, edits))}

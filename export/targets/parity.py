"""Does an exported folder hear the same phonemes as our own runtime, clip by clip?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.bundle import Bundle
from asr.errors import OptionError
from asr.onnx_encoder import OnnxEncoder
from asr.types import FloatArray
from export.ranges import read_features
from export.targets.description import FRAME_MS
from export.targets.runners import TargetFolder, greedy_phonemes, pad


@dataclass(frozen=True, slots=True)
class ClipParity:
    """One clip in both runtimes."""

    clip: str
    identical: bool
    """Whether the greedy phonemes are."""
    n_phonemes: int
    max_abs: float
    """Largest difference of a log-probability above -10 in either."""
    same_label: float
    """Share of frames with the same best label."""


@dataclass(frozen=True, slots=True)
class TargetParity:
    """All clips."""

    target: str
    chunk_ms: int
    model_bytes: int
    n_clips: int
    n_identical: int
    n_seconds: float
    """Of audio."""
    cpu_s: float
    """Processor time of the exported encoder, features not counted."""
    clips: tuple[ClipParity, ...]

    def __str__(self) -> str:
        others = [clip.clip for clip in self.clips if not clip.identical]
        return f"{self.n_identical} of {self.n_clips} identical" + (f"; not: {', '.join(others)}" if others else "")


def measure_parity(folder: Path, bundle: Bundle, audio: Sequence[Path]) -> TargetParity:
    """Hear all clips in both runtimes.

    Args:
        folder: what an export wrote.
        bundle: what it was made from.
        audio: files in any format that the recogniser reads.

    Raises:
        OptionError: no audio, or the folder is not an export of this bundle.
        AudioError: a file cannot be read.
        MissingDependencyError: the target's runtime is not installed.
    """
    if not audio:
        raise OptionError("no audio files: expected at least one")
    target, encoder = TargetFolder(folder), OnnxEncoder(bundle.file("encoder.onnx"))
    made_from, ours = target.record["encoder_sha256"], bundle.manifest.files["encoder.onnx"].sha256
    if made_from != ours:
        raise OptionError(
            f"{folder}: made from an encoder of sha256 {made_from}, this bundle's has {ours}: "
            "name its bundle with --bundle"
        )
    chunk_frames = target.record["chunk_ms"] // FRAME_MS
    clips, n_frames, cpu_s = [], 0, 0.0
    for path in audio:
        features = read_features(path)
        expected = own_log_probs(encoder, features, chunk_frames)
        start = time.process_time()
        found = target.log_probs(features)
        cpu_s += time.process_time() - start
        n_frames += len(features)
        clips.append(_compare(path.name, expected, found))
    return TargetParity(
        target=target.record["target"],
        chunk_ms=target.record["chunk_ms"],
        model_bytes=(folder / target.record["model"]).stat().st_size,
        n_clips=len(clips),
        n_identical=sum(clip.identical for clip in clips),
        n_seconds=n_frames * FRAME_MS / 1000,
        cpu_s=cpu_s,
        clips=tuple(clips),
    )


def own_log_probs(encoder: OnnxEncoder, features: FloatArray, chunk_frames: int) -> FloatArray:
    """Log-probabilities (n, V) of features (T, 80) in our own runtime, fed as `TargetFolder.log_probs` does."""
    window = chunk_frames + encoder.look_ahead_frames
    padded, state, parts = pad(features, chunk_frames, encoder.look_ahead_frames), encoder.initial_state(), []
    for start in range(0, len(padded) - window + 1, chunk_frames):
        log_probs, state = encoder.step(padded[start : start + window], state)
        parts.append(log_probs)
    return np.concatenate(parts)


def _compare(name: str, expected: FloatArray, found: FloatArray) -> ClipParity:
    ours, theirs = greedy_phonemes(expected), greedy_phonemes(found)
    found = np.where(np.isnan(found), np.float32(np.inf), found)  # as far off as can be
    visible = np.maximum(expected, found) > -10
    return ClipParity(
        clip=name,
        identical=ours == theirs and bool((found < np.inf).all()),
        n_phonemes=len(ours),
        max_abs=float(np.abs(expected - found)[visible].max()),
        same_label=float((expected.argmax(1) == found.argmax(1)).mean()),
    )

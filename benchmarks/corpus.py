"""Clips to measure on: a JSON-lines manifest, a choice from it, and their samples as float32 mono at 16 kHz."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from asr.audio import open_audio

FloatArray = npt.NDArray[np.float32]
SAMPLE_RATE_HZ = 16000


class ManifestError(ValueError):
    """The manifest cannot be read, or nothing in it was chosen."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: its file, what is said in it, and where it comes from."""

    path: Path
    text: str | None
    corpus: str
    split: str
    seconds: float


def load_manifest(manifest: Path, audio_dir: Path | None = None) -> list[Clip]:
    """Read one clip a line: `audio` (a path below `audio_dir`, default the manifest's folder), `text`, `seconds`, ...

    Raises:
        ManifestError: no such file, or a line that is not a JSON object with these keys.
    """
    folder = manifest.parent if audio_dir is None else audio_dir
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ManifestError(f"{manifest}: cannot be read: {error.strerror}") from error
    return [_read_line(line, folder, f"{manifest}:{number}") for number, line in enumerate(lines, 1)]


def _read_line(line: str, folder: Path, place: str) -> Clip:
    try:
        entry = json.loads(line)
        path, seconds = folder / entry["audio"], float(entry["seconds"])
        corpus, split = entry.get("corpus", "clips"), entry.get("split", "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{place}: expected an object with audio, text and seconds") from error
    return Clip(path, entry.get("text"), corpus, split, seconds)


def select(
    clips: Sequence[Clip],
    corpora: Sequence[str] = (),
    split: str | None = None,
    every: int = 1,
    limit: int | None = None,
) -> list[Clip]:
    """Clips of the given corpora and split, every n-th of them, at most `limit` from each corpus.

    Raises:
        ManifestError: nothing is left.
    """
    by_corpus: dict[str, list[Clip]] = {}
    for clip in clips:
        if (not corpora or clip.corpus in corpora) and (split is None or clip.split == split):
            by_corpus.setdefault(clip.corpus, []).append(clip)
    chosen = [clip for group in by_corpus.values() for clip in group[::every][:limit]]
    if not chosen:
        known = ", ".join(sorted({f"{clip.corpus} ({clip.split})" for clip in clips})) or "none"
        raise ManifestError(
            f"no clip of corpus {', '.join(corpora) or 'any'}, split {split or 'any'}; there are: {known}"
        )
    return chosen


def read_audio(path: Path) -> FloatArray:
    """Samples (N,) in [-1, 1] at 16 kHz, channels mixed down; read as the engine reads them, for every system alike."""
    with open_audio(path) as source:
        return np.concatenate(list(source.blocks()))


def cut_trailing_silence(samples: FloatArray, below_peak_db: float = 35.0, frame_samples: int = 160) -> FloatArray:
    """Cut everything after the last 10 ms frame that is less than `below_peak_db` quieter than the loudest frame.

    Args:
        samples: (N,) float32.
        below_peak_db: how much quieter than the loudest frame still counts as speech.
        frame_samples: length of a frame.

    Returns:
        (M,) with M <= N; the input itself where it is shorter than a frame or silent throughout.
    """
    n_frames = len(samples) // frame_samples
    frames = samples[: n_frames * frame_samples].reshape(n_frames, frame_samples).astype(np.float64)
    power = np.square(frames).mean(axis=1)  # (n_frames,)
    if not power.any():
        return samples
    (loud,) = np.nonzero(power >= power.max() * 10 ** (-below_peak_db / 10))
    return samples[: (loud[-1] + 1) * frame_samples]


def add_noise(samples: FloatArray, noise: FloatArray, snr_db: float) -> FloatArray:
    """Speech with noise at a ratio of mean powers; the noise is repeated or cut, and all is scaled to stay within 1.

    Args:
        samples: (N,) float32.
        noise: (M,) float32, M > 0.
        snr_db: speech over noise, in decibels.

    Returns:
        (N,)
    """
    fitted = np.resize(noise, len(samples)).astype(np.float64)
    powers = [float(np.mean(np.square(part, dtype=np.float64))) for part in (samples, fitted)]
    if not len(samples) or not all(powers):
        return samples
    mixed = samples + fitted * np.sqrt(powers[0] / powers[1] / 10 ** (snr_db / 10))
    scaled: FloatArray = (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32)
    return scaled


def with_noise(clips: Sequence[Clip], noises: Sequence[Path], snr_db: float, folder: Path) -> list[Clip]:
    """Copies of the clips in `folder`, each with one of the noises; which one depends on its number alone."""
    out = []
    for number, clip in enumerate(clips):
        noise = read_audio(noises[number * 7 % len(noises)])
        path = folder / f"{number:05d}.wav"
        write_wav(path, add_noise(read_audio(clip.path), noise, snr_db))
        out.append(replace(clip, path=path))
    return out


def write_wav(path: Path, samples: FloatArray) -> None:
    """Write (N,) float32 at 16 kHz as 16-bit WAV."""
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="PCM_16")


def join(clips: Sequence[Clip], seconds: float) -> FloatArray:
    """The clips one after another, over and over, cut to `seconds`; (N,)."""
    wanted = round(seconds * SAMPLE_RATE_HZ)
    parts: list[FloatArray] = []
    have = 0
    while have < wanted:
        parts.append(read_audio(clips[len(parts) % len(clips)].path))
        have += len(parts[-1])
    return np.concatenate(parts)[:wanted]

"""Fit the linear map from our log-mel to the seed network's on real speech."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.features import compute_features
from asr.nn.seed import fit_feature_map
from asr.train.manifest import Clip
from asr.train.prepare import read_samples
from asr.types import FloatArray


@dataclass(frozen=True, slots=True)
class FittedMap:
    """What the seed needs to take our features."""

    feature_map: np.ndarray
    """(taps * 80, 80)."""
    bias: np.ndarray
    """(80,)."""
    explained: float
    """Share of variance explained on the frames that were held out."""
    mean: np.ndarray
    """(80,) of our features over the clips."""
    deviation: np.ndarray
    """(80,) standard deviation."""


def fit_on_clips(
    other_features: Callable[[FloatArray], FloatArray], tap_offsets: Sequence[int], clips: Sequence[Clip],
    audio_dir: Path, n: int, *, seed: int = 0,
) -> FittedMap:  # fmt: skip
    """Fit on nine tenths of the frames of `n` clips; the rest says how well.

    Half of the clips are played at another level, -15 to +6 dB, so that the map holds for quiet speech too.

    Args:
        other_features: samples (N,) -> the seed's features (T, 80), frame t centred at sample 160 t.
        tap_offsets: which of our frames, relative to t, the seed's frame t is made of; ascending.
        clips: the manifest.
        audio_dir: what the clips' paths are relative to.
        n: clips to use.
        seed: which clips and levels.
    """
    rng = np.random.default_rng(seed)
    ours, theirs, plain = [], [], []
    first, last = min(0, tap_offsets[0]), max(0, tap_offsets[-1])
    for index in rng.permutation(len(clips))[:n]:
        gain = 10 ** (rng.uniform(-15, 6) / 20) if rng.random() < 0.5 else 1.0
        samples = np.clip(read_samples(audio_dir / clips[index].audio) * np.float32(gain), -1, 1)
        own, other = compute_features(samples), other_features(samples)
        frames = np.arange(-first, min(len(own), len(other)) - last)
        ours.append(np.concatenate([own[frames + offset] for offset in tap_offsets], 1))
        theirs.append(other[frames])
        plain.append(own[frames])
    inputs, outputs, own_features = np.concatenate(ours), np.concatenate(theirs), np.concatenate(plain)
    fitted = len(inputs) * 9 // 10
    feature_map, bias = fit_feature_map(inputs[:fitted], outputs[:fitted])
    residual = outputs[fitted:] - (inputs[fitted:] @ feature_map + bias)
    explained = float(1 - residual.var() / outputs[fitted:].var())
    return FittedMap(feature_map, bias, explained, own_features.mean(0), own_features.std(0))

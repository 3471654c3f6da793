"""Fit the linear map from our log-mel to the seed network's on real speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.features import compute_features
from asr.nn.seed import fit_feature_map, seed_features
from asr.train.manifest import Clip
from asr.train.prepare import read_samples


@dataclass(frozen=True, slots=True)
class FittedMap:
    """What the seed needs to take our features."""

    feature_map: np.ndarray
    """(160, 80)."""
    bias: np.ndarray
    """(80,)."""
    explained: float
    """Share of variance explained on the frames that were held out."""
    mean: np.ndarray
    """(80,) of our features over the clips."""
    deviation: np.ndarray
    """(80,) standard deviation."""


def fit_on_clips(
    asset: Mapping[str, Tensor], clips: Sequence[Clip], audio_dir: Path, n: int, *, seed: int = 0
) -> FittedMap:
    """Fit on nine tenths of the frames of `n` clips; the rest says how well.

    Half of the clips are played at another level, -15 to +6 dB, so that the map holds for quiet speech too.
    """
    rng = np.random.default_rng(seed)
    ours, theirs = [], []
    for index in rng.permutation(len(clips))[:n]:
        gain = 10 ** (rng.uniform(-15, 6) / 20) if rng.random() < 0.5 else 1.0
        samples = np.clip(read_samples(audio_dir / clips[index].audio) * np.float32(gain), -1, 1)
        own, other = compute_features(samples), seed_features(asset, torch.from_numpy(samples)).numpy()
        frames = min(len(own), len(other) - 1) - 1
        ours.append(np.concatenate([own[:frames], own[1 : frames + 1]], 1))
        theirs.append(other[1 : frames + 1])
    inputs, outputs = np.concatenate(ours), np.concatenate(theirs)
    fitted = len(inputs) * 9 // 10
    feature_map, bias = fit_feature_map(inputs[:fitted], outputs[:fitted])
    residual = outputs[fitted:] - (inputs[fitted:] @ feature_map + bias)
    explained = float(1 - residual.var() / outputs[fitted:].var())
    own_features = inputs[:, 80:]  # the later of the two frames
    return FittedMap(feature_map, bias, explained, own_features.mean(0), own_features.std(0))

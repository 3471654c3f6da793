"""Fit the linear map from our log-mel to the seed network's on real speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.features import compute_features
from asr.nn.seed import fit_feature_map, seed_features
from asr.train.manifest import Clip
from asr.train.prepare import read_samples


def fit_on_clips(
    asset: Mapping[str, Tensor], clips: Sequence[Clip], audio_dir: Path, n: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, float]:
    """Map (160, 80), bias (80,) and the share of variance explained on a tenth of the frames that was held out.

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
    return feature_map, bias, float(1 - residual.var() / outputs[fitted:].var())

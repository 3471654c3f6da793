"""Augmentation of log-mel features while a batch is read: gain, additive noise, SpecAugment (Park et al. 2019).

Noise is added as power, mel bin by mel bin: log(exp(speech) + g exp(noise)); the phases' cross terms are left out,
which makes it thousands of times cheaper than mixing waveforms, and needs only the noise's own features.
Rooms and speeds change the waveform and are made once, by `asr-train prepare`, as further views.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from asr.train.recipe import AugmentConfig

FloatArray = npt.NDArray[np.float32]
_DB = math.log(10) / 10  # log-mel units (natural log of power) a decibel


def augment(
    features: FloatArray, noises: list[FloatArray], config: AugmentConfig, rng: np.random.Generator
) -> FloatArray:
    """A changed copy of features (T, 80); `noises` are features of noise clips, none where there is no noise."""
    out = features + np.float32(rng.uniform(*config.gain_db) * _DB)
    if noises and rng.random() < config.noise_probability:
        noise = noises[rng.integers(len(noises))]
        out = add_noise(out, noise, rng.uniform(*config.noise_snr_db), rng)
    return mask(out, config, rng)


def add_noise(features: FloatArray, noise: FloatArray, snr_db: float, rng: np.random.Generator) -> FloatArray:
    """Features (T, 80) with noise (any length, repeated or cut) at `snr_db`, measured on mean power over all bins."""
    start = int(rng.integers(len(noise)))
    index = (start + np.arange(len(features))) % len(noise)
    mixed = noise[index]
    level = _mean_power(features) - _mean_power(mixed) - snr_db * _DB
    total: FloatArray = np.logaddexp(features, mixed + np.float32(level))
    return total


def _mean_power(features: FloatArray) -> float:
    return float(np.log(np.mean(np.exp(features, dtype=np.float64)) + 1e-12))


def mask(features: FloatArray, config: AugmentConfig, rng: np.random.Generator) -> FloatArray:
    """SpecAugment: random stretches of time and bands of frequency replaced by the clip's mean; changes its input."""
    fill = features.mean()
    n_frames, n_bins = features.shape
    for _ in range(config.time_masks):
        width = int(rng.integers(config.time_mask_frames + 1))
        width = min(width, n_frames // 10)
        start = int(rng.integers(n_frames - width + 1))
        features[start : start + width] = fill
    for _ in range(config.frequency_masks):
        width = int(rng.integers(config.frequency_mask_bins + 1))
        start = int(rng.integers(n_bins - width + 1))
        features[:, start : start + width] = fill
    return features

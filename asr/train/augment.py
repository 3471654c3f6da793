"""Augmentation of log-mel features while a batch is read.

Tempo, vocal tract length (Jaitly and Hinton 2013), gain, filters, noise, narrow channels, and SpecAugment (Park et al.
2019).

Noise is added as power, mel bin by mel bin: log(exp(speech) + g exp(noise)), thousands of times cheaper than mixing
waveforms, and needs only the noise's own features. What the phases do is left out, or drawn at random.
Rooms and speeds change the waveform and are made once, by `asr-train prepare`, as further views.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from asr.features import MEL_FILTERS, MEL_HZ, N_MELS, SILENCE_LOG_MEL
from asr.train.recipe import AugmentConfig

FloatArray = npt.NDArray[np.float32]
_DB = math.log(10) / 10  # log-mel units (natural log of power) a decibel
_FILTER_KNOTS = 5
_PHASE_SPREAD = 1.2 * np.sqrt(0.5 * (MEL_FILTERS**2).sum(0)) / MEL_FILTERS.sum(0)
"""Standard deviation of the mean cosine between two sounds in each mel bin: it falls with the bin's width; the factor
was found on 12 mixed waveforms (0.55 at 100 Hz to 0.32 at 6 kHz)."""


def augment(
    features: FloatArray, noises: list[FloatArray], config: AugmentConfig, rng: np.random.Generator
) -> FloatArray:
    """A changed copy of features (T, 80); `noises` are features of noise clips, none where there is no noise.

    `config.tempo` changes which frames there are, and with them what they say when: see `change_tempo`.
    """
    out = features + np.float32(rng.uniform(*config.gain_db) * _DB)
    if config.warp != (1.0, 1.0):
        out = warp(out, rng.uniform(*config.warp))
    if config.filter_db:
        out += smooth_filter(config.filter_db, rng)
    if noises and rng.random() < config.noise_probability:
        noise = noises[rng.integers(len(noises))]
        if rng.random() < config.noise_pairs:
            noise = add_noise(noise, noises[rng.integers(len(noises))], rng.uniform(0, 10), rng)
        if config.filter_db:
            noise = noise + smooth_filter(config.filter_db, rng)
        out = add_noise(out, noise, rng.uniform(*config.noise_snr_db), rng, phases=config.noise_phases)
    if config.narrow_probability and rng.random() < config.narrow_probability:
        out = narrow(out, rng.uniform(50, 300), rng.uniform(3000, 7000))
    return mask(out, config, rng)


def change_tempo(features: FloatArray, tempo: float) -> FloatArray:
    """Features (T, 80) played `tempo` times as fast, pitch unchanged: (about T / tempo, 80), frames blended."""
    places = np.arange(0, len(features) - 1, tempo)
    before = np.minimum(places.astype(np.int64), max(0, len(features) - 2))
    share = (places - before).astype(np.float32)[:, None]
    blended: FloatArray = features[before] * (1 - share) + features[before + 1] * share
    return blended


def warp(features: FloatArray, factor: float) -> FloatArray:
    """Features (T, 80) with all frequencies times `factor`; bins that nothing reaches take the nearest one's values."""
    places = np.interp(MEL_HZ / factor, MEL_HZ, np.arange(N_MELS))
    before = np.minimum(places.astype(np.int64), N_MELS - 2)
    share = (places - before).astype(np.float32)
    return features[:, before] * (1 - share) + features[:, before + 1] * share


def narrow(features: FloatArray, low_hz: float, high_hz: float) -> FloatArray:
    """Features (T, 80) through a channel from `low_hz` to `high_hz`; its edges fall by 60 dB in half an octave."""
    octaves_outside = np.maximum(0, np.maximum(np.log2(low_hz / MEL_HZ), np.log2(MEL_HZ / high_hz)))
    loss = np.minimum(2 * octaves_outside, 1) * 60 * _DB
    out: FloatArray = np.maximum(features - loss.astype(np.float32), np.float32(SILENCE_LOG_MEL))
    return out


def smooth_filter(most_db: float, rng: np.random.Generator) -> FloatArray:
    """(80,) A random gain, smooth over the mel bins, of at most `most_db` either way, in log-mel units."""
    knots = rng.uniform(-most_db, most_db, _FILTER_KNOTS) * _DB
    return np.interp(np.linspace(0, _FILTER_KNOTS - 1, N_MELS), np.arange(_FILTER_KNOTS), knots).astype(np.float32)


def add_noise(
    features: FloatArray, noise: FloatArray, snr_db: float, rng: np.random.Generator, *, phases: bool = False
) -> FloatArray:
    """Features (T, 80) with noise (any length, repeated or cut) at `snr_db`, measured on mean power over all bins.

    Args:
        features: of speech.
        noise: features of noise.
        snr_db: how far the speech is above it.
        rng: where in the noise to start.
        phases: draw how far the two amplify or cancel each other.
    """
    start = int(rng.integers(len(noise)))
    index = (start + np.arange(len(features))) % len(noise)
    mixed = noise[index]
    level = _mean_power(features) - _mean_power(mixed) - snr_db * _DB
    mixed = mixed + np.float32(level)
    total: FloatArray = np.logaddexp(features, mixed)
    if phases:
        cosine = np.clip(rng.standard_normal(total.shape, np.float32) * _PHASE_SPREAD, -0.9, 0.9)
        total += np.log1p(cosine / np.cosh((features - mixed) / 2))
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

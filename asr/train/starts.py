"""Checkpoints to start from: a pre-trained network, moved to our features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from asr.nn.model import AcousticModel
from asr.nn.seed import (
    build_seed,
    label_index,
    move_frontend,
    pair_frontend,
    read_asset,
    seed_features,
    seed_labels,
)
from asr.nn.whisper import TAP_OFFSETS, build_whisper, read_ctranslate2, set_feature_map
from asr.train.featuremap import fit_on_clips
from asr.train.manifest import Clip
from asr.types import FloatArray

LEFT_CONTEXT, LOOK_AHEAD = 128, 20


def whisper_features(samples: FloatArray) -> FloatArray:
    """Whisper's log-mel of a waveform (N,) at 16 kHz: (N // 160, 80), frame t centred at sample 160 t.

    From a padded 400-point Hann STFT, decimal logarithms, floored at eight below the clip's maximum.
    """
    from torchaudio.functional import melscale_fbanks

    filters = melscale_fbanks(201, 0.0, 8000.0, 80, 16_000, norm="slaney", mel_scale="slaney")
    spectrum = torch.stft(
        torch.from_numpy(samples), 400, 160, window=torch.hann_window(400), return_complex=True
    )[:, :-1]  # fmt: skip
    level = (spectrum.abs().square().T @ filters).clamp(min=1e-10).log10()
    floored = torch.maximum(level, level.max() - 8)
    return np.asarray(((floored + 4) / 4).numpy(), np.float32)


def start_from_hama(clips: Sequence[Clip], audio_dir: Path, n_clips: int) -> tuple[AcousticModel, float]:
    """Hama's phoneme Conformer, and the share of variance that the feature map explains."""
    asset = read_asset()
    fitted = fit_on_clips(
        lambda samples: seed_features(asset, torch.from_numpy(samples)).numpy(), (-1, 0), clips, audio_dir, n_clips
    )
    model = move_frontend(build_seed(asset, label_index(seed_labels())), fitted.feature_map, fitted.bias)
    pair_frontend(model).normalize_features(torch.from_numpy(fitted.mean), torch.from_numpy(fitted.deviation))
    return model, fitted.explained


def start_from_whisper(path: Path, clips: Sequence[Clip], audio_dir: Path, n_clips: int) -> tuple[AcousticModel, float]:
    """The encoder of the Whisper model at `path` with an untrained head, and the share of variance explained."""
    fitted = fit_on_clips(whisper_features, TAP_OFFSETS, clips, audio_dir, n_clips)
    model = build_whisper(read_ctranslate2(path), left_context=LEFT_CONTEXT, look_ahead=LOOK_AHEAD)
    set_feature_map(model, fitted.feature_map, fitted.bias, fitted.mean, fitted.deviation)
    return model, fitted.explained

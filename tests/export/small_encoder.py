"""A small random encoder and its float32 graph, exported once for all tests that want them."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch

from asr.nn.model import AcousticModel, EncoderConfig
from export.onnx_graph import export_encoder

CONFIG = EncoderConfig("conformer", d_model=32, n_heads=2, n_layers=2, d_ff=64, kernel=7, left_context=20, look_ahead=4)
_FOLDER = tempfile.TemporaryDirectory()


@cache
def small_model():
    """Random weights, features scaled as after training, and a head that is sure of itself. Do not change it."""
    torch.manual_seed(5)
    model = AcousticModel(CONFIG).eval()
    with torch.no_grad():
        model.frontend.feature_mean.fill_(-7.0)
        model.frontend.feature_scale.fill_(0.25)
        model.head.weight.mul_(5)
    return model


@cache
def plain_graph() -> Path:
    """Its float32 graph."""
    path = Path(_FOLDER.name) / "plain.onnx"
    export_encoder(small_model(), path)
    return path


def make_features(n_frames, seed=0):
    """Features (T, 80) that change slowly, as speech does."""
    rng = np.random.default_rng(seed)
    slow = np.repeat(rng.normal(0, 3, (n_frames // 8 + 1, 80)), 8, axis=0)[:n_frames]
    return (slow + rng.normal(-7, 1, (n_frames, 80))).astype(np.float32)

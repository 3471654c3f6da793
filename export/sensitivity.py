"""How much each layer of an encoder minds being quantised, and which layers to quantise harder under a byte budget.

The measure is the Kullback-Leibler divergence of the phoneme posteriors from those of float32, averaged over frames, of
a stream of speech.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx

from asr.onnx_encoder import OnnxEncoder
from asr.train.prepare import windows
from asr.types import FloatArray
from export.quantize import Mixed, QuantizationError, Scheme, find_layers, quantize_encoder

CHUNK_FRAMES = 64
SCHEMES: tuple[Scheme, ...] = ("int8", "int4")
T = TypeVar("T")
Track = Callable[[Sequence[T]], Iterable[T]]


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """What each scheme does to one layer, `float32` included: divergence in nats a frame, and bytes of its weights."""

    layer: str
    divergence: Mapping[Scheme, float]
    n_bytes: Mapping[Scheme, int]


def stream(encoder: OnnxEncoder, features: FloatArray, chunk_frames: int = CHUNK_FRAMES) -> FloatArray:
    """Log-probs (T/2, V) of features (T, 80) chunk by chunk; silence fills the last chunk."""
    state, rows = encoder.initial_state(), []
    for window in windows(features, chunk_frames, encoder.look_ahead_frames):
        log_probs, state = encoder.step(window, state)
        rows.append(log_probs)
    return np.concatenate(rows)


def mean_divergence(expected: Sequence[FloatArray], found: Sequence[FloatArray]) -> float:
    """Kullback-Leibler divergence of log-probs (T, V) from those expected, mean over all frames, in nats."""
    total = sum(float((np.exp(p) * (p - q)).sum()) for p, q in zip(expected, found, strict=True))
    return max(0.0, total / sum(map(len, expected)))


def sensitivity(
    plain: str | Path, clips: Sequence[FloatArray], schemes: Sequence[Scheme] = SCHEMES, track: Track[str] = iter
) -> list[LayerSensitivity]:
    """Quantise one layer at a time and see what the posteriors do.

    Args:
        plain: float32 graph.
        clips: log-mel features (T, 80) of speech.
        schemes: to try, of `export.quantize.MIXABLE`.
        track: wraps the layers' names, for a progress bar.

    Returns:
        One entry a layer but for the front end, which stays float32.
    """
    expected = [stream(OnnxEncoder(plain), clip) for clip in clips]
    layers = {layer.name: layer for layer in find_layers(onnx.load(str(plain)))[1:]}
    entries = []
    with tempfile.TemporaryDirectory() as folder:
        for name in track(list(layers)):
            divergence: dict[Scheme, float] = {"float32": 0.0}
            for scheme in schemes:
                path = Path(folder) / "encoder.onnx"
                quantize_encoder(plain, path, Mixed({name: scheme}))
                encoder = OnnxEncoder(path)
                divergence[scheme] = mean_divergence(expected, [stream(encoder, clip) for clip in clips])
            n_bytes = {scheme: layers[name].weight_bytes(scheme) for scheme in divergence}
            entries.append(LayerSensitivity(name, divergence, n_bytes))
    return entries


def choose_mixed(layers: Sequence[LayerSensitivity], budget_bytes: int) -> Mixed:
    """From float32 everywhere, take the step that costs least divergence a byte saved, until the budget is kept.

    Args:
        layers: from `sensitivity`.
        budget_bytes: for the weights of these layers together.

    Raises:
        QuantizationError: the smallest scheme of each layer is more than the budget.
    """
    least = sum(min(layer.n_bytes.values()) for layer in layers)
    if least > budget_bytes:
        raise QuantizationError(f"a budget of {budget_bytes} bytes cannot be kept: the layers take {least} at least")
    chosen: dict[str, Scheme] = {layer.layer: "float32" for layer in layers}
    total = sum(layer.n_bytes["float32"] for layer in layers)
    while total > budget_bytes:
        steps = [
            ((layer.divergence[scheme] - layer.divergence[now]) / saved, saved, layer.layer, scheme)
            for layer in layers
            for scheme in layer.n_bytes
            if (saved := layer.n_bytes[now := chosen[layer.layer]] - layer.n_bytes[scheme]) > 0
        ]
        _, saved, name, scheme = min(steps)
        chosen[name] = scheme
        total -= saved
    return Mixed(chosen)

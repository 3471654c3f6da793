"""Ranges of activations over speech, for static quantisation: run the float32 graph as a stream and look inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from asr.features import compute_features
from asr.train.prepare import windows
from asr.types import FloatArray

METHODS = ("minmax", "percentile", "entropy")
CHUNK_FRAMES = 64
Ranges = Mapping[str, tuple[float, float]]
_BINS = 2048
_LEVELS = 256


def activation_ranges(
    model: ModelProto, tensors: Sequence[str], audio: Sequence[Path], method: str, percentile: float
) -> Ranges:
    """Lowest and highest value of each tensor that 8 bits should cover; 0 is always among them.

    Args:
        model: a streaming encoder.
        tensors: names of float32 values inside it.
        audio: files of speech.
        method: one of `METHODS`.
        percentile: used by `percentile` alone, in per cent.

    Raises:
        AudioError: a file cannot be read.
        ValueError: none of them is as long as a frame.
    """
    values: dict[str, list[FloatArray]] = {name: [] for name in tensors}
    for outputs in _inside(model, tensors, audio):
        for name, value in zip(tensors, outputs, strict=True):
            values[name].append(value.ravel())
    if not all(values.values()):
        raise ValueError(
            f"there is nothing to hear in {', '.join(map(str, audio))}: expected speech, half a minute or more"
        )
    return {name: value_range(np.concatenate(found), method, percentile) for name, found in values.items()}


def _inside(model: ModelProto, tensors: Sequence[str], audio: Sequence[Path]) -> Iterator[Sequence[FloatArray]]:
    """The tensors' values in each chunk of each file."""
    import onnxruntime

    seen = ModelProto()
    seen.CopyFrom(model)
    seen.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    session = onnxruntime.InferenceSession(seen.SerializeToString(), providers=["CPUExecutionProvider"])
    feature_input, *state_inputs = session.get_inputs()
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    look_ahead = int(metadata["T"]) - int(metadata["decode_chunk_len"])
    for path in audio:
        states = [_zeros(node) for node in state_inputs]
        for window in windows(read_features(path), CHUNK_FRAMES, look_ahead):
            feed = {node.name: state for node, state in zip(state_inputs, states, strict=True)}
            _, *rest = session.run(None, {feature_input.name: window[None], **feed})
            states = rest[: len(states)]
            yield rest[len(states) :]


def _zeros(node: onnx.NodeProto) -> FloatArray:
    shape = [size if isinstance(size, int) else 1 for size in node.shape]
    return np.zeros(shape, np.int64 if "int64" in node.type else np.float32)


def read_features(path: Path) -> FloatArray:
    """Log-mel features (T, 80) of an audio file.

    Raises:
        AudioError: it cannot be read.
    """
    from asr.audio import open_audio

    with open_audio(path) as source:
        blocks = list(source.blocks())
    return compute_features(np.concatenate(blocks) if blocks else np.zeros(0, np.float32))


def value_range(values: FloatArray, method: str, percentile: float) -> tuple[float, float]:
    """Range of (N,) values that 8 bits should cover, from at most 0 to at least 0, wider than nothing."""
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if method == "percentile":
        low, high = map(float, np.percentile(values, [100 - percentile, percentile]))
    elif method == "entropy" and high > low:
        share = _least_divergent(values, low, high)
        low, high = share * low, share * high
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high > low else (low, low + 1.0)


def _least_divergent(values: FloatArray, low: float, high: float) -> float:
    """Which share of the range gives the 256-level histogram that is nearest to the true one (Migacz 2017)."""
    shares = np.linspace(0.2, 1, 33)
    counts = [_divergence(values, share * low, share * high) for share in shares]
    return float(shares[int(np.argmin(counts))])


def _divergence(values: FloatArray, low: float, high: float) -> float:
    """KL divergence of the values, clipped to a range, from themselves in 256 levels of it, in nats."""
    inside = values[(values >= low) & (values <= high)]
    fine = np.histogram(inside, _BINS, (low, high))[0].astype(np.float64)
    levels = fine.reshape(_LEVELS, -1)
    used = levels > 0
    spread = np.where(used, levels.sum(1, keepdims=True) / np.maximum(used.sum(1, keepdims=True), 1), 0).ravel()
    clipped = fine.copy()
    clipped[0] += (values < low).sum()
    clipped[-1] += (values > high).sum()
    p, q = clipped / clipped.sum(), np.maximum(spread / max(spread.sum(), 1), 1e-12)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())

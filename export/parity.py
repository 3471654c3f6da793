"""How far exported graphs are from the torch networks, encoders chunk by chunk with their state carried."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from asr.nn.model import AcousticModel
from asr.train.prepare import windows
from asr.types import FloatArray
from export.onnx_graph import initial_states, state_names
from lm.neural import NeuralScorer
from lm.train.fofe import Adapter, LanguageModel


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Differences over all frames of a stream."""

    max_abs: float
    """Largest difference of a log-probability above -10 in either."""
    mean_abs: float
    """Mean difference of the probabilities."""
    same_label: float
    """Share of frames with the same best phoneme."""


def run_torch(model: AcousticModel, features: FloatArray, chunk_frames: int) -> FloatArray:
    """Log-probs (T/2, V) of features (T, 80), streamed; T a multiple of `chunk_frames`."""
    state, out = model.initial_state(), []
    with torch.inference_mode():
        for window in windows(features, chunk_frames, 2 * model.config.look_ahead):
            log_probs, state = model.step(torch.from_numpy(window)[None], state)
            out.append(log_probs[0].numpy())
    return np.concatenate(out)


def run_onnx(path: str | Path, model: AcousticModel, features: FloatArray, chunk_frames: int) -> FloatArray:
    """The same through the graph at `path`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    states = [state.numpy() for state in initial_states(model.config)]
    out = []
    for window in windows(features, chunk_frames, 2 * model.config.look_ahead):
        feed = {"x": window[None], **dict(zip(state_names(model.config), states, strict=True))}
        log_probs, *states = session.run(None, feed)
        out.append(log_probs[0])
    return np.concatenate(out)


def compare(expected: FloatArray, found: FloatArray) -> ParityReport:
    """Compare two streams of log-probs (T, V)."""
    visible = np.maximum(expected, found) > -10
    return ParityReport(
        max_abs=float(np.abs(expected - found)[visible].max()),
        mean_abs=float(np.abs(np.exp(expected) - np.exp(found)).mean()),
        same_label=float((expected.argmax(1) == found.argmax(1)).mean()),
    )


def compare_language_models(
    model: LanguageModel, adapter: Adapter | None, scorer: NeuralScorer, contexts: npt.NDArray[np.int64]
) -> float:
    """Largest difference of a log-probability that two forms of a language model give to a word.

    Args:
        model: in torch.
        adapter: that it wears, if any.
        scorer: of the exported model, wearing the same adapter.
        contexts: (N, C) word ids that have embeddings.
    """
    with torch.inference_mode():
        logits = model(torch.from_numpy(contexts.T.copy()), 0, adapter).numpy()
    table = scorer.model.rows(slice(None))
    return float(np.abs(scorer.predict(contexts) @ table.T + scorer.bias - logits).max())

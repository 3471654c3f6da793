"""Run an exported folder in its own runtime, step by step: what the parity of exports is measured with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.decoder.greedy import GreedyDecoder
from asr.errors import OptionError
from asr.features import SILENCE_LOG_MEL
from asr.types import FloatArray
from export.targets.base import MARKER, need
from export.targets.description import FRAME_MS

Arrays = Sequence[npt.NDArray[Any]]
Run = Callable[[Arrays], Arrays]
"""The window (1, T, 80) and the states -> log-probs (1, T_out, V) and the states after."""


class TargetFolder:
    """An exported folder, opened in its runtime."""

    def __init__(self, folder: Path) -> None:
        """Open the model.

        Raises:
            OptionError: `folder` is no export, or of a target that cannot be run here.
            MissingDependencyError: its runtime is not installed.
        """
        marker = folder / MARKER
        if not marker.is_file():
            raise OptionError(
                f"{marker}: no such file, so {folder} is not what `asr-export {'|'.join(_OPENERS)}` wrote"
            )
        self.record = json.loads(marker.read_text(encoding="utf-8"))
        target = self.record["target"]
        if target not in _OPENERS:
            raise OptionError(f"{folder}: {target} cannot be run here, only {', '.join(_OPENERS)} can")
        self._run = _OPENERS[target](folder / self.record["model"])

    def log_probs(self, features: FloatArray) -> FloatArray:
        """Log-probabilities (n, V) of features (T, 80), fed as a stream with silence at its end."""
        window, chunk = self.record["window"]["shape"][1], self.record["chunk_ms"] // FRAME_MS
        padded = pad(features, chunk, window - chunk)
        states: Arrays = [np.zeros(state["shape"], state["dtype"]) for state in self.record["states"]]
        parts = []
        for start in range(0, len(padded) - window + 1, chunk):
            found, *states = self._run([padded[None, start : start + window], *states])
            parts.append(found[0])
        return np.concatenate(parts)


def pad(features: FloatArray, chunk_frames: int, look_ahead_frames: int) -> FloatArray:
    """Features (T, 80) with as much silence after them as the last window takes."""
    end = -len(features) % chunk_frames + look_ahead_frames
    return np.pad(features, ((0, end), (0, 0)), constant_values=SILENCE_LOG_MEL)


def greedy_phonemes(log_probs: FloatArray) -> list[int]:
    """The best label of each frame of (T, V), without repeats and blanks."""
    decoder = GreedyDecoder()
    return [run.phoneme for run in (*decoder.advance(log_probs), *decoder.finish())]


def _open_onnxruntime(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(arrays: Arrays) -> Arrays:
        outputs: Arrays = session.run(None, dict(zip(names, arrays, strict=True)))
        return outputs

    return run


def _open_executorch(path: Path) -> Run:
    runtime = need("executorch.runtime", "executorch")
    torch = need("torch", "executorch")
    method = runtime.Runtime.get().load_program(str(path)).load_method("forward")

    def run(arrays: Arrays) -> Arrays:
        outputs = method.execute([torch.from_numpy(np.ascontiguousarray(array)) for array in arrays])
        return [output.numpy().copy() for output in outputs]  # the next call writes to the same memory

    return run


def _open_litert(path: Path) -> Run:
    call = need("ai_edge_litert.interpreter", "litert").Interpreter(str(path)).get_signature_runner()

    def run(arrays: Arrays) -> Arrays:
        outputs = call(**{f"args_{place}": array for place, array in enumerate(arrays)})
        return [outputs[f"output_{place}"] for place in range(len(outputs))]

    return run


_OPENERS: dict[str, Callable[[Path], Run]] = {
    "onnx": _open_onnxruntime,
    "ort": _open_onnxruntime,
    "sherpa-onnx": _open_onnxruntime,
    "executorch": _open_executorch,
    "litert": _open_litert,
}

"""The neural language model's hidden layers in onnxruntime: `lm.onnx`, and adapters that are worn stream by stream.

The graph takes contexts (N, C) of word ids and gives (N, D); its weights lie in `lm.bin` beside it. Adapters are
onnxruntime's own (`.onnx_adapter`): low-rank matrices that override empty inputs of the graph, so that one session
serves all of them at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lm.neural import FloatArray, NeuralAdapter, NeuralModel, NeuralScorer
from lm.scorer import Scorer

if TYPE_CHECKING:
    from onnxruntime import RunOptions

ADAPTER_VERSION = 1
_SHARED = ("embedding", "embedding_scale")
"""Arrays of `lm.bin` that the scorer reads, too."""
BATCH = 32
"""Contexts in one run of the graph: bounds the memory that a long stream's largest batch leaves behind."""


class LanguageModelError(ValueError):
    """A language model or an adapter cannot be used: damaged, or one file does not fit another."""


class OnnxLanguageModel:
    """`lm.onnx` and `lm.bin`: one session for any number of streams and threads."""

    def __init__(self, graph: str | Path, data: str | Path) -> None:
        """Load `lm.onnx` at `graph`, its weights in `lm.bin` at `data`; it runs on one thread.

        Raises:
            ArrayFileError: `data` is damaged or no such file.
            LanguageModelError: `graph` cannot be run, or the two do not belong together.
        """
        import onnxruntime

        self.model = NeuralModel.open(data)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = False  # batches are small and of every size: an arena would only grow with them
        options.log_severity_level = 3
        self._shared = [  # mapped here already; the session reads them where they are, and must not outlive them
            onnxruntime.OrtValue.ortvalue_from_numpy(self.model.file.arrays[name]) for name in _SHARED
        ]
        try:
            for name, value in zip(_SHARED, self._shared, strict=True):
                options.add_initializer(name, value)
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base but this
            raise LanguageModelError(f"{graph}: onnxruntime cannot load it: {error}") from None
        trunk = self._session.get_modelmeta().custom_metadata_map.get("trunk")
        if trunk != self.model.trunk:
            raise LanguageModelError(f"{graph} belongs to another file than {data} (trunk {trunk})")
        try:
            self._try(None)
        except Exception as error:
            raise LanguageModelError(f"{graph}: does not fit {data}: {error}") from None
        self._worn: dict[str, tuple[RunOptions, Any]] = {}

    def load_adapter(self, path: str | Path) -> NeuralAdapter:
        """Open the adapter `NAME.bin` and the `NAME.onnx_adapter` beside it.

        Raises:
            ArrayFileError: damaged, or made for another model.
            LanguageModelError: the weights are missing, damaged, or do not fit the graph.
        """
        import onnxruntime

        adapter = NeuralAdapter.open(path, self.model)
        if not adapter.weights_path.is_file():
            raise LanguageModelError(f"{adapter.weights_path}: no such file; an adapter is two files, and this is one")
        weights, options = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
        try:
            weights.Load(str(adapter.weights_path))
            options.add_active_adapter(weights)
            self._try(options)
        except Exception as error:
            raise LanguageModelError(f"{adapter.weights_path}: does not fit the language model: {error}") from None
        self._worn[str(adapter.file.path)] = options, weights
        return adapter

    def scorer(
        self, adapter: NeuralAdapter | None = None, *, ngram: Scorer | None = None, share: float = 1.0
    ) -> NeuralScorer:
        """A scorer for one search.

        Args:
            adapter: from `load_adapter`, or None for the model as it is.
            ngram: see `NeuralScorer`.
            share: see `NeuralScorer`.
        """
        options = self._worn[str(adapter.file.path)][0] if adapter else None
        bias = adapter.bias if adapter else None
        return NeuralScorer(self.model, lambda c: self._run(c, options), bias=bias, ngram=ngram, share=share)

    def _try(self, options: RunOptions | None) -> None:
        """Run one context, so that whatever is wrong shows now and not in the middle of a stream."""
        shape = self._run(np.zeros((1, self.model.context), np.int64), options).shape
        expected = (1, 2 * self.model.embedding.shape[1])
        if shape != expected:
            raise LanguageModelError(f"expected an output of shape {expected}, found {shape}")

    def _run(self, contexts: npt.NDArray[np.int64], options: RunOptions | None) -> FloatArray:
        parts = [contexts[first : first + BATCH] for first in range(0, len(contexts), BATCH)]
        rows = [self._session.run(None, {"contexts": part}, options)[0] for part in parts]
        predicted: FloatArray = rows[0] if len(rows) == 1 else np.concatenate(rows)
        if not np.isfinite(predicted).all():
            raise LanguageModelError("the language model or its adapter gives NaN or infinity; the file is damaged")
        return predicted


def write_adapter_weights(path: str | Path, tensors: Mapping[str, npt.NDArray[np.float16]]) -> None:
    """Write an `.onnx_adapter`: the graph's adapter inputs by name."""
    import onnxruntime

    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(ADAPTER_VERSION)
    file.set_model_version(ADAPTER_VERSION)
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in tensors.items()}
    file.set_parameters(values)
    file.export_adapter(str(path))


def read_adapter_weights(path: str | Path) -> dict[str, npt.NDArray[np.float16]]:
    """The graph's adapter inputs by name, from an `.onnx_adapter`.

    Raises:
        LanguageModelError: it is no such file, or a damaged one.
    """
    import onnxruntime

    try:
        file = onnxruntime.AdapterFormat.read_adapter(str(path))
        return {name: value.numpy().copy() for name, value in file.get_parameters().items()}  # views of `file`
    except Exception as error:  # onnxruntime's exceptions share no base but this
        raise LanguageModelError(f"{path}: onnxruntime cannot load it: {error}") from None

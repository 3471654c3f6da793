"""The streaming encoder as an ONNX graph: feature chunk and state in, log-probabilities and state out.

The graph obeys the streaming CTC contract of sherpa-onnx (zipformer2): input `x` (N, T, 80) and states, six for each
layer and two more, output `log_probs` (N, T_out, V) and the new states in the same order, all bound by position;
metadata says how large the states are and how much look-ahead a chunk needs. T is free, so one file serves every chunk
size. No other file of `asr` imports onnxruntime.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from asr.bundle import StateSpec
from asr.errors import BundleFileError
from asr.types import FloatArray
from lm.phones import PHONEMES

SUBSAMPLING_FACTOR = 2
N_MELS = 80
LOOK_AHEAD_KEY = "sottovoce_look_ahead"
"""Metadata: of how many output frames of the look-ahead `LOOK_AHEAD_STATE` carries log-probabilities; none without."""
LOOK_AHEAD_STATE = 1
"""Place among the states of the one whose first numbers they are."""
MOST_LAYERS = 64
"""That a graph may say it has: more are taken for damage."""
EncoderState = tuple[npt.NDArray[Any], ...]

_METADATA = (
    "encoder_dims", "query_head_dims", "value_head_dims", "num_heads", "num_encoder_layers",
    "cnn_module_kernels", "left_context_len", "T", "decode_chunk_len",
)  # fmt: skip
_ARENA: Mapping[str, int] = MappingProxyType({
    "arena_extend_strategy": 1,  # as requested
    "initial_chunk_size_bytes": 1 << 18, "max_dead_bytes_per_chunk": 1 << 18,
})  # fmt: skip
_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}


class OnnxEncoder:
    """One inference session, shared by all streams and threads; what belongs to a stream is in its `EncoderState`."""

    def __init__(self, path: str | Path, n_threads: int = 1) -> None:
        """Load the graph at `path`, to run on `n_threads` threads.

        Raises:
            BundleFileError: not a graph, or not one of this contract.
        """
        try:
            self._session = ort.InferenceSession(str(path), _session_options(n_threads), ["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise BundleFileError(f"{path}: onnxruntime cannot load it: {error}") from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        found = self._session.get_modelmeta().custom_metadata_map
        self.metadata = _read_metadata(path, found)
        _check_graph(path, inputs, outputs, self.metadata)
        self._input_names = [node.name for node in inputs]
        self.look_ahead_frames = self.metadata["T"] - self.metadata["decode_chunk_len"]
        """Feature frames that each chunk must be given beyond its own."""
        self._n_ahead = _look_ahead(
            path, self._session.get_modelmeta().custom_metadata_map, inputs[1 + LOOK_AHEAD_STATE]
        )
        self.state_spec = tuple(_state_spec(node) for node in inputs[1:])
        """Name, shape and dtype of each state, for one stream."""

    def initial_state(self) -> EncoderState:
        """State before the first chunk: zeros."""
        return tuple(np.zeros(spec.shape, spec.dtype) for spec in self.state_spec)

    def step(self, features: FloatArray, state: EncoderState) -> tuple[FloatArray, EncoderState]:
        """Encode one chunk.

        Args:
            features: (T, 80) float32 log-mel frames of 10 ms: the chunk's, then `look_ahead_frames` more; T even.
            state: from `initial_state` or the previous step; it is not changed.

        Returns:
            Log-probabilities of the chunk (its frames / 2, V), one row every 20 ms, and the next state.
        """
        feed = dict(zip(self._input_names, (features[np.newaxis], *state), strict=True))
        log_probs, *next_state = self._session.run(None, feed)
        return log_probs[0], tuple(next_state)

    def look_ahead(self, state: EncoderState) -> FloatArray:
        """What the last step made of its look-ahead: a guess, which the next step betters.

        Args:
            state: from `step`.

        Returns:
            Log-probabilities (A, V), one row every 20 ms; no rows where the graph does not give them.
        """
        flat: FloatArray = state[LOOK_AHEAD_STATE].reshape(-1)
        return flat[: self._n_ahead * len(PHONEMES)].reshape(-1, len(PHONEMES))


def _session_options(n_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # plans are kept for each chunk size; the arena stays: malloc alone wanders
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _has_shared_arena():
        options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@lru_cache(1)
def _has_shared_arena() -> bool:
    """Make an arena for all sessions that takes what it needs, where one of its own takes twice as much each time."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    try:
        ort.create_and_register_allocator(memory, ort.OrtArenaCfg(dict(_ARENA)))
    except Exception:  # somebody else in this process has registered one: onnxruntime has no other way to ask
        return False
    return True


def _read_metadata(path: str | Path, found: Mapping[str, str]) -> dict[str, int]:
    metadata = {}
    for key in _METADATA:
        value = found.get(key, "")
        if not value.isdecimal():
            raise BundleFileError(f"{path}: metadata {key!r}: expected a whole number, found {value!r}")
        metadata[key] = int(value)
    return metadata


def _look_ahead(path: str | Path, found: Mapping[str, str], carrier: Any) -> int:
    """Output frames of the look-ahead that the state `carrier` holds."""
    text = found.get(LOOK_AHEAD_KEY, "0")
    room = math.prod(size for size in _free_axes(carrier.shape) if size is not None) // len(PHONEMES)
    if not text.isdecimal() or int(text) > room:
        raise BundleFileError(f"{path}: metadata {LOOK_AHEAD_KEY!r}: expected 0 to {room} frames, found {text!r}")
    return int(text)


def _expected_states(meta: Mapping[str, int]) -> list[tuple[str, list[int | None]]]:
    """Dtype and shape of the states in order, None for the batch axis."""
    left, width = meta["left_context_len"], meta["encoder_dims"]
    value = [left, None, meta["value_head_dims"] * meta["num_heads"]]
    conv = [None, width, meta["cnn_module_kernels"] // 2]
    layer: list[tuple[str, list[int | None]]] = [
        ("float32", [left, None, meta["query_head_dims"] * meta["num_heads"]]),  # cached_key
        ("float32", [1, None, left, 3 * width // 4]),  # cached_nonlin_attn
        ("float32", value),  # cached_val1
        ("float32", value),  # cached_val2
        ("float32", conv),  # cached_conv1
        ("float32", conv),  # cached_conv2
    ]
    last: list[tuple[str, list[int | None]]] = [("float32", [None, 128, 3, 19]), ("int64", [None])]
    return [*layer * meta["num_encoder_layers"], *last]  # then embed_states, processed_lens


def _check_graph(path: str | Path, inputs: Sequence[Any], outputs: Sequence[Any], meta: Mapping[str, int]) -> None:
    states = _expected_states(meta)
    if not 1 <= meta["num_encoder_layers"] <= MOST_LAYERS:
        raise BundleFileError(
            f"{path}: num_encoder_layers: expected 1 to {MOST_LAYERS}, found {meta['num_encoder_layers']}"
        )
    _check_nodes(f"{path}: inputs", [("float32", [None, None, N_MELS]), *states], inputs)
    _check_nodes(f"{path}: outputs", [("float32", [None, None, len(PHONEMES)]), *states], outputs, open_states=True)


def _check_nodes(
    where: str, expected: Sequence[tuple[str, list[int | None]]], nodes: Sequence[Any], *, open_states: bool = False
) -> None:
    """Compare dtypes and shapes; with `open_states` the states may leave axes open, as exporters do for outputs."""
    if len(nodes) != len(expected):
        names = ", ".join(node.name for node in nodes)
        raise BundleFileError(f"{where}: expected {len(expected)}, found {len(nodes)}: {names}")
    for position, ((dtype, shape), node) in enumerate(zip(expected, nodes, strict=True)):
        found_dtype, found_shape = _DTYPES.get(node.type, node.type), _free_axes(node.shape)
        if open_states and position > 0 and len(found_shape) == len(shape):
            shape = [None if found is None else size for size, found in zip(shape, found_shape, strict=True)]
        if (found_dtype, found_shape) != (dtype, shape):
            raise BundleFileError(
                f"{where}: {node.name}: expected {dtype} {shape}, found {found_dtype} {found_shape} (None: any size)"
            )


def _free_axes(shape: Sequence[int | str | None]) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in shape]


def _state_spec(node: Any) -> StateSpec:
    shape = tuple(1 if size is None else size for size in _free_axes(node.shape))
    return StateSpec(node.name, shape, _DTYPES[node.type])

"""The streaming encoder as an ONNX graph that runs unchanged in sherpa-onnx (`from_zipformer2_ctc`).

Inputs `x` (N, T, 80), a chunk and its look-ahead, and states; outputs `log_probs` (N, chunk/2, V) and the states
after, bound by position. The contract's states belong to another network: six for each block, then two. Ours are
packed into their shapes; `i` is the block's number:

    cached_key_i          (left, N, 1)      unused, passed on
    cached_nonlin_attn_i  (1, N, left, 3)   after a chunk, in the first numbers of block 0's: log-probabilities of the
                                            look-ahead (A, V), a guess until the next chunk; the rest is unused,
                                            passed on
    cached_val1_i         (left, N, A)      the block's keys, in memory (H, left, A/H): no copying into heads
    cached_val2_i         (left, N, A)      its values, likewise; A is D unless heads were pruned
    cached_conv1_i        (N, 4, C)         first half of its convolution's cache, C = D*(K//2)/8; without
                                            convolutions C is 1, unused and passed on
    cached_conv2_i        (N, 4, C)         second half
    embed_states          (N, 128, 3, 19)   the last feature frames in its first numbers
    processed_lens        (N,) int64        encoder frames so far

T is dynamic: the same file runs chunks of 320, 640 and 1280 ms here. A runtime that reads its window from the
metadata takes `T` frames and moves on by `decode_chunk_len`; the difference is the look-ahead.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from asr.nn.model import AcousticModel, EncoderConfig, EncoderState
from asr.onnx_encoder import LOOK_AHEAD_KEY

OPSET = 18
IR_VERSION = 9
BLOCK_STATES = 6
EMBED_SHAPE = (128, 3, 19)
CONFIG_KEY = "sottovoce_network"
"""Metadata: the network's `EncoderConfig` as JSON, for exports to other formats."""


def conv_width(config: EncoderConfig) -> int:
    """C of the two convolution caches; the contract has no empty ones."""
    return max(1, config.d_model * (config.kernel // 2) // 8)


def has_room_ahead(config: EncoderConfig) -> bool:
    """Whether the look-ahead's log-probabilities fit into the state that carries them."""
    return 0 < config.look_ahead * config.vocab_size <= 3 * config.left_context


def state_shapes(config: EncoderConfig) -> dict[str, tuple[int | str, ...]]:
    """Shape of each state in order, "N" standing for the batch."""
    left, wide, conv = config.left_context, config.attention_width, conv_width(config)
    shapes: dict[str, tuple[int | str, ...]] = {}
    for block in range(config.n_layers):
        shapes |= {
            f"cached_key_{block}": (left, "N", 1),
            f"cached_nonlin_attn_{block}": (1, "N", left, 3),
            f"cached_val1_{block}": (left, "N", wide),
            f"cached_val2_{block}": (left, "N", wide),
            f"cached_conv1_{block}": ("N", 4, conv),
            f"cached_conv2_{block}": ("N", 4, conv),
        }
    return {**shapes, "embed_states": ("N", *EMBED_SHAPE), "processed_lens": ("N",)}


def state_names(config: EncoderConfig) -> list[str]:
    """Names of the states in order."""
    return list(state_shapes(config))


def initial_states(config: EncoderConfig, batch: int = 1) -> list[Tensor]:
    """The states before the first chunk."""
    sizes = [[batch if size == "N" else int(size) for size in shape] for shape in state_shapes(config).values()]
    return [torch.zeros(size, dtype=torch.int64 if len(size) == 1 else torch.float32) for size in sizes]


class PackedStep(nn.Module):
    """`AcousticModel.step` with its state in the contract's shapes."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        self.model = model
        self.has_convolutions = model.config.kernel > 1

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """`x` (N, T, 80) and the states -> log-probs (N, T_out, V) and the states after."""
        *of_blocks, embed, processed = states
        unused_key, ahead, key, value, conv1, conv2 = (of_blocks[kind::BLOCK_STATES] for kind in range(BLOCK_STATES))
        stored, carried = embed.flatten(1), self.model.frontend.context * self.model.config.n_mels
        before = EncoderState(
            key=tuple(map(self._by_head, key)),
            value=tuple(map(self._by_head, value)),
            conv=tuple(map(self._joined, conv1, conv2)),
            frontend=stored[:, :carried],
            n_frames=processed,
        )
        log_probs, after = self.model.window(x, before)
        n_chunk = log_probs.shape[1] - self.model.config.look_ahead
        ahead = [self._with_ahead(ahead[0], log_probs[:, n_chunk:]), *(state.clone() for state in ahead[1:])]
        out: list[Tensor] = []
        for block in range(self.model.config.n_layers):
            out += [unused_key[block].clone(), ahead[block]]
            out += [self._as_value(after.key[block]), self._as_value(after.value[block])]
            if self.has_convolutions:
                out += self._halves(after.conv[block])
            else:
                out += [conv1[block].clone(), conv2[block].clone()]
        embed = torch.cat([after.frontend, stored[:, carried:]], 1).unflatten(1, EMBED_SHAPE)
        return (log_probs[:, :n_chunk], *out, embed, after.n_frames)

    def _with_ahead(self, state: Tensor, log_probs: Tensor) -> Tensor:
        """The state (1, N, left, 3) with the look-ahead's log-probabilities (N, A, V) as its first numbers."""
        if not has_room_ahead(self.model.config):
            return state.clone()
        old, new = state.flatten(2), log_probs.flatten(1)[None]
        packed: Tensor = torch.cat([new, old[:, :, new.shape[2] :]], 2).unflatten(2, (-1, 3))
        return packed

    def _by_head(self, packed: Tensor) -> Tensor:
        """The numbers of (left, N, A), as they lie in a batch of one, as (N, H, left, A/H)."""
        c = self.model.config
        return packed.transpose(0, 1).reshape(-1, c.n_heads, c.left_context, c.attention_width // c.n_heads)

    def _as_value(self, cache: Tensor) -> Tensor:
        c = self.model.config
        return cache.reshape(-1, c.left_context, c.attention_width).transpose(0, 1)

    def _joined(self, first: Tensor, second: Tensor) -> Tensor:
        """Both halves of a convolution's cache as the model's (N, D, K//2)."""
        wide, context = self.model.config.d_model, self.model.config.kernel // 2
        if not self.has_convolutions:
            return first.new_zeros(first.shape[0], wide, 0)
        return torch.cat([first.flatten(1), second.flatten(1)], 1).view(-1, wide, context)

    @staticmethod
    def _halves(conv: Tensor) -> list[Tensor]:
        return [half.unflatten(1, (4, -1)) for half in conv.flatten(1).chunk(2, 1)]


def metadata(config: EncoderConfig, chunk_ms: int) -> dict[str, str]:
    """What sherpa-onnx computes state shapes and chunk length from; `chunk_ms` is the chunk it will use."""
    frames = chunk_ms // 10
    return {
        "model_type": "zipformer2", "version": "1", "model_author": "sottovoce",
        "comment": f"chunked {config.architecture}, phoneme CTC, 20 ms frames: time stamps of sherpa-onnx read double",
        "encoder_dims": "4", "query_head_dims": "1", "num_heads": "1",
        "num_encoder_layers": str(config.n_layers), "value_head_dims": str(config.attention_width),
        "cnn_module_kernels": str(2 * conv_width(config)),
        "left_context_len": str(config.left_context),
        "T": str(frames + 2 * config.look_ahead), "decode_chunk_len": str(frames),
        LOOK_AHEAD_KEY: str(config.look_ahead if has_room_ahead(config) else 0),
        CONFIG_KEY: json.dumps(asdict(config)),
    }  # fmt: skip


def export_encoder(model: AcousticModel, path: str | Path, *, chunk_ms: int = 640) -> None:
    """Write the float32 graph with its metadata to `path`.

    Raises:
        ValueError: the halves of a convolution's cache do not fit the contract: D*(K//2) is no multiple of 8.
    """
    config = model.config
    if config.kernel > 1 and config.d_model * (config.kernel // 2) % 8:
        raise ValueError(
            f"d_model is {config.d_model} and kernel {config.kernel}: expected d_model * (kernel // 2) to be a "
            "multiple of 8"
        )
    batch = 2  # a batch of one would be taken for a constant
    example = (
        torch.zeros(batch, chunk_ms // 10 + 2 * config.look_ahead, config.n_mels),
        *initial_states(config, batch),
    )
    dynamic = torch.export.Dim.DYNAMIC
    pairs = torch.export.Dim("pairs", min=config.look_ahead + 2, max=4096)  # feature frames come in twos
    states = tuple({shape.index("N"): dynamic} for shape in state_shapes(config).values())
    with _quiet():
        program = torch.onnx.export(
            PackedStep(model).eval(), example, input_names=["x", *state_names(config)],
            output_names=["log_probs", *(f"new_{name}" for name in state_names(config))],
            dynamic_shapes=({0: dynamic, 1: 2 * pairs}, states), opset_version=OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    graph = program.model_proto
    graph.ir_version = IR_VERSION
    _strip_notes(graph)
    _fix_shapes(graph, config)
    set_metadata(graph, metadata(config, chunk_ms))
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says about packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip_notes(graph: onnx.ModelProto) -> None:
    """Remove what the exporter notes about the source code of each node: a tenth of the file."""
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del graph.graph.value_info[:]
    del graph.graph.metadata_props[:]


def _fix_shapes(graph: onnx.ModelProto, config: EncoderConfig) -> None:
    """Write static sizes where tracing left symbols: sherpa-onnx reads the vocabulary from output 0's shape."""
    shapes: dict[str, tuple[int | str, ...]] = {
        "x": ("N", "T", config.n_mels),
        "log_probs": ("N", "T_out", config.vocab_size),
    }
    for name, shape in state_shapes(config).items():
        shapes |= {name: shape, f"new_{name}": shape}
    for value in [*graph.graph.input, *graph.graph.output]:
        for axis, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            if isinstance(size, int):
                axis.dim_value = size
            else:
                axis.dim_param = size


def set_metadata(graph: onnx.ModelProto, values: Mapping[str, str]) -> None:
    """Set metadata keys of the graph, keeping others."""
    onnx.helper.set_model_props(graph, {p.key: p.value for p in graph.metadata_props} | dict(values))

"""Whole parts of a trained encoder removed: attention heads, blocks. What matters is measured on speech.

- `PruneHeads`: each block loses the heads that add least to the outputs of its attention: the energy of what they put
  out, about its mean, which the bias takes over. All blocks keep the same number: a stream's caches have one shape.
- `DropBlocks`: the blocks without which the network says most nearly the same go, one after another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from asr.nn.layers import ChunkAttention
from asr.nn.model import AcousticModel
from asr.train.evaluate import streamed_log_probs
from asr.types import FloatArray
from export.moments import CHUNK, CompressionError, measure_inputs
from export.sensitivity import mean_divergence


@dataclass(frozen=True, slots=True)
class PruneHeads:
    """Remove `heads` attention heads of each block."""

    heads: int = 1

    def __post_init__(self) -> None:
        if self.heads < 1:
            raise CompressionError(f"heads is {self.heads}, expected at least 1")


@dataclass(frozen=True, slots=True)
class DropBlocks:
    """Remove `blocks` blocks."""

    blocks: int = 1

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise CompressionError(f"blocks is {self.blocks}, expected at least 1")


def prune_heads(model: AcousticModel, config: PruneHeads, features: Sequence[FloatArray]) -> AcousticModel:
    """The network with fewer heads.

    Raises:
        CompressionError: it has no more heads than are to go.
    """
    n_heads, width = model.config.n_heads, model.config.attention_width
    n_kept, size = n_heads - config.heads, width // n_heads
    if n_kept < 1:
        raise CompressionError(f"{config.heads} heads of each block are to go, and a block has {n_heads}")
    names = [name for name, module in model.named_modules() if isinstance(module, ChunkAttention)]
    inputs = measure_inputs(model, [f"{name}.out" for name in names], features)
    weights = model.state_dict()
    for name in names:
        out, moments = weights[f"{name}.out.weight"].double(), inputs[f"{name}.out"]
        by_head = np.arange(width).reshape(n_heads, size)
        energy = [
            np.einsum("oi,ij,oj->", out[:, own].numpy(), moments.covariance[np.ix_(own, own)], out[:, own].numpy())
            for own in by_head
        ]
        chosen = np.sort(np.argsort(energy)[config.heads :])
        kept, dropped = by_head[chosen].ravel(), np.delete(by_head, chosen, 0).ravel()
        weights[f"{name}.out.bias"] = weights[f"{name}.out.bias"].double() + out[:, dropped] @ torch.from_numpy(
            moments.mean[dropped]
        )
        weights[f"{name}.out.weight"] = out[:, kept]
        rows = np.concatenate([part * width + kept for part in range(3)])  # of queries, keys and values
        for part in ("weight", "bias"):
            weights[f"{name}.query_key_value.{part}"] = weights[f"{name}.query_key_value.{part}"][rows]
    made = AcousticModel(replace(model.config, n_heads=n_kept, head_size=size)).eval()
    made.load_state_dict({name: values.float() for name, values in weights.items()})
    return made


def drop_blocks(model: AcousticModel, config: DropBlocks, features: Sequence[FloatArray]) -> AcousticModel:
    """The network with fewer blocks.

    Raises:
        CompressionError: it has no more blocks than are to go.
    """
    if config.blocks >= model.config.n_layers:
        raise CompressionError(f"{config.blocks} blocks are to go, and the network has {model.config.n_layers}")
    before = [streamed_log_probs(model, clip, CHUNK) for clip in features]
    for _ in range(config.blocks):
        shorter = [_without_block(model, index) for index in range(model.config.n_layers)]
        costs = [
            mean_divergence(before, [streamed_log_probs(each, clip, CHUNK) for clip in features]) for each in shorter
        ]
        model = shorter[int(np.argmin(costs))]
    return model


def _without_block(model: AcousticModel, index: int) -> AcousticModel:
    still_open = tuple(number - (number > index) for number in model.config.open_blocks if number != index)
    config = replace(model.config, n_layers=model.config.n_layers - 1, open_blocks=still_open)
    made = AcousticModel(config).eval()
    made.load_state_dict(_renumbered(model.state_dict(), index))
    return made


def _renumbered(weights: Mapping[str, Tensor], removed: int) -> dict[str, Tensor]:
    out = {}
    for name, values in weights.items():
        found = re.match(r"blocks\.(\d+)\.(.*)", name)
        number = int(found[1]) if found else -1
        if number != removed or not found:
            out[f"blocks.{number - (number > removed)}.{found[2]}" if found else name] = values
    return out

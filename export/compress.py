"""Make a trained encoder smaller before it is exported: low-rank factors, narrower feed-forward layers, fewer parts.

A frozen config says how, `compress` does it, and the smaller network's own config says what became of each layer, so
that a checkpoint of it opens, trains and exports like any other. What matters is measured on speech:

- `LowRank`: each matrix becomes two. The singular value decomposition is that of the matrix times a root of its inputs'
  covariance, so that what is cut off is the least of the *outputs* (Yuan et al. 2023, ASVD; Wang et al. 2024, SVD-LLM);
  the bias makes up for the mean of the rest. Ranks share one budget of parameters: what cutting a layer costs is its
  dropped energy, scaled so that it foretells the divergence measured when that layer alone is cut.
- `PruneUnits`: hidden units of feed-forward layers that add least to the outputs go: variance of the unit times the
  squared length of its outgoing weights; the bias takes over its mean.
- `PruneHeads`, `DropBlocks`: export/structured.py.
- `RoundWeights`: export/rounding.py; to be quantised to as many bits.

What is lost comes back in part with some more training: `asr-export compress`, then `asr-train run --init`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from asr.nn.layers import FeedForward
from asr.nn.model import AcousticModel
from asr.train.evaluate import streamed_log_probs
from asr.types import FloatArray
from export.moments import CHUNK, CompressionError, DoubleArray, Inputs, measure_inputs
from export.rounding import RoundWeights, Track, round_weights
from export.sensitivity import mean_divergence
from export.structured import DropBlocks, PruneHeads, drop_blocks, prune_heads

_RIDGE = 1e-6
_LEAST_DIVERGENCE, _LEAST_SHARE = 1e-7, 1e-6
"""What cutting a layer is taken to cost at least, in nats, and to drop, of its energy: less is rounding."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """Split matrices of the blocks into two until `share` of their parameters is left."""

    share: float = 0.75

    def __post_init__(self) -> None:
        _check_share(self.share)


@dataclass(frozen=True, slots=True)
class PruneUnits:
    """Keep `share` of all hidden units of the feed-forward layers."""

    share: float = 0.75

    def __post_init__(self) -> None:
        _check_share(self.share)


CompressionConfig = LowRank | PruneUnits | PruneHeads | DropBlocks | RoundWeights
_METHODS: Mapping[type[CompressionConfig], str] = {
    LowRank: "low rank", PruneUnits: "pruned units", PruneHeads: "pruned heads", DropBlocks: "dropped blocks",
    RoundWeights: "rounded weights",
}  # fmt: skip


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise CompressionError(f"share is {share}, expected more than 0, at most 1")


def describe(config: CompressionConfig) -> dict[str, Any]:
    """What a bundle's manifest records."""
    return {"method": _METHODS[type(config)], **asdict(config)}


def compress(
    model: AcousticModel, config: CompressionConfig, features: Sequence[FloatArray], track: Track = iter
) -> AcousticModel:
    """A smaller network; the one given stays as it is.

    Args:
        model: not compressed before.
        config: how.
        features: log-mel (T, 80) of half a minute or more of speech like that in training; minutes to round weights.
        track: for a progress bar, where weights are rounded; see `round_weights`.

    Raises:
        CompressionError: no speech, or a network that is compressed already.
    """
    if model.config.ranks or model.config.hidden_units or model.config.head_size:
        raise CompressionError("the network is compressed already: start from the one that it was made of")
    features = [clip for clip in features if len(clip)]
    if not features:
        raise CompressionError("compression measures what matters on speech: give features of at least one clip")
    if isinstance(config, PruneUnits):
        return _prune_units(model, config, features)
    if isinstance(config, PruneHeads):
        return prune_heads(model, config, features)
    if isinstance(config, DropBlocks):
        return drop_blocks(model, config, features)
    if isinstance(config, RoundWeights):
        return round_weights(model, config, features, track)
    return with_ranks(model, _best_ranks(model, config.share, features), features)


def _block_layers(model: AcousticModel) -> dict[str, nn.Linear]:
    return {
        name: module for name, module in model.blocks.named_modules(prefix="blocks") if isinstance(module, nn.Linear)
    }


@dataclass(frozen=True, slots=True)
class _Factors:
    """W = left @ right, its columns and rows in order of what they add to the outputs."""

    left: DoubleArray
    right: DoubleArray
    values: DoubleArray
    """Singular values (k,): the outputs' energy."""


def _factorise(weight: DoubleArray, inputs: Inputs) -> _Factors:
    """Of a weight (out, in)."""
    ridge = _RIDGE * np.trace(inputs.covariance) / len(inputs.covariance) + np.finfo(np.float64).tiny
    root = np.linalg.cholesky(inputs.covariance + ridge * np.eye(len(inputs.covariance)))
    left, values, right = np.linalg.svd(weight @ root, full_matrices=False)
    scale = np.sqrt(values)
    return _Factors(left * scale, scale[:, None] * np.linalg.solve(root.T, right.T).T, values)


def _weight(linear: nn.Linear) -> DoubleArray:
    return linear.weight.detach().double().numpy()


def with_ranks(model: AcousticModel, ranks: Mapping[str, int], features: Sequence[FloatArray]) -> AcousticModel:
    """The network with the named linear layers split at the given ranks."""
    inputs = measure_inputs(model, list(ranks), features)
    weights = model.state_dict()
    for name, rank in ranks.items():
        full, bias = weights.pop(f"{name}.weight").double().numpy(), weights.pop(f"{name}.bias")
        factors = _factorise(full, inputs[name])
        left, right = factors.left[:, :rank], factors.right[:rank]
        weights |= {
            f"{name}.0.weight": torch.from_numpy(right),
            f"{name}.1.weight": torch.from_numpy(left),
            f"{name}.1.bias": bias.double() + torch.from_numpy((full - left @ right) @ inputs[name].mean),
        }
    return _with_weights(replace_config(model, ranks=dict(ranks)), weights)


def replace_config(model: AcousticModel, **changes: Any) -> AcousticModel:
    """A network of the same configuration but for some values, with weights of its own."""
    return AcousticModel(replace(model.config, **changes)).eval()


def _with_weights(model: AcousticModel, weights: Mapping[str, Tensor]) -> AcousticModel:
    model.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    )
    return model


def _best_ranks(model: AcousticModel, share: float, features: Sequence[FloatArray]) -> dict[str, int]:
    """Ranks of the layers that are worth cutting; the others are not named."""
    layers = _block_layers(model)
    inputs = measure_inputs(model, list(layers), features)
    before = [streamed_log_probs(model, clip, CHUNK) for clip in features]
    costs, sizes = {}, {}
    for name, linear in layers.items():
        factors = _factorise(_weight(linear), inputs[name])
        energy = np.append(np.cumsum(factors.values[::-1] ** 2)[::-1], 0.0)  # dropped at each rank
        sizes[name] = linear.weight.numel(), linear.in_features + linear.out_features
        probe = max(1, int(share * sizes[name][0] / sizes[name][1]))
        with _cut(linear, factors, inputs[name], probe):
            after = [streamed_log_probs(model, clip, CHUNK) for clip in features]
        price = max(mean_divergence(before, after), _LEAST_DIVERGENCE) / max(energy[probe], _LEAST_SHARE * energy[0])
        costs[name] = price * energy
    n_parameters = sum(size for size, _ in sizes.values())
    ranks = choose_ranks(costs, sizes, int(share * n_parameters))
    return {name: rank for name, rank in ranks.items() if rank < len(costs[name]) - 1}


@contextmanager
def _cut(linear: nn.Linear, factors: _Factors, inputs: Inputs, rank: int) -> Iterator[None]:
    """One layer at a lower rank for as long as it takes to look at it."""
    weight, bias = linear.weight.detach().clone(), linear.bias.detach().clone()
    low = factors.left[:, :rank] @ factors.right[:rank]
    with torch.no_grad():
        linear.bias.add_(torch.from_numpy((_weight(linear) - low) @ inputs.mean))
        linear.weight.copy_(torch.from_numpy(low))
        try:
            yield
        finally:
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)


def choose_ranks(costs: Mapping[str, DoubleArray], sizes: Mapping[str, tuple[int, int]], budget: int) -> dict[str, int]:
    """Ranks of little total cost within a budget of parameters.

    By Lagrange's multiplier, found by bisection, which gives the best for the size that it comes to; what that leaves
    of the budget is then spent where it saves most.

    Args:
        costs: of each layer at rank 0 to full (k + 1,), falling; full means that the layer stays whole.
        sizes: of each layer: parameters of the whole matrix, and parameters that one rank takes.
        budget: parameters of all layers together.

    Raises:
        CompressionError: rank 1 everywhere is more than the budget.
    """
    parameters = {}
    for name, (whole, each) in sizes.items():
        parameters[name] = np.minimum(each * np.arange(len(costs[name])), whole)
        parameters[name][-1] = whole

    def at(price: float) -> dict[str, int]:
        return {name: 1 + int(np.argmin((costs[name] + price * parameters[name])[1:])) for name in costs}

    def total(ranks: Mapping[str, int]) -> int:
        return int(sum(parameters[name][rank] for name, rank in ranks.items()))

    low, high = -30.0, 30.0  # of the price's logarithm
    if total(at(np.exp(low))) <= budget:
        return at(np.exp(low))
    if total(at(np.exp(high))) > budget:
        raise CompressionError(f"the budget of {budget} parameters is below rank 1 everywhere: raise the share")
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if total(at(np.exp(middle))) <= budget else (middle, high)
    return _spent(at(np.exp(high)), costs, parameters, budget)


def _spent(
    ranks: dict[str, int], costs: Mapping[str, DoubleArray], parameters: Mapping[str, DoubleArray], budget: int
) -> dict[str, int]:
    """Ranks raised, one layer at a time, as long as something is saved within the budget."""
    left = budget - sum(int(parameters[name][rank]) for name, rank in ranks.items())
    while True:
        gains = {}
        for name, rank in ranks.items():
            fits = np.flatnonzero(parameters[name] - parameters[name][rank] <= left)
            best = int(fits[np.argmin(costs[name][fits])])
            if costs[name][best] < costs[name][rank]:
                gains[name] = (float(costs[name][rank] - costs[name][best]), best)
        if not gains:
            return ranks
        name = max(gains, key=lambda candidate: gains[candidate][0])
        left -= int(parameters[name][gains[name][1]] - parameters[name][ranks[name]])
        ranks = {**ranks, name: gains[name][1]}


def _prune_units(model: AcousticModel, config: PruneUnits, features: Sequence[FloatArray]) -> AcousticModel:
    names = [name for name, module in model.named_modules() if isinstance(module, FeedForward)]
    inputs = measure_inputs(model, [f"{name}.contract" for name in names], features)
    weights = model.state_dict()
    importance = {
        name: np.diag(inputs[f"{name}.contract"].covariance)
        * np.square(weights[f"{name}.contract.weight"].double().numpy()).sum(0)
        for name in names
    }
    kept = choose_units(importance, config.share)
    for name, units in kept.items():
        contract = weights[f"{name}.contract.weight"].double()
        dropped = np.setdiff1d(np.arange(contract.shape[1]), units)
        mean = torch.from_numpy(inputs[f"{name}.contract"].mean[dropped])
        weights[f"{name}.contract.bias"] = weights[f"{name}.contract.bias"].double() + contract[:, dropped] @ mean
        weights[f"{name}.contract.weight"] = contract[:, units]
        for part in ("weight", "bias"):
            weights[f"{name}.expand.{part}"] = weights[f"{name}.expand.{part}"][units]
    return _with_weights(
        replace_config(model, hidden_units={name: len(units) for name, units in kept.items()}), weights
    )


def choose_units(importance: Mapping[str, DoubleArray], share: float) -> dict[str, npt.NDArray[np.int64]]:
    """Indices of the most important units of all layers together, ascending; each layer keeps at least one."""
    n_kept = round(share * sum(map(len, importance.values())))
    pooled = np.concatenate(list(importance.values()))
    is_kept = np.zeros(len(pooled), bool)
    is_kept[np.argsort(-pooled, kind="stable")[:n_kept]] = True
    ends = np.cumsum([len(values) for values in importance.values()])[:-1]
    return {
        name: np.flatnonzero(own | (np.arange(len(values)) == values.argmax()))
        for (name, values), own in zip(importance.items(), np.split(is_kept, ends), strict=True)
    }

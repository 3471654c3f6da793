"""Weights rounded to a few bits so that the layers' outputs suffer least.

One input after another is rounded, and the inputs that are still to come take over what that changes in the outputs, as
speech correlates them (Frantar et al. 2023, GPTQ); the bias takes over the mean of the rest. Blocks are rounded in
order, each on what the rounded ones before it put out. The numbers are those of `asr.nn.rounding`, so that quantisation
to as many bits finds them as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.nn.model import AcousticModel
from asr.nn.rounding import BLOCK_SIZE, fit_blocks, rounded_layers
from asr.types import FloatArray
from export.moments import CompressionError, Inputs, measure_inputs

Track = Callable[[Sequence[list[str]]], Iterable[list[str]]]
_DAMPING = 0.01
"""Of the inputs' mean power, added to each: how far speech that was not measured may be other."""
_LEAST_POWER = 1e-12


@dataclass(frozen=True, slots=True)
class RoundWeights:
    """Round the linear layers' weights to `bits`."""

    bits: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise CompressionError(f"bits is {self.bits}, expected 2 to 8")


@torch.no_grad()
def round_weights(
    model: AcousticModel, config: RoundWeights, features: Sequence[FloatArray], track: Track = iter
) -> AcousticModel:
    """The network with rounded weights; the one given stays as it is.

    Args:
        model: any.
        config: how.
        features: log-mel (T, 80) of speech; some minutes.
        track: wraps the groups of layers that are rounded together, for a progress bar.
    """
    made = copy.deepcopy(model).eval()
    for names in track(_stages(made)):
        inputs = measure_inputs(made, names, features)
        for name in names:
            layer = made.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            weight = layer.weight.double()
            found = round_matrix(weight, inputs[name], config.bits)
            if layer.bias is not None:
                layer.bias.add_(((weight - found) @ torch.from_numpy(inputs[name].mean)).float())
            layer.weight.copy_(found)
    return made


def _stages(model: AcousticModel) -> list[list[str]]:
    """Layers whose inputs are measured together, in order: those of a part of a block, such as its attention."""
    parts: dict[str, list[str]] = {}
    for name in rounded_layers(model):
        parts.setdefault(".".join(name.split(".")[:3]), []).append(name.removesuffix(".weight"))
    return list(parts.values())


def round_matrix(weight: Tensor, inputs: Inputs, bits: int) -> Tensor:
    """The rounded weights (O, I) whose outputs are nearest to those of `weight`, float64, their mean left aside."""
    n_inputs = weight.shape[1]
    power = torch.from_numpy(inputs.covariance)
    damping = _DAMPING * float(power.diagonal().mean()) + _LEAST_POWER
    power = power + damping * torch.eye(n_inputs, dtype=torch.float64)
    spread = torch.linalg.cholesky(torch.linalg.inv(power), upper=True)
    left, found = weight.clone(), torch.zeros_like(weight)
    high = 2 ** (bits - 1) - 1
    for start in range(0, n_inputs, BLOCK_SIZE):
        end = min(start + BLOCK_SIZE, n_inputs)
        scale = fit_blocks(left[:, start:end].float(), bits)[1][:, 0, 0].double()
        for column in range(start, end):
            found[:, column] = torch.round(left[:, column] / scale).clamp(-high - 1, high) * scale
            error = (left[:, column] - found[:, column]) / spread[column, column]
            left[:, column:] -= error[:, None] * spread[None, column, column:]
    return found

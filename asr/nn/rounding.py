"""Weights rounded to a few bits as compressed graphs hold them, and trained so that they can be.

An output channel's weights are cut into blocks of `BLOCK_SIZE` inputs, the last one shorter where they do not divide. A
block has whole numbers of `bits` bits and one scale of sixteen. What is rounded once stays as it is when rounded again,
so a network trained to be rounded is exactly the one that `export.quantize` writes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK_SIZE = 16
_SHARES = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
_TINIEST = 1e-6
"""Scales have sixteen bits; below this they lose too many."""


def fit_blocks(weights: Tensor, bits: int, block_size: int = BLOCK_SIZE) -> tuple[Tensor, Tensor]:
    """Whole numbers and scales whose products are nearest to the weights.

    The scale is that of a few clippings of a block's largest number which leaves the smallest squared error.

    Args:
        weights: (O, I), float32.
        bits: 2 to 8.
        block_size: inputs that share a scale.

    Returns:
        Whole numbers (O, G, S), in -2^(bits-1) to 2^(bits-1)-1, zeros behind the last input; scales (O, G, 1). Both
        float32.

    Raises:
        ValueError: bits out of range.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits is {bits}, expected 2 to 8")
    high = 2 ** (bits - 1) - 1
    n_outputs, n_inputs = weights.shape
    groups = F.pad(weights, (0, -n_inputs % block_size)).view(n_outputs, -1, block_size)
    largest = groups.abs().amax(2, keepdim=True).clamp(min=_TINIEST * high)
    exact = [high / k for k in (*range(1, high), high + 1)]  # where the largest is k steps of what was rounded before
    scale = _scale(largest, 1.0, high)
    steps = _steps(groups, scale, high)
    error = (steps * scale - groups).square().sum(2, keepdim=True)
    for share in (*_SHARES[:-1], *exact):
        tried = _scale(largest, share, high)
        found = _steps(groups, tried, high)
        squares = (found * tried - groups).square().sum(2, keepdim=True)
        better = squares < error
        steps, scale = torch.where(better, found, steps), torch.where(better, tried, scale)
        error = torch.where(better, squares, error)
    return steps, scale


def _scale(largest: Tensor, share: float, high: int) -> Tensor:
    return (largest * (share / high)).half().float()


def _steps(groups: Tensor, scale: Tensor, high: int) -> Tensor:
    return torch.round(groups / scale).clamp(-high - 1, high)


def rounded(weights: Tensor, bits: int, block_size: int = BLOCK_SIZE) -> Tensor:
    """What `bits` leave of a matrix (O, I)."""
    steps, scale = fit_blocks(weights, bits, block_size)
    return (steps * scale).flatten(1)[:, : weights.shape[1]]


def rounded_layers(model: nn.Module, skip: str = "frontend") -> list[str]:
    """Names of the weights that are rounded: of all linear layers but those of the module `skip`."""
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] != skip
    ]


def straight_through(model: nn.Module, bits: int) -> dict[str, Tensor]:
    """The rounded weights by name, for `torch.func.functional_call`; gradients pass as if nothing were rounded."""
    parameters = dict(model.named_parameters())
    out = {}
    for name in rounded_layers(model):
        weight = parameters[name]
        with torch.no_grad():
            change = rounded(weight, bits) - weight
        out[name] = weight + change
    return out


@torch.no_grad()
def round_model(model: nn.Module, bits: int) -> None:
    """Round the weights in place."""
    parameters = dict(model.named_parameters())
    for name in rounded_layers(model):
        parameters[name].copy_(rounded(parameters[name], bits))

"""Optimisers: AdamW for the networks, and Adagrad with a rate a row for tables of which a step touches few rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lm.train.recipe import OptimConfig

INITIAL_SQUARE = 0.1
"""Keeps the first steps of a rare word from being as long as its rate allows."""


class RowAdagrad:
    """Adagrad over rows: a row's rate falls with the mean squares of its gradients so far (state: a number a row)."""

    def __init__(self, n_rows: int, device: torch.device) -> None:
        """Optimise a table of `n_rows` rows."""
        self.squares = torch.full((n_rows,), INITIAL_SQUARE, device=device)

    def step(self, table: Tensor, ids: Tensor, grad: Tensor, learning_rate: float) -> None:
        """Move the rows `ids` (U,) of `table` (R, D) against `grad` (U, D), in place."""
        squares = self.squares[ids] + grad.square().mean(1)
        self.squares[ids] = squares
        table.index_add_(0, ids, grad * (-learning_rate * squares.rsqrt())[:, None])


def adamw(module: nn.Module, optim: OptimConfig) -> torch.optim.AdamW:
    """AdamW for all parameters of `module`, weight decay on matrices only."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optim.learning_rate, betas=(0.9, 0.98))


def learning_rate_scale(step: int, optim: OptimConfig) -> float:
    """Linear warm-up to 1, then half a cosine down to `final_scale`."""
    if step < optim.warmup_steps:
        return (step + 1) / optim.warmup_steps
    done = min(1.0, (step - optim.warmup_steps) / max(1, optim.steps - optim.warmup_steps))
    return optim.final_scale + (1 - optim.final_scale) * 0.5 * (1 + math.cos(math.pi * done))

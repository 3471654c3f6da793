"""Embeddings in a few bits, as the runtime has them: groups of a row's numbers that share a scale.

What is rounded once stays as it is when rounded again.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

GROUP = 32
"""Numbers of an embedding that share a scale, where its half is a multiple of that."""
_CLIPPINGS = 10
_LEAST = 1e-4


def group_size(dim: int) -> int:
    """How many numbers of an embedding of an even size share a scale."""
    return GROUP if dim // 2 % GROUP == 0 else dim // 2


def fit_groups(groups: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Whole numbers of some bits (N, G, S) and scales (N, G, 1), of sixteen bits, whose product is near `groups`.

    Of some clippings of a group's largest number, the one with the smallest squared error gives its scale.
    """
    high = 2 ** (bits - 1) - 1
    exact = [high / k for k in (*range(1, high), high + 1)]  # where the largest is k steps of what was rounded before
    largest = groups.abs().amax(2, keepdim=True).clamp(min=_LEAST)
    best, scale, error = groups, largest, torch.full_like(largest, torch.inf)
    for share in (*torch.linspace(0.55, 1.0, _CLIPPINGS).tolist(), *exact):
        tried = (largest * (share / high)).half().float()
        steps = torch.round(groups / tried).clamp(-high - 1, high)
        squares = (steps * tried - groups).square().sum(2, keepdim=True)
        better = squares < error
        best, scale = torch.where(better, steps, best), torch.where(better, tried, scale)
        error = torch.where(better, squares, error)
    return best, scale


def rounded(values: Tensor, bits: int, group: int) -> Tensor:
    """What `bits` leave of a matrix (R, C), each `group` numbers of a row with a scale of their own."""
    rows, columns = values.shape
    padded = F.pad(values.detach(), (0, -columns % group)).view(rows, -1, group)
    steps, scale = fit_groups(padded, bits)
    return (steps * scale).view(rows, -1)[:, :columns]

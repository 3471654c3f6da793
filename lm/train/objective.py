"""The softmax over all words, trained on a few thousand that stand for them, its denominator Z kept near 1.

Z near 1 lets a single word be scored without the others. log Z of a context is estimated as
log(exp(s_target) + sum over sampled words w of exp(s_w) / p_w), where p_w is the chance of w to be sampled: Z's
expectation is exact, and with all words sampled it is Z itself. Frequent words have p_w = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from lm.train.batches import Batch, Floats, Ints, Segment
from lm.train.fofe import Adapter, LanguageModel
from lm.train.rounding import group_size, rounded
from lm.vocabulary import START_ID


@dataclass(frozen=True, slots=True)
class Sample:
    """Words that stand for the vocabulary."""

    ids: Ints
    """`(S,)`, ascending, each once."""
    log_chance: npt.NDArray[np.float32]
    """`(S,)`: log of each word's chance of being here."""


class Sampler:
    """Draws words without repetition, word w with a chance in proportion to `weight[w] ** power`, or 1 if that is more.

    The draw is systematic (Madow, 1949): chances are laid end to end, and every point at a random offset plus a whole
    number picks the word it falls on.
    """

    def __init__(self, counts: Floats, *, size: int, power: float, seed: int) -> None:
        """Draw about `size` of the words with these counts `(V,)`."""
        weight = (counts + 1.0) ** power
        weight[START_ID] = 0.0 if size < counts.size else weight[START_ID]
        self._chance = _inclusion_chances(weight, min(size, counts.size))
        self._ends = np.cumsum(self._chance)
        self._seed = seed

    def draw(self, step: int) -> Sample:
        """The words of a step."""
        offset = np.random.default_rng([self._seed, 2, step]).random()
        points = np.arange(offset, self._ends[-1])
        ids = np.unique(np.searchsorted(self._ends, points, side="right").clip(max=self._ends.size - 1))
        return Sample(ids, np.log(self._chance[ids]).astype(np.float32))


def _inclusion_chances(weight: Floats, size: int) -> Floats:
    chance = np.ones_like(weight)
    if size == weight.size:
        return chance
    certain = np.zeros(weight.size, np.bool_)
    while True:
        scale = (size - certain.sum()) / weight[~certain].sum()
        more = ~certain & (weight * scale >= 1)
        if not more.any():
            return np.where(certain, 1.0, weight * scale)
        certain |= more


class _LogDenominator(torch.autograd.Function):
    """log(exp(target) + sum_s exp(predicted @ rows.T + bias)) with one pass of exponentials for value and gradient."""

    @staticmethod
    def forward(ctx: Any, predicted: Tensor, rows: Tensor, bias: Tensor, target: Tensor, hits: Tensor) -> Tensor:
        """Arguments as of `log_denominator` -> (N,)."""
        powers = torch.addmm(bias, predicted, rows.T)  # (N, S)
        hit = hits >= 0
        powers[hit, hits[hit]] = -torch.inf
        highest = torch.maximum(powers.amax(1), target)
        powers.sub_(highest[:, None]).exp_()
        own = (target - highest).exp()
        total = powers.sum(1) + own
        ctx.save_for_backward(predicted, rows, powers, own, total)
        return total.log() + highest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of predicted, rows, bias and target."""
        predicted, rows, powers, own, total = ctx.saved_tensors
        scale = grads[0] / total
        grad = powers * scale[:, None]
        rows_grad = grad.T @ predicted if ctx.needs_input_grad[1] else None
        return grad @ rows, rows_grad, grad.sum(0), own * scale, None


def log_denominator(predicted: Tensor, rows: Tensor, bias: Tensor, target: Tensor, hits: Tensor) -> Tensor:
    """Estimated log Z of each context `(N,)`.

    Args:
        predicted: (N, D) of the model.
        rows: (S, D) embeddings of the sampled words.
        bias: (S,) their output bias less the log of their chance.
        target: (N,) logit of the word that came.
        hits: (N,) int64, the target's place among the sampled words, -1 where it is not there.
    """
    found: Tensor = _LogDenominator.apply(  # type: ignore[no-untyped-call]
        predicted, rows, bias, target, hits
    )
    return found


@dataclass(frozen=True, slots=True)
class SegmentLoss:
    """Sums over the words of a segment."""

    application: int
    words: int
    negative_log_prob: Tensor
    squared_log_z: Tensor


class Rows:
    """Embeddings and biases of the words of one batch, gathered so that gradients are as small as the batch.

    `embedding` (U, D) and `bias` (B, U) are leaves; `ids` (U,) are their words. With `bits`, embeddings are those that
    the runtime will see, and what is learnt of them moves the ones they were rounded from.
    """

    def __init__(self, model: LanguageModel, batch: Batch, sample: Sample, bits: int = 0) -> None:
        """Gather the words of `batch` and `sample`."""
        V = model.config.vocabulary_size
        present = np.zeros(V, np.bool_)
        for segment in batch:
            present[segment.contexts] = True
            present[segment.targets] = True
        present[sample.ids] = True
        ids = np.flatnonzero(present)
        self._place = np.zeros(V, np.int64)
        self._place[ids] = np.arange(ids.size)
        self._hit = np.full(V, -1, np.int64)
        self._hit[sample.ids] = np.arange(sample.ids.size)
        self._device = model.embedding.device
        self.ids = self._tensor(ids)
        learns = model.embedding.requires_grad
        embedding = model.embedding.detach()[self.ids]
        if bits:
            embedding = rounded(embedding, bits, group_size(model.config.dim))
        self.embedding = embedding.requires_grad_(learns)
        self.bias = model.bias.detach()[:, self.ids].requires_grad_(learns)

    def _tensor(self, values: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self._device)

    def places(self, ids: Ints) -> Tensor:
        """Rows of words."""
        return self._tensor(self._place[ids])

    def hits(self, ids: Ints) -> Tensor:
        """Places of words in the sample, -1 where they are not in it."""
        return self._tensor(self._hit[ids])


def segment_loss(
    model: LanguageModel, segment: Segment, rows: Rows, sample: Sample, adapter: Adapter | None = None
) -> SegmentLoss:
    """Losses of one segment, its log-probabilities estimated with the sample."""
    embedded = F.embedding(rows.places(segment.contexts), rows.embedding)
    starts = torch.from_numpy(segment.contexts[-1] == START_ID)
    predicted = model.predict(embedded, segment.application, adapter, starts)
    bias = rows.bias[model.bias_row(segment.application)]
    if adapter is not None and adapter.bias is not None:
        bias = bias + adapter.bias[rows.ids]
    targets, sampled = rows.places(segment.targets), rows.places(sample.ids)
    target = (predicted * F.embedding(targets, rows.embedding)).sum(-1) + bias[targets]
    log_chance = torch.from_numpy(sample.log_chance).to(bias.device)
    log_z = log_denominator(
        predicted, rows.embedding[sampled], bias[sampled] - log_chance, target, rows.hits(segment.targets)
    )
    return SegmentLoss(segment.application, len(target), (log_z - target).sum(), log_z.square().sum())


def total_loss(losses: Sequence[SegmentLoss], normalization_weight: float) -> Tensor:
    """Mean over all words of the negative log-probability and the weighted square of log Z."""
    words = sum(loss.words for loss in losses)
    parts = [loss.negative_log_prob + normalization_weight * loss.squared_log_z for loss in losses]
    return torch.stack(parts).sum() / words

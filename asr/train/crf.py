"""CTC-CRF: a transcript's score against that of everything that a phoneme trigram allows (Xiang and Ou 2019).

CTC alone makes each frame's labels as probable as they are in the data; here a path is weighed as a search weighs it,
by frames and language together, and the sum over all paths is what the transcript competes with.

A path's history is its last two labels, 0 standing for the start: blanks are no labels. `emitted` holds the weight of
the paths whose last frame bears their last label, `blanked` of those with blanks after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lm.phones import BLANK_ID

START = END = BLANK_ID
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class PhoneTrigram:
    """P(next | last two labels), (V, V, V): axes older, last, next; 0 is the start in a history, the end as next."""

    probs: Tensor

    def log_prob(self, labels: Sequence[int]) -> float:
        """Natural log-probability of a whole sequence of labels and its end."""
        padded = [START, START, *labels, END]
        windows = zip(padded, padded[1:], padded[2:], strict=False)
        return float(sum(self.probs[older, last, following].log() for older, last, following in windows))

    def with_silence(self, share: float) -> PhoneTrigram:
        """The same, but nothing at all is said with the probability `share`."""
        probs = self.probs.clone()
        first = probs[START, START]
        first[END] = 0.0
        first *= (1 - share) / first.sum()
        first[END] = share
        return PhoneTrigram(probs)

    @classmethod
    def estimate(cls, sequences: Iterable[Sequence[int]], n_labels: int, *, strength: float = 5.0) -> PhoneTrigram:
        """From sequences of label ids (1 to `n_labels` - 1).

        Each order is smoothed with the one below it, which weighs `strength` observations; the lowest is uniform.
        """
        counts = np.zeros((n_labels,) * 3)
        for labels in sequences:
            padded = np.array([START, START, *labels, END])
            np.add.at(counts, (padded[:-2], padded[1:-1], padded[2:]), 1)
        probs = np.full(n_labels, 1 / n_labels)
        for order in (counts.sum((0, 1)), counts.sum(0), counts):
            probs = (order + strength * probs) / (order.sum(-1, keepdims=True) + strength)
        return cls(torch.from_numpy(probs.astype(np.float32)))

    @classmethod
    def read(cls, path: Path) -> PhoneTrigram:
        """What `write` wrote.

        Raises:
            ValueError: not such a file.
        """
        try:
            probs = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path}: expected a phoneme trigram ({error})") from None
        if not isinstance(probs, np.ndarray) or probs.ndim != 3 or len(set(probs.shape)) != 1:
            raise ValueError(f"{path}: expected a phoneme trigram, an array (V, V, V)")
        return cls(torch.from_numpy(probs.astype(np.float32)))

    def write(self, path: Path) -> None:
        """Write the probabilities as an `.npy` file."""
        with path.open("wb") as file:
            np.save(file, self.probs.numpy())


def log_partition(log_probs: Tensor, lens: Tensor, trigram: PhoneTrigram) -> Tensor:
    """Log of the sum over all paths of what frames and trigram give them.

    Args:
        log_probs: (B, T, V) of each frame's labels.
        lens: (B,) frames of each clip.
        trigram: over the same V labels.

    Returns:
        (B,) natural logarithms; differentiable in `log_probs`.
    """
    total: Tensor = _LogPartition.apply(log_probs, lens, trigram.probs)  # type: ignore[no-untyped-call]
    return total


class _LogPartition(torch.autograd.Function):
    """Forward-backward, written out: half of the time that automatic differentiation of the forward pass takes."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, lens: Tensor, trigram: Tensor) -> Tensor:
        arcs = _Arcs(trigram.to(log_probs))
        batch, n_frames, n_labels = log_probs.shape
        frames = log_probs.exp()
        states = log_probs.new_zeros(n_frames + 1, 2, batch, n_labels, n_labels)  # emitted and blanked, frame by frame
        states[0, 1, :, START, START] = 1
        total = log_probs.new_zeros(batch)
        for t in range(n_frames):
            emitted, blanked = states[t]
            either = emitted + blanked
            following = torch.bmm(either.permute(2, 0, 1), arcs.onward).transpose(0, 1)  # (B, last, next)
            following.diagonal(dim1=1, dim2=2).add_((blanked * arcs.again).sum(1))
            new = states[t + 1]
            torch.mul(following.add_(emitted), frames[:, t, None, :], out=new[0])
            torch.mul(either, frames[:, t, BLANK_ID, None, None], out=new[1])
            scale = new.sum((0, 2, 3)) + _TINY
            new /= scale[:, None, None]
            inside = t < lens
            total += torch.where(inside, scale.log(), 0)
            if not bool(inside.all()):
                torch.where(inside[:, None, None], new, states[t], out=new)
        final = (states[-1].sum(0) * arcs.ending).sum((1, 2)) + _TINY
        ctx.save_for_backward(frames, lens, states)
        ctx.arcs = arcs
        return total + final.log()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        frames, lens, states = ctx.saved_tensors
        arcs: _Arcs = ctx.arcs
        shares = torch.zeros_like(frames)  # of the paths that bear each label at each frame
        ahead = arcs.ending.expand_as(states[0]).clone()  # weight of all that may follow a state, up to a factor
        for t in range(frames.shape[1] - 1, -1, -1):
            inside = t < lens
            occupied = states[t + 1] * ahead
            shares[:, t] = occupied[0].sum(1)
            shares[:, t, BLANK_ID] = occupied[1].sum((1, 2))
            label = ahead[0] * frames[:, t, None, :]  # (B, last, next)
            blank = ahead[1] * frames[:, t, BLANK_ID, None, None]
            either = torch.bmm(label.transpose(0, 1), arcs.onward_back).permute(1, 2, 0).add_(blank)
            new = torch.stack([either + label, either + label.diagonal(dim1=1, dim2=2)[:, None] * arcs.again])
            new /= new.sum((0, 2, 3))[:, None, None] + _TINY
            ahead = new if bool(inside.all()) else torch.where(inside[:, None, None], new, ahead)
        shares /= shares.sum(-1, keepdim=True) + _TINY
        shares *= (torch.arange(frames.shape[1], device=lens.device) < lens[:, None])[..., None]
        return shares * gradients[0][:, None, None], None, None


class _Arcs:
    """What a path may do after its last two labels (older, last), V each."""

    def __init__(self, trigram: Tensor) -> None:
        n_labels = len(trigram)
        of_labels = trigram.clone()
        of_labels[:, :, END] = 0
        self.again = of_labels.diagonal(dim1=1, dim2=2).clone()
        """(older, last): the last label once more, after a blank."""
        onward = of_labels * (1 - torch.eye(n_labels, device=trigram.device))
        self.onward = onward.transpose(0, 1).contiguous()
        """(last, older, next): another label."""
        self.onward_back = self.onward.transpose(1, 2).contiguous()
        self.ending = trigram[:, :, END]


def crf_loss(log_probs: Tensor, lens: Tensor, targets: Tensor, target_lens: Tensor, trigram: PhoneTrigram) -> Tensor:
    """Minus the log of the transcripts' share of the partition, (B,); never below zero but for rounding.

    Zero, without a gradient, for clips that are too short for their transcripts.

    Args:
        log_probs: (B, T, V).
        lens: (B,) frames.
        targets: labels of all clips, one after another.
        target_lens: (B,).
        trigram: over the same labels.
    """
    heard = F.ctc_loss(log_probs.transpose(0, 1), targets, lens, target_lens, reduction="none", zero_infinity=True)
    parts = [part.tolist() for part in targets.split(target_lens.tolist())]
    spoken = [trigram.log_prob(part) for part in parts]
    least = [len(part) + sum(a == b for a, b in zip(part, part[1:], strict=False)) for part in parts]
    loss = heard - heard.new_tensor(spoken) + log_partition(log_probs, lens, trigram)
    return torch.where(lens >= lens.new_tensor(least), loss, 0)

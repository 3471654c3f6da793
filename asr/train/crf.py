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
        except ValueError as error:
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
        (B,) natural logarithms.
    """
    n_labels = log_probs.shape[-1]
    probs = trigram.probs.to(log_probs.device)
    probs_of_labels = probs.clone()
    probs_of_labels[:, :, END] = 0
    again = probs_of_labels.diagonal(dim1=1, dim2=2)  # (older, last): the last label once more, after a blank
    onward = probs_of_labels * (1 - torch.eye(n_labels, device=probs.device))
    emitted = log_probs.new_zeros(len(log_probs), n_labels, n_labels)
    blanked = emitted.clone()
    blanked[:, START, START] = 1
    total = log_probs.new_zeros(len(log_probs))
    frames = log_probs.exp()
    for t in range(log_probs.shape[1]):
        label, blank = frames[:, t, None, :], frames[:, t, BLANK_ID, None, None]
        either = emitted + blanked
        following = torch.einsum("bop,opq->bpq", either, onward) + torch.diag_embed((blanked * again).sum(1))
        new_emitted, new_blanked = label * (emitted + following), blank * either
        scale = (new_emitted + new_blanked).sum((1, 2), keepdim=True) + _TINY
        is_inside = (t < lens)[:, None, None]
        emitted = torch.where(is_inside, new_emitted / scale, emitted)
        blanked = torch.where(is_inside, new_blanked / scale, blanked)
        total = total + torch.where(t < lens, scale[:, 0, 0].log(), 0)
    final = ((emitted + blanked) * probs[:, :, END]).sum((1, 2))
    return total + (final + _TINY).log()


def crf_loss(log_probs: Tensor, lens: Tensor, targets: Tensor, target_lens: Tensor, trigram: PhoneTrigram) -> Tensor:
    """Minus the log of the transcripts' share of the partition, (B,); never below zero but for rounding.

    Args:
        log_probs: (B, T, V).
        lens: (B,) frames.
        targets: labels of all clips, one after another.
        target_lens: (B,).
        trigram: over the same labels.
    """
    heard = F.ctc_loss(log_probs.transpose(0, 1), targets, lens, target_lens, reduction="none", zero_infinity=True)
    spoken = [trigram.log_prob(part.tolist()) for part in targets.split(target_lens.tolist())]
    return heard - heard.new_tensor(spoken) + log_partition(log_probs, lens, trigram)

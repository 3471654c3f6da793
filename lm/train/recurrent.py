"""An LSTM over whole utterances: a reference to measure the FOFE models against, which the runtime does not know."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence


class Recurrent(nn.Module):
    """LSTM layers and a projection back to the size of an embedding; its state begins anew with each utterance."""

    def __init__(self, dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, hidden, layers, batch_first=True)
        self.project = nn.Linear(hidden, dim)

    def forward(self, newest: Tensor, starts: Tensor) -> Tensor:
        """What the words after each word should be.

        Args:
            newest: (N, D) embeddings of the words of whole utterances, one after another.
            starts: (N,) bool, where an utterance starts; the first is one.

        Returns:
            (N, D).
        """
        lengths = torch.diff(starts.nonzero()[:, 0].cpu(), append=torch.tensor([len(newest)]))
        padded = pad_sequence(list(newest.split(lengths.tolist())), batch_first=True)
        packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        there = torch.arange(states.shape[1])[None] < lengths[:, None]
        found: Tensor = self.project(states[there.to(states.device)])
        return found

"""Acoustic model: log-mel frames (10 ms) -> front end (two into one) -> Conformer -> phoneme log-probabilities (20 ms).

State of a stream (`EncoderState`), all zeros at the start:

    key, value  (B, left, L*D)  keys and values of the last `left` encoder frames, layer after layer
    conv        (B, L*D, K//2)  gated inputs of the depthwise convolutions
    frontend    (B, 160)        the last two feature frames
    n_frames    (B,) int64      encoder frames so far: tells which cache slots are filled
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from asr.features import SILENCE_LOG_MEL
from asr.nn.layers import ConformerBlock


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of the network."""

    n_mels: int = 80
    d_model: int = 144
    n_heads: int = 4
    n_layers: int = 4
    d_ff: int = 576
    kernel: int = 31
    left_context: int = 128
    """Encoder frames (20 ms) that a chunk sees before itself."""
    look_ahead: int = 20
    """Encoder frames that a chunk sees after itself; they are computed again with the next chunk."""
    vocab_size: int = 42


@dataclass(frozen=True, slots=True)
class EncoderState:
    """What a stream carries from chunk to chunk; shapes in the module's docstring."""

    key: Tensor
    value: Tensor
    conv: Tensor
    frontend: Tensor
    n_frames: Tensor


class AcousticModel(nn.Module):
    """Chunked Conformer with a CTC head over phonemes."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(config.n_mels))
        self.register_buffer("feature_scale", torch.ones(config.n_mels))
        self.frontend = nn.Linear(4 * config.n_mels, config.d_model)
        self.blocks = nn.ModuleList(
            ConformerBlock(config.d_model, config.n_heads, config.d_ff, config.kernel) for _ in range(config.n_layers)
        )
        self.head = nn.Linear(config.d_model, config.vocab_size)

    feature_mean: Tensor
    feature_scale: Tensor

    def _conformers(self) -> Iterator[ConformerBlock]:
        return cast("Iterator[ConformerBlock]", iter(self.blocks))

    def normalize_features(self, mean: Tensor, deviation: Tensor) -> None:
        """Have each mel bin centred and scaled before the first layer, and change that layer so that the outputs stay.

        Log-mel values lie far from zero: without this, a step of the first layer moves all of its outputs together.

        Args:
            mean: (F,) of each bin over speech.
            deviation: (F,) standard deviation, above zero.
        """
        with torch.no_grad():
            weight = self.frontend.weight.unflatten(1, (4, -1))  # (D, 4, F)
            weight = weight * self.feature_scale  # for plain features
            bias = self.frontend.bias - (weight * self.feature_mean).sum((1, 2))
            self.feature_mean.copy_(mean)
            self.feature_scale.copy_(1 / deviation)
            self.frontend.weight.copy_((weight * deviation).flatten(1))
            self.frontend.bias.copy_(bias + (weight * mean).sum((1, 2)))

    def _normalize(self, features: Tensor) -> Tensor:
        return (features - self.feature_mean) * self.feature_scale

    def _subsample(self, features: Tensor, before: Tensor) -> Tensor:
        """Features (B, T, F) and the two frames before them (B, 2F) -> (B, T/2, D)."""
        pairs = self._normalize(features.unflatten(1, (-1, 2))).flatten(2)  # (B, T/2, 2F)
        first = self._normalize(before.unflatten(1, (1, 2, -1))).flatten(2)
        earlier = torch.cat([first, pairs[:, :-1]], 1)
        return nn.functional.gelu(self.frontend(torch.cat([earlier, pairs], -1)))

    def forward(self, features: Tensor, lens: Tensor | None = None, chunk: int | None = None) -> Tensor:
        """Log-probabilities of whole sequences, as a stream of `chunk` encoder frames would give them.

        Args:
            features: (B, T, F) log-mel, T a multiple of 2 and of `2 * chunk`; what follows a clip's end is silence.
            lens: (B,) encoder frames of each clip; only used with full context, to hide the padding.
            chunk: encoder frames a chunk, or None for full context.

        Returns:
            (B, T/2, V) log-probabilities.
        """
        if chunk is None:
            x = self._subsample(features, features.new_zeros(len(features), 2 * self.config.n_mels))
            mask = None if lens is None else _inside(lens, x.shape[1])
            for block in self.blocks:
                x = block(x, mask)
        else:
            x = self._windows(features, chunk)
            for block in self._conformers():
                x = block.forward_chunks(x, chunk, self.config.left_context)
            x = x[:, :, :chunk].flatten(1, 2)
        return torch.log_softmax(self.head(x), -1)

    def _windows(self, features: Tensor, chunk: int) -> Tensor:
        """Features (B, T, F) -> (B, n, chunk + look_ahead, D); silence follows the last chunk."""
        ahead = self.config.look_ahead
        features = nn.functional.pad(features, (0, 0, 0, 2 * ahead), value=SILENCE_LOG_MEL)
        x = self._subsample(features, features.new_zeros(len(features), 2 * self.config.n_mels))
        return x.unfold(1, chunk + ahead, chunk).transpose(2, 3)

    def initial_state(self, batch: int = 1) -> EncoderState:
        """The state before the first chunk: zeros."""
        c = self.config
        wide = c.n_layers * c.d_model
        return EncoderState(
            key=torch.zeros(batch, c.left_context, wide),
            value=torch.zeros(batch, c.left_context, wide),
            conv=torch.zeros(batch, wide, c.kernel // 2),
            frontend=torch.zeros(batch, 2 * c.n_mels),
            n_frames=torch.zeros(batch, dtype=torch.int64),
        )

    def step(self, features: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """One window of features (B, 2 (C + look_ahead), F) -> the chunk's log-probs (B, C, V) and the next state."""
        config = self.config
        left, ahead = config.left_context, config.look_ahead
        x = self._subsample(features, state.frontend)
        chunk = x.shape[1] - ahead
        age = left - 1 - torch.arange(left + x.shape[1], device=x.device)  # of a cache slot; negative inside the window
        mask = age[None] < state.n_frames[:, None]  # (B, left + W)
        keys, values = state.key.split(config.d_model, 2), state.value.split(config.d_model, 2)
        convs = state.conv.split(config.d_model, 1)
        new: list[tuple[Tensor, Tensor, Tensor]] = []
        for block, key, value, conv in zip(self._conformers(), keys, values, convs, strict=True):
            x, *caches = block.step(x, key, value, conv, mask, ahead)
            new.append((caches[0], caches[1], caches[2]))
        keys, values, convs = zip(*new, strict=True)
        last = features[:, : 2 * chunk][:, -2:].flatten(1)
        after = EncoderState(
            torch.cat(keys, 2), torch.cat(values, 2), torch.cat(convs, 1), last, state.n_frames + chunk
        )
        return torch.log_softmax(self.head(x[:, :chunk]), -1), after


def _inside(lens: Tensor, n_frames: int) -> Tensor:
    """(B, 1, 1, T) True for frames before each clip's end."""
    return (torch.arange(n_frames, device=lens.device) < lens[:, None])[:, None, None, :]

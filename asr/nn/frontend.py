"""Front ends: log-mel frames every 10 ms in, encoder frames every 20 ms out, one window at a time.

A window is given with the `context` feature frames before it. What follows it is not there yet: where a front end
looks further, the last frame is repeated. That touches the window's last encoder frame alone, which is computed again
with the next window as long as there is any look-ahead.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.features import SILENCE_LOG_MEL


class Frontend(nn.Module):
    """What all front ends share: features are centred and scaled first.

    `context` is the number of feature frames seen before a window, `before` the value of those before the stream.
    """

    context: int
    before: float
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(n_mels))
        self.register_buffer("feature_scale", torch.ones(n_mels))

    def _normalized(self, features: Tensor) -> Tensor:
        return (features - self.feature_mean) * self.feature_scale

    def forward(self, features: Tensor, start: Tensor) -> Tensor:
        """Encoder frames of windows.

        Args:
            features: (B, context + 2W, F).
            start: (B,) int64, the encoder frame of the stream that each window starts at.

        Returns:
            (B, W, D).
        """
        raise NotImplementedError


class PairFrontend(Frontend):
    """Four feature frames, two of them before the encoder frame's own two, through one layer and GELU."""

    context = 2
    before = 0.0

    def __init__(self, n_mels: int, d_model: int) -> None:
        super().__init__(n_mels)
        self.linear = nn.Linear(4 * n_mels, d_model)

    def forward(self, features: Tensor, start: Tensor) -> Tensor:
        """Features (B, 2 + 2W, F) -> (B, W, D); where in the stream the window starts does not matter here."""
        pairs = self._normalized(features).unflatten(1, (-1, 2)).flatten(2)  # (B, 1 + W, 2F)
        out: Tensor = F.gelu(self.linear(torch.cat([pairs[:, :-1], pairs[:, 1:]], -1)))
        return out

    def normalize_features(self, mean: Tensor, deviation: Tensor) -> None:
        """Have each mel bin centred and scaled before the layer, and change that layer so that the outputs stay.

        Log-mel values lie far from zero: without this, a step of the layer moves all of its outputs together.

        Args:
            mean: (F,) of each bin over speech.
            deviation: (F,) standard deviation, above zero.
        """
        with torch.no_grad():
            weight = self.linear.weight.unflatten(1, (4, -1))  # (D, 4, F)
            weight = weight * self.feature_scale  # for plain features
            bias = self.linear.bias - (weight * self.feature_mean).sum((1, 2))
            self.feature_mean.copy_(mean)
            self.feature_scale.copy_(1 / deviation)
            self.linear.weight.copy_((weight * deviation).flatten(1))
            self.linear.bias.copy_(bias + (weight * mean).sum((1, 2)))


class ConvFrontend(Frontend):
    """The front end of Whisper (Radford et al. 2022) on other features: a linear map to its log-mel, two convolutions.

    Sinusoidal positions are added; they start anew every `PERIOD` encoder frames, so that streams may be endless.
    """

    context = 8
    before = SILENCE_LOG_MEL
    PERIOD = 1500
    TAPS = 4
    """Feature frames that one mel frame of the map is made of: two before it, the one at it, and one after it."""
    FLOOR = -0.75
    """Least value of a mel frame; Whisper floors at two below the clip's maximum, which a stream does not know."""

    def __init__(self, n_mels: int, d_model: int) -> None:
        super().__init__(n_mels)
        self.map = nn.Linear(self.TAPS * n_mels, n_mels)
        self.first = nn.Conv1d(n_mels, d_model, 3)
        self.second = nn.Conv1d(d_model, d_model, 3, stride=2)
        rates = torch.exp(-math.log(10_000) / (d_model // 2 - 1) * torch.arange(d_model // 2))
        self.register_buffer("rates", rates, persistent=False)

    rates: Tensor

    def forward(self, features: Tensor, start: Tensor) -> Tensor:
        """Features (B, 8 + 2W, F) of windows that start at encoder frame `start` (B,) -> (B, W, D)."""
        after = features[:, -1:].expand(-1, 3, -1)
        frames = self._normalized(torch.cat([features, after], 1))  # from -8 on
        n_mel_frames = frames.shape[1] - self.TAPS + 1
        taps = [frames[:, tap : tap + n_mel_frames] for tap in range(self.TAPS)]
        mel = self.map(torch.cat(taps, -1)).clamp(min=self.FLOOR)[:, 4:]  # from -2 on
        x = F.gelu(self.second(F.gelu(self.first(mel.transpose(1, 2))))).transpose(1, 2)
        place = (start[:, None] + torch.arange(x.shape[1], device=x.device)) % self.PERIOD
        angles = place[..., None].to(x.dtype) * self.rates
        return x + torch.cat([angles.sin(), angles.cos()], -1)

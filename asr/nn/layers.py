"""Layers of the chunked Conformer. Each has a `forward` over whole sequences and a `step` over one chunk with a cache.

A stream is cut into chunks of `C` encoder frames (20 ms each). With each chunk come `R` frames of look-ahead: they
are computed along with the chunk, so that its frames can see them, then thrown away and computed anew as part of the
next chunk (the "hard copy" of Emformer, Shi et al. 2021). A window is a chunk and its look-ahead: `W = C + R` frames.
A frame sees its own window and the `left_context` frames before that; convolutions see `K // 2` frames before the
window, nothing after it. In `forward_chunks` all windows of a clip are computed at once: (B, n, W, D), n windows a
clip.

Architectures: Gulati et al. 2020 (Conformer), with half-step feed-forward layers; and the pre-norm Transformer of
Whisper. No layer encodes positions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HIDDEN = -1e9
"""Added to the scores of frames that must not be seen."""


def factored(n_inputs: int, rank: int, n_outputs: int) -> nn.Sequential:
    """A linear layer through a bottleneck of `rank` numbers."""
    return nn.Sequential(nn.Linear(n_inputs, rank, bias=False), nn.Linear(rank, n_outputs))


class FeedForward(nn.Module):
    """Layer norm, expand, activation, contract."""

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor] = F.silu) -> None:
        super().__init__()
        self.activation = activation
        self.norm = nn.LayerNorm(d_model)
        self.expand = nn.Linear(d_model, d_ff)
        self.contract = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        out: Tensor = self.contract(self.activation(self.expand(self.norm(x))))
        return out


class ChunkAttention(nn.Module):
    """Pre-norm multi-head self-attention without positions; the chunks give it its streaming shape.

    `width` (A) is that of all heads together: `d_model` unless heads were pruned.
    """

    def __init__(self, d_model: int, n_heads: int, width: int | None = None) -> None:
        super().__init__()
        self.n_heads, self.width = n_heads, width or d_model
        self.norm = nn.LayerNorm(d_model)
        self.query_key_value = nn.Linear(d_model, 3 * self.width)
        self.out = nn.Linear(self.width, d_model)

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, T, A/H)
        return heads

    def _joined(self, heads: Tensor) -> Tensor:
        out: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return out

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        heads = F.scaled_dot_product_attention(self._heads(q), self._heads(k), self._heads(v), attn_mask=mask)
        return self._joined(heads)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Full context: (B, T, D) with a mask broadcastable to (B, H, T, T), True where attention is allowed."""
        q, k, v = self.query_key_value(self.norm(x)).split(self.width, -1)
        return self._attend(q, k, v, mask)

    def forward_chunks(self, x: Tensor, chunk: int, left_context: int) -> Tensor:
        """All windows (B, n, W, D), each attending to itself and to `left_context` frames of the chunks before."""
        batch, n_chunks, window, _ = x.shape
        q, key_value = self.query_key_value(self.norm(x)).split([self.width, 2 * self.width], -1)
        main = key_value[:, :, :chunk].reshape(batch, n_chunks * chunk, 2 * self.width)
        past = F.pad(main, (0, 0, left_context, 0)).unfold(1, left_context, chunk)[:, :n_chunks]  # (B, n, 2A, left)
        k, v = torch.cat([past.transpose(2, 3), key_value], 2).flatten(0, 1).chunk(2, -1)  # (B n, left + W, A)
        age = left_context - 1 - torch.arange(left_context + window, device=x.device)
        before = torch.arange(n_chunks, device=x.device) * chunk  # frames of the stream before each window
        mask = (age[None] < before[:, None]).repeat(batch, 1)[:, None, None, :]
        return self._attend(q.flatten(0, 1), k, v, mask).view_as(x)

    def step(
        self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor, look_ahead: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One window (B, W, D), keys and values of the last frames (B, H, left, A/H), and which count (B, left + W).

        Returns the output (B, W, D) and the keys and values of the last `left` frames once the chunk is past.
        """
        query, new_key, new_value = map(self._heads, self.query_key_value(self.norm(x)).split(self.width, -1))
        k, v = torch.cat([key, new_key], 2), torch.cat([value, new_value], 2)
        end, left = k.shape[2] - look_ahead, key.shape[2]
        bias = torch.where(mask, 0.0, _HIDDEN)[:, None, None, :]
        scores = (query * query.shape[-1] ** -0.5) @ k.transpose(2, 3) + bias  # spelt out: a leaner graph when exported
        out = self._joined(torch.softmax(scores, -1) @ v)
        return out, k[:, :, end - left : end], v[:, :, end - left : end]


class ChunkConvolution(nn.Module):
    """Gated pointwise, depthwise over time, SiLU, pointwise.

    A window's last `K // 2` frames miss part of their right context. `edge` scales them, per channel and per distance
    from the window's end, so that the layer can learn what the missing taps cost.
    """

    def __init__(self, d_model: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, found {kernel}")
        self.context = kernel // 2
        self.norm = nn.LayerNorm(d_model)
        self.gate = nn.Linear(d_model, 2 * d_model)
        self.depthwise = nn.Conv1d(d_model, d_model, kernel, groups=d_model)
        self.edge = nn.Parameter(torch.zeros(d_model, self.context))
        self.out = nn.Linear(d_model, d_model)

    def _gated(self, x: Tensor) -> Tensor:
        return F.glu(self.gate(self.norm(x)), -1)

    def _finish(self, z: Tensor) -> Tensor:
        out: Tensor = self.out(F.silu(z).transpose(1, 2))
        return out

    def _convolve_window(self, z: Tensor) -> Tensor:
        """(B, D, K // 2 + W), past first -> (B, D, W)."""
        window = z.shape[2] - self.context
        scale = 1 + F.pad(self.edge, (window, 0))[:, self.context :]  # (D, W): ones, then 1 + edge
        out: Tensor = self.depthwise(F.pad(z, (0, self.context))) * scale
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Full context: (B, T, D) -> (B, T, D)."""
        z = self._gated(x).transpose(1, 2)
        return self._finish(
            F.conv1d(z, self.depthwise.weight, self.depthwise.bias, padding=self.context, groups=z.shape[1])
        )

    def forward_chunks(self, x: Tensor, chunk: int) -> Tensor:
        """All windows (B, n, W, D)."""
        batch, n_chunks, _, d_model = x.shape
        z = self._gated(x).transpose(2, 3)  # (B, n, D, W)
        main = z[..., :chunk].transpose(1, 2).reshape(batch, d_model, n_chunks * chunk)
        past = F.pad(main, (self.context, 0)).unfold(2, self.context, chunk)[:, :, :n_chunks]  # (B, D, n, K // 2)
        windows = torch.cat([past.transpose(1, 2), z], 3).flatten(0, 1)
        return self._finish(self._convolve_window(windows)).view_as(x)

    def step(self, x: Tensor, cache: Tensor, look_ahead: int) -> tuple[Tensor, Tensor]:
        """One window (B, W, D) and the last `K // 2` gated frames (B, D, K // 2); returns output and new cache."""
        z = torch.cat([cache, self._gated(x).transpose(1, 2)], 2)
        end = z.shape[2] - look_ahead
        return self._finish(self._convolve_window(z)), z[:, :, :end][:, :, -self.context :]


class ConformerBlock(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, norm.

    An open block has no norm at its end: it adds to its input and does nothing else to it.
    """

    def __init__(
        self, d_model: int, n_heads: int, d_ff: int, kernel: int, attention_width: int | None = None, *,
        is_open: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.first = FeedForward(d_model, d_ff)
        self.attention = ChunkAttention(d_model, n_heads, attention_width)
        self.convolution = ChunkConvolution(d_model, kernel)
        self.second = FeedForward(d_model, d_ff)
        self.norm = nn.Identity() if is_open else nn.LayerNorm(d_model)

    def _close(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x + 0.5 * self.second(x))
        return out

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Full context: (B, T, D) -> (B, T, D)."""
        x = x + 0.5 * self.first(x)
        x = x + self.attention(x, mask)
        return self._close(x + self.convolution(x))

    def forward_chunks(self, x: Tensor, chunk: int, left_context: int) -> Tensor:
        """All windows (B, n, W, D) -> (B, n, W, D)."""
        x = x + 0.5 * self.first(x)
        x = x + self.attention.forward_chunks(x, chunk, left_context)
        return self._close(x + self.convolution.forward_chunks(x, chunk))

    def step(
        self, x: Tensor, key: Tensor, value: Tensor, conv: Tensor, mask: Tensor, look_ahead: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One window and the block's caches in, output and caches out."""
        x = x + 0.5 * self.first(x)
        attended, key, value = self.attention.step(x, key, value, mask, look_ahead)
        x = x + attended
        convolved, conv = self.convolution.step(x, conv, look_ahead)
        return self._close(x + convolved), key, value, conv


class TransformerBlock(nn.Module):
    """Attention, feed-forward with GELU; both pre-norm."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, attention_width: int | None = None) -> None:
        super().__init__()
        self.attention = ChunkAttention(d_model, n_heads, attention_width)
        self.feed_forward = FeedForward(d_model, d_ff, F.gelu)

    def _close(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.feed_forward(x)
        return out

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Full context: (B, T, D) -> (B, T, D)."""
        return self._close(x + self.attention(x, mask))

    def forward_chunks(self, x: Tensor, chunk: int, left_context: int) -> Tensor:
        """All windows (B, n, W, D) -> (B, n, W, D)."""
        return self._close(x + self.attention.forward_chunks(x, chunk, left_context))

    def step(
        self, x: Tensor, key: Tensor, value: Tensor, conv: Tensor, mask: Tensor, look_ahead: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One window and the block's caches in, output and caches out; there is no convolution, so `conv` stays."""
        attended, key, value = self.attention.step(x, key, value, mask, look_ahead)
        return self._close(x + attended), key, value, conv

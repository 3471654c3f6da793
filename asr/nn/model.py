"""Acoustic model: log-mel frames (10 ms) -> front end (two into one) -> blocks -> phoneme log-probabilities (20 ms).

State of a stream (`EncoderState`), all zeros at the start:

    key, value  of each block, (B, H, left, A/H): of the last `left` encoder frames; A is `attention_width`
    conv        of each block, (B, D, K//2): gated inputs of the depthwise convolution; nothing where K is 1
    frontend    (B, c*F)              the last `c` feature frames, less what the front end puts before a stream
    n_frames    (B,) int64            encoder frames so far: which cache slots are filled, and where positions are
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from asr.features import SILENCE_LOG_MEL
from asr.nn.frontend import ConvFrontend, Frontend, PairFrontend
from asr.nn.layers import ConformerBlock, FeedForward, TransformerBlock, factored

Block = ConformerBlock | TransformerBlock
Module = TypeVar("Module", bound=nn.Module)
ARCHITECTURES = ("conformer", "transformer")


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Kind and sizes of the network.

    Raises:
        ValueError: an unknown architecture, or a kernel that it cannot have.
    """

    architecture: str = "conformer"
    """`conformer` (with `PairFrontend`), or `transformer`: Whisper's encoder (with `ConvFrontend`)."""
    n_mels: int = 80
    d_model: int = 144
    n_heads: int = 4
    n_layers: int = 4
    d_ff: int = 576
    kernel: int = 31
    """Of the depthwise convolutions; 1 where there are none."""
    left_context: int = 128
    """Encoder frames (20 ms) that a chunk sees before itself; may be raised after training (`with_left_context`)."""
    look_ahead: int = 20
    """Encoder frames that a chunk sees after itself; they are computed again with the next chunk."""
    vocab_size: int = 42
    head_size: int = 0
    """Numbers of a head's queries; 0 stands for `d_model / n_heads`, which it is before heads are pruned."""
    hidden_units: Mapping[str, int] = field(default_factory=dict)
    """Feed-forward layers narrower than `d_ff`, by the module's name: `blocks.0.first`."""
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Linear layers split into two factors of this rank, by the module's name: `blocks.0.first.expand`."""
    open_blocks: tuple[int, ...] = ()
    """Blocks of a conformer that have no norm at their end, as those put into a trained network (`deepened`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "open_blocks", tuple(self.open_blocks))
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture is {self.architecture!r}, expected one of {', '.join(ARCHITECTURES)}")
        if (self.architecture == "transformer") != (self.kernel == 1):
            raise ValueError(f"kernel is {self.kernel}: expected 1 for a transformer, more for a conformer")
        n_open = self.n_layers if self.architecture == "conformer" else 0
        if any(not 0 <= block < n_open for block in self.open_blocks):
            raise ValueError(f"open_blocks is {self.open_blocks}: expected blocks of a conformer, below {n_open}")

    @property
    def attention_width(self) -> int:
        """Numbers of all heads' queries in a block."""
        return self.n_heads * self.head_size or self.d_model


@dataclass(frozen=True, slots=True)
class EncoderState:
    """What a stream carries from chunk to chunk; shapes in the module's docstring."""

    key: tuple[Tensor, ...]
    value: tuple[Tensor, ...]
    conv: tuple[Tensor, ...]
    frontend: Tensor
    n_frames: Tensor


class AcousticModel(nn.Module):
    """Chunked encoder with a CTC head over phonemes."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.frontend = _make_frontend(config)
        self.blocks = nn.ModuleList(_make_block(config, number) for number in range(config.n_layers))
        ends_with_norm = config.architecture == "conformer"
        self.norm = nn.Identity() if ends_with_norm else nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, config.vocab_size)
        for name, n_units in config.hidden_units.items():
            activation = self._named(name, FeedForward).activation
            self.set_submodule(name, FeedForward(config.d_model, n_units, activation))
        for name, rank in config.ranks.items():
            linear = self._named(name, nn.Linear)
            self.set_submodule(name, factored(linear.in_features, rank, linear.out_features))

    def _named(self, name: str, kind: type[Module]) -> Module:
        found = dict(self.named_modules()).get(name)
        if not isinstance(found, kind):
            raise ValueError(f"the configuration changes {name!r}, and the network has no {kind.__name__} of this name")
        return found

    def _typed_blocks(self) -> Iterator[Block]:
        return cast("Iterator[Block]", iter(self.blocks))

    def _log_probs(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.head(self.norm(x)), -1)

    def forward(self, features: Tensor, lens: Tensor | None = None, chunk: int | None = None, start: int = 0) -> Tensor:
        """Log-probabilities of whole sequences, as a stream of `chunk` encoder frames would give them.

        Args:
            features: (B, T, F) log-mel, T a multiple of 2 and of `2 * chunk`; what follows a clip's end is silence.
            lens: (B,) encoder frames of each clip; only used with full context, to hide the padding.
            chunk: encoder frames a chunk, or None for full context.
            start: encoder frame of the stream that the sequences start at: only positions depend on it.

        Returns:
            (B, T/2, V) log-probabilities.
        """
        front = self.frontend
        features = nn.functional.pad(features, (0, 0, front.context, 0), value=front.before)
        x: Tensor
        if chunk is None:
            x = front(features, torch.full((len(features),), start, device=features.device))
            mask = None if lens is None else _inside(lens, x.shape[1])
            for block in self._typed_blocks():
                x = block.forward(x, mask)
        else:
            x = self._windows(features, chunk, start)
            for block in self._typed_blocks():
                x = block.forward_chunks(x, chunk, self.config.left_context)
            x = x[:, :, :chunk].flatten(1, 2)
        return self._log_probs(x)

    def _windows(self, features: Tensor, chunk: int, start: int) -> Tensor:
        """Features (B, context + T, F) -> (B, n, chunk + look_ahead, D); silence follows the last chunk."""
        ahead, context = self.config.look_ahead, self.frontend.context
        features = nn.functional.pad(features, (0, 0, 0, 2 * ahead), value=SILENCE_LOG_MEL)
        windows = features.unfold(1, context + 2 * (chunk + ahead), 2 * chunk).transpose(2, 3)
        batch, n_windows = windows.shape[:2]
        starts = (start + chunk * torch.arange(n_windows, device=features.device)).repeat(batch)
        x: Tensor = self.frontend(windows.flatten(0, 1), starts).unflatten(0, (batch, n_windows))
        return x

    def initial_state(self, batch: int = 1) -> EncoderState:
        """The state before the first chunk: zeros."""
        c = self.config
        cache = (batch, c.n_heads, c.left_context, c.attention_width // c.n_heads)
        blocks = range(c.n_layers)
        return EncoderState(
            key=tuple(torch.zeros(cache) for _ in blocks),
            value=tuple(torch.zeros(cache) for _ in blocks),
            conv=tuple(torch.zeros(batch, c.d_model, c.kernel // 2) for _ in blocks),
            frontend=torch.zeros(batch, self.frontend.context * c.n_mels),
            n_frames=torch.zeros(batch, dtype=torch.int64),
        )

    def step(self, features: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """One window of features (B, 2 (C + look_ahead), F) -> the chunk's log-probs (B, C, V) and the next state."""
        log_probs, after = self.window(features, state)
        return log_probs[:, : log_probs.shape[1] - self.config.look_ahead], after

    def window(self, features: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """As `step`, but log-probs (B, C + look_ahead, V): the look-ahead's are a guess until the next window."""
        config = self.config
        left, ahead = config.left_context, config.look_ahead
        front = self.frontend
        before = state.frontend.unflatten(1, (front.context, -1)) + front.before
        features = torch.cat([before, features], 1)
        x = front(features, state.n_frames)
        chunk = x.shape[1] - ahead
        age = left - 1 - torch.arange(left + x.shape[1], device=x.device)  # of a cache slot; negative inside the window
        mask = age[None] < state.n_frames[:, None]  # (B, left + W)
        new: list[tuple[Tensor, Tensor, Tensor]] = []
        for block, key, value, conv in zip(self._typed_blocks(), state.key, state.value, state.conv, strict=True):
            x, *caches = block.step(x, key, value, conv, mask, ahead)
            new.append((caches[0], caches[1], caches[2]))
        keys, values, convs = zip(*new, strict=True)
        last = features[:, 2 * chunk : 2 * chunk + front.context].flatten(1) - front.before
        after = EncoderState(keys, values, convs, last, state.n_frames + chunk)
        return self._log_probs(x), after


def with_left_context(model: AcousticModel, left_context: int) -> AcousticModel:
    """The same weights, seeing another number of encoder frames before a chunk."""
    changed = AcousticModel(replace(model.config, left_context=left_context))
    changed.load_state_dict(model.state_dict())
    return changed


def _make_frontend(config: EncoderConfig) -> Frontend:
    if config.architecture == "conformer":
        return PairFrontend(config.n_mels, config.d_model)
    return ConvFrontend(config.n_mels, config.d_model)


def _make_block(config: EncoderConfig, number: int) -> Block:
    if config.architecture == "conformer":
        return ConformerBlock(
            config.d_model, config.n_heads, config.d_ff, config.kernel, config.attention_width,
            is_open=number in config.open_blocks,
        )  # fmt: skip
    return TransformerBlock(config.d_model, config.n_heads, config.d_ff, config.attention_width)


def _inside(lens: Tensor, n_frames: int) -> Tensor:
    """(B, 1, 1, T) True for frames before each clip's end."""
    return (torch.arange(n_frames, device=lens.device) < lens[:, None])[:, None, None, :]

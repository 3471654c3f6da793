"""A training recipe: one TOML file, read into frozen dataclasses; an unknown key is an error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class RecipeError(ValueError):
    """The recipe has an unknown key or a value of the wrong type."""


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """What is done to features while they are read."""

    noise_probability: float = 0.5
    noise_snr_db: tuple[float, float] = (5.0, 25.0)
    gain_db: tuple[float, float] = (-12.0, 6.0)
    time_masks: int = 5
    time_mask_frames: int = 20
    """Longest time mask, in 10 ms frames."""
    frequency_masks: int = 2
    frequency_mask_bins: int = 16


@dataclass(frozen=True, slots=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay to `final_scale`."""

    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    warmup_steps: int = 100
    steps: int = 2000
    final_scale: float = 0.05
    clip_norm: float = 5.0
    head_steps: int = 0
    """First steps, in which only the head learns: for a new head on a trained network."""
    head_learning_rate: float = 0.0
    """Of the head, always; 0 takes that of the other layers."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a run depends on, except the data."""

    seed: int = 1
    batch_s: float = 120.0
    """Seconds of audio a step."""
    max_clip_s: float = 20.0
    views: tuple[str, ...] = ("clean",)
    """Cached views to draw from; a clip uses one of those it has, at random."""
    chunks: tuple[int, ...] = (16, 32, 64, 0)
    """Encoder frames a chunk, drawn anew each step; 0 is full context."""
    chunk_weights: tuple[float, ...] = (1.0, 2.0, 1.0, 1.0)
    start_at_zero: float = 0.3
    """Share of steps whose clips start a stream; the others start at a random place of one (positions, if any)."""
    ctc_weight: float = 1.0
    distill_weight: float = 1.0
    repeats: Mapping[str, float] = field(default_factory=dict)
    """How often an epoch visits the clips of a corpus, on average; once where it is not named."""
    average_last: int = 5
    """Checkpoints averaged into the final model."""
    checkpoint_every_s: float = 240.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        if len(self.chunks) != len(self.chunk_weights):
            raise RecipeError(f"chunks has {len(self.chunks)} entries, chunk_weights {len(self.chunk_weights)}")
        if self.ctc_weight < 0 or self.distill_weight < 0 or self.ctc_weight + self.distill_weight == 0:
            raise RecipeError("ctc_weight and distill_weight must not be negative, nor both zero")


T = TypeVar("T")


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        RecipeError: not TOML, an unknown key, or a value of the wrong type.
    """
    return _build(Recipe, read_toml(path), str(path))


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file, on any supported Python.

    Raises:
        RecipeError: not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: {error}") from None


def _build(kind: type[T], raw: Mapping[str, Any], where: str) -> T:
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    values = {}
    for key, value in raw.items():
        if key not in known:
            raise RecipeError(f"{where}: unknown key {key!r}; known here: {', '.join(known)}")
        if is_dataclass(hints[key]):
            values[key] = _build(hints[key], value, f"{where} [{key}]")
        else:
            values[key] = _typed(value, getattr(kind(), key), f"{where}: {key}")
    return kind(**values)


def _typed(value: Any, example: Any, where: str) -> Any:
    if isinstance(example, dict) and isinstance(value, dict):
        return {key: _typed(item, 1.0, f"{where}.{key}") for key, item in value.items()}
    if isinstance(example, tuple) and isinstance(value, list):
        return tuple(_typed(item, example[0], where) for item in value)
    if isinstance(example, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, type(example)) and not (isinstance(value, bool) and not isinstance(example, bool)):
        return value
    raise RecipeError(f"{where}: expected {type(example).__name__}, found {value!r}")

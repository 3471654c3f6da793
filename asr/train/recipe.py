"""A training recipe: one TOML file, read into frozen dataclasses; an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lm.train.settings import RecipeError, build_settings, read_toml


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """What is done to features while they are read."""

    noise_probability: float = 0.5
    noise_snr_db: tuple[float, float] = (5.0, 25.0)
    noise_pairs: float = 0.0
    """Share of the noises that are two at once, the second one up to 10 dB below the first."""
    noise_phases: bool = False
    """Speech and noise may amplify or cancel each other, as their phases have it."""
    filter_db: float = 0.0
    """Most that a random smooth filter, another for speech and for noise, raises or lowers a frequency."""
    gain_db: tuple[float, float] = (-12.0, 6.0)
    tempo: tuple[float, float] = (1.0, 1.0)
    """How much faster a clip is played, its voice unchanged; drawn once for all copies of a clip in a step."""
    warp: tuple[float, float] = (1.0, 1.0)
    """What all frequencies of the voice are multiplied by: above 1 a shorter vocal tract, as children have (VTLP)."""
    narrow_probability: float = 0.0
    """Share of the clips that lose what a narrow channel does not carry: above 3 to 7 kHz, below 50 to 300 Hz."""
    time_masks: int = 5
    time_mask_frames: int = 20
    """Longest time mask, in 10 ms frames."""
    frequency_masks: int = 2
    frequency_mask_bins: int = 16

    def __post_init__(self) -> None:
        for name in ("tempo", "warp"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise RecipeError(
                    f"augment.{name}: expected two numbers above 0, the lower one first, found {low}, {high}"
                )


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
    crf_weight: float = 0.0
    """Of the transcripts' share among everything that a phoneme trigram allows; needs `--phone-trigram`."""
    consistency_weight: float = 0.0
    """Of the divergence between two differently augmented copies of each clip (CR-CTC, Yao et al. 2024); above 0 a
    step holds each clip twice, and half as many of them."""
    mwer_weight: float = 0.0
    """Of the words that the search gets wrong, by the share that each way of hearing a clip has."""
    mwer_scale: float = 0.2
    """Of the ways' scores: at 1 the best way has nearly all of the probability, and there is nothing to learn."""
    mwer_ways: int = 10
    """Ways in which the search hears a clip."""
    mwer_beam: int = 48
    """Hypotheses that the search keeps."""
    imitate_weight: float = 0.0
    """Of the divergence from another network, which hears the same augmented clips in the same chunks: the one that the
    run starts from, or `--imitate`."""
    weight_bits: int = 0
    """Of the linear layers' weights, in blocks as `asr.nn.rounding` has them, in training and in the end; 0 leaves them
    float."""
    repeats: Mapping[str, float] = field(default_factory=dict)
    """How often an epoch visits the clips of a corpus, on average; once where it is not named."""
    noise_share: float = 0.0
    """Clips of noise in which nothing is said, for each clip of speech in a step; needs `--noise-dir`."""
    average_last: int = 5
    """Checkpoints averaged into the final model."""
    checkpoint_every_s: float = 240.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        if not self.chunks or len(self.chunks) != len(self.chunk_weights):
            raise RecipeError(f"chunks has {len(self.chunks)} entries, chunk_weights {len(self.chunk_weights)}")
        weights = (self.ctc_weight, self.distill_weight, self.crf_weight, self.imitate_weight)
        if min(weights) < 0 or not any(weights):
            raise RecipeError(
                "ctc_weight, distill_weight, crf_weight and imitate_weight must not be negative, nor all zero"
            )
        if self.weight_bits and not 2 <= self.weight_bits <= 8:
            raise RecipeError(f"weight_bits is {self.weight_bits}, expected 2 to 8, or 0")
        if min(self.consistency_weight, self.mwer_weight) < 0 or self.mwer_scale <= 0:
            raise RecipeError("consistency_weight and mwer_weight must not be negative, mwer_scale must be above 0")
        if self.distill_weight and self.augment.tempo != (1.0, 1.0):
            raise RecipeError(
                "distill_weight needs a tempo of [1.0, 1.0]: a teacher's rows are those of the clip as it is"
            )
        if self.mwer_ways < 2 or self.mwer_beam < self.mwer_ways:
            raise RecipeError(f"mwer_ways: expected 2 to {self.mwer_beam} (mwer_beam), found {self.mwer_ways}")
        if not 0 <= self.noise_share < 1:
            raise RecipeError(f"noise_share is {self.noise_share}, expected 0 or more, and less than 1")


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        RecipeError: not TOML, an unknown key, or a value of the wrong type.
    """
    return build_settings(Recipe, read_toml(path), str(path))

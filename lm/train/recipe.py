"""The recipe of a neural language model: data, network, objective and optimiser, read from one TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lm.corpus import Source, make_source
from lm.train.settings import RecipeError, build_settings, read_toml

FORMS = ("shared", "separate", "mixture", "adapted", "lstm")
ACTIVATIONS = ("relu", "gelu")


@dataclass(frozen=True, slots=True)
class LanguageModelConfig:
    """Shape of a FOFE language model (lm/train/fofe.py)."""

    form: str = "shared"
    """`shared`: one network for all applications; `separate`: a network and an output bias each (AD-FOFE); `mixture`:
    several networks, weighed by a gate (M-FOFE); `adapted`: one network, with an adapter and an output bias for each
    application, trained together; `lstm`: no FOFE model, but one to compare with, which sees all words before. One
    application's own model (AS-FOFE) is a shared one of its data."""
    applications: tuple[str, ...] = ("assistant", "dictation")
    vocabulary_size: int = 60_000
    """Words with an embedding of their own, the first of the word list; others are `<unk>`."""
    context: int = 8
    """Words seen before the one predicted."""
    factors: tuple[float, ...] = (0.5, 0.9)
    """Forgetting factors, each with a code of its own."""
    window: int = 3
    """Codes of the first factor that are seen: the newest and those one, two ... words earlier."""
    dim: int = 128
    """Size of an embedding, input and output alike."""
    hidden: int = 384
    layers: int = 3
    experts: int = 4
    """Networks of a mixture."""
    rank: int = 32
    """Of the adapters of the form `adapted`."""
    activation: str = "relu"

    def __post_init__(self) -> None:
        _require(self.form in FORMS, f"model.form: expected one of {', '.join(FORMS)}, found {self.form!r}")
        _require(
            self.activation in ACTIVATIONS,
            f"model.activation: expected one of {', '.join(ACTIVATIONS)}, found {self.activation!r}",
        )
        _require(bool(self.applications), "model.applications must name one at least")
        _require(
            bool(self.factors) and all(0 < a < 1 for a in self.factors),
            f"model.factors: expected numbers between 0 and 1, found {self.factors}",
        )
        _require(
            1 <= self.window <= self.context, f"model.window must be 1 to context ({self.context}), not {self.window}"
        )
        _require(self.vocabulary_size > 3, "model.vocabulary_size must be above 3")
        _require(
            min(self.dim, self.hidden, self.layers, self.experts, self.rank) > 0,
            "model.dim, hidden, layers, experts and rank must be positive",
        )

    @property
    def knows_applications(self) -> bool:
        """Whether a model of this form must be told the application of a context."""
        return self.form in {"separate", "adapted"}


@dataclass(frozen=True, slots=True)
class OptimConfig:
    """AdamW for the networks, row-wise Adagrad for embeddings and output bias; warm-up, then a cosine for both."""

    learning_rate: float = 2e-3
    row_learning_rate: float = 0.2
    weight_decay: float = 0.01
    warmup_steps: int = 500
    steps: int = 20_000
    final_scale: float = 0.02
    clip_norm: float = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a run depends on, except the text."""

    seed: int = 1
    batch_tokens: int = 2048
    """Predicted words a step, over all applications."""
    samples: int = 2048
    """Words that stand for the whole vocabulary in the softmax of a step."""
    sample_power: float = 0.75
    """A word is sampled in proportion to its frequency to this power (never more than once)."""
    normalization_weight: float = 0.1
    """Of the squared logarithm of the softmax' denominator, which should stay near 0."""
    embedding_bits: int = 0
    """Bits of the embeddings while training, as in export; 0: they are not rounded."""
    average_last: int = 4
    """Checkpoints averaged into the final model."""
    checkpoint_every_s: float = 600.0
    dev_utterances: int = 500
    """Of each application's dev text, measured at a checkpoint."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """`"folder/name" = w`: a line of that source is seen w times in an epoch of its application, on average."""
    applications: Mapping[str, str] = field(default_factory=dict)
    """Which application a folder of sources belongs to; one that is not named is an application itself."""
    balance: Mapping[str, float] = field(default_factory=dict)
    """Share of each batch that an application gets; 1 where it is not named."""
    dev: Mapping[str, str] = field(default_factory=dict)
    """`application = "folder/name"` of the text that perplexities are measured on; never trained on."""
    model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        _require(min(self.batch_tokens, self.samples) > 0, "batch_tokens and samples must be positive")
        _require(
            self.embedding_bits == 0 or 2 <= self.embedding_bits <= 8,
            f"embedding_bits: expected 0 or 2 to 8, found {self.embedding_bits}",
        )
        _require(self.normalization_weight >= 0, "normalization_weight must not be negative")
        _require(all(share > 0 for share in self.balance.values()), "the shares of [balance] must be positive")

    def application_of(self, source: Source) -> str:
        """The application that a source's lines belong to."""
        folder = Path(source.name).parent.name
        return self.applications.get(folder, folder)

    def sources(self, text_dir: str | Path) -> list[Source]:
        """The weighted text files.

        Raises:
            CorpusError: one is not there, or its weight is not a positive number.
        """
        return [make_source(name, Path(text_dir) / name, weight, "[weights]") for name, weight in self.weights.items()]

    def dev_sources(self, text_dir: str | Path) -> dict[str, Source]:
        """Application -> its dev text.

        Raises:
            CorpusError: one is not there.
        """
        return {app: make_source(name, Path(text_dir) / name, 1.0, "[dev]") for app, name in self.dev.items()}

    def with_model(self, *, form: str | None = None, applications: tuple[str, ...] = ()) -> Recipe:
        """The same recipe for another form, or for some of the applications only."""
        model = replace(self.model, form=form or self.model.form, applications=applications or self.model.applications)
        return replace(self, model=model)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Raises:
        RecipeError: not TOML, an unknown key, or a value of the wrong type or out of range.
    """
    return build_settings(Recipe, read_toml(path), str(path))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RecipeError(message)

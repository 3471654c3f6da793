"""Checkpoints of language models: weights, word list and what the runtime needs of the training text.

    run/step-001200/ {config.json, model.pt, words.txt, unknown.npy, optimizer.pt, progress.json}     run/last
                     and pieces.bin where the words are pieces
    adapter/         {adapter.json, adapter.pt}

Tensors only, read with `weights_only=True`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lm.pieces import PIECES_FILE, Pieces
from lm.train.fofe import Adapter, AdapterConfig, LanguageModel
from lm.train.folders import CheckpointError, average_states, find_step
from lm.train.recipe import LanguageModelConfig
from lm.train.settings import RecipeError, build_settings
from lm.train.tokens import Ids
from lm.vocabulary import WordListError, read_words, words_sha256, write_words


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A network and the word list it is for."""

    model: LanguageModel
    words: tuple[str, ...]
    unknown_log_share: npt.NDArray[np.float32]
    """`(W - V,)`: log of the share of `<unk>`'s probability that each word beyond the vocabulary gets."""
    pieces: Pieces | None = None
    """Where the model is over pieces: them; `words` are their texts."""

    @property
    def words_sha256(self) -> str:
        """Digest of the word list."""
        return words_sha256(self.words)

    @property
    def ids(self) -> Ids:
        """What text is encoded with."""
        return self.pieces or {word: number for number, word in enumerate(self.words)}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that holds a model and, unless it is an average, the state of its optimisers."""

    folder: Path

    @staticmethod
    def open(path: str | Path) -> Checkpoint:
        """The checkpoint at `path`: its own folder, or the folder of a run, whose newest is taken.

        Raises:
            CheckpointError: neither.
        """
        return Checkpoint(find_step(path))

    @property
    def step(self) -> int:
        """Steps done."""
        return int(json.loads((self.folder / "progress.json").read_text())["step"])

    def read(self) -> TrainedModel:
        """The network with its weights, and its word list.

        Raises:
            CheckpointError: a file is missing, or the files do not fit each other.
        """
        try:
            raw = json.loads((self.folder / "config.json").read_text())
            model = LanguageModel(build_settings(LanguageModelConfig, raw, str(self.folder / "config.json")))
            model.load_state_dict(_load(self.folder / "model.pt"))
            words = tuple(read_words(self.folder / "words.txt"))
            share = np.load(self.folder / "unknown.npy")
        except (OSError, RuntimeError, RecipeError, WordListError) as error:
            raise CheckpointError(f"{self.folder}: no usable language model checkpoint ({error})") from None
        pieces = Pieces.open(path) if (path := self.folder / PIECES_FILE).is_file() else None
        if share.shape != (len(words) - model.config.vocabulary_size,):
            raise CheckpointError(f"{self.folder}: {len(words)} words do not fit unknown.npy of shape {share.shape}")
        return TrainedModel(model, words, share, pieces)

    def optimizer_state(self) -> dict[str, Any]:
        """What `write_checkpoint` was given."""
        return _load(self.folder / "optimizer.pt")


def write_checkpoint(
    folder: Path, trained: TrainedModel, step: int, optimizer_state: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint into an existing folder."""
    (folder / "config.json").write_text(json.dumps(asdict(trained.model.config), indent=1))
    torch.save(trained.model.state_dict(), folder / "model.pt")
    write_words(folder / "words.txt", trained.words)
    np.save(folder / "unknown.npy", trained.unknown_log_share)
    (folder / "progress.json").write_text(json.dumps({"step": step}))
    if trained.pieces:
        trained.pieces.write(folder / PIECES_FILE)
    if optimizer_state is not None:
        torch.save(dict(optimizer_state), folder / "optimizer.pt")


def average(checkpoints: Sequence[Checkpoint]) -> TrainedModel:
    """A network with the mean of the checkpoints' weights.

    Raises:
        CheckpointError: there is none.
    """
    mean = average_states([_load(checkpoint.folder / "model.pt") for checkpoint in checkpoints])
    trained = checkpoints[-1].read()
    trained.model.load_state_dict(mean)
    return trained


def write_adapter(folder: Path, adapter: Adapter, notes: Mapping[str, Any]) -> None:
    """Write an adapter into an existing folder; `notes` say which trunk and text it was made with."""
    about = {"config": asdict(adapter.config), "notes": dict(notes)}
    (folder / "adapter.json").write_text(json.dumps(about, indent=1))
    torch.save(adapter.state_dict(), folder / "adapter.pt")


def read_adapter(folder: str | Path, model: LanguageModel) -> Adapter:
    """Read an adapter for `model`.

    Raises:
        CheckpointError: a file is missing, or the adapter is for another shape of model.
    """
    folder = Path(folder)
    try:
        raw = json.loads((folder / "adapter.json").read_text())["config"]
        adapter = Adapter(AdapterConfig(**{**raw, "targets": tuple(raw["targets"])}), model.config)
        adapter.load_state_dict(_load(folder / "adapter.pt"))
    except (OSError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{folder}: no adapter for this model ({error})") from None
    return adapter


def _load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found

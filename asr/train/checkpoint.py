"""Checkpoints of acoustic models, in folders as lm/train/folders.py keeps them.

    run/step-001200/ {config.json, model.pt, optimizer.pt, progress.json}     run/last     text: "step-001200"
Tensors only, read with `weights_only=True`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from asr.nn.model import AcousticModel, EncoderConfig
from lm.train.folders import CheckpointError, average_states, find_step, last_step, write_step


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that holds a model and, unless it is an average, the optimiser that made it."""

    folder: Path

    @property
    def step(self) -> int:
        """Steps done."""
        return int(json.loads((self.folder / "progress.json").read_text())["step"])

    def model(self) -> AcousticModel:
        """The network with its weights.

        Raises:
            CheckpointError: a file is missing, or the weights do not fit the configuration.
        """
        try:
            config = EncoderConfig(**json.loads((self.folder / "config.json").read_text()))
            model = AcousticModel(config)
            model.load_state_dict(torch.load(self.folder / "model.pt", map_location="cpu", weights_only=True))
        except (OSError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{self.folder}: no usable checkpoint ({error})") from None
        return model

    def optimizer_state(self) -> dict[str, object]:
        """State for `optimizer.load_state_dict`."""
        state: dict[str, object] = torch.load(self.folder / "optimizer.pt", map_location="cpu", weights_only=True)
        return state


def save_checkpoint(
    run: Path, step: int, model: AcousticModel, optimizer: torch.optim.Optimizer | None, *, keep: int
) -> Checkpoint:
    """Write `run/step-N`, point `run/last` at it, and remove all but the newest `keep`."""

    def write(folder: Path) -> None:
        write_model(folder, model, step)
        if optimizer is not None:
            torch.save(optimizer.state_dict(), folder / "optimizer.pt")

    return Checkpoint(write_step(run, step, write, keep=keep))


def write_model(folder: Path, model: AcousticModel, step: int) -> None:
    """Write config, weights and step count into an existing folder."""
    (folder / "config.json").write_text(json.dumps(asdict(model.config), indent=1))
    torch.save(model.state_dict(), folder / "model.pt")
    (folder / "progress.json").write_text(json.dumps({"step": step}))


def last_checkpoint(run: str | Path) -> Checkpoint | None:
    """The newest checkpoint of a run, or None where there is none yet."""
    found = last_step(run)
    return Checkpoint(found) if found else None


def open_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint at `path`: its own folder, or the folder of a run, whose newest is taken.

    Raises:
        CheckpointError: neither.
    """
    return Checkpoint(find_step(path))


def average(checkpoints: Sequence[Checkpoint], shares: Sequence[float] | None = None) -> AcousticModel:
    """A network with the mean of the checkpoints' weights; equal shares unless `shares` (sum 1) says otherwise."""
    mean = average_states([checkpoint.model().state_dict() for checkpoint in checkpoints], shares)
    model = checkpoints[-1].model()
    model.load_state_dict(mean)
    return model

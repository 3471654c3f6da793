"""Checkpoints: written elsewhere, then renamed, so that a crash leaves the last good one; `last` names the newest.

    run/step-001200/ {config.json, model.pt, optimizer.pt, progress.json}     run/last     text: "step-001200"
Tensors only, read with `weights_only=True`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from asr.nn.model import AcousticModel, EncoderConfig


class CheckpointError(ValueError):
    """There is no usable checkpoint there."""


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
    folder = run / f"step-{step:06d}"
    temporary = run / f".{folder.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_model(temporary, model, step)
    if optimizer is not None:
        torch.save(optimizer.state_dict(), temporary / "optimizer.pt")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
    pointer = run / ".last.part"
    pointer.write_text(folder.name)
    os.replace(pointer, run / "last")
    for old in sorted(run.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return Checkpoint(folder)


def write_model(folder: Path, model: AcousticModel, step: int) -> None:
    """Write config, weights and step count into an existing folder."""
    (folder / "config.json").write_text(json.dumps(asdict(model.config), indent=1))
    torch.save(model.state_dict(), folder / "model.pt")
    (folder / "progress.json").write_text(json.dumps({"step": step}))


def last_checkpoint(run: str | Path) -> Checkpoint | None:
    """The newest checkpoint of a run, or None where there is none yet."""
    pointer = Path(run) / "last"
    return Checkpoint(Path(run) / pointer.read_text().strip()) if pointer.is_file() else None


def open_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint at `path`: its own folder, or the folder of a run, whose newest is taken.

    Raises:
        CheckpointError: neither.
    """
    path = Path(path)
    found = Checkpoint(path) if (path / "model.pt").is_file() else last_checkpoint(path)
    if found is None:
        raise CheckpointError(f"{path}: neither a checkpoint (model.pt) nor a run (last)")
    return found


def average(checkpoints: Sequence[Checkpoint], shares: Sequence[float] | None = None) -> AcousticModel:
    """A network with the mean of the checkpoints' weights; equal shares unless `shares` (sum 1) says otherwise."""
    if not checkpoints:
        raise CheckpointError("no checkpoint to average")
    parts = shares or [1 / len(checkpoints)] * len(checkpoints)
    states = [checkpoint.model().state_dict() for checkpoint in checkpoints]
    mean = {key: sum(part * state[key] for part, state in zip(parts, states, strict=True)) for key in states[0]}
    model = checkpoints[-1].model()
    model.load_state_dict(mean)
    return model

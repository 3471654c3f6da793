"""Folders of checkpoints: written elsewhere, then renamed, so that a crash leaves the last good one; `last` names it.

run/step-001200/ ...     run/last     text: "step-001200"
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor


class CheckpointError(ValueError):
    """There is no usable checkpoint there."""


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder beside `folder` with `write`, then put it in the place of `folder`."""
    temporary = folder.parent / f".{folder.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def write_step(run: Path, step: int, write: Callable[[Path], None], *, keep: int) -> Path:
    """Write `run/step-N` with `write`, point `run/last` at it, and remove all but the newest `keep`."""
    folder = run / f"step-{step:06d}"
    replace_folder(folder, write)
    pointer = run / ".last.part"
    pointer.write_text(folder.name)
    os.replace(pointer, run / "last")
    for old in sorted(run.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return folder


def last_step(run: str | Path) -> Path | None:
    """The newest checkpoint of a run, or None where there is none yet."""
    pointer = Path(run) / "last"
    return Path(run) / pointer.read_text().strip() if pointer.is_file() else None


def find_step(path: str | Path) -> Path:
    """The checkpoint at `path`: its own folder, or the folder of a run, whose newest is taken.

    Raises:
        CheckpointError: neither.
    """
    path = Path(path)
    found = path if (path / "model.pt").is_file() else last_step(path)
    if found is None:
        raise CheckpointError(f"{path}: neither a checkpoint (model.pt) nor a run (last)")
    return found


def average_states(states: Sequence[Mapping[str, Tensor]], shares: Sequence[float] | None = None) -> dict[str, Tensor]:
    """The mean of state dictionaries; equal shares unless `shares` (sum 1) says otherwise.

    Raises:
        CheckpointError: none is given.
    """
    if not states:
        raise CheckpointError("no checkpoint to average")
    parts = shares or [1 / len(states)] * len(states)
    mean = {key: states[0][key] * parts[0] for key in states[0]}
    for part, state in zip(parts[1:], states[1:], strict=True):
        for key, total in mean.items():
            total += part * state[key]  # noqa: PLW2901  # in place: one copy of the weights is enough
    return mean

"""Losses and development figures of a run as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def read_log(run: Path) -> list[dict[str, Any]]:
    """Rows of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def draw_curves(run: Path, path: Path, *, losses: Sequence[str], unit: str) -> None:
    """Losses (running mean over 20 steps) and every figure named `dev_...` against steps, written to `path`.

    Args:
        run: Folder with `log.jsonl`.
        path: Picture to write.
        losses: Keys of the log that are drawn as losses.
        unit: What the losses' axis is called.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_log(run)
    validated = sorted({key for row in rows for key in row if key.startswith("dev_")})
    figure, axes = pyplot.subplots(1, 1 + bool(validated), figsize=(6 * (1 + bool(validated)), 4), squeeze=False)
    for key in losses:
        points = [(row["step"], row[key]) for row in rows if row.get(key)]
        if points:
            steps, values = zip(*points, strict=True)
            axes[0][0].plot(steps, _smooth(np.array(values), 20), label=key)
    axes[0][0].set(xlabel="step", ylabel=unit)
    axes[0][0].legend()
    for key in validated:
        steps, values = zip(*((row["step"], row[key]) for row in rows if key in row), strict=True)
        axes[0][1].plot(steps, values, marker="o", label=key)
    if validated:
        axes[0][1].set(xlabel="step", ylabel="on dev")
        axes[0][1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _smooth(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))

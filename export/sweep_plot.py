"""A sweep as a Markdown table and as a picture: bytes against word error rate, coloured by speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.errors import MissingDependencyError

Row = Mapping[str, Any]
_COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "variant": lambda row: row["variant"],
    "MB": lambda row: f"{row['bytes'] / 1e6:.2f}",
    "RTF": lambda row: f"{row['rtf']:.4f}",
    "time / float32": lambda row: f"{row['time_ratio']:.2f}",
    "KL, nats": lambda row: f"{row['kl_nats']:.2g}",
    "phonemes changed, %": lambda row: f"{100 * row['phoneme_edits'] / max(row['phonemes'], 1):.2f}",
    "clips changed": lambda row: str(row["clips_changed"]),
    "WER, %": lambda row: f"{100 * row['wer']:.2f}",
}


def markdown(rows: Sequence[Row]) -> str:
    """A table with a row for each variant."""
    lines = [list(_COLUMNS), ["---"] * len(_COLUMNS), *([show(row) for show in _COLUMNS.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def pareto(rows: Sequence[Row]) -> list[Row]:
    """Rows that no other one beats in both bytes and word error rate, smallest first."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["bytes"], row["wer"])):
        if not best or row["wer"] < best[-1]["wer"]:
            best.append(row)
    return best


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw one labelled point for each variant and a line through the best ones.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "train") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    figure, axes = plt.subplots(figsize=(9.5, 4.6), layout="constrained")
    line = pareto(rows)
    axes.plot([row["bytes"] / 1e6 for row in line], [100 * row["wer"] for row in line], color="0.7", zorder=1)
    bytes_mb, errors = [row["bytes"] / 1e6 for row in rows], [100 * row["wer"] for row in rows]
    points = axes.scatter(bytes_mb, errors, c=[row["time_ratio"] for row in rows], cmap="viridis_r", s=190, zorder=2)
    for number, place in enumerate(zip(bytes_mb, errors, strict=True), 1):  # names would cover each other
        axes.annotate(
            str(number), place, ha="center", va="center", fontsize=8, bbox={"fc": "white", "ec": "none", "pad": 0.6}
        )
    names = [Line2D([], [], linestyle="", label=f"{number}  {row['variant']}") for number, row in enumerate(rows, 1)]
    figure.legend(handles=names, loc="outside right upper", frameon=False, handlelength=0)
    axes.margins(x=0.1, y=0.1)
    axes.set_xlabel("encoder on disk, MB")
    axes.set_ylabel("word error rate, %")
    axes.grid(alpha=0.3)
    figure.colorbar(points, label="encoder's time, float32 = 1 (one thread)")
    figure.savefig(path, dpi=150)
    plt.close(figure)

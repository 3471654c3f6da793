"""Fit when a grammar's match is accepted, on what `benchmarks.grammar --dump` wrote of development speech.

    python -m benchmarks.fit_rejection rows.jsonl --false-rejects 0.015 --held-out others.jsonl --plot rejection.png

A row counts as said where its text is right. Rows without a match are rejected by themselves, and count. The weights go
into the bundle's settings, key "rejection".
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.rejection import Evidence, RejectionWeights, acceptance
from asr.train.calibrate import area_under_curve, fit_logistic

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Confidences:
    """Of matches that were said, and of other speech; 0 where there was no match."""

    right: Array
    other: Array

    def false_rejects(self, threshold: float) -> float:
        """Share of right matches below the threshold."""
        return float((self.right < threshold).mean())

    def false_accepts(self, threshold: float) -> float:
        """Share of other speech from the threshold on."""
        return float((self.other >= threshold).mean())


def main(argv: Sequence[str] | None = None) -> None:
    """Fit, and print the weights as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--false-rejects", type=float, default=0.015, help="of right matches; sets the threshold")
    parser.add_argument("--held-out", type=Path, nargs="+", default=[], help="rows to report on")
    parser.add_argument("--plot", type=Path, help="picture of the held-out rows' curve")
    args = parser.parse_args(argv)
    rows = read_rows(args.rows)
    weights = fit(rows, args.false_rejects)
    print(json.dumps(asdict(weights), indent=2))
    report("fitted on", weigh(rows, weights), weights.threshold)
    if args.held_out:
        held_out = weigh(read_rows(args.held_out), weights)
        report("held out", held_out, weights.threshold)
        if args.plot:
            plot(held_out, weights.threshold, args.plot)


def read_rows(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The rows of all files."""
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def fit(rows: Sequence[dict[str, Any]], false_rejects: float) -> RejectionWeights:
    """Weights that tell right matches from other speech and from wrong ones; the threshold loses `false_rejects`."""
    matched = [row for row in rows if row["evidence"]]
    inputs = np.array([Evidence(**row["evidence"]).features() for row in matched])
    fitted = fit_logistic(inputs, np.array([float(row["right"]) for row in matched]))
    weights = RejectionWeights(*(round(float(value), 4) for value in fitted))
    right = np.sort(weigh(rows, weights).right)
    threshold = float(np.clip(right[int(false_rejects * len(right))], 0.02, 0.95))
    return replace(weights, threshold=round(threshold, 4))


def weigh(rows: Sequence[dict[str, Any]], weights: RejectionWeights) -> Confidences:
    """Confidences of the right matches and of other speech."""
    found: tuple[list[float], list[float]] = [], []
    for row in rows:
        if row["right"] or row.get("negative"):
            evidence = row["evidence"]
            found[not row["right"]].append(acceptance(weights, Evidence(**evidence)) if evidence else 0.0)
    return Confidences(np.array(found[0]), np.array(found[1]))


def report(name: str, confidences: Confidences, threshold: float) -> None:
    """Print the rates at the threshold and over all thresholds."""
    scores = np.concatenate([confidences.right, confidences.other])
    area = area_under_curve(scores, np.repeat([1.0, 0.0], [len(confidences.right), len(confidences.other)]))
    print(
        f"{name}: {len(confidences.right)} right, {confidences.false_rejects(threshold):.4f} of them rejected; "
        f"{len(confidences.other)} others, {confidences.false_accepts(threshold):.4f} accepted; area {area:.4f}"
    )


def plot(confidences: Confidences, threshold: float, path: Path) -> None:
    """Draw false accepts against false rejects over all thresholds, and where the threshold is."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    thresholds = np.unique(np.concatenate([[1e-4], confidences.right, confidences.other, [1.0]]))
    thresholds = thresholds[thresholds > 0]
    rejects = [100 * confidences.false_rejects(value) for value in thresholds]
    accepts = [100 * confidences.false_accepts(value) for value in thresholds]
    figure, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    axes.step(rejects, accepts, where="post", color="tab:blue")
    here = 100 * confidences.false_rejects(threshold), 100 * confidences.false_accepts(threshold)
    axes.plot(*here, "o", color="tab:red", label=f"the bundle: {here[0]:.1f} %, {here[1]:.1f} %")
    axes.axhline(5, color="0.8", zorder=0)
    axes.axvline(3, color="0.8", zorder=0)
    axes.set(xlim=(-0.2, 12), ylim=(-0.2, 12))
    axes.set_xlabel(f"right matches rejected, % of {len(confidences.right)}")
    axes.set_ylabel(f"other speech accepted, % of {len(confidences.other)}")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()

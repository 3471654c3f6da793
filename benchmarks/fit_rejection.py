"""Fit when a grammar's match is accepted, on what `benchmarks.grammar --dump` wrote of development speech.

    python -m benchmarks.fit_rejection rows.jsonl --false-accepts 0.03

A row counts as said where its text is right. The weights go into the bundle's settings, key "rejection".
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from asr.rejection import Evidence, RejectionWeights
from asr.train.calibrate import area_under_curve, fit_logistic


def main(argv: Sequence[str] | None = None) -> None:
    """Fit, and print the weights as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--false-accepts", type=float, default=0.03, help="of other speech; sets the threshold")
    args = parser.parse_args(argv)
    rows = [json.loads(line) for path in args.rows for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["evidence"]]
    inputs = np.array([Evidence(**row["evidence"]).features() for row in rows])
    is_right = np.array([float(row["right"]) for row in rows])
    is_other = np.array([bool(row.get("negative")) for row in rows])
    fitted = fit_logistic(inputs, is_right)
    confidence = 1 / (1 + np.exp(-inputs @ fitted))
    others = np.sort(confidence[is_other])
    allowed = int(args.false_accepts * len(others))
    threshold = float(np.clip(others[-1 - allowed], 0.05, 0.95)) if len(others) else 0.5
    weights = RejectionWeights(*(round(float(value), 4) for value in (*fitted, threshold)))
    print(json.dumps(asdict(weights), indent=2))
    kept = float((confidence[is_right == 1] >= threshold).mean())
    area = area_under_curve(confidence, is_right)
    print(f"{len(rows)} rows, {int(is_right.sum())} right; area under the curve {area:.4f};")
    print(f"right ones kept {kept:.4f}, other speech accepted {float((others >= threshold).mean()):.4f}")


if __name__ == "__main__":
    main()

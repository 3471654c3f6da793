"""Loss and error curves of a run as a picture."""

from __future__ import annotations

from pathlib import Path

from lm.train import curves


def draw_curves(run: Path, path: Path) -> None:
    """Losses (running mean over 20 steps) and every validated figure against steps, written to `path`."""
    curves.draw_curves(run, path, losses=("ctc", "distill"), unit="loss, nats a frame")

"""Features of noise recordings, for mixing into speech."""

from __future__ import annotations

import logging
from pathlib import Path

from asr.errors import AudioError
from asr.features import compute_features
from asr.train.prepare import read_samples
from asr.types import FloatArray

logger = logging.getLogger(__name__)


def read_noises(folder: Path) -> list[FloatArray]:
    """Features (T, 80) of every recording in a folder; unreadable ones are named in the log and left out.

    Raises:
        ValueError: none could be read.
    """
    read = (_read(path) for path in sorted(folder.iterdir()) if path.is_file())
    noises = [noise for noise in read if noise is not None and len(noise)]
    if not noises:
        raise ValueError(f"{folder}: no readable recording in it")
    return noises


def _read(path: Path) -> FloatArray | None:
    try:
        return compute_features(read_samples(path))
    except AudioError as error:
        logger.warning("left out: %s", error)
        return None

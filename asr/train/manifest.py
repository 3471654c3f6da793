"""The list of clips that training and evaluation read: one JSON object a line.

    {"audio": "train/a.flac", "text": "hello there", "seconds": 1.9, "corpus": "name", "split": "train"}

`audio` is relative to the audio folder; `text` may be null (the clip then only serves distillation). LibriSpeech and
Common Voice are turned into such lines by a few lines of code; any corpus will do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class ManifestError(ValueError):
    """A line of the manifest is not what it should be."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording and what is said in it."""

    audio: str
    text: str | None
    seconds: float
    corpus: str = ""
    split: str = "train"


def read_manifest(path: str | Path) -> list[Clip]:
    """All clips of a manifest, in order.

    Raises:
        ManifestError: a line is not JSON, lacks a key, or has a wrong type; names the line.
    """
    return list(_clips(Path(path)))


def _clips(path: Path) -> Iterator[Clip]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _clip(line, f"{path}:{number}")


def _clip(line: str, where: str) -> Clip:
    try:
        row: Any = json.loads(line)
        text = row["text"]
        clip = Clip(
            audio=row["audio"],
            text=text,
            seconds=float(row["seconds"]),
            corpus=row.get("corpus", ""),
            split=row.get("split", "train"),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{where}: expected an object with audio, text and seconds ({error!r})") from None
    if not isinstance(clip.audio, str) or not (text is None or isinstance(text, str)) or clip.seconds < 0:
        raise ManifestError(f"{where}: audio must be a string, text a string or null, seconds not negative")
    return clip

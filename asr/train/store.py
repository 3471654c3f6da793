"""Cached features on disk: one flat float16 file a view of the audio (clean, room, slow, fast), mapped when read.

A folder holds `clips.jsonl` (one line a clip: the manifest's fields and `views: {name: [first_frame, n_frames]}`), a
file `<view>.f16` (frames, 80) for each view, and, where a teacher has been asked, `<view>.teacher.f16` (frames // 2,
V) log-probs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.features import N_MELS
from asr.train.manifest import Clip

Half = npt.NDArray[np.float16]


class StoreError(ValueError):
    """The folder is not a feature store, or is incomplete."""


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A clip and where its frames lie, by view."""

    clip: Clip
    views: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class FeatureStore:
    """Read side: mapped arrays."""

    clips: tuple[StoredClip, ...]
    features: Mapping[str, Half]
    teacher: Mapping[str, Half]

    @classmethod
    def open(cls, folder: str | Path, *, n_phonemes: int) -> FeatureStore:
        """Map a prepared folder.

        Raises:
            StoreError: no `clips.jsonl`, or a view's file is missing.
        """
        folder = Path(folder)
        index = folder / "clips.jsonl"
        if not index.is_file():
            raise StoreError(f"{folder}: no clips.jsonl; make the folder with `asr-train prepare`")
        rows = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
        clips = tuple(
            StoredClip(Clip(**row["clip"]), {name: (start, n) for name, (start, n) in row["views"].items()})
            for row in rows
        )
        names = sorted({name for clip in clips for name in clip.views})
        features = {name: _mapped(folder / f"{name}.f16", N_MELS) for name in names}
        teacher = {
            name: _mapped(path, n_phonemes) for name in names if (path := folder / f"{name}.teacher.f16").is_file()
        }
        return cls(clips, features, teacher)

    def frames(self, index: int, view: str) -> Half:
        """Features (T, 80) of clip `index`."""
        start, n = self.clips[index].views[view]
        return self.features[view][start : start + n]

    def posteriors(self, index: int, view: str) -> Half | None:
        """Teacher log-probabilities (T // 2, V) of clip `index`, where that view has them."""
        if view not in self.teacher:
            return None
        start, n = self.clips[index].views[view]
        return self.teacher[view][start // 2 : start // 2 + n // 2]


def _mapped(path: Path, width: int) -> Half:
    if not path.is_file():
        raise StoreError(f"{path}: missing; run `asr-train prepare` again, it goes on where it stopped")
    return np.memmap(path, np.float16, "r").reshape(-1, width)


class StoreWriter:
    """Write side of one view: clips appended one after another; frames are cut to an even number."""

    def __init__(self, folder: Path, view: str, *, with_teacher: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._position = 0
        self.spans: list[tuple[int, int]] = []
        self._features = (folder / f"{view}.f16").open("wb")
        self._teacher = (folder / f"{view}.teacher.f16").open("wb") if with_teacher else None

    def add(self, features: npt.NDArray[np.float32], teacher: npt.NDArray[np.float32] | None = None) -> None:
        """Append one clip: features (T, 80) and, where wanted, teacher log-probs (T // 2, V)."""
        n = len(features) // 2 * 2
        self._features.write(features[:n].astype(np.float16).tobytes())
        if self._teacher is not None:
            assert teacher is not None
            assert len(teacher) == n // 2
            self._teacher.write(teacher.astype(np.float16).tobytes())
        self.spans.append((self._position, n))
        self._position += n

    def close(self) -> None:
        """Close the files."""
        self._features.close()
        if self._teacher is not None:
            self._teacher.close()


def write_index(folder: Path, clips: Sequence[Clip], spans: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    """Write `clips.jsonl` last, through a temporary name: its presence says that the store is complete."""
    temporary = folder / "clips.jsonl.part"
    with temporary.open("w", encoding="utf-8") as file:
        for number, clip in enumerate(clips):
            row = {"clip": asdict(clip), "views": {name: spans[name][number] for name in spans}}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(temporary, folder / "clips.jsonl")

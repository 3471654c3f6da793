"""What all targets share: what a target is, a folder that appears only when it is complete, a missing tool's error."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from asr.bundle import FEATURES, Bundle, StateSpec
from asr.errors import BundleFileError, ChunkSizeError, MissingDependencyError
from asr.onnx_encoder import OnnxEncoder

MARKER = "target.json"
"""Every target writes this file; a folder without it is not one of ours and is never replaced."""


@dataclass(frozen=True, slots=True)
class Target:
    """One runtime to export to."""

    name: str
    summary: str
    write: Callable[[Bundle, Path, int], None]
    """Fills an existing, empty folder from a bundle, for one chunk size in milliseconds."""


@contextmanager
def complete_folder(out: Path) -> Iterator[Path]:
    """An empty folder that becomes `out` when the block ends well; otherwise `out` stays as it was.

    Raises:
        FileExistsError: `out` is there and is neither empty nor an earlier export.
    """
    if out.exists() and not (out.is_dir() and ((out / MARKER).is_file() or not any(out.iterdir()))):
        raise FileExistsError(f"{out} is there and is not an earlier export: remove it, or choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        made = Path(temporary) / "new"
        made.mkdir()
        yield made
        if out.exists():
            shutil.move(out, Path(temporary) / "old")
        made.rename(out)


def need(package: str, extra: str) -> ModuleType:
    """Import a tool that only one target uses.

    Raises:
        MissingDependencyError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(package, extra) from error


def check_chunk(bundle: Bundle, chunk_ms: int) -> int:
    """`chunk_ms` itself, if the bundle's encoder serves it.

    Raises:
        ChunkSizeError: it does not.
    """
    offered = bundle.manifest.encoder.chunk_ms
    if chunk_ms not in offered:
        raise ChunkSizeError(f"chunks of {chunk_ms} ms: this bundle has {', '.join(map(str, offered))} ms")
    return chunk_ms


def check_encoder(bundle: Bundle) -> None:
    """Check that the bundle's encoder can be loaded, obeys the contract, and is the one that the manifest describes.

    Raises:
        BundleFileError: it is not.
    """
    path, stated = bundle.file("encoder.onnx"), bundle.manifest.encoder
    encoder = OnnxEncoder(path)
    look_ahead_ms = encoder.look_ahead_frames * FEATURES["frame_shift_ms"]
    if (encoder.state_spec, look_ahead_ms) != (stated.state, stated.look_ahead_ms):
        raise BundleFileError(
            f"{path}: expected states {_listed(stated.state)} and {stated.look_ahead_ms} ms of look-ahead, as in the "
            f"manifest, found {_listed(encoder.state_spec)} and {look_ahead_ms} ms: encoder and manifest are of "
            "different bundles"
        )


def _listed(states: Sequence[StateSpec]) -> str:
    return ", ".join(f"{state.name} {list(state.shape)}" for state in states)

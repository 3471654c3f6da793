"""One file of named, aligned arrays with a JSON header: how lexicon and n-gram lie on disk, ready to be mapped.

Layout: 8 bytes magic, uint32 little-endian header length, header (UTF-8 JSON), padding, arrays at multiples of 64
bytes. The header holds `kind`, `version`, `meta` and `arrays: {name: {dtype, shape, offset}}`, offsets from the
file's start.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"SVARRAY\x01"
ALIGNMENT = 64
DTYPES = frozenset({"|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"})


class ArrayFileError(ValueError):
    """The file is not an array file, is cut off, or holds something else than was asked for."""


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """Read-only views of a mapped file; pages are read when they are touched."""

    path: Path
    kind: str
    meta: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]]
    offsets: Mapping[str, int]
    """Where each array begins in the file, in bytes."""
    mapped: mmap.mmap
    """The file; the arrays are views of it."""

    def release(self) -> None:
        """Give back the memory of pages that were read, to check the file say; they are read again when needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


def _align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def write_array_file(
    path: str | Path, *, kind: str, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]
) -> None:
    """Write `arrays` and `meta` to `path`, through a temporary name, so that a crash leaves no half file."""
    path = Path(path)
    stored = {name: np.ascontiguousarray(a, a.dtype.newbyteorder("<")) for name, a in arrays.items()}
    for name, array in stored.items():
        if array.dtype.str not in DTYPES:
            raise TypeError(f"array {name!r} has dtype {array.dtype}, which this format does not hold")
    relative, position = {}, 0
    for name, array in stored.items():
        relative[name] = position
        position = _align(position + array.nbytes)

    def header(base: int) -> bytes:
        table = {
            name: {"dtype": a.dtype.str, "shape": list(a.shape), "offset": base + relative[name]}
            for name, a in stored.items()
        }
        return json.dumps({"kind": kind, "version": 1, "meta": dict(meta), "arrays": table}).encode()

    room = _align(len(MAGIC) + 4 + len(header(1 << 40)))  # offsets of 13 digits: the real header is never longer
    head = header(room)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(MAGIC + struct.pack("<I", len(head)) + head)
        for name, array in stored.items():
            file.write(b"\0" * (room + relative[name] - file.tell()))
            file.write(array.tobytes())
    os.replace(temporary, path)


def open_array_file(path: str | Path, *, kind: str) -> ArrayFile:
    """Map the file at `path`.

    Raises:
        ArrayFileError: not such a file, another kind, or shorter than its header says.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(MAGIC) + 4)
        if len(start) < len(MAGIC) + 4 or start[: len(MAGIC)] != MAGIC:
            raise ArrayFileError(f"{path}: not an array file (wrong first bytes)")
        (length,) = struct.unpack("<I", start[len(MAGIC) :])
        raw = file.read(length)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        header = json.loads(raw)
        found, version, meta, table = (header[key] for key in ("kind", "version", "meta", "arrays"))
    except (ValueError, KeyError, TypeError) as error:
        raise ArrayFileError(f"{path}: damaged header ({error})") from None
    if found != kind or version != 1:
        raise ArrayFileError(f"{path}: holds {found!r} version {version}, expected {kind!r} version 1")
    whole = np.frombuffer(mapped, np.uint8)
    arrays = {name: _view(whole, path, name, entry, size) for name, entry in table.items()}
    return ArrayFile(path, kind, meta, arrays, {name: entry["offset"] for name, entry in table.items()}, mapped)


def _view(whole: npt.NDArray[np.uint8], path: Path, name: str, entry: Any, size: int) -> npt.NDArray[Any]:
    dtype, shape, offset = entry["dtype"], tuple(entry["shape"]), entry["offset"]
    if dtype not in DTYPES:
        raise ArrayFileError(f"{path}: array {name!r} has unknown dtype {dtype!r}")
    end = offset + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if offset < 0 or end > size:
        raise ArrayFileError(f"{path}: cut off: array {name!r} ends at byte {end}, the file has {size}")
    array: npt.NDArray[Any] = np.asarray(whole[offset:end]).view(dtype).reshape(shape)
    return array

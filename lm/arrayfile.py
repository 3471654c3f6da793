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
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"SVARRAY\x01"
ALIGNMENT = 64
VERSIONS = (1, 2)
_MOST_IN_A_BYTE = 255
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
    """Where each array begins in the file, in bytes; none for those that are stored as counts."""
    mapped: mmap.mmap
    """The file; the arrays are views of it."""

    def release(self) -> None:
        """Give back the memory of pages that were read, to check the file say; they are read again when needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


def _align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def write_array_file(
    path: str | Path,
    *,
    kind: str,
    arrays: Mapping[str, npt.NDArray[Any]],
    meta: Mapping[str, Any],
    counts: Collection[str] = (),
) -> None:
    """Write `arrays` and `meta` to `path`, through a temporary name, so that a crash leaves no half file.

    Args:
        path: file to write.
        kind: what a reader asks for.
        arrays: of the types that the format holds.
        meta: for the header; JSON.
        counts: names of arrays (N+1,) of u4 that never fall and are stored as counts.
    """
    path = Path(path)
    stored = {name: np.ascontiguousarray(a, a.dtype.newbyteorder("<")) for name, a in arrays.items()}
    entries: dict[str, dict[str, Any]] = {}
    for name, array in stored.items():
        entries[name] = {"dtype": array.dtype.str, "shape": list(array.shape)}
        if name in counts:
            stored[name], entries[name]["counts"] = _as_counts(name, array)
    for name, array in stored.items():
        if array.dtype.str not in DTYPES:
            raise TypeError(f"array {name!r} has dtype {array.dtype}, which this format does not hold")
    relative, position = {}, 0
    for name, array in stored.items():
        relative[name] = position
        position = _align(position + array.nbytes)

    def header(base: int) -> bytes:
        table = {name: {**entry, "offset": base + relative[name]} for name, entry in entries.items()}
        return json.dumps({"kind": kind, "version": 2 if counts else 1, "meta": dict(meta), "arrays": table}).encode()

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
    if found != kind or version not in VERSIONS:
        raise ArrayFileError(f"{path}: holds {found!r} version {version}, expected {kind!r} version 1 or 2")
    whole = np.frombuffer(mapped, np.uint8)
    arrays = {name: _read(whole, path, name, entry, size) for name, entry in table.items()}
    offsets = {name: entry["offset"] for name, entry in table.items() if "counts" not in entry}
    return ArrayFile(path, kind, meta, arrays, offsets, mapped)


def _as_counts(name: str, array: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """The bytes that are stored of an array, and what the header says of them."""
    if array.dtype != np.uint32 or array.ndim != 1 or not array.size:
        raise TypeError(f"array {name!r} of {array.dtype}, shape {array.shape}: only (N+1,) of u4 are stored as counts")
    rows = np.diff(array.astype(np.int64))
    if (rows < 0).any():
        raise ValueError(f"array {name!r} falls: it cannot be stored as counts")
    large = np.flatnonzero(rows > _MOST_IN_A_BYTE)
    told = [[int(row), int(rows[row])] for row in large]
    rows[large] = 0
    return rows.astype(np.uint8), {"first": int(array[0]), "large": told}


def _read(whole: npt.NDArray[np.uint8], path: Path, name: str, entry: Any, size: int) -> npt.NDArray[Any]:
    told = entry.get("counts")
    if told is None:
        return _view(whole, path, name, entry, size)
    try:
        first, large, (n_starts,) = int(told["first"]), told["large"], entry["shape"]
        rows = _view(whole, path, name, {"dtype": "|u1", "shape": [n_starts - 1], "offset": entry["offset"]}, size)
        counts = rows.astype(np.uint32)
        for row, count in large:
            counts[row] = count
        starts = np.empty(n_starts, np.uint32)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ArrayFileError(f"{path}: array {name!r}: damaged counts ({error})") from None
    starts[0] = first
    np.cumsum(counts, out=starts[1:])
    starts[1:] += np.uint32(first)
    starts.flags.writeable = False
    return starts


def _view(whole: npt.NDArray[np.uint8], path: Path, name: str, entry: Any, size: int) -> npt.NDArray[Any]:
    dtype, shape, offset = entry["dtype"], tuple(entry["shape"]), entry["offset"]
    if dtype not in DTYPES:
        raise ArrayFileError(f"{path}: array {name!r} has unknown dtype {dtype!r}")
    end = offset + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if offset < 0 or end > size:
        raise ArrayFileError(f"{path}: cut off: array {name!r} ends at byte {end}, the file has {size}")
    array: npt.NDArray[Any] = np.asarray(whole[offset:end]).view(dtype).reshape(shape)
    return array

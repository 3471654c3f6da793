"""A weighted transducer under construction, and its file: OpenFst's binary `vector` format with `standard` arcs.

Only what a decoding graph needs: states, arcs with costs (tropical weights), final costs, one start state. Label 0 is
epsilon. `fstinfo`, kaldifst and sherpa-onnx read the file; no library is needed to write it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

EPSILON = 0
_MAGIC = 2125659606
_VERSION = 2
_PROPERTIES = 0x3  # expanded, mutable; everything else is left for the reader to find out
_ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("cost", "<f4"), ("target", "<i4")])


class Arc(NamedTuple):
    """A transition; `cost` is added to the path's."""

    ilabel: int
    olabel: int
    cost: float
    target: int


@dataclass(slots=True)
class Transducer:
    """States are numbered from 0 in the order in which they were added."""

    arcs: list[list[Arc]] = field(default_factory=list)
    """Arcs out of each state."""
    final_cost: list[float] = field(default_factory=list)
    """Cost of ending in each state, infinite where no path may end."""
    start: int = 0

    def add_state(self, final_cost: float = math.inf) -> int:
        """Add a state and return its number."""
        self.arcs.append([])
        self.final_cost.append(final_cost)
        return len(self.arcs) - 1

    def add_arc(self, source: int, ilabel: int, target: int, *, cost: float = 0.0, olabel: int = EPSILON) -> None:
        """Add an arc from `source` to `target`."""
        self.arcs[source].append(Arc(ilabel, olabel, cost, target))

    @property
    def n_arcs(self) -> int:
        """Arcs of all states."""
        return sum(map(len, self.arcs))


def write_openfst(path: str | Path, fst: Transducer) -> None:
    """Write `fst` to `path`."""
    header = struct.pack("<i", _MAGIC) + _text("vector") + _text("standard")
    header += struct.pack("<iiQqqq", _VERSION, 0, _PROPERTIES, fst.start, len(fst.arcs), fst.n_arcs)
    with Path(path).open("wb") as file:
        file.write(header)
        for arcs, final_cost in zip(fst.arcs, fst.final_cost, strict=True):
            file.write(struct.pack("<fq", final_cost, len(arcs)))
            file.write(np.array(arcs, _ARC).tobytes())


def _text(value: str) -> bytes:
    return struct.pack("<i", len(value)) + value.encode("ascii")

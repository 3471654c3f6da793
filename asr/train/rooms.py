"""Simulated rooms: image-source responses (pyroomacoustics) of shoe boxes with random sizes, echoes and positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from asr.audio import SAMPLE_RATE
from asr.types import FloatArray

_BEFORE_DIRECT = 8
_LONGEST = SAMPLE_RATE // 2


@dataclass(frozen=True, slots=True)
class Room:
    """One response, cut to start at the direct sound, so that frames stay where they are; energy 1."""

    response: FloatArray

    def apply(self, samples: FloatArray) -> FloatArray:
        """The samples (N,) as heard in the room, same length, scaled down where they would clip."""
        from torchaudio.functional import fftconvolve

        wet = fftconvolve(torch.from_numpy(samples), torch.from_numpy(self.response)).numpy()[: len(samples)]
        return np.asarray(wet / max(1.0, float(np.abs(wet).max(initial=0.0)) / 0.99), np.float32)


def simulate_rooms(n: int, *, seed: int, reverberation_s: tuple[float, float] = (0.15, 0.5)) -> list[Room]:
    """`n` rooms of 3 to 8 metres, a speaker anywhere in them, the microphone around a metre from the mouth."""
    rng = np.random.default_rng(seed)
    rooms: list[Room] = []
    while len(rooms) < n:
        size = rng.uniform([3, 3, 2.4], [8, 6, 3.2])
        room = _simulate(size, rng.uniform(*reverberation_s), rng)
        if room is not None:
            rooms.append(room)
    return rooms


def _simulate(size: np.ndarray, reverberation_s: float, rng: np.random.Generator) -> Room | None:
    import pyroomacoustics

    try:
        absorption, order = pyroomacoustics.inverse_sabine(reverberation_s, size)
    except ValueError:  # so short an echo is not possible in so large a room
        return None
    box = pyroomacoustics.ShoeBox(
        size, fs=SAMPLE_RATE, materials=pyroomacoustics.Material(absorption), max_order=min(order, 12)
    )
    source = rng.uniform([0.5, 0.5, 0.8], size - 0.5)
    microphone = np.clip(source + rng.normal(0, [0.8, 0.8, 0.2]), 0.3, size - 0.3)
    box.add_source(source)
    box.add_microphone(microphone)
    box.compute_rir()
    return Room(_trim(box.rir[0][0]))


def _trim(response: Sequence[float] | np.ndarray) -> FloatArray:
    array = np.asarray(response)
    start = max(0, int(np.abs(array).argmax()) - _BEFORE_DIRECT)
    cut = array[start : start + _LONGEST]
    return np.asarray(cut / np.sqrt((cut**2).sum()), np.float32)

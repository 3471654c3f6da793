"""What the layers of an encoder are fed with while it hears speech: what compression goes by."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from asr.nn.model import AcousticModel
from asr.train.evaluate import streamed_log_probs
from asr.types import FloatArray

CHUNK = 32
"""Encoder frames of the chunks that the speech is heard in."""
DoubleArray = npt.NDArray[np.float64]


class CompressionError(ValueError):
    """A config that cannot be, or speech that is too little."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a layer is fed with: mean (n,) and covariance (n, n)."""

    mean: DoubleArray
    covariance: DoubleArray


def measure_inputs(model: AcousticModel, names: Sequence[str], features: Sequence[FloatArray]) -> dict[str, Inputs]:
    """Moments of the inputs of the named layers while the network hears the features."""
    sums: dict[str, list[Any]] = {name: [0, 0.0, 0.0] for name in names}

    def add(name: str, x: Tensor) -> None:
        rows = x.detach().flatten(0, -2).double()
        total = sums[name]
        total[0] += len(rows)
        total[1] = total[1] + rows.sum(0)
        total[2] = total[2] + rows.T @ rows

    modules = dict(model.named_modules())
    with ExitStack() as hooks:
        for name in names:
            handle = modules[name].register_forward_pre_hook(lambda _, given, name=name: add(name, given[0]))
            hooks.callback(handle.remove)
        for clip in features:
            streamed_log_probs(model, clip, CHUNK)
    measured = {}
    for name, (n_rows, total, products) in sums.items():
        mean = (total / n_rows).numpy()
        measured[name] = Inputs(mean, (products / n_rows).numpy() - np.outer(mean, mean))
    return measured

"""Between training and runtime: the model of a bundle as a network to adapt, and adapters as the runtime wears them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lm.arrayfile import ArrayFileError, write_array_file
from lm.lexicon import Lexicon
from lm.neural import ADAPTER_KIND, DATA_FILE, NeuralModel
from lm.onnx_lm import write_adapter_weights
from lm.pieces import PIECES_FILE, Pieces
from lm.train.checkpoint import TrainedModel
from lm.train.fofe import Adapter, LanguageModel
from lm.train.folders import CheckpointError
from lm.train.recipe import LanguageModelConfig
from lm.train.settings import RecipeError, build_settings
from lm.vocabulary import words_sha256

LEXICON = "lexicon.bin"


def is_runtime_model(path: Path) -> bool:
    """Whether `path` is a folder with a language model of the runtime: a bundle."""
    return (path / DATA_FILE).is_file()


def read_runtime_model(folder: Path) -> tuple[TrainedModel, str]:
    """The network in a bundle's `lm.bin`, its int8 weights made float again, and its digest.

    Raises:
        CheckpointError: the folder lacks `lexicon.bin`, or a file is damaged.
    """
    try:
        packed = NeuralModel.open(folder / DATA_FILE)
        pieces = Pieces.open(path) if (path := folder / PIECES_FILE).is_file() else None
        words = pieces.texts if pieces else _lexicon_words(folder)
        model = LanguageModel(build_settings(LanguageModelConfig, packed.file.meta["model"], str(folder / DATA_FILE)))
        model.load_state_dict({name: torch.from_numpy(value) for name, value in _state(packed).items()})
    except (ArrayFileError, OSError, KeyError, RecipeError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: no language model of a bundle: {error}") from None
    if packed.words_sha256 != words_sha256(words):
        other = PIECES_FILE if pieces else LEXICON
        raise CheckpointError(f"{folder}: {DATA_FILE} and {other} have different word lists")
    return TrainedModel(model, words, packed.unknown_log_share.astype(np.float32), pieces), packed.trunk


def _lexicon_words(folder: Path) -> tuple[str, ...]:
    lexicon = Lexicon.open(folder / LEXICON)
    return tuple(lexicon.word(number) for number in range(len(lexicon)))


def _state(packed: NeuralModel) -> dict[str, npt.NDArray[Any]]:
    """Weights by the names that the network gives them."""
    arrays = packed.file.arrays
    state: dict[str, npt.NDArray[Any]] = {"embedding": packed.rows(slice(None)), "bias": packed.bias[None].copy()}
    for name in arrays:
        kind, _, number = name.partition(".")
        if kind == "weight":
            state[f"networks.0.layers.{number}.weight"] = (arrays[name] * arrays[f"weight_scale.{number}"]).T.copy()
            state[f"networks.0.layers.{number}.bias"] = arrays[f"layer_bias.{number}"].copy()
    return state


def write_runtime_adapter(adapter: Adapter, trunk: str, folder: Path) -> None:
    """Write `NAME.bin` and `NAME.onnx_adapter` into an existing folder.

    Args:
        adapter: the trained adapter.
        trunk: digest of the model that it is for, from `lm.bin`.
        folder: where to.

    Raises:
        ValueError: weights are not finite.
    """
    tensors = {}
    for key, down in adapter.down.items():
        tensors[f"down.{key}"] = np.ascontiguousarray(down.detach().cpu().numpy().T, np.float16)
        tensors[f"up.{key}"] = np.ascontiguousarray(adapter.up[key].detach().cpu().numpy().T, np.float16)
    bias = adapter.bias.detach().cpu().numpy() if adapter.bias is not None else np.zeros(0, np.float32)
    broken = [name for name, array in {**tensors, "bias": bias}.items() if not np.isfinite(array).all()]
    if broken:
        raise ValueError(f"the adapter's weights are not finite ({', '.join(broken)}): training has diverged")
    scale = max(float(np.abs(bias).max(initial=0.0)), 1e-6) / 127
    arrays: dict[str, npt.NDArray[Any]] = {
        "bias": np.round(bias / scale).astype(np.int8),
        "bias_scale": np.array([scale], np.float32),
    }
    meta = {"name": adapter.config.name, "trunk": trunk, "adapter": asdict(adapter.config)}
    write_adapter_weights(folder / f"{adapter.config.name}.onnx_adapter", tensors)
    write_array_file(folder / f"{adapter.config.name}.bin", kind=ADAPTER_KIND, arrays=arrays, meta=meta)

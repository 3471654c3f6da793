"""A model of the form `adapted`, taken apart: a shared model, and an adapter of an ordinary kind for each application.

`run/final` is the model as it was trained; `run/trunk`, of the form `shared`, and `run/adapters/NAME` are its parts.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from lm.train.checkpoint import Checkpoint, TrainedModel, write_adapter, write_checkpoint
from lm.train.fofe import Adapter, AdapterConfig, LanguageModel
from lm.train.folders import replace_folder


def take_apart(trained: TrainedModel) -> tuple[TrainedModel, list[Adapter]]:
    """A shared model and adapters in the order of the applications, which together say what `trained` says.

    The shared model's output bias is the mean of the applications'.

    Raises:
        ValueError: another form.
    """
    model = trained.model
    if model.config.form != "adapted":
        raise ValueError(f"expected a model of the form 'adapted', this one is {model.config.form!r}")
    trunk = LanguageModel(replace(model.config, form="shared"))
    bias = model.bias.detach().mean(0)
    with torch.no_grad():
        trunk.embedding.copy_(model.embedding)
        trunk.bias.copy_(bias[None])
    trunk.networks.load_state_dict(model.networks.state_dict())
    adapters = []
    for own, own_bias in zip(model.adapters, model.bias.detach(), strict=True):
        assert isinstance(own, Adapter)
        kind = own.config
        adapter = Adapter(AdapterConfig(kind.name, kind.rank, kind.targets), trunk.config)
        adapter.load_state_dict({**own.state_dict(), "bias": own_bias - bias})
        adapters.append(adapter)
    return TrainedModel(trunk, trained.words, trained.unknown_log_share, trained.pieces), adapters


def write_parts(run: Path) -> None:
    """Write `run/trunk` and `run/adapters` from `run/final`."""
    whole = Checkpoint(run / "final")
    trunk, adapters = take_apart(whole.read())
    replace_folder(run / "trunk", lambda folder: write_checkpoint(folder, trunk, whole.step))
    for adapter in adapters:
        replace_folder(run / "adapters" / adapter.config.name, partial(_write_adapter, adapter, trunk.words_sha256))


def _write_adapter(adapter: Adapter, words_sha256: str, folder: Path) -> None:
    write_adapter(folder, adapter, {"words_sha256": words_sha256, "trained": "with the trunk"})

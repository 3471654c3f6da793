"""More blocks for a trained network, which says the same as before until they are trained.

A new block has no norm at its end and zeros where its layers write: it adds nothing to what passes through it. All
else in it is copied from the block that follows (the last block, where none does), whose layers read the same kind of
input. So the first steps train the layers that write, on features that are good already (as in Net2Net, Chen et al.
2016, and the zero-initialised residual branches of Goyal et al. 2017).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from asr.nn.model import AcousticModel

_WRITERS = ("first.contract", "attention.out", "convolution.out", "second.contract")


def deepened(model: AcousticModel, after: Sequence[int]) -> AcousticModel:
    """The network with one more block behind each of the blocks `after` (from 0; a block may be named again).

    Raises:
        ValueError: not a conformer, no such block, or parts of it are compressed.
    """
    config = model.config
    if config.architecture != "conformer" or config.hidden_units or config.ranks:
        raise ValueError("blocks can be put into a conformer only, before it is compressed")
    if not after or any(not 0 <= block < config.n_layers for block in after):
        raise ValueError(f"blocks to put others behind: expected 0 to {config.n_layers - 1}, found {list(after)}")
    order = sorted([*((block, False) for block in range(config.n_layers)), *((block, True) for block in after)])
    open_blocks = [place for place, (block, is_new) in enumerate(order) if is_new or block in config.open_blocks]
    made = AcousticModel(replace(config, n_layers=len(order), open_blocks=tuple(open_blocks)))
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("blocks.")}
    for place, (block, is_new) in enumerate(order):
        source = min(block + 1, config.n_layers - 1) if is_new else block
        is_open = place in open_blocks
        weights |= {f"blocks.{place}.{name}": value for name, value in _block(model, source, is_new, is_open).items()}
    made.load_state_dict(weights)
    return made


def _block(model: AcousticModel, number: int, is_new: bool, is_open: bool) -> dict[str, Tensor]:
    out = {}
    for name, value in model.state_dict().items():
        found = re.match(rf"blocks\.{number}\.(.*)", name)
        if found and not (is_open and found[1].startswith("norm.")):
            writes = is_new and found[1].startswith(_WRITERS)
            out[found[1]] = value.new_zeros(value.shape) if writes else value.clone()
    return out

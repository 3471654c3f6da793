"""`asr-export sweep-lm`: a language model's table and layers in fewer bits, side by side: bytes and perplexity.

A variant is `TABLE/LAYERS`, bits a number of the embeddings and of the hidden layers' weights: `4/8` is what
`asr-export lm` writes, `32/32` the model as it was trained. Fewer than 16 bits are whole numbers with scales: in the
table and in layers one for 32 numbers, in layers of eight bits one a row.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.errors import MissingDependencyError, OptionError
from export.language_model import int8_rows
from lm.corpus import read_lines
from lm.train.checkpoint import Checkpoint, TrainedModel
from lm.train.evaluate import evaluate
from lm.train.fofe import LanguageModel
from lm.train.rounding import GROUP, group_size, rounded
from lm.train.tokens import Tokens, encode

STANDARD = ("32/32", "16/16", "8/8", "6/8", "5/8", "4/8", "4/6", "4/4", "3/8", "2/8")
WHOLE_BITS = range(2, 9)
FLOAT_BITS = (16, 32)
Advance = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LmVariant:
    """Bits of the table and of the layers.

    Raises:
        OptionError: not 2 to 8, 16 or 32.
    """

    table: int
    layers: int

    def __post_init__(self) -> None:
        for bits in (self.table, self.layers):
            if bits not in WHOLE_BITS and bits not in FLOAT_BITS:
                raise OptionError(f"a variant's bits: expected 2 to 8, 16 or 32, found {bits}")

    def __str__(self) -> str:
        return f"{self.table}/{self.layers}"


def parse_lm_variant(text: str) -> LmVariant:
    """Read `TABLE/LAYERS`.

    Raises:
        OptionError: another form, or bits that there are not.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match:
        raise OptionError(f"a variant: expected TABLE/LAYERS in bits, as 4/8, found {text!r}")
    return LmVariant(int(match[1]), int(match[2]))


def in_bits(values: Tensor, bits: int, group: int) -> Tensor:
    """What `bits` leave of a matrix; 16 and 32 are numbers with a point."""
    if bits == 32:
        return values
    return values.half().float() if bits == 16 else rounded(values, bits, group)


def bytes_of(shape: torch.Size, bits: int, group: int) -> int:
    """Bytes of a matrix, its scales of sixteen bits included."""
    rows, columns = shape
    scales = 0 if bits in FLOAT_BITS else 2 * rows * -(-columns // group)
    return -(-rows * columns * bits // 8) + scales


def quantized(model: LanguageModel, variant: LmVariant) -> tuple[LanguageModel, int]:
    """The model with what the bits leave of its weights, and its bytes; biases have 16 bits a word, 32 in layers."""
    made, size = copy.deepcopy(model), 2 * model.bias.numel()
    with torch.no_grad():
        for name, weights in made.named_parameters():
            if name == "embedding":
                group = group_size(weights.shape[1])
                weights.copy_(in_bits(weights, variant.table, group))
                size += bytes_of(weights.shape, variant.table, group)
            elif name.startswith("networks.") and weights.ndim == 2:
                if variant.layers == 8:  # as exported: a scale of 32 bits a row
                    steps, scale = int8_rows(weights.cpu().numpy())
                    weights.copy_(torch.from_numpy(steps * scale[:, None]))
                    size += weights.numel() + 4 * len(weights)
                else:
                    weights.copy_(in_bits(weights, variant.layers, GROUP))
                    size += bytes_of(weights.shape, variant.layers, GROUP)
            elif name.startswith("networks."):
                size += 4 * weights.numel()
    return made, size


def measure_lm(trained: TrainedModel, texts: Mapping[str, Sequence[Tokens]], variant: LmVariant) -> dict[str, Any]:
    """Bytes, and perplexity of every text, of one variant."""
    model, size = quantized(trained.model, variant)
    found = {name: evaluate(model, text, trained.unknown_log_share) for name, text in texts.items()}
    return {
        "variant": str(variant),
        "bytes": size + 2 * len(trained.unknown_log_share),
        "perplexity": {name: round(evaluation.perplexity.value, 2) for name, evaluation in found.items()},
    }


def sweep_lm(
    model: Path, texts: Mapping[str, Path], variants: Sequence[LmVariant], lines: int, out: Path, advance: Advance
) -> list[dict[str, Any]]:
    """Measure every variant; write `sweep-lm.json` and `sweep-lm.png`.

    Args:
        model: checkpoint or run of `asr-lm train`.
        texts: files of one sentence a line, by name.
        variants: what to measure.
        lines: sentences of each text, evenly chosen.
        out: folder.
        advance: called with each variant's name once it is done.

    Returns:
        A row for each variant.

    Raises:
        CheckpointError: `model` is none.
        OptionError: it is over pieces, or of another form than `shared`; a text is empty.
    """
    trained = Checkpoint.open(model).read()
    if trained.pieces is not None or trained.model.config.form != "shared":
        raise OptionError(f"{model}: expected a model of words, of the form 'shared'")
    read = {name: _utterances(trained, path, lines) for name, path in texts.items()}
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for variant in variants:
        rows.append(measure_lm(trained, read, variant))
        advance(str(variant))
    sentences = {name: len(text) for name, text in read.items()}
    result = {"schema": 1, "kind": "sweep-lm", "sentences": sentences, "rows": rows}
    (out / "sweep-lm.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot(rows, out / "sweep-lm.png")
    return rows


def _utterances(trained: TrainedModel, path: Path, count: int) -> list[Tokens]:
    lines = list(read_lines(path))
    if not lines or count < 1:
        raise OptionError(f"{path}: no sentences to measure on")
    n_kept = min(count, len(lines))
    kept = [lines[index * len(lines) // n_kept] for index in range(n_kept)]
    ids = {word: number for number, word in enumerate(trained.words)}
    return [encode([line], ids) for line in kept]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with a row for each variant."""
    names = list(rows[0]["perplexity"])
    lines = [["table/layers, bits", "MB", *names], ["---"] * (2 + len(names))]
    lines += [
        [row["variant"], f"{row['bytes'] / 1e6:.2f}", *(f"{row['perplexity'][name]:.1f}" for name in names)]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Perplexity against bytes, one panel a text."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "train") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(rows[0]["perplexity"])
    figure, axes = plt.subplots(1, len(names), figsize=(4.6 * len(names), 3.8), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], names, strict=True):
        for row in rows:
            place = row["bytes"] / 1e6, row["perplexity"][name]
            axis.plot(*place, "o", color="tab:red" if row["variant"] == "4/8" else "tab:blue")
            axis.annotate(row["variant"], place, textcoords="offset points", xytext=(5, 4), fontsize=8)
        axis.set(title=name, xlabel="megabytes", ylabel="perplexity", xscale="log")
        ticks = [3, 5, 10, 20, 30]
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)

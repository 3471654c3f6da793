"""Perplexity, bytes and speed of language models, from a list of them: `python -m benchmarks.language --help`.

    [[model]]
    name = "one network, two adapters"
    [model.assistant]
    model = "runs/shared/final"          # checkpoint, ngram.bin, or a model of KenLM (.klm, .arpa)
    adapter = "adapters/assistant"
    [model.dictation]
    model = "runs/shared/final"
    adapter = "adapters/dictation"

A file that several domains use is weighed once. Bytes are those of export: four bits a number of an embedding and a
scale for every 32, eight bits a weight, sixteen a bias.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.process import describe
from lm.arrayfile import open_array_file
from lm.corpus import read_lines
from lm.kenlm_model import KenlmScorer
from lm.ngram import NgramModel, NgramScorer
from lm.perplexity import measure_perplexity
from lm.pieces import begin_words
from lm.scorer import Scorer
from lm.train.checkpoint import Checkpoint, TrainedModel, read_adapter
from lm.train.evaluate import evaluate
from lm.train.fofe import Adapter, LanguageModel
from lm.train.settings import read_toml
from lm.train.tokens import encode
from lm.vocabulary import read_words

SCALE_EVERY = 32
TIMED_CONTEXTS, TIMES = 16, 200
Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A model for each domain."""

    name: str
    domains: Mapping[str, Mapping[str, str]]


def network_bytes(model: LanguageModel) -> int:
    """Bytes of a model as exported.

    Raises:
        ValueError: it is of the form `adapted`.
    """
    if len(model.adapters):
        raise ValueError("a model of the form 'adapted' is measured as its parts: the run's trunk, with run/adapters")
    matrices = sum(p.numel() for n, p in model.named_parameters() if n.startswith(("net", "gate")) and p.ndim == 2)
    biases = sum(p.numel() for n, p in model.named_parameters() if n.startswith(("net", "gate")) and p.ndim == 1)
    table = model.embedding.numel()
    return table // 2 + 2 * (table // SCALE_EVERY) + 2 * model.bias.numel() + matrices + 8 * biases


def adapter_bytes(adapter: Adapter) -> int:
    """Bytes of an adapter as exported: matrices in sixteen bits, a bias of eight."""
    matrices = sum(p.numel() for name, p in adapter.named_parameters() if p.ndim == 2)
    return 2 * matrices + (adapter.bias.numel() if adapter.bias is not None else 0)


def is_ngram(path: str | Path) -> bool:
    """Whether a row's model is an n-gram and not a checkpoint."""
    return str(path).endswith((".bin", ".klm", ".arpa"))


def row_bytes(row: Row) -> int:
    """Bytes of all that a row's domains need; what several of them use counts once."""
    sizes: dict[str, int] = {}
    for entry in row.domains.values():
        path = entry["model"]
        if is_ngram(path):
            sizes[path] = Path(path).stat().st_size
            continue
        model = Checkpoint.open(path).read().model
        sizes[path] = network_bytes(model)
        if "adapter" in entry:
            sizes[entry["adapter"]] = adapter_bytes(read_adapter(entry["adapter"], model))
    return sum(sizes.values())


def microseconds(model: LanguageModel, application: int, adapter: Adapter | None) -> float:
    """Time of one context, in batches of `TIMED_CONTEXTS`, in torch on one thread; the median of many."""
    embedded = torch.randn(model.config.context, TIMED_CONTEXTS, model.config.dim)
    spent = []
    with torch.inference_mode():
        for _ in range(TIMES):
            started = time.perf_counter()
            model.predict(embedded, application, adapter)
            spent.append(time.perf_counter() - started)
    return 1e6 * float(np.median(spent)) / TIMED_CONTEXTS


class Bench:
    """Measures rows; a model is read once."""

    def __init__(self, words: Sequence[str], texts: Mapping[str, Path], limit: int) -> None:
        self._ids = {word: number for number, word in enumerate(words)}
        self._lines = {name: _every(list(read_lines(path)), limit) for name, path in texts.items()}
        self._models: dict[str, TrainedModel] = {}

    def measure(self, row: Row) -> dict[str, Any]:
        """Figures of a row: perplexity by domain, bytes of everything together, microseconds of the slowest."""
        perplexity, times, steps = {}, [], {}
        for domain, entry in row.domains.items():
            path = entry["model"]
            if is_ngram(path):
                perplexity[domain] = measure_perplexity(self._ngram(Path(path)), self._ids, self._lines[domain]).value
                continue
            trained = self._read(path)
            adapter = read_adapter(entry["adapter"], trained.model) if "adapter" in entry else None
            names = trained.model.config.applications
            application = names.index(domain) if trained.model.config.knows_applications else 0
            ids = trained.pieces or self._ids
            utterances = [encode([line], ids, self._ids) for line in self._lines[domain]]
            begins = begin_words(trained.words)
            found = evaluate(trained.model, utterances, trained.unknown_log_share, application, adapter, begins)
            perplexity[domain] = found.perplexity.value
            times.append(microseconds(trained.model, application, adapter))
            steps[path] = Checkpoint.open(path).step
        return {
            "name": row.name,
            "perplexity": {domain: round(value, 2) for domain, value in perplexity.items()},
            "bytes": row_bytes(row),
            "microseconds": round(max(times), 1) if times else None,
            "steps": list(steps.values()),
        }

    def _read(self, path: str) -> TrainedModel:
        if path not in self._models:
            self._models = {path: Checkpoint.open(path).read()}  # one at a time
        return self._models[path]

    def _ngram(self, path: Path) -> Scorer:
        if path.suffix != ".bin":
            return KenlmScorer(path, list(self._ids))
        if open_array_file(path, kind="ngram").meta.get("order") != 3:
            raise ValueError(f"{path}: expected a trigram")
        return NgramScorer(NgramModel.open(path))


def _every(lines: list[list[str]], limit: int) -> list[list[str]]:
    return lines[:: max(1, -(-len(lines) // limit))] if limit else lines


def read_rows(path: Path) -> list[Row]:
    """The models to measure, from a TOML file."""
    return [
        Row(entry["name"], {key: value for key, value in entry.items() if key != "name"})
        for entry in read_toml(path)["model"]
    ]


def draw(rows: Sequence[Mapping[str, Any]], path: Path, figure: str = "perplexity", label: str = "perplexity") -> None:
    """A figure against bytes, one panel a domain."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    domains = list(rows[0][figure])
    canvas, axes = plt.subplots(1, len(domains), figsize=(4.2 * len(domains) + 3.6, 4.4), squeeze=False)
    colours = plt.get_cmap("tab20")
    for axis, domain in zip(axes[0], domains, strict=True):
        for number, row in enumerate(rows, 1):
            place = row["bytes"] / 1e6, row[figure][domain]
            axis.plot(*place, "o", color=colours(number - 1), label=f"{number}  {row['name']}", markersize=13)
            axis.annotate(str(number), place, ha="center", va="center", fontsize=7)
        axis.set(title=domain, xlabel="megabytes", ylabel=label, xscale="log")
        ticks = [5, 7, 10, 20, 40]
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, markerscale=0.6, frameon=False)
    canvas.tight_layout()
    canvas.savefig(path, dpi=110)
    plt.close(canvas)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of the rows."""
    domains = list(rows[0]["perplexity"])
    lines = [f"| model | {' | '.join(domains)} | MB | µs a context |", "|---" * (len(domains) + 3) + "|"]
    for row in rows:
        values = " | ".join(f"{row['perplexity'][domain]:.1f}" for domain in domains)
        spent = "-" if row["microseconds"] is None else f"{row['microseconds']:.0f}"
        lines.append(f"| {row['name']} | {values} | {row['bytes'] / 1e6:.2f} | {spent} |")
    return "\n".join(lines)


def merged(before: Sequence[Figures], now: Sequence[Figures]) -> list[Figures]:
    """Rows by their names: those of before in their order, measured anew where they were, then those that are new."""
    rows = {row["name"]: row for row in before} | {row["name"]: row for row in now}
    return list(rows.values())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write JSON, print the table, draw the plot."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser("python -m benchmarks.language", description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, required=True, help="TOML file of models")
    parser.add_argument("--words", type=Path, required=True, help="word list")
    parser.add_argument("--text", nargs="+", required=True, metavar="DOMAIN=FILE", help="held-out text of each domain")
    parser.add_argument("--limit", type=int, default=0, help="measure so many lines of each text only")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lm.json"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--keep", action="store_true", help="rows of the result file that --models lacks stay")
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    texts = {name: Path(path) for name, path in (item.split("=", 1) for item in args.text)}
    bench = Bench(read_words(args.words), texts, args.limit)
    rows: list[Figures] = []
    for row in read_rows(args.models):
        rows.append(bench.measure(row))
        print(f"{rows[-1]['name']}: {rows[-1]['perplexity']}", file=sys.stderr, flush=True)
    if args.keep and args.out.is_file():
        rows = merged(json.loads(args.out.read_text(encoding="utf-8"))["rows"], rows)
    result = {
        "schema": 1,
        "kind": "lm",
        **describe(words),
        "command": "python -m benchmarks.language " + " ".join(words),
        "rows": rows,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(markdown(rows))
    if args.plot:
        draw(rows, args.plot)


if __name__ == "__main__":
    main()

"""How much of what full fine-tuning gains on a text does an adapter gain? Both learn from the text alone.

python -m benchmarks.adapt_gap --trunk runs/shared/final --text mine.txt

Fine-tuning trains all weights: AdamW for the hidden layers, row-wise Adagrad for embeddings and output bias, as in
`asr-lm train`. Of several learning rates the best one counts, for both. Neither holds on to general text here, and both
stop where the same held-out tenth of the text is predicted no better.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.process import describe
from benchmarks.runner import progress_bar
from lm.train.adapt import AdaptConfig, AdaptText, adapt, make_batch, read_own_text, sample_counts
from lm.train.checkpoint import Checkpoint, TrainedModel
from lm.train.evaluate import evaluate
from lm.train.objective import Rows, Sampler, segment_loss, total_loss
from lm.train.optim import RowAdagrad
from lm.train.tokens import Tokens

FULL_RATES = ((1e-4, 0.01), (3e-4, 0.03), (1e-3, 0.03), (3e-4, 0.1))
"""Learning rates of full fine-tuning: of the hidden layers, of embeddings and bias."""
ADAPTER_RATES = (2e-3, 5e-3)
STEPS = 600


def perplexity(trained: TrainedModel, utterances: Sequence[Tokens]) -> float:
    """Of held-out text."""
    return evaluate(trained.model, utterances, trained.unknown_log_share).perplexity.value


def fine_tuned(trained: TrainedModel, text: AdaptText, config: AdaptConfig, table_rate: float) -> float:
    """Perplexity of the held-out part after training all weights until some of it is predicted no better."""
    trained = TrainedModel(copy.deepcopy(trained.model).requires_grad_(True), trained.words, trained.unknown_log_share)
    looked_at = text.held_out[: config.looked_at]
    best, waited = perplexity(trained, looked_at), 0
    best_state = copy.deepcopy(trained.model.state_dict())
    for _ in _train(trained, text, config, table_rate):
        found = perplexity(trained, looked_at)
        best, waited = (found, 0) if found < best else (best, waited + 1)
        if not waited:
            best_state = copy.deepcopy(trained.model.state_dict())
        if waited == config.patience:
            break
    trained.model.load_state_dict(best_state)
    return perplexity(trained, text.held_out)


def _train(trained: TrainedModel, text: AdaptText, config: AdaptConfig, table_rate: float) -> Iterator[None]:
    model = trained.model
    V = model.config.vocabulary_size
    body = torch.optim.AdamW(model.networks.parameters(), lr=config.learning_rate, weight_decay=0.0)
    embedding, bias = (RowAdagrad(V, model.embedding.device) for _ in range(2))
    sampler = Sampler(sample_counts(trained, text), size=config.samples, power=0.75, seed=config.seed)
    for step in range(config.steps):
        batch, sample = make_batch(text, config, step, model.config), sampler.draw(step)
        rows = Rows(model, batch, sample)
        losses = [segment_loss(model, part, rows, sample) for part in batch]
        total_loss(losses, config.normalization_weight).backward()
        torch.nn.utils.clip_grad_norm_(model.networks.parameters(), 1.0)
        body.step()
        body.zero_grad(set_to_none=True)
        assert rows.embedding.grad is not None
        assert rows.bias.grad is not None
        words = sum(part.targets.size for part in batch)
        with torch.no_grad():
            embedding.step(model.embedding, rows.ids, rows.embedding.grad * words, table_rate)
            bias.step(model.bias.view(-1, 1), rows.ids, rows.bias.grad[0][:, None] * words, table_rate)
        if (step + 1) % config.check_every == 0:
            yield


def measure(trained: TrainedModel, path: Path, rank: int, threads: int) -> dict[str, Any]:
    """Perplexities of the held-out text before, fine-tuned and adapted, and the share of the gap that is closed."""
    torch.set_num_threads(threads)
    config = AdaptConfig(rank=rank, replay=0.0, rise=math.inf, check_every=40, patience=3, steps=STEPS)
    text = read_own_text(path, trained.words, config)
    with progress_bar(total=len(FULL_RATES) + len(ADAPTER_RATES), desc="runs", unit="run") as bar:
        full, adapted = {}, {}
        for body, table in FULL_RATES:
            full[f"{body:g}, {table:g}"] = fine_tuned(trained, text, _with_rate(config, body), table)
            bar.update()
        for rate in ADAPTER_RATES:
            copied = TrainedModel(copy.deepcopy(trained.model), trained.words, trained.unknown_log_share)
            adapted[f"{rate:g}"] = adapt(copied, "own", text, _with_rate(config, rate)).after["own"]
            bar.update()
    before, most, found = perplexity(trained, text.held_out), min(full.values()), min(adapted.values())
    return {
        "sentences": {"held_out": len(text.held_out)},
        "rank": rank,
        "before": round(before, 2),
        "fine_tuned": {rates: round(value, 2) for rates, value in full.items()},
        "adapted": {rate: round(value, 2) for rate, value in adapted.items()},
        "closed": round((before - found) / (before - most), 4),
        "closed_log": round(math.log(before / found) / math.log(before / most), 4),
    }


def _with_rate(config: AdaptConfig, rate: float) -> AdaptConfig:
    from dataclasses import replace

    return replace(config, learning_rate=rate)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trunk", type=Path, required=True, help="checkpoint or run of `asr-lm train`, over words")
    parser.add_argument("--text", type=Path, required=True, help="one sentence a line")
    parser.add_argument("--rank", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/adapt-gap.json"))
    words = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(words)
    figures = measure(Checkpoint.open(args.trunk).read(), args.text, args.rank, args.threads)
    command = "python -m benchmarks.adapt_gap " + " ".join(words)
    result = {"schema": 1, "kind": "adapt-gap", **describe(words), "command": command, **figures}
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

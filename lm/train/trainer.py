"""The training loop of a language model: batches of a plan, sampled softmax, checkpoints with dev perplexities, log.

A run is a function of recipe and tokens: batch and sampled words of step `n` depend on (seed, n) alone, so a run that
was killed goes on from its last checkpoint exactly as it would have gone on without the kill.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lm.pieces import begin_words
from lm.train.batches import Batch, BatchPlan, unknown_log_share, utterances_of
from lm.train.checkpoint import Checkpoint, TrainedModel, average, write_checkpoint
from lm.train.evaluate import evaluate
from lm.train.fofe import LanguageModel
from lm.train.folders import CheckpointError, last_step, replace_folder, write_step
from lm.train.objective import Rows, Sampler, segment_loss, total_loss
from lm.train.optim import RowAdagrad, adamw, learning_rate_scale
from lm.train.recipe import Recipe
from lm.train.rounding import group_size, rounded
from lm.train.tokens import TokensError, TokenStore

Figures = Mapping[str, float]


class Trainer:
    """One run in one folder."""

    def __init__(self, run: Path, store: TokenStore, recipe: Recipe, start: TrainedModel | None = None) -> None:
        """Start the run, or go on where its last checkpoint is.

        Args:
            run: folder of the run.
            store: the text.
            recipe: everything else.
            start: trained weights that a new run begins with; without them it begins with random ones.

        Raises:
            TokensError: the tokens lack a source of the recipe, have fewer words than the model's vocabulary, or other
                words than `start`.
            CheckpointError: the run's last checkpoint cannot be read, or it or `start` is of another model than the
                recipe's.
        """
        if len(store.words) < recipe.model.vocabulary_size:
            raise TokensError(
                f"model.vocabulary_size is {recipe.model.vocabulary_size}, the word list has {len(store.words)} words"
            )
        self._run, self._store, self._recipe = run, store, recipe
        self._plan = BatchPlan(store, recipe)
        V = recipe.model.vocabulary_size
        counts = self._plan.counts[:V].copy()
        counts[0] += self._plan.counts[V:].sum()
        self._sampler = Sampler(counts, size=recipe.samples, power=recipe.sample_power, seed=recipe.seed)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        resumed = last_step(run)
        self.trained = Checkpoint(resumed).read() if resumed else start or self._new_model(counts)
        self._model = self.trained.model.to(device)
        if self._model.config != recipe.model:
            whose, advice = (f"{run} has", "give another folder") if resumed else ("the start is", "change one of them")
            raise CheckpointError(f"{whose} a model of another shape than the recipe: {advice}")
        if self.trained.words != store.words:
            raise TokensError("the tokens are of another word list than the model: make them with its own")
        self._body = _body(self._model)
        self._adamw = adamw(self._body, recipe.optim)
        self._embedding = RowAdagrad(V, device)
        self._bias = RowAdagrad(self._model.bias.numel(), device)
        self.step = 0
        if resumed:
            self._load_optimizers(Checkpoint(resumed))

    def _new_model(self, counts: Any) -> TrainedModel:
        torch.manual_seed(self._recipe.seed)
        model = LanguageModel(self._recipe.model)
        model.set_unigrams(torch.from_numpy(counts))
        share = unknown_log_share(self._plan.counts, self._recipe.model.vocabulary_size)
        return TrainedModel(model, self._store.words, share, self._store.pieces)

    def _load_optimizers(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.optimizer_state()
        self._adamw.load_state_dict(state["adamw"])
        self._embedding.squares.copy_(state["embedding"])
        self._bias.squares.copy_(state["bias"])
        self.step = checkpoint.step

    def describe(self) -> str:
        """The network in words."""
        config, n = self._model.config, sum(p.numel() for p in self._body.parameters())
        table = self._model.embedding.numel() + self._model.bias.numel()
        return f"form {config.form} of {', '.join(config.applications)}: {n:,} weights + {table:,} for the words"

    def fit(self, *, on_step: Callable[[int, Figures], None], until: float = math.inf) -> None:
        """Train to the recipe's last step, or until the clock (`time.monotonic`) passes `until`."""
        saved = time.monotonic()
        while self.step < self._recipe.optim.steps:
            figures = self._train_step(self._plan.batch(self.step))
            self.step += 1
            on_step(self.step, figures)
            self._log({"step": self.step, **figures})
            done = self.step == self._recipe.optim.steps or time.monotonic() > until
            if done or time.monotonic() - saved > self._recipe.checkpoint_every_s:
                self.save()
                saved = time.monotonic()
            if done:
                return

    def save(self) -> Path:
        """Write a checkpoint and log the dev perplexities."""
        state = {
            "adamw": self._adamw.state_dict(),
            "embedding": self._embedding.squares,
            "bias": self._bias.squares,
        }
        folder = write_step(
            self._run,
            self.step,
            lambda folder: write_checkpoint(folder, self.trained, self.step, state),
            keep=max(2, self._recipe.average_last),
        )
        self._log({"step": self.step, **self.measure()})
        return folder

    def measure(self) -> dict[str, float]:
        """Perplexity and log Z on the dev text of each application."""
        trained, bits = self.trained, self._recipe.embedding_bits
        if bits:
            trained = replace(trained, model=copy.deepcopy(self._model))
            round_embedding(trained.model, bits)
        return measure_dev(trained, self._store, self._recipe.dev_utterances)

    def _train_step(self, batch: Batch) -> dict[str, float]:
        started = time.monotonic()
        optim, sample = self._recipe.optim, self._sampler.draw(self.step)
        scale = learning_rate_scale(self.step, optim)
        for group in self._adamw.param_groups:
            group["lr"] = optim.learning_rate * scale
        rows = Rows(self._model, batch, sample, self._recipe.embedding_bits)
        losses = [segment_loss(self._model, segment, rows, sample) for segment in batch]
        if not losses:
            return {"loss": math.nan, "tokens_per_s": 0.0}
        words = sum(loss.words for loss in losses)
        total_loss(losses, self._recipe.normalization_weight).backward()
        norm = torch.nn.utils.clip_grad_norm_(self._body.parameters(), optim.clip_norm)
        if bool(torch.isfinite(norm)):
            self._adamw.step()
            self._move_rows(rows, words, optim.row_learning_rate * scale)
        self._adamw.zero_grad(set_to_none=True)
        names = self._model.config.applications
        nats = [float(part.negative_log_prob.detach()) for part in losses]
        figures = {f"loss_{names[part.application]}": x / part.words for part, x in zip(losses, nats, strict=True)}
        return {
            "loss": sum(nats) / words,
            **figures,
            "grad_norm": float(norm),
            "tokens_per_s": words / (time.monotonic() - started),
        }

    def _move_rows(self, rows: Rows, words: int, learning_rate: float) -> None:
        # Of the sum over words, not the mean: how far a row moves must not depend on the size of the batch.
        assert rows.embedding.grad is not None
        assert rows.bias.grad is not None
        with torch.no_grad():
            self._embedding.step(self._model.embedding, rows.ids, rows.embedding.grad * words, learning_rate)
            V = self._model.config.vocabulary_size
            for number, grad in enumerate(rows.bias.grad):
                self._bias.step(
                    self._model.bias.view(-1, 1), rows.ids + number * V, grad[:, None] * words, learning_rate
                )

    def _log(self, row: Mapping[str, float]) -> None:
        with (self._run / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def _body(model: LanguageModel) -> torch.nn.Module:
    """The parts of a model that AdamW trains: all but embeddings and output bias."""
    return torch.nn.ModuleList([model.networks, model.adapters, *([model.gate] if model.gate is not None else [])])


@torch.no_grad()
def round_embedding(model: LanguageModel, bits: int) -> None:
    """Round a model's embeddings in place."""
    model.embedding.copy_(rounded(model.embedding, bits, group_size(model.config.dim)))


def measure_dev(trained: TrainedModel, store: TokenStore, limit: int | None = None) -> dict[str, float]:
    """Perplexity and log Z of every dev text of `store`, of `limit` utterances each."""
    figures: dict[str, float] = {}
    names = trained.model.config.applications
    for item in store.dev:
        number = names.index(item.application) if item.application in names else 0
        utterances = utterances_of(store.read(item), limit)
        begins = begin_words(store.words)
        found = evaluate(trained.model, utterances, trained.unknown_log_share, number, begins=begins)
        figures[f"dev_{item.application}"] = found.perplexity.value
        figures[f"log_z_{item.application}"] = found.log_z_mean
        figures[f"log_z_deviation_{item.application}"] = found.log_z_deviation
    return figures


def finish_run(run: Path, n: int, embedding_bits: int = 0) -> Path:
    """Average the last `n` checkpoints of a run into `run/final`; with `embedding_bits`, its embeddings are rounded."""
    checkpoints = [Checkpoint(folder) for folder in sorted(run.glob("step-*"))[-n:]]
    mean, step = average(checkpoints), checkpoints[-1].step
    if embedding_bits:
        round_embedding(mean.model, embedding_bits)
    replace_folder(run / "final", lambda folder: write_checkpoint(folder, mean, step))
    return run / "final"

"""The training loop: steps drawn from a `BatchPlan`, CTC and distillation losses, checkpoints, log.

A run is a function of recipe and data: batch and augmentation of step `n` depend on (seed, n) alone, so a run that
was killed goes on from its last checkpoint exactly as it would have gone on without the kill.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from asr.nn.model import AcousticModel, with_left_context
from asr.nn.rounding import round_model, straight_through
from asr.train.batches import Batch, BatchPlan
from asr.train.checkpoint import Checkpoint, average, last_checkpoint, save_checkpoint, write_model
from asr.train.crf import PhoneTrigram, crf_loss
from asr.train.mwer import Listener, expected_errors, mwer_loss
from asr.train.recipe import OptimConfig, Recipe

ENCODER_FRAMES_PER_S = 50


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of a step, in nats an encoder frame."""

    total: Tensor
    ctc: float
    distill: float
    crf: float
    consistency: float
    imitate: float
    wrong_words: float
    """Words that the search gets wrong, a second of audio."""


def compute_losses(
    log_probs: Tensor, batch: Batch, recipe: Recipe, trigram: PhoneTrigram | None = None,
    listener: Listener | None = None, imitated: Tensor | None = None,
) -> Losses:  # fmt: skip
    """CTC and CTC-CRF over the clips with transcripts, KL(teacher || student) over those with a teacher, per frame.

    Each of two copies of a clip also learns from what the network says of the other, as from a teacher.

    Args:
        log_probs: (B, T, V) of the student.
        batch: the batch they belong to.
        recipe: gives the weights.
        trigram: what CTC-CRF weighs transcripts against; needed where `crf_weight` is not zero.
        listener: what hears the clips; needed where `mwer_weight` is not zero.
        imitated: (B, T, V) log-probs of the network that is imitated; needed where `imitate_weight` is not zero.
    """
    ctc, distill, crf, consistency, mwer, imitate = (log_probs.new_zeros(()) for _ in range(6))
    wrong = 0.0
    heard = batch.transcribed
    if recipe.ctc_weight and bool(heard.any()):
        per_clip = F.ctc_loss(
            log_probs[heard].transpose(0, 1), batch.targets, batch.lens[heard], batch.target_lens[heard],
            reduction="none", zero_infinity=True,
        )  # fmt: skip
        ctc = per_clip.sum() / batch.lens[heard].sum()
    if recipe.crf_weight and bool(heard.any()):
        assert trigram is not None
        lens, target_lens = batch.lens[heard], batch.target_lens[heard]
        crf = crf_loss(log_probs[heard], lens, batch.targets, target_lens, trigram).sum() / lens.sum()
    inside = torch.arange(log_probs.shape[1], device=log_probs.device) < batch.lens[:, None]
    if recipe.distill_weight and batch.teacher is not None:
        distill = _divergence(batch.teacher, log_probs, inside & batch.taught[:, None])
    if recipe.consistency_weight and batch.n_pairs:
        n = batch.n_pairs
        copies = log_probs[: 2 * n]
        others = torch.cat([copies[n:], copies[:n]]).detach()
        consistency = _divergence(others, copies, inside[: 2 * n])
    if recipe.imitate_weight:
        assert imitated is not None
        imitate = _divergence(imitated, log_probs, inside)
    said = [clip for clip, text in enumerate(batch.texts) if text is not None and batch.transcribed[clip]]
    if recipe.mwer_weight and said:
        assert listener is not None
        frames = [log_probs[clip, : batch.lens[clip]].detach().numpy() for clip in said]
        ways = listener.hear(frames, [batch.texts[clip] or "" for clip in said])
        n_frames = batch.lens[said].sum()
        mwer = mwer_loss(log_probs[said], batch.lens[said], ways) / n_frames
        wrong = expected_errors(ways) / (float(n_frames) / ENCODER_FRAMES_PER_S)
    total = (
        recipe.ctc_weight * ctc + recipe.distill_weight * distill + recipe.crf_weight * crf
        + recipe.consistency_weight * consistency + recipe.mwer_weight * mwer + recipe.imitate_weight * imitate
    )  # fmt: skip
    figures = [*(float(part.detach()) for part in (ctc, distill, crf, consistency, imitate)), wrong]
    return Losses(total, *figures)


def _divergence(teacher: Tensor, student: Tensor, where: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of log-probs (B, T, V) over the frames `where` (B, T) is True."""
    weight = where.float()
    divergence = (teacher.exp() * (teacher - student)).sum(-1)
    return (divergence * weight).sum() / weight.sum().clamp(1)


def learning_rate_scale(step: int, recipe: Recipe) -> float:
    """Linear warm-up to 1, then half a cosine down to `final_scale`; starting once more after the head's own steps."""
    optim = recipe.optim
    if step < optim.head_steps:
        return min(1.0, (step + 1) / max(1, optim.warmup_steps))
    step, last = step - optim.head_steps, optim.steps - optim.head_steps
    if step < optim.warmup_steps:
        return (step + 1) / optim.warmup_steps
    done = min(1.0, (step - optim.warmup_steps) / max(1, last - optim.warmup_steps))
    return optim.final_scale + (1 - optim.final_scale) * 0.5 * (1 + math.cos(math.pi * done))


def _autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Use bf16 where the processor has tiles for it; with vectors alone, as in AVX-512, it is slower than float32."""
    if device.type == "cuda" or torch.cpu._is_amx_tile_supported():
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def _prefetch(plan: BatchPlan, first: int, last: int) -> Iterator[Batch]:
    """Batches of the steps `first` to `last - 1`, read by a thread one ahead."""
    ready: queue.Queue[Batch | Exception] = queue.Queue(2)

    def fill() -> None:
        try:
            for step in range(first, last):
                ready.put(plan.batch(step))
        except Exception as error:
            ready.put(error)

    threading.Thread(target=fill, daemon=True).start()
    for _ in range(first, last):
        item = ready.get()
        if isinstance(item, Exception):
            raise item
        yield item


def _groups(model: AcousticModel, optim: OptimConfig) -> list[dict[str, Any]]:
    """Head and the rest, with rates of their own; weight decay on matrices only."""
    groups = []
    for is_head, rate in ((False, optim.learning_rate), (True, optim.head_learning_rate or optim.learning_rate)):
        own = [p for name, p in model.named_parameters() if name.startswith("head.") == is_head]
        for params, decay in (
            ([p for p in own if p.ndim > 1], optim.weight_decay),
            ([p for p in own if p.ndim <= 1], 0.0),
        ):
            groups.append({"params": params, "weight_decay": decay, "lr": rate, "full_rate": rate})
    return groups


class Trainer:
    """One run in one folder. `validate` is called at each checkpoint and returns figures for the log."""

    def __init__(
        self, run: Path, model: AcousticModel, recipe: Recipe, validate: Callable[[AcousticModel], dict[str, float]],
        trigram: PhoneTrigram | None = None, listener: Listener | None = None, imitated: AcousticModel | None = None,
    ) -> None:  # fmt: skip
        if recipe.crf_weight and trigram is None:
            raise ValueError("the recipe's crf_weight needs a phoneme trigram: `asr-train trigram`, --phone-trigram")
        if recipe.mwer_weight and listener is None:
            raise ValueError("the recipe's mwer_weight needs something that hears clips: a `Listener`")
        if recipe.imitate_weight and imitated is None:
            raise ValueError("the recipe's imitate_weight needs a network that is imitated: --imitate")
        if trigram is not None and recipe.noise_share:
            trigram = trigram.with_silence(recipe.noise_share / (1 + recipe.noise_share))
        self._run, self._recipe, self._validate = run, recipe, validate
        self._trigram, self._listener = trigram, listener
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(recipe.seed)
        resumed = last_checkpoint(run)
        self.model = (resumed.model() if resumed else model).to(self._device)
        self._imitated: AcousticModel | None = None
        if imitated is not None and recipe.imitate_weight:
            seen = with_left_context(imitated, self.model.config.left_context)
            self._imitated = seen.to(self._device).eval().requires_grad_(False)
        self._optimizer = torch.optim.AdamW(
            _groups(self.model, recipe.optim), lr=recipe.optim.learning_rate, betas=(0.9, 0.98)
        )
        self.step = 0
        if resumed:
            fresh = [dict(group) for group in self._optimizer.param_groups]
            self._optimizer.load_state_dict(resumed.optimizer_state())
            for group, wanted in zip(self._optimizer.param_groups, fresh, strict=True):  # the recipe may have changed
                group.update({key: wanted[key] for key in ("full_rate", "weight_decay")})
            self.step = resumed.step

    def fit(
        self, plan: BatchPlan, *, on_step: Callable[[int, dict[str, float]], None], until: float = math.inf
    ) -> None:
        """Train to the recipe's last step, or until the clock (`time.monotonic`) passes `until`."""
        saved = time.monotonic()
        for batch in _prefetch(plan, self.step, self._recipe.optim.steps):
            figures = self._train_step(batch)
            self.step += 1
            on_step(self.step, figures)
            self._log({"step": self.step, **figures})
            done = self.step == self._recipe.optim.steps or time.monotonic() > until
            if done or time.monotonic() - saved > self._recipe.checkpoint_every_s:
                self.save()
                saved = time.monotonic()
            if done:
                return

    def save(self) -> Checkpoint:
        """Write a checkpoint and log what `validate` says of it."""
        keep = max(2, self._recipe.average_last)
        checkpoint = save_checkpoint(self._run, self.step, self.model, self._optimizer, keep=keep)
        heard = self.model
        if bits := self._recipe.weight_bits:
            heard = copy.deepcopy(self.model)
            round_model(heard, bits)
        heard.eval()
        self._log({"step": self.step, **self._validate(heard)})
        self.model.train()
        return checkpoint

    def _train_step(self, batch: Batch) -> dict[str, float]:
        scale = learning_rate_scale(self.step, self._recipe)
        for group in self._optimizer.param_groups:
            group["lr"] = group["full_rate"] * scale
        body_learns = self.step >= self._recipe.optim.head_steps
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(body_learns or name.startswith("head."))
        started = time.monotonic()
        with _autocast(self._device):
            features, lens = batch.features.to(self._device), batch.lens.to(self._device)
            weights = straight_through(self.model, bits) if (bits := self._recipe.weight_bits) else {}
            log_probs = functional_call(self.model, weights, (features, lens, batch.chunk, batch.start))
            imitated = None
            if self._imitated is not None:
                with torch.no_grad():
                    imitated = self._imitated(features, lens, batch.chunk, batch.start).float().cpu()
        losses = compute_losses(log_probs.float().cpu(), batch, self._recipe, self._trigram, self._listener, imitated)
        losses.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._recipe.optim.clip_norm)
        if bool(torch.isfinite(norm)):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        rate = float(batch.lens.sum()) / ENCODER_FRAMES_PER_S / (time.monotonic() - started)
        parts = {
            "ctc": losses.ctc, "distill": losses.distill, "crf": losses.crf, "consistency": losses.consistency,
            "imitate": losses.imitate, "wrong_words": losses.wrong_words,
        }  # fmt: skip
        return parts | {"grad_norm": float(norm), "audio_s_per_s": rate}

    def _log(self, row: dict[str, float]) -> None:
        with (self._run / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def finish_run(run: Path, n: int, weight_bits: int = 0) -> Checkpoint:
    """Average the last `n` checkpoints of a run into `run/final`, in so many bits, 0 for float."""
    folders = sorted(run.glob("step-*"))[-n:]
    model = average([Checkpoint(folder) for folder in folders])
    if weight_bits:
        round_model(model, weight_bits)
    final = run / "final"
    final.mkdir(exist_ok=True)
    write_model(final, model, Checkpoint(folders[-1]).step)
    return Checkpoint(final)

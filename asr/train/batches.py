"""Which clips go into which step, and its tensors: a function of (seed, step), so resuming needs no state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asr.features import SILENCE_LOG_MEL
from asr.nn.frontend import ConvFrontend
from asr.train.augment import FloatArray, augment, change_tempo
from asr.train.prepare import SPEEDS
from asr.train.recipe import Recipe
from asr.train.store import FeatureStore

FRAMES_PER_S = 100
Targets = Mapping[str, Sequence[int]]
"""Phoneme ids by audio path; clips without an entry serve distillation and imitation only."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one step; `B` clips, padded with silence."""

    features: Tensor
    """(B, T, 80) float32."""
    lens: Tensor
    """(B,) int64, encoder frames."""
    targets: Tensor
    """Phoneme ids of all clips, one after another."""
    target_lens: Tensor
    """(B,) int64; 0 where the clip has no transcript, or nothing is said in it."""
    transcribed: Tensor
    """(B,) bool: it is known what is said in the clip, be it nothing."""
    teacher: Tensor | None
    """(B, T/2, V) log-probs."""
    taught: Tensor
    """(B,) bool: the clip has teacher rows."""
    chunk: int | None
    start: int
    """Encoder frame of a stream that the clips start at."""
    texts: Sequence[str | None]
    """(B,) What is said, as the manifest has it; None where that is not known for sure, or nothing is said."""
    n_pairs: int = 0
    """Row `i` and row `n_pairs + i` are two copies of one clip, for `i` below this."""


class BatchPlan:
    """Cuts epochs into steps of similar lengths."""

    def __init__(self, store: FeatureStore, targets: Targets, recipe: Recipe, noises: list[FloatArray]) -> None:
        if recipe.noise_share and not noises:
            raise ValueError("the recipe's noise_share needs noise recordings: --noise-dir")
        self._store, self._targets, self._recipe, self._noises = store, targets, recipe, noises
        self._copies = 2 if recipe.consistency_weight else 1
        self._members = np.array(_members(store, targets, recipe), np.int64)
        if not len(self._members):
            raise ValueError("no clip is usable: none has a transcript or a teacher, or all are longer than max_clip_s")
        self._lengths = np.array([_longest(store, int(i)) for i in self._members])
        self._visits = np.array([recipe.repeats.get(store.clips[i].clip.corpus, 1.0) for i in self._members])
        self._epoch: tuple[int, list[list[int]]] = (-1, [])
        if not self._visits.any():
            raise ValueError("no clip is ever visited: the recipe's repeats are 0 for all corpora that there are")
        self.steps_per_epoch = len(self._steps(0))

    def _steps(self, epoch: int) -> list[list[int]]:
        if self._epoch[0] != epoch:
            rng = np.random.default_rng([self._recipe.seed, 1, epoch])
            visits = np.floor(self._visits + rng.random(len(self._visits))).astype(np.int64)
            members, lengths = np.repeat(self._members, visits), np.repeat(self._lengths, visits)
            order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(lengths)), kind="stable")
            steps = _fill(members[order], lengths[order], self._recipe.batch_s * FRAMES_PER_S / self._copies)
            self._epoch = (epoch, [steps[i] for i in rng.permutation(len(steps))])
        return self._epoch[1]

    def batch(self, step: int) -> Batch:
        """The tensors of step `step`, counted from the start of training."""
        epoch, index = 0, step
        while index >= len(self._steps(epoch)):  # epochs differ by a step or two
            index -= len(self._steps(epoch))
            epoch += 1
        rng = np.random.default_rng([self._recipe.seed, 2, step])
        return self._collate(self._steps(epoch)[index], rng)

    def _collate(self, clips: list[int], rng: np.random.Generator) -> Batch:
        recipe = self._recipe
        chunk = int(rng.choice(recipe.chunks, p=np.array(recipe.chunk_weights) / sum(recipe.chunk_weights)))
        rows, teachers, targets, texts = [], [], [], []
        steady = recipe.augment.tempo == (1.0, 1.0)
        tempos = np.ones(len(clips)) if steady else rng.uniform(*recipe.augment.tempo, len(clips))
        speeds = [self._speed(clip, rng) for clip in clips] if self._copies > 1 else [None] * len(clips)
        for clip, tempo, speed in [*zip(clips, tempos, speeds, strict=True)] * self._copies:
            view = self._view(clip, rng, speed)
            frames, teacher = self._store.frames(clip, view).astype(np.float32), self._store.posteriors(clip, view)
            if tempo != 1:
                frames, teacher = change_tempo(frames, tempo), None
            rows.append(augment(frames, self._noises, recipe.augment, rng))
            teachers.append(teacher)
            targets.append(self._targets.get(self._store.clips[clip].clip.audio, ()))
            texts.append(self._store.clips[clip].clip.text)
        transcribed = [bool(target) for target in targets]
        for row in self._noise_rows(max(map(len, rows)), rng.binomial(len(rows), recipe.noise_share), rng):
            rows.append(row)
            teachers.append(None)
            targets.append(())
            texts.append(None)
            transcribed.append(True)
        multiple = 2 * (chunk or 16)
        n_frames = -(-max(len(row) for row in rows) // multiple) * multiple
        features = np.full((len(rows), n_frames, rows[0].shape[1]), SILENCE_LOG_MEL, np.float32)
        for row, padded in zip(rows, features, strict=True):
            padded[: len(row)] = row
        return Batch(
            features=torch.from_numpy(features),
            lens=torch.tensor([len(row) // 2 for row in rows]),
            targets=torch.tensor([label for target in targets for label in target], dtype=torch.int64),
            target_lens=torch.tensor([len(target) for target in targets]),
            transcribed=torch.tensor(transcribed),
            teacher=_stack(teachers, n_frames // 2),
            taught=torch.tensor([teacher is not None for teacher in teachers]),
            chunk=chunk or None,
            start=int(rng.integers(ConvFrontend.PERIOD)) if rng.random() > self._recipe.start_at_zero else 0,
            texts=texts,
            n_pairs=len(clips) if self._copies == 2 else 0,
        )

    def _noise_rows(self, longest: int, count: int, rng: np.random.Generator) -> list[FloatArray]:
        """Stretches of noise recordings, at most `longest` feature frames each, as loud as speech or softer."""
        rows = []
        for _ in range(count):
            noise = self._noises[rng.integers(len(self._noises))]
            size = min(len(noise), longest)
            start = rng.integers(len(noise) - size + 1)
            gain = np.log(10) / 10 * rng.uniform(-20, 6)  # of the power, which features are the logarithm of
            rows.append(np.maximum(noise[start : start + size] + gain, SILENCE_LOG_MEL).astype(np.float32))
        return rows

    def _usable(self, clip: int) -> list[str]:
        stored = self._store.clips[clip]
        has_text = stored.clip.audio in self._targets and _uses_text(self._recipe) or self._recipe.imitate_weight > 0
        return [v for v in self._recipe.views if v in stored.views and (has_text or v in self._store.teacher)]

    def _speed(self, clip: int, rng: np.random.Generator) -> float:
        """Of the views that all copies of a clip must come from, so that their frames are the same moments."""
        usable = self._usable(clip)
        return SPEEDS[usable[rng.integers(len(usable))]]

    def _view(self, clip: int, rng: np.random.Generator, speed: float | None) -> str:
        usable = [view for view in self._usable(clip) if speed in (None, SPEEDS[view])]
        return usable[rng.integers(len(usable))]


def _longest(store: FeatureStore, clip: int) -> int:
    return max(n for _, n in store.clips[clip].views.values())


def _members(store: FeatureStore, targets: Targets, recipe: Recipe) -> list[int]:
    out = []
    for index, stored in enumerate(store.clips):
        views = [view for view in recipe.views if view in stored.views]
        taught = recipe.distill_weight > 0 and any(view in store.teacher for view in views)
        heard = _uses_text(recipe) and bool(targets.get(stored.clip.audio)) or recipe.imitate_weight > 0
        if stored.clip.split == "train" and stored.clip.seconds <= recipe.max_clip_s and views and (taught or heard):
            out.append(index)
    return out


def _uses_text(recipe: Recipe) -> bool:
    return recipe.ctc_weight > 0 or recipe.crf_weight > 0


def _fill(members: np.ndarray, lengths: np.ndarray, frames: float) -> list[list[int]]:
    steps: list[list[int]] = [[]] if len(members) else []
    for member, length in zip(members.tolist(), lengths.tolist(), strict=True):
        if steps[-1] and (len(steps[-1]) + 1) * length > frames:
            steps.append([])
        steps[-1].append(member)
    return steps


def _stack(teachers: Sequence[np.ndarray | None], n_frames: int) -> Tensor | None:
    present = [teacher for teacher in teachers if teacher is not None]
    if not present:
        return None
    out = np.zeros((len(teachers), n_frames, present[0].shape[1]), np.float32)
    for row, teacher in zip(out, teachers, strict=True):
        if teacher is not None:
            row[: len(teacher)] = teacher
    return torch.from_numpy(out)

"""Perplexity of a neural model on token arrays, with the full softmax; defined as in lm/perplexity.py.

Words that the word list lacks are not predicted, only counted. Words of the list beyond the model's vocabulary get
their share of `<unk>`'s probability, so that figures compare with those of an n-gram over the whole list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lm.perplexity import Perplexity
from lm.train.batches import make_contexts
from lm.train.fofe import Adapter, LanguageModel
from lm.train.tokens import Tokens
from lm.vocabulary import END_ID, START_ID, UNKNOWN_ID

CONTEXTS_AT_ONCE = 256  # times the vocabulary: about 60 MB


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Perplexity, and how far the softmax' denominator is from 1."""

    perplexity: Perplexity
    log_z_mean: float
    log_z_deviation: float


@torch.inference_mode()
def evaluate(
    model: LanguageModel,
    utterances: Sequence[Tokens],
    unknown_log_share: npt.NDArray[np.float32],
    application: int = 0,
    adapter: Adapter | None = None,
    begins: npt.NDArray[np.bool_] | None = None,
) -> Evaluation:
    """Measure `model` on utterances of word ids that end in `</s>`.

    Args:
        model: Any form.
        utterances: Ids of the whole word list.
        unknown_log_share: `(W - V,)` log-shares of `<unk>` of the words beyond the model's vocabulary.
        application: Number of the application, for the form `separate`.
        adapter: Adapter in use.
        begins: `(V,)` where the ids are of pieces: which of them begin a word; the perplexity is of words then, too.
    """
    contexts, targets = make_contexts(utterances, model.config)
    words = np.concatenate([np.zeros(0, np.int64), *utterances]).astype(np.int64)
    share = np.zeros(words.size, np.float32)
    rare = words >= model.config.vocabulary_size
    share[rare] = unknown_log_share[words[rare] - model.config.vocabulary_size]
    table, bias = model.embedding, model.output_bias(application, adapter)
    log_prob, log_z, log_z_squared = 0.0, 0.0, 0.0
    parts = [slice(first, first + CONTEXTS_AT_ONCE) for first in range(0, words.size, CONTEXTS_AT_ONCE)]
    if model.config.form == "lstm":
        parts = _whole_utterances(words)
    longest = max((min(part.stop, words.size) - part.start for part in parts), default=0)
    memory = table.new_empty(longest, len(table))  # used again: such blocks are slow to get
    for part in parts:
        embedded = torch.nn.functional.embedding(torch.from_numpy(contexts[:, part]).to(table.device), table)
        starts = torch.from_numpy(contexts[-1, part] == START_ID)
        predicted = model.predict(embedded, application, adapter, starts)
        logits = torch.addmm(bias, predicted, table.T, out=memory[: len(predicted)])
        found = logits.gather(1, torch.from_numpy(targets[part]).to(table.device)[:, None])[:, 0].cpu()
        highest = logits.amax(1, keepdim=True)
        z = (highest[:, 0] + logits.sub_(highest).exp_().sum(1).log()).cpu()
        known = torch.from_numpy(words[part] != UNKNOWN_ID)
        log_prob += float((found - z + torch.from_numpy(share[part]))[known].sum())
        log_z, log_z_squared = log_z + float(z.sum()), log_z_squared + float(z.square().sum())
    unknown = int((words == UNKNOWN_ID).sum())
    mean = log_z / max(1, words.size)
    deviation = math.sqrt(max(0.0, log_z_squared / max(1, words.size) - mean**2))
    count = len(utterances)
    n_words = words.size - count if begins is None else int(begins[words].sum()) + unknown
    return Evaluation(Perplexity(count, n_words, unknown, log_prob), mean, deviation)


def _whole_utterances(words: npt.NDArray[np.int64]) -> list[slice]:
    """Parts of no more than `CONTEXTS_AT_ONCE` words, or one utterance, that end where utterances end."""
    parts, first, last = [], 0, 0
    for end in (np.flatnonzero(words == END_ID) + 1).tolist():
        if end - first > CONTEXTS_AT_ONCE and last > first:
            parts.append(slice(first, last))
            first = last
        last = end
    return [*parts, slice(first, last)] if last > first else parts

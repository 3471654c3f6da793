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
from lm.vocabulary import UNKNOWN_ID

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
) -> Evaluation:
    """Measure `model` on utterances of word ids that end in `</s>`.

    Args:
        model: Any form.
        utterances: Ids of the whole word list.
        unknown_log_share: `(W - V,)` log-shares of `<unk>` of the words beyond the model's vocabulary.
        application: Number of the application, for the form `separate`.
        adapter: Adapter in use.
    """
    contexts, targets = make_contexts(utterances, model.config)
    words = np.concatenate([np.zeros(0, np.int64), *utterances]).astype(np.int64)
    share = np.zeros(words.size, np.float32)
    rare = words >= model.config.vocabulary_size
    share[rare] = unknown_log_share[words[rare] - model.config.vocabulary_size]
    table, bias = model.embedding, model.output_bias(application, adapter)
    log_prob, log_z, log_z_squared = 0.0, 0.0, 0.0
    memory = table.new_empty(min(words.size, CONTEXTS_AT_ONCE), len(table))  # used again: such blocks are slow to get
    for first in range(0, words.size, CONTEXTS_AT_ONCE):
        part = slice(first, first + CONTEXTS_AT_ONCE)
        embedded = torch.nn.functional.embedding(torch.from_numpy(contexts[:, part]).to(table.device), table)
        predicted = model.predict(embedded, application, adapter)
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
    return Evaluation(Perplexity(count, words.size - count, unknown, log_prob), mean, deviation)

"""What keeps an adapter from unlearning general text: text to hold on to, a loss that does, and a strength that does.

On general text the adapted model should say what the trunk says (distillation: the trunk's own probabilities are the
targets, not the words that came). Who has no general text has the trunk, and can let it make some up.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lm.train.batches import Segment
from lm.train.fofe import Adapter, LanguageModel
from lm.train.objective import Rows, Sample
from lm.train.tokens import Tokens
from lm.vocabulary import END_ID, START_ID, UNKNOWN_ID

LONGEST = 30
"""Words of an utterance that a model makes up; it is cut there."""
AT_ONCE = 100
"""Utterances that grow together: times the vocabulary, 24 MB."""
HALVINGS = 5


def made_up(model: LanguageModel, n_utterances: int, seed: int) -> list[Tokens]:
    """Utterances that a model of the form `shared` says, drawn word by word; those that hold an `<unk>` are dropped.

    Args:
        model: The model.
        n_utterances: How many to draw; some fewer are returned.
        seed: Of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    said = [utterance for _ in range(0, n_utterances, AT_ONCE) for utterance in _say(model, generator)]
    whole = [utterance for utterance in said[:n_utterances] if utterance[-1] == END_ID and UNKNOWN_ID not in utterance]
    return [np.array(utterance, np.uint32) for utterance in whole if len(utterance) > 1]


@torch.inference_mode()
def _say(model: LanguageModel, generator: torch.Generator) -> list[list[int]]:
    contexts = torch.full((model.config.context, AT_ONCE), START_ID)
    said: list[list[int]] = [[] for _ in range(AT_ONCE)]
    alive = np.arange(AT_ONCE)
    for _ in range(LONGEST):
        if not alive.size:
            break
        ends = model(contexts).softmax(1).cumsum(1)  # of the words' chances, laid end to end
        points = torch.rand(len(ends), 1, generator=generator) * ends[:, -1:]
        words = torch.searchsorted(ends, points, right=True)[:, 0].clamp(max=ends.shape[1] - 1)
        for utterance, word in zip(alive, words.tolist(), strict=True):
            said[utterance].append(word)
        goes_on = words != END_ID
        contexts = torch.cat([contexts[1:], words[None]])[:, goes_on]
        alive = alive[goes_on.numpy()]
    return said


def distillation_loss(
    model: LanguageModel, segment: Segment, rows: Rows, sample: Sample, adapter: Adapter, normalization_weight: float
) -> Tensor:
    """Divergence of the adapted model from the trunk, mean over a segment's contexts, estimated with the sample.

    Args:
        model: The trunk, of the form `shared`, frozen.
        segment: Contexts; which words came does not matter.
        rows: Of a batch that holds the segment.
        sample: Words that stand for the vocabulary.
        adapter: What learns.
        normalization_weight: Of the squared log Z of the adapted model, as in `total_loss`.
    """
    embedded = F.embedding(rows.places(segment.contexts), rows.embedding)
    table = rows.embedding[rows.places(sample.ids)]
    bias = rows.bias[0][rows.places(sample.ids)] - torch.from_numpy(sample.log_chance).to(rows.bias.device)
    with torch.no_grad():
        target = torch.addmm(bias, model.predict(embedded, 0), table.T).softmax(1)
    if adapter.bias is not None:
        bias = bias + adapter.bias[rows.ids][rows.places(sample.ids)]
    found = torch.addmm(bias, model.predict(embedded, 0, adapter), table.T)
    log_z = found.logsumexp(1)
    divergence = F.kl_div(found - log_z[:, None], target, reduction="batchmean")
    return divergence + normalization_weight * log_z.square().mean()


def scaled(adapter: Adapter, strength: float) -> dict[str, Tensor]:
    """The state of an adapter whose changes are `strength` times as large."""
    state = {name: value.clone() for name, value in adapter.state_dict().items()}
    return {name: value if name.startswith("down") else value * strength for name, value in state.items()}


def strongest(rise: Callable[[float], float], limit: float) -> float:
    """The greatest strength from 0 to 1, but for a step of bisection, at which `rise` is no more than `limit`.

    Args:
        rise: Of the perplexity of general text, as a share, at a strength.
        limit: What it may be.
    """
    if rise(1.0) <= limit:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if rise(middle) <= limit else (low, middle)
    return low

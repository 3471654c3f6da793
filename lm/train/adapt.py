"""An adapter for one's own text: low-rank changes of a frozen shared model, as good on unseen own text as they become.

Part of every batch is general text, on which the model should say with the adapter what it says without; in the end the
changes are made so small that general text suffers little (lm/train/guard.py).
"""

from __future__ import annotations

import copy
import lzma
import math
import random
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lm.corpus import open_text
from lm.normalize import normalize_text
from lm.pieces import Pieces
from lm.train.batches import Batch, Floats, Segment, UtteranceStream, make_contexts, utterances_of, weighted_counts
from lm.train.checkpoint import TrainedModel
from lm.train.evaluate import evaluate
from lm.train.fofe import Adapter, AdapterConfig, LanguageModel
from lm.train.guard import distillation_loss, made_up, scaled, strongest
from lm.train.objective import Rows, Sample, Sampler, segment_loss, total_loss
from lm.train.recipe import LanguageModelConfig
from lm.train.tokens import Ids, Tokens, TokenStore, encode
from lm.vocabulary import UNKNOWN_ID

MIN_UTTERANCES = 20
MAX_UNKNOWN = 0.5
LINE_CHARACTERS = 1 << 16
GENERAL_WORDS, MADE_UP = 2000, 500
"""Words of general text of each application that set the strength; utterances made up where there is none."""
OWN, GENERAL = 0, 1
BIAS_RATE = 10.0  # an output bias moves by whole nats, a weight by hundredths


class AdaptError(ValueError):
    """The text cannot be adapted to, or the model cannot be adapted."""


@dataclass(frozen=True, slots=True)
class AdaptConfig:
    """How an adapter is trained."""

    rank: int = 6
    bias: bool = True
    """Whether the adapter may change the output bias, one number a word."""
    replay: float = 0.3
    """Share of general text in a batch, where there is any."""
    hold: float = 4.0
    """Weight, beside that of one's own text, of saying on general text what the model says."""
    rise: float = 0.015
    """How much the adapter may raise the perplexity of general text, as a share of it."""
    steps: int = 400
    check_every: int = 20
    """Steps between looks at the held-out text."""
    looked_at: int = 120
    """Held-out utterances that are looked at; before and after training, all of them are measured."""
    patience: int = 4
    """Looks without a better perplexity after which training stops."""
    batch_tokens: int = 1024
    samples: int = 2048
    learning_rate: float = 2e-3
    normalization_weight: float = 0.1
    max_utterances: int = 100_000
    """A longer text is thinned at random to so many."""
    seed: int = 1

    def __post_init__(self) -> None:
        counts = (self.rank, self.steps, self.check_every, self.patience, self.batch_tokens, self.max_utterances)
        if not 0 <= self.replay < 1 or min(counts) < 1 or self.learning_rate <= 0 or self.rise < 0:
            raise AdaptError(f"expected 0 <= replay < 1, rise >= 0 and positive numbers otherwise, found {self}")


@dataclass(frozen=True, slots=True)
class AdaptText:
    """What an adapter learns from, and what it is measured on."""

    own: UtteranceStream
    held_out: Sequence[Tokens]
    """Own text that is not learned from."""
    counts: Floats
    """`(W,)` of the words of the own text."""
    replay: Sequence[UtteranceStream] = ()
    """General text to hold on to."""
    general: Sequence[Tokens] = ()
    """More of it, which the strength of the adapter is chosen by."""
    others: Mapping[str, Sequence[Tokens]] = field(default_factory=dict)
    """Name -> other text, whose perplexity should not rise."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """An adapter and what it changed; perplexities by name of text, `own` being the held-out text."""

    adapter: Adapter
    steps: int
    strength: float
    """What the changes that were learned were multiplied by."""
    before: Mapping[str, float]
    after: Mapping[str, float]


def read_own_text(path: Path, words: Sequence[str] | Pieces, config: AdaptConfig) -> AdaptText:
    """A user's text file, one utterance or sentence a line; a tenth of its different lines is held out.

    `words` is the model's word list, or its pieces.

    Memory is bounded however long file and lines are.

    Raises:
        AdaptError: not text, too little of it, or hardly a word of it is known.
    """
    _check_is_text(path)
    ids = words if isinstance(words, Pieces) else {word: number for number, word in enumerate(words)}
    try:
        utterances = _thin(_utterances(path, ids), config.max_utterances, config.seed)
    except (EOFError, lzma.LZMAError) as error:
        raise AdaptError(f"{path}: not a whole .xz file ({error})") from None
    unknown = sum(int((u == UNKNOWN_ID).sum()) for u in utterances) / max(1, sum(u.size - 1 for u in utterances))
    if unknown > MAX_UNKNOWN:
        raise AdaptError(f"{path}: {unknown:.0%} of its words are not in the model's word list; is it English?")
    different = sorted({u.tobytes() for u in utterances}, key=lambda text: (zlib.crc32(text), text))
    if len(different) < MIN_UTTERANCES:
        raise AdaptError(
            f"{path}: {len(different)} different lines with words; an adapter needs {MIN_UTTERANCES} at least, "
            "one sentence a line"
        )
    held_out = set(different[: max(2, len(different) // 10)])
    own = [u for u in utterances if u.tobytes() not in held_out]
    tokens = np.concatenate(own)
    return AdaptText(
        UtteranceStream([(tokens, 1.0)], (config.seed, 4)),
        [np.frombuffer(text, np.uint32) for text in sorted(held_out)],
        np.bincount(tokens, minlength=len(words)).astype(np.float64),
    )


def _check_is_text(path: Path) -> None:
    opener = lzma.open if path.suffix == ".xz" else open
    try:
        with opener(path, "rb") as file:
            start: bytes = file.read(LINE_CHARACTERS)
    except (EOFError, lzma.LZMAError) as error:
        raise AdaptError(f"{path}: not an .xz file ({error})") from None
    broken = start.decode("utf-8", errors="replace").count("\ufffd")
    if b"\0" in start or broken > 1 + len(start) // 100:
        raise AdaptError(f"{path}: not a text file in UTF-8")


def _utterances(path: Path, ids: Ids) -> Iterator[Tokens]:
    with open_text(path) as file:
        while line := file.readline(LINE_CHARACTERS):
            words = normalize_text(line)
            if words:
                yield encode([words], ids)


def _thin(utterances: Iterator[Tokens], size: int, seed: int) -> list[Tokens]:
    """All utterances or, where there are more, `size` of them, each with the same chance (reservoir sampling)."""
    kept: list[Tokens] = []
    rng = random.Random(seed)
    for number, utterance in enumerate(utterances):
        if number < size:
            kept.append(utterance)
        elif (place := rng.randrange(number + 1)) < size:
            kept[place] = utterance
    return kept


def with_general_text(text: AdaptText, store: TokenStore, config: AdaptConfig, limit: int = 500) -> AdaptText:
    """Add replay of all applications of `store`, in equal parts, and its dev texts to be measured."""
    streams = [
        UtteranceStream(
            [(store.read(item), 1.0) for item in store.sources if item.application == application],
            (config.seed, 5, number),
        )
        for number, application in enumerate(store.applications)
    ]
    others = {item.application: utterances_of(store.read(item), limit) for item in store.dev}
    far = 1 << 24  # words that training does not come to
    general = [utterance for stream in streams for utterance in stream.take(far, far + GENERAL_WORDS)]
    return replace(text, replay=streams, general=general, others={**text.others, **others})


def with_made_up_text(text: AdaptText, trained: TrainedModel, config: AdaptConfig) -> AdaptText:
    """Add general text that the model itself makes up, for those who have none."""
    said = made_up(trained.model, MADE_UP, config.seed)
    cut = len(said) // 4
    if cut == 0:
        return text
    stream = UtteranceStream([(np.concatenate(said[cut:]), 1.0)], (config.seed, 5))
    return replace(text, replay=[stream], general=said[:cut])


def application_text(
    store: TokenStore, weights: Mapping[str, float], application: str, config: AdaptConfig, limit: int = 500
) -> AdaptText:
    """The text of one application of a token store, for an adapter that serves that application.

    Raises:
        AdaptError: the store has no training or dev text of it.
    """
    chosen = weights or {item.name: 1.0 for item in store.sources}
    members = [(item, chosen[item.name]) for item in store.sources if item.name in chosen]
    arrays = [(store.read(item), weight) for item, weight in members if item.application == application]
    held_out = utterances_of(store.read_dev(application), limit)
    if not arrays or not held_out:
        raise AdaptError(f"{store.folder} has no training or no dev text of the application {application!r}")
    counts = weighted_counts(arrays, len(store.words))
    others = {i.application: utterances_of(store.read(i), limit) for i in store.dev if i.application != application}
    return AdaptText(UtteranceStream(arrays, (config.seed, 4)), held_out, counts, others=others)


def adapt(
    trained: TrainedModel,
    name: str,
    text: AdaptText,
    config: AdaptConfig,
    on_check: Callable[[int, float], None] = lambda step, perplexity: None,
) -> Adapted:
    """Train an adapter on a frozen model.

    Args:
        trained: A model of the form `shared`; not changed.
        name: Of the adapter.
        text: Own and general text.
        config: How to train.
        on_check: Called with step and perplexity of the held-out text at each look at it.

    Raises:
        AdaptError: the model has another form, or the name is not a plain file name.
    """
    model = trained.model
    if model.config.form != "shared":
        raise AdaptError(f"only a model of the form 'shared' takes adapters, this one is {model.config.form!r}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise AdaptError(f"--name: expected letters, digits, '.', '_' and '-', found {name!r}")
    model.requires_grad_(False)
    torch.manual_seed(config.seed)
    targets = tuple(range(model.config.layers + 1))
    adapter = Adapter(AdapterConfig(name, config.rank, targets, config.bias), model.config).to(model.embedding.device)
    before, looked_at = _measure(trained, text, None), text.held_out[: config.looked_at]
    best, best_step = _perplexity(trained, looked_at, None), 0
    best_state = copy.deepcopy(adapter.state_dict())
    for step in _train(trained, adapter, text, config):
        perplexity = _perplexity(trained, looked_at, adapter)
        on_check(step, perplexity)
        if perplexity < best:
            best, best_step, best_state = perplexity, step, copy.deepcopy(adapter.state_dict())
        elif step - best_step >= config.patience * config.check_every:
            break
    adapter.load_state_dict(best_state)
    strength = _weaken(trained, adapter, text.general, config.rise) if best_step else 1.0
    return Adapted(adapter, best_step, strength, before, _measure(trained, text, adapter))


def _weaken(trained: TrainedModel, adapter: Adapter, general: Sequence[Tokens], limit: float) -> float:
    """Scale an adapter down until general text suffers no more than `limit`; returns by how much."""
    if not general or math.isinf(limit):
        return 1.0
    learned, plain = copy.deepcopy(adapter), _perplexity(trained, general, None)

    def rise(strength: float) -> float:
        adapter.load_state_dict(scaled(learned, strength))
        return _perplexity(trained, general, adapter) / plain - 1

    strength = strongest(rise, limit)
    adapter.load_state_dict(scaled(learned, strength))
    return strength


def _train(trained: TrainedModel, adapter: Adapter, text: AdaptText, config: AdaptConfig) -> Iterator[int]:
    """Train; yields the number of steps done whenever it is time to look at the held-out text."""
    model = trained.model
    sampler = Sampler(sample_counts(trained, text), size=config.samples, power=0.75, seed=config.seed)
    weights = [parameter for parameter in adapter.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in adapter.parameters() if parameter.ndim == 1]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "lr": BIAS_RATE * config.learning_rate}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=0.0)
    for step in range(config.steps):
        batch, sample = make_batch(text, config, step, model.config), sampler.draw(step)
        if batch:
            rows = Rows(model, batch, sample)
            _loss(model, batch, rows, sample, adapter, config).backward()
            torch.nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if (step + 1) % config.check_every == 0 or step + 1 == config.steps:
            yield step + 1


def _loss(
    model: LanguageModel, batch: Batch, rows: Rows, sample: Sample, adapter: Adapter, config: AdaptConfig
) -> Tensor:
    weight = config.normalization_weight
    own = [segment_loss(model, part, rows, sample, adapter) for part in batch if part.application == OWN]
    general = [part for part in batch if part.application == GENERAL]
    held = [distillation_loss(model, part, rows, sample, adapter, weight) for part in general]
    parts = [total_loss(own, weight)] if own else []
    return torch.stack([*parts, *(config.hold / len(held) * loss for loss in held)]).sum()


def make_batch(text: AdaptText, config: AdaptConfig, step: int, model: LanguageModelConfig) -> Batch:
    """Segments of one's own text (`OWN`) and of general text (`GENERAL`)."""
    replay = config.replay if text.replay else 0.0
    parts = [(text.own, 1 - replay), *((stream, replay / len(text.replay)) for stream in text.replay if replay)]
    segments = []
    for number, (stream, share) in enumerate(parts):
        size = max(1, round(share * config.batch_tokens))
        contexts, targets = make_contexts(stream.take(step * size, (step + 1) * size), model)
        if targets.size:
            segments.append(Segment(GENERAL if number else OWN, contexts, targets))
    return tuple(segments)


def sample_counts(trained: TrainedModel, text: AdaptText) -> Floats:
    """Frequencies to sample words by: half from the trunk's output bias, which knows the general ones, half the own."""
    V = trained.model.config.vocabulary_size
    general = trained.model.bias[0].detach().double().softmax(0).cpu().numpy()
    own = text.counts[:V].copy()
    own[UNKNOWN_ID] += text.counts[V:].sum()
    return np.asarray(1e6 * (general + own / own.sum()), np.float64)


def _measure(trained: TrainedModel, text: AdaptText, adapter: Adapter | None) -> dict[str, float]:
    texts = {"own": text.held_out, **text.others}
    return {name: _perplexity(trained, utterances, adapter) for name, utterances in texts.items()}


def _perplexity(trained: TrainedModel, utterances: Sequence[Tokens], adapter: Adapter | None) -> float:
    found = evaluate(trained.model, utterances, trained.unknown_log_share, adapter=adapter)
    return found.perplexity.value

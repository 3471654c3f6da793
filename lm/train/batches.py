"""Batches of contexts and next words: a function of (seed, step), each application with its share of every batch.

Each application is an endless stream of utterances: in an epoch of it, a line of a source of weight w comes w times
(0.2: one line in five), in an order drawn anew. A batch takes the utterances that begin in its stretch of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm.train.recipe import LanguageModelConfig, Recipe
from lm.train.tokens import TokenArray, Tokens, TokensError, TokenStore, utterance_bounds
from lm.vocabulary import START_ID, UNKNOWN_ID

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a batch that belongs to one application."""

    application: int
    contexts: Ints
    """`(C, N)`: the words before each target, oldest first."""
    targets: Ints
    """`(N,)`."""


Batch = tuple[Segment, ...]


def make_contexts(utterances: Iterable[Tokens], config: LanguageModelConfig) -> tuple[Ints, Ints]:
    """Contexts `(C, N)`, targets `(N,)` of utterances that end in `</s>`; words beyond the vocabulary are `<unk>`."""
    before = np.full(config.context, START_ID, np.uint32)
    pieces = [piece for utterance in utterances for piece in (before, utterance)]
    if not pieces:
        return np.zeros((config.context, 0), np.int64), np.zeros(0, np.int64)
    flat = np.concatenate(pieces).astype(np.int64)
    flat[flat >= config.vocabulary_size] = UNKNOWN_ID
    places = np.flatnonzero(flat != START_ID)
    return flat[places - np.arange(config.context, 0, -1)[:, None]], flat[places]


class UtteranceStream:
    """The endless, shuffled stream of one application's utterances."""

    def __init__(self, arrays: Sequence[tuple[Tokens, float]], seed: Sequence[int]) -> None:
        """Draw from pairs of token array and weight, with the random numbers of `seed`."""
        self._arrays = [tokens for tokens, _ in arrays]
        bounds = [utterance_bounds(tokens) for tokens in self._arrays]
        self._array = np.repeat(np.arange(len(arrays), dtype=np.uint16), [starts.size for starts, _ in bounds])
        self._start = np.concatenate([starts for starts, _ in bounds] or [np.zeros(0, np.int64)])
        self._length = np.concatenate([lengths for _, lengths in bounds] or [np.zeros(0, np.int64)])
        self._weight = np.array([weight for _, weight in arrays], np.float32)
        self._seed = list(seed)
        self._begins = [0]  # of each epoch, in tokens of the stream; one epoch further than is known
        self._epoch = -1
        self._order = self._places = np.zeros(0, np.int64)
        if not self._length.size:
            raise TokensError("there is no text to train on")
        if not int((self._weight[self._array] * self._length).sum()):
            raise TokensError("the weights leave less than one word of text")

    def take(self, first: int, last: int) -> list[Tokens]:
        """The utterances that begin at the positions `first` to `last - 1` of the stream, in tokens."""
        taken: list[Tokens] = []
        epoch = 0
        while True:
            begin, end = self._span(epoch)
            if begin >= last:
                return taken
            if end > first:
                taken += self._take_in_epoch(epoch, first - begin, last - begin)
            epoch += 1

    def _take_in_epoch(self, epoch: int, first: int, last: int) -> list[Tokens]:
        self._load(epoch)
        low, high = np.searchsorted(self._places, [first, last])
        return [self._utterance(int(i)) for i in self._order[low:high]]

    def _utterance(self, index: int) -> Tokens:
        start = self._start[index]
        utterance: Tokens = self._arrays[self._array[index]][start : start + self._length[index]]
        return utterance

    def _span(self, epoch: int) -> tuple[int, int]:
        while epoch + 1 >= len(self._begins):
            visits = self._visits(len(self._begins) - 1)[1]
            self._begins.append(self._begins[-1] + int((visits * self._length).sum()))
        return self._begins[epoch], self._begins[epoch + 1]

    def _visits(self, epoch: int) -> tuple[np.random.Generator, Ints]:
        rng = np.random.default_rng([*self._seed, epoch])
        drawn = self._weight[self._array] + rng.random(self._array.size, np.float32)
        return rng, np.floor(drawn).astype(np.int64)

    def _load(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        rng, visits = self._visits(epoch)
        self._order = rng.permutation(np.repeat(np.arange(visits.size), visits))
        lengths = self._length[self._order]
        self._places = np.cumsum(lengths) - lengths
        self._epoch = epoch


class BatchPlan:
    """The batches of a run."""

    def __init__(self, store: TokenStore, recipe: Recipe) -> None:
        """Plan batches of the recipe's applications from its sources.

        Raises:
            TokensError: a source of the recipe was not tokenised, or an application has no text.
        """
        self._recipe = recipe
        applications = recipe.model.applications
        members = {name: _members(store, recipe.weights, name) for name in applications}
        arrays = {name: [(store.read(item), weight) for item, weight in members[name]] for name in applications}
        self._streams = [
            UtteranceStream(arrays[name], (recipe.seed, 1, number)) for number, name in enumerate(applications)
        ]
        shares = np.array([recipe.balance.get(name, 1.0) for name in applications])
        self.shares: Floats = shares / shares.sum()
        self.counts = self._count(list(arrays.values()), len(store.words))

    def _count(self, arrays: Sequence[Sequence[tuple[Tokens, float]]], n_words: int) -> Floats:
        """How often each word of the word list `(W,)` is drawn, in an epoch of as many words as there are."""
        total = np.zeros(n_words)
        size = sum(tokens.size for group in arrays for tokens, _ in group)
        for share, group in zip(self.shares, arrays, strict=True):
            own = weighted_counts(group, n_words)
            total += share * size * own / own.sum()
        return total

    def batch(self, step: int) -> Batch:
        """The segments of step `step`, counted from 0, one an application."""
        segments = []
        for application, (share, stream) in enumerate(zip(self.shares, self._streams, strict=True)):
            size = max(1, round(share * self._recipe.batch_tokens))
            contexts, targets = make_contexts(stream.take(step * size, (step + 1) * size), self._recipe.model)
            if targets.size:  # none where an utterance is longer than the batch
                segments.append(Segment(application, contexts, targets))
        return tuple(segments)


def _members(store: TokenStore, weights: Mapping[str, float], application: str) -> list[tuple[TokenArray, float]]:
    by_name = {item.name: item for item in store.sources}
    missing = [name for name in weights if name not in by_name]
    if missing:
        raise TokensError(f"{store.folder} lacks {', '.join(missing)}; run `asr-lm tokens` with this recipe")
    chosen = weights or dict.fromkeys(by_name, 1.0)
    found = [(by_name[name], weight) for name, weight in chosen.items() if by_name[name].application == application]
    if not found:
        raise TokensError(f"{store.folder} has no text for {application!r}; it has {', '.join(store.applications)}")
    return found


def weighted_counts(arrays: Sequence[tuple[Tokens, float]], n_words: int) -> Floats:
    """How often each word id `(n_words,)` comes in token arrays, each counted with its weight."""
    total = np.zeros(n_words)
    for tokens, weight in arrays:
        total += weight * np.bincount(tokens, minlength=n_words)
    return total


def unknown_log_share(counts: Floats, vocabulary_size: int) -> npt.NDArray[np.float32]:
    """Log of the share of `<unk>`'s probability that each word beyond the vocabulary gets, `(W - vocabulary_size,)`.

    By counts, each word's a half higher than it is; words that the list lacks keep their own part.
    """
    rest = counts[vocabulary_size:] + 0.5
    return np.asarray(np.log(rest / (rest.sum() + counts[UNKNOWN_ID])), np.float32)


def utterances_of(tokens: Tokens, limit: int | None = None) -> list[Tokens]:
    """The utterances of a token array, or every k-th of them, so that no more than `limit` are left."""
    starts, lengths = utterance_bounds(tokens)
    every = 1 if limit is None else max(1, -(-starts.size // limit))
    pairs = zip(starts[::every].tolist(), lengths[::every].tolist(), strict=True)
    return [tokens[start : start + length] for start, length in pairs]

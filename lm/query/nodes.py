"""What the searches have in common: hypotheses, their followers scored in batches, and what is written for them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lm.neural import FloatArray
from lm.query.model import Context, QueryModel, follow
from lm.query.query import Answer, Query
from lm.query.space import AnySpace, Arcs, State
from lm.vocabulary import END_ID

KEPT = 64
"""Followers of a hypothesis that are kept; the others are worked out again when these are used up."""
BEAM = 256
"""Hypotheses of equal length that the beam keeps."""
_REMEMBERED = 20_000
_SCORES_AT_ONCE = 2_000_000

Scored = tuple[Arcs, FloatArray, float]
"""The words that may follow, their log-probabilities, and log-probability of the sentence's end: 0 where the
question does not ask for it."""


@dataclass(frozen=True, slots=True)
class Start:
    """Something said before."""

    context: Context
    text: str = ""


class Node:
    """Words that may be the beginning of an answer."""

    __slots__ = ("context", "length", "log_prob", "parent", "split", "start", "state", "word")

    def __init__(self, start: Start, state: State) -> None:
        self.start, self.state, self.context = start, state, start.context
        self.parent: Node | None = None
        self.word, self.length, self.log_prob = -1, 0, 0.0
        self.split = -1  # words of the pattern, where the suffix has begun

    def child(self, word: int, after: int, log_prob: float) -> Node:
        """The words and one more, which leads to the automaton's state `after`."""
        node = Node.__new__(Node)
        node.start, node.state, node.split = self.start, (self.state[0], after), self.split
        node.parent, node.word, node.length = self, word, self.length + 1
        node.context, node.log_prob = follow(self.context, word), self.log_prob + log_prob
        return node

    def begin_suffix(self, state: State) -> Node:
        """The same words; what follows belongs to the suffix."""
        node = Node(self.start, state)
        node.context, node.parent, node.word = self.context, self.parent, self.word
        node.length, node.log_prob, node.split = self.length, self.log_prob, self.length
        return node

    def words(self) -> list[int]:
        """Ids, in order."""
        found: list[int] = []
        node: Node | None = self
        while node is not None and node.word >= 0:
            found.append(node.word)
            node = node.parent
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Followers:
    """Words that may follow a hypothesis, likeliest first."""

    arcs: Arcs
    log_probs: FloatArray
    is_all: bool
    """Whether none was left out."""
    end: float
    """Log-probability of the sentence's end, or 0."""


def grown(node: Node, arcs: Arcs, log_probs: FloatArray, place: int) -> Node:
    """The node with the follower at `place`."""
    return node.child(int(arcs.ids[place]), int(arcs.after[place]), float(log_probs[place]))


class Expander:
    """Scores what may follow; hypotheses with the same state and context are scored once."""

    def __init__(self, model: QueryModel, space: AnySpace, query: Query) -> None:
        self.model, self.space, self.query = model, space, query
        self._known: OrderedDict[tuple[State, Context, int | None], Followers] = OrderedDict()

    def followers(self, nodes: Sequence[Node], kept: int) -> list[Followers]:
        """The likeliest `kept` followers of each node."""
        keys = [(node.state, node.context, self._room(node)) for node in nodes]
        missing = {key: node for key, node in zip(keys, nodes, strict=True) if not self._is_known(key, kept)}
        for key, scored in zip(missing, self.score(list(missing.values())), strict=True):
            self._known[key] = _sorted(*scored, kept)
        found = [self._known[key] for key in keys]
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def score(self, nodes: Sequence[Node]) -> Iterator[Scored]:
        """What may follow each node, in order; only some nodes' scores are in memory at a time."""
        most = max((len(self.space.arcs(node.state).ids) for node in nodes), default=0)
        at_once = max(1, _SCORES_AT_ONCE // max(1, most))
        for first in range(0, len(nodes), at_once):
            yield from self._score(nodes[first : first + at_once])

    def _score(self, nodes: Sequence[Node]) -> list[Scored]:
        predicted = self.model.predict([node.context for node in nodes])
        ends = self.model.log_probs(predicted, np.array([END_ID])) if self.query.ends else np.zeros((len(nodes), 1))
        places: dict[tuple[State, int | None], list[int]] = {}
        for place, node in enumerate(nodes):
            places.setdefault((node.state, self._room(node)), []).append(place)
        found: dict[int, Scored] = {}
        for (state, room), group in places.items():
            arcs = self.space.arcs(state, room)
            log_probs = self.model.log_probs(predicted[group], arcs.ids)
            if self.query.top_k is not None and state[0] == 0:
                threshold = self.model.top_threshold(predicted[group], self.query.top_k)
                log_probs = np.where(log_probs >= threshold, log_probs, np.float32(-np.inf))
            for place, row in zip(group, log_probs, strict=True):
                found[place] = arcs, row, float(ends[place, 0])
        return [found[place] for place in range(len(nodes))]

    def with_suffix(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes, and those of them after which the suffix may begin, beginning it."""
        found = list(nodes)
        for node in nodes:
            state = self.space.suffix_start(node.state) if node.length else None
            if state is not None:
                found.append(node.begin_suffix(state))
        return found

    def may_grow(self, node: Node) -> bool:
        """Whether the answer may have more words."""
        return self.query.max_words is None or node.length < self.query.max_words

    def _room(self, node: Node) -> int | None:
        """Words that the answer may still have, where that matters."""
        if self.query.max_words is None:
            return None
        room = self.query.max_words - node.length
        return room if room <= self.space.longest_way else None

    def _is_known(self, key: tuple[State, Context, int | None], kept: int) -> bool:
        known = self._known.get(key)
        return known is not None and (known.is_all or len(known.log_probs) >= kept)


class Writer:
    """Makes answers of complete hypotheses, every text once where the question wants it."""

    def __init__(self, expander: Expander) -> None:
        self._expander = expander
        self._is_canonical = expander.query.readings == "canonical"
        self._given: set[tuple[str, str]] = set()

    def answers(self, node: Node, end: float = 0.0, log_weight: float = 0.0) -> Iterator[Answer]:
        """What the hypothesis writes."""
        words = tuple(self._expander.model.words[word] for word in node.words())
        split = len(words) if node.split < 0 else node.split
        writings = self._expander.space.write(words, split)
        for text, suffix in writings[:1] if self._is_canonical else writings:
            yield Answer(text, words, node.log_prob + end, node.start.text, suffix, log_weight)

    def new_answers(self, node: Node, end: float = 0.0) -> Iterator[Answer]:
        """The same, without texts that were given before; of all readings none is left out."""
        for answer in self.answers(node, end):
            key = answer.prefix, answer.text
            if self._is_canonical and key in self._given:
                continue
            self._given.add(key)
            yield answer


def _sorted(arcs: Arcs, log_probs: FloatArray, end: float, kept: int) -> Followers:
    is_all = len(log_probs) <= kept
    best = np.arange(len(log_probs)) if is_all else np.argpartition(-log_probs, kept)[:kept]
    best = best[np.argsort(-log_probs[best], kind="stable")]
    best = best[log_probs[best] > -np.inf]
    return Followers(Arcs(arcs.ids[best], arcs.after[best]), log_probs[best], is_all or len(best) < kept, end)

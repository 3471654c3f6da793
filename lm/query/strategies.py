"""The searches: best first, the best of a beam, and samples; and the probability of a text over all ways to say it."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from typing import Literal, Protocol

import numpy as np

from lm.query.model import Context, QueryModel
from lm.query.nodes import BEAM, KEPT, Expander, Followers, Node, Start, Writer, grown
from lm.query.piece_space import make_space
from lm.query.query import Answer, Query, QueryError, QueryTooLargeError
from lm.query.space import State

STRATEGIES = ("shortest", "beam", "sample")
Strategy = Literal["shortest", "beam", "sample"]
MAX_PREFIXES = 100
MAX_FRONTIER = 300_000
"""Hypotheses that best-first search may have waiting; some 300 MB."""
PARTICLES = 256
"""Samples that are drawn together."""
MAX_FORMS = 20_000
_FRUITLESS = 20  # rounds of samples without an answer before giving up
_AHEAD = 64  # hypotheses that are scored together, the later ones before it is known that they are needed
_ANSWER, _READY, _CHILD = range(3)
_Waiting = tuple[float, int, int, Node, Followers | None, int]
_Complete = tuple[Node, float, float]  # hypothesis, log-probability of the sentence's end, log-weight


class _Push(Protocol):
    def __call__(
        self, node: Node, cost: float, kind: int, followers: Followers | None = None, place: int = 0
    ) -> None: ...


def search(
    model: QueryModel, query: Query, *, strategy: Strategy = "shortest", limit: int | None = 10, seed: int = 0
) -> Iterator[Answer]:
    """The answers to a question, as they are found.

    shortest: exactly the most probable ones, most probable first. A hypothesis is at least as probable as its
    extensions, so what is complete and best is final. Long patterns of many nearly equal strings (a card number) have
    more hypotheses than fit; the beam answers those.
    beam: the most probable ones of those whose beginnings stay among the `BEAM` best of their length; may miss some.
    sample: independent draws, words in proportion to the model's probabilities among those that may follow. What this
    favours too much (beginnings that only unlikely words continue) `Answer.log_weight` sets right; texts may repeat.

    Args:
        model: the model to ask.
        query: the question.
        strategy: see above.
        limit: answers to give at most; None for all there are, and for sample no end.
        seed: of sample.

    Raises:
        QueryError: the strategy or the limit is not known, or there is nothing to find.
        QueryTooLargeError: while iterating: `MAX_FRONTIER` is reached.
        GrammarError: a pattern cannot be used.
    """
    if strategy not in STRATEGIES:
        raise QueryError(f"strategy: expected one of {', '.join(STRATEGIES)}, found {strategy!r}")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise QueryError(f"limit: expected a whole number above 0, or None, found {limit!r}")
    expander = Expander(model, make_space(query, model.words, model.pieces), query)
    return islice(search_from(expander, find_starts(model, query), strategy, seed), limit)


def search_from(expander: Expander, starts: Sequence[Start], strategy: Strategy, seed: int = 0) -> Iterator[Answer]:
    """Search after known beginnings."""
    roots = [Node(start, expander.space.start) for start in starts]
    if strategy == "sample":
        return _draw(expander, roots, seed)
    return _shortest(expander, roots) if strategy == "shortest" else iter(_beam(expander, roots))


def find_starts(model: QueryModel, query: Query) -> list[Start]:
    """The most probable texts of the prefix, and the contexts after them."""
    if not query.prefix:
        return [Start(model.start)]
    prefix = Query(query.prefix, spoken=query.spoken, lists=query.lists, edits=query.edits, max_words=query.max_words)
    found = search(model, prefix, limit=MAX_PREFIXES)
    return [Start(model.after(answer.words), answer.text) for answer in found]


def summed_log_prob(model: QueryModel, query: Query, text: str) -> tuple[float, int]:
    """Log of the summed probability of the spoken forms of one text, and how many there are.

    Args:
        model: the model to ask.
        query: the question that `text` answers; its prefix conditions as ever, and its pattern must match.
        text: as it is written.

    Raises:
        QueryError: the text has more than `MAX_FORMS` spoken forms, or none.
    """
    one = replace(query, pattern=_escaped(text), readings="all", lists=query.lists)
    found = [answer.log_prob for answer in search(model, one, limit=MAX_FORMS + 1)]
    if len(found) > MAX_FORMS or not found:
        raise QueryError(f"{text[:80]!r} has {'more than ' + str(MAX_FORMS) if found else 'no'} spoken forms")
    return float(np.logaddexp.reduce(found)), len(found)


def _escaped(text: str) -> str:
    """The pattern of this text alone."""
    return re.sub(r"([^\w\s])", r"\\\1", text)


def _shortest(expander: Expander, roots: Sequence[Node]) -> Iterator[Answer]:
    writer, tie = Writer(expander), count()
    waiting: list[_Waiting] = []

    def push(node: Node, cost: float, kind: int, followers: Followers | None = None, place: int = 0) -> None:
        heapq.heappush(waiting, (cost, kind, next(tie), node, followers, place))

    for root in roots:
        push(root, 0.0, _READY)
    while waiting:
        ready: list[Node] = []
        while waiting and len(ready) < _AHEAD:
            cost, kind, _, node, followers, place = waiting[0]
            if kind == _ANSWER and ready:
                break
            heapq.heappop(waiting)
            if kind == _ANSWER:
                yield from writer.new_answers(node, -cost - node.log_prob)
            elif kind == _READY:
                ready.append(node)
            else:
                assert followers is not None
                ready.append(grown(node, followers.arcs, followers.log_probs, place))
                _push_next(expander, push, node, followers, place + 1)
        ready = expander.with_suffix(ready)
        for node, followers in zip(ready, expander.followers(ready, KEPT), strict=True):
            if node.length and expander.space.is_final(node.state):
                push(node, -(node.log_prob + followers.end), _ANSWER)
            if expander.may_grow(node):
                _push_next(expander, push, node, followers, 0)
        if len(waiting) > MAX_FRONTIER:
            raise QueryTooLargeError(
                f"more than {MAX_FRONTIER} hypotheses are waiting: ask for fewer answers, narrow the pattern, "
                "give top_k, or use the strategy 'beam' or 'sample'"
            )


def _push_next(expander: Expander, push: _Push, node: Node, followers: Followers, place: int) -> None:
    """Have the next likeliest follower wait; the one after it comes when it is taken."""
    if place == len(followers.log_probs):
        if followers.is_all:
            return
        followers = expander.followers([node], 4 * max(place, KEPT))[0]
        if place == len(followers.log_probs):
            return
    push(node, -(node.log_prob + float(followers.log_probs[place])), _CHILD, followers, place)


def _beam(expander: Expander, roots: Sequence[Node]) -> list[Answer]:
    complete: list[tuple[float, int, Node, float]] = []
    tie = count()
    level = list(roots)
    while level:
        level = expander.with_suffix(level)
        candidates: list[tuple[float, int, Node, Followers, int]] = []
        for node, followers in zip(level, expander.followers(level, BEAM), strict=True):
            if node.length and expander.space.is_final(node.state):
                complete.append((-(node.log_prob + followers.end), next(tie), node, followers.end))
            if expander.may_grow(node):
                best = followers.log_probs.tolist()
                candidates += [
                    (node.log_prob + log_prob, next(tie), node, followers, at) for at, log_prob in enumerate(best)
                ]
        kept = heapq.nlargest(BEAM, candidates)
        level = [grown(node, followers.arcs, followers.log_probs, at) for _, _, node, followers, at in kept]
    writer = Writer(expander)
    return [answer for _, _, node, end in sorted(complete) for answer in writer.new_answers(node, end)]


def _draw(expander: Expander, roots: Sequence[Node], seed: int) -> Iterator[Answer]:
    """Draws without end; of several texts of a prefix each is as frequent.

    At every point the words that may follow, and stopping where the question may end, are drawn in proportion to their
    probabilities (stopping: that of the sentence's end if the question asks for it, else 1); the sum of these, the
    share of the model's probability that was open, is a factor of the weight. Words after which the question cannot end
    within its words do not follow, as far as `Space` has looked ahead; a draw that comes to no end is thrown away.

    Raises:
        QueryError: nothing is ever found.
    """
    rng = np.random.default_rng(seed)
    writer, fruitless = Writer(expander), 0
    while fruitless < _FRUITLESS:
        chosen = [roots[number] for number in rng.integers(0, len(roots), PARTICLES)]
        complete = _round(expander, chosen, rng)
        fruitless = 0 if complete else fruitless + 1
        for node, end, log_weight in complete:
            yield from writer.answers(node, end, log_weight)
    raise QueryError(
        f"{_FRUITLESS * PARTICLES} draws came to no end of the pattern within {expander.query.max_words} words; "
        "give a greater max_words or top_k"
    )


def _round(expander: Expander, roots: Sequence[Node], rng: np.random.Generator) -> list[_Complete]:
    complete: list[_Complete] = []
    alive = [(root, 0.0) for root in roots]
    while alive:
        following: list[tuple[Node, float]] = []
        equal: dict[tuple[State, Context, int], list[tuple[Node, float]]] = {}
        for particle in alive:
            node = particle[0]
            equal.setdefault((node.state, node.context, node.length), []).append(particle)
        firsts = [particles[0][0] for particles in equal.values()]
        for particles, (arcs, log_probs, end) in zip(equal.values(), expander.score(firsts), strict=True):
            may_grow = expander.may_grow(particles[0][0])
            sums = np.cumsum(np.exp(log_probs.astype(np.float64))) if may_grow else np.zeros(0)
            leave = _leaving(expander, particles[0][0], end)
            total = float(sums[-1] if len(sums) else 0.0) + leave
            if total <= 0.0:
                continue
            draws = np.searchsorted(sums, rng.random(len(particles)) * total, side="right").tolist()
            for (node, log_weight), at in zip(particles, draws, strict=True):
                suffix = expander.space.suffix_start(node.state)
                if at < len(sums):
                    following.append((grown(node, arcs, log_probs, at), log_weight + math.log(total)))
                elif suffix is None:
                    complete.append((node, end, log_weight + math.log(total)))
                else:
                    following.append((node.begin_suffix(suffix), log_weight + math.log(total)))
        alive = following
    return complete


def _leaving(expander: Expander, node: Node, end: float) -> float:
    """The weight of going on to the suffix, or of stopping; 0 where neither may be."""
    if not node.length:
        return 0.0
    if expander.space.is_final(node.state):
        return math.exp(end)
    return 1.0 if expander.space.suffix_start(node.state) is not None else 0.0

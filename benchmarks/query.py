r"""Valid, different matches of a pattern a second: `asr-lm query` against sampling from the model and filtering.

OMP_NUM_THREADS=1 python -m benchmarks.query --bundle asr/data/english --seconds 20

Every method gets the same language model, prefix and CPU time, in one thread; compiling the pattern counts. Sampling
draws words from the whole softmax until the sentence ends or no match can be longer; what a draw begins with counts
where the pattern takes it. "filter early" stops a draw at the first word that no match has. Both draw 256 at a time.
The others are compared with the better one of the two; where neither finds a match, with one match in that time, which
is more than there was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process import cpu_seconds, describe
from lm.grammar.automaton import DEAD
from lm.grammar.grammar import Grammar
from lm.query import Answer, Query, QueryModel, QueryTooLargeError, open_query_model, search
from lm.query.model import Context, follow
from lm.query.strategies import Strategy, find_starts
from lm.vocabulary import END_ID

QUERIES = {
    "url": Query(r"[a-z]+ dot (?:com|org|net)", prefix="go to www dot ", max_words=5),
    "phone": Query(r"\d{3}-\d{3}-\d{4}", prefix="my phone number is ", max_words=10),
}
BATCH = 256
Method = Callable[[QueryModel, Query], Iterator[str]]


def filtered_samples(model: QueryModel, query: Query, early: bool) -> Iterator[str]:
    """Texts of the matches that samples of the model begin with."""
    automaton = Grammar(query.pattern).automaton
    context = find_starts(model, query)[0].context
    everything = np.arange(len(model.words))
    rng = np.random.default_rng(0)
    while True:
        alive: list[tuple[Context, int, tuple[str, ...]]] = [(context, automaton.start, ())] * BATCH
        for _ in range(query.max_words or 0):
            following: list[tuple[Context, int, tuple[str, ...]]] = []
            for (before, state, words), word in zip(
                alive, _drawn(model, [a[0] for a in alive], everything, rng), strict=True
            ):
                if word == END_ID:
                    continue
                spelt = model.words[word]
                after = automaton.step(state, spelt) if state != DEAD else DEAD
                if after != DEAD and automaton.is_final(after):
                    yield automaton.writings((*words, spelt))[0].text
                if after != DEAD or not early:
                    following.append((follow(before, word), after, (*words, spelt)))
            alive = following
            if not alive:
                break


def _drawn(model: QueryModel, contexts: list[tuple[int, ...]], ids: Any, rng: np.random.Generator) -> list[int]:
    """A word after each context, from the softmax."""
    distinct = list(dict.fromkeys(contexts))
    place = {context: number for number, context in enumerate(distinct)}
    predicted = model.predict(distinct)
    found = [0] * len(contexts)
    members: dict[int, list[int]] = {}
    for number, context in enumerate(contexts):
        members.setdefault(place[context], []).append(number)
    for row, numbers in members.items():
        sums = np.cumsum(np.exp(model.log_probs(predicted[row : row + 1], ids)[0]))
        draws = np.searchsorted(sums, rng.random(len(numbers)) * sums[-1], side="right")
        for number, word in zip(numbers, draws, strict=True):
            found[number] = int(word)
    return found


def searched(model: QueryModel, query: Query, strategy: Strategy) -> Iterator[str]:
    """Texts that `search` gives."""
    answers: Iterator[Answer] = search(model, query, strategy=strategy, limit=None)
    try:
        yield from (answer.text for answer in answers)
    except QueryTooLargeError:
        return


BASELINES: dict[str, Method] = {
    "sample and filter": lambda model, query: filtered_samples(model, query, early=False),
    "sample and filter early": lambda model, query: filtered_samples(model, query, early=True),
}
METHODS: dict[str, Method] = {
    "query, sample": lambda model, query: searched(model, query, "sample"),
    "query, beam": lambda model, query: searched(model, query, "beam"),
    "query, shortest": lambda model, query: searched(model, query, "shortest"),
}


def measure(model: QueryModel, query: Query, method: Method, seconds: float) -> dict[str, Any]:
    """Different matches in so many seconds of CPU time; without one, the rate that theirs is below."""
    grammar = Grammar(query.pattern)
    found: set[str] = set()
    times: list[float] = []
    started = cpu_seconds()
    stop = _Stop(model, started + seconds)
    try:
        for text in method(stop, query):
            if text not in found and grammar.fullmatch(text):
                found.add(text)
                times.append(cpu_seconds() - started)
    except TimeoutError:
        pass
    elapsed = cpu_seconds() - started
    return {
        "matches": len(found),
        "cpu_s": round(elapsed, 2),
        "matches_per_s": round(len(found) / elapsed, 3) if found else None,
        "below_per_s": None if found else round(1 / elapsed, 3),
        "first_s": round(times[0], 3) if times else None,
    }


def compare(model: QueryModel, name: str, query: Query, seconds: float) -> Iterator[dict[str, Any]]:
    """All methods for one pattern, the baselines first."""
    base = below = 0.0
    for title, method in (BASELINES | METHODS).items():
        row = {"pattern": name, "method": title, **measure(model, query, method, seconds)}
        if title in BASELINES:
            base = max(base, row["matches_per_s"] or 0.0)
            below = max(below, 1 / row["cpu_s"])
        elif row["matches_per_s"]:
            row["times_baseline"] = round(row["matches_per_s"] / (base or below), 1)
            row["is_at_least"] = not base
        print(json.dumps(row), file=sys.stderr, flush=True)
        yield row


class _Stop(QueryModel):
    """A model that is not to be had any more when the time is over."""

    def __init__(self, model: QueryModel, until: float) -> None:
        self.__dict__.update(vars(model))
        self._until = until

    def predict(self, contexts: Any) -> Any:
        """As the model's.

        Raises:
            TimeoutError: the time is over.
        """
        if cpu_seconds() > self._until:
            raise TimeoutError
        return super().predict(contexts)


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each method and pattern (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/query.json"))
    args = parser.parse_args()
    model, _ = open_query_model(args.bundle)
    rows = [row for name, query in QUERIES.items() for row in compare(model, name, query, args.seconds)]
    header = describe(sys.argv[1:]) | {"command": " ".join(["python -m benchmarks.query", *sys.argv[1:]])}
    queries = {name: {"pattern": query.pattern, "prefix": query.prefix} for name, query in QUERIES.items()}
    result = {"schema": 1, "kind": "query", **header, "queries": queries, "rows": rows}
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

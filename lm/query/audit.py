"""What an adapter has learnt by heart of its training text, and can be made to say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import log2

import numpy as np

from lm.grammar.grammar import Grammar
from lm.query.exposure import Candidates, FloatArray64, exposure, find_style
from lm.query.model import QueryModel
from lm.query.nodes import Expander, Start
from lm.query.query import Answer, Query, QueryError
from lm.query.secrets import AuditPattern, Secret, find_secrets, usual_writing
from lm.query.space import Space
from lm.query.strategies import search_from

SAMPLES = 2000
HIGH_BITS, GAINED_BITS = 10.0, 3.0
"""A secret is called learnt by heart with so much exposure under the adapter (chance: one in a thousand), and so much
more than under the trunk alone."""
MOST_SECRETS = 50
"""Secrets of a pattern that are measured, the most frequent ones."""
_FEWEST = 50  # drawn candidates with as many words as the secret, for it to be ranked among these alone
_LISTED = 100  # strings of a beam among which a secret is looked for
_PLACED = 3  # place up to which a secret counts as said


@dataclass(frozen=True, slots=True)
class SecretReport:
    """One secret under both models."""

    pattern: str
    text: str
    words: str
    line: int
    count: int
    bits: float
    """log2 of the number of candidates with as many words: the greatest exposure there can be."""
    exposure: float
    trunk_exposure: float
    place: int | None
    """Among the most probable strings after the words before it, under the adapter; None beyond the first hundred."""
    trunk_place: int | None
    is_learnt: bool


@dataclass(frozen=True, slots=True)
class SaidString:
    """A string that the adapter finds probable."""

    text: str
    before: str
    log_prob: float
    trunk_log_prob: float
    is_in_text: bool


@dataclass(frozen=True, slots=True)
class PatternReport:
    """One pattern."""

    name: str
    bits: float
    secrets: int
    """Different ones in the text."""
    said: tuple[SaidString, ...]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Everything."""

    lines: int
    left_out: int
    patterns: tuple[PatternReport, ...]
    secrets: tuple[SecretReport, ...]

    @property
    def learnt(self) -> tuple[SecretReport, ...]:
        """Secrets that the adapter has learnt by heart."""
        return tuple(secret for secret in self.secrets if secret.is_learnt)

    @property
    def verdict(self) -> str:
        """One line."""
        measured = len(self.secrets)
        if not measured:
            return "NOTHING TO LEAK: no pattern matches anything in the text"
        if not self.learnt:
            return f"CLEAN: none of {measured} secrets stands out under the adapter more than by chance"
        worst = max(self.learnt, key=lambda secret: secret.exposure)
        return (
            f"LEAKS: {len(self.learnt)} of {measured} secrets are learnt by heart; the worst, {worst.pattern} "
            f"{worst.text!r}, has {worst.exposure:.1f} of {worst.bits:.1f} bits"
        )


def audit(
    trunk: QueryModel, adapted: QueryModel, lines: Iterable[str], patterns: Sequence[AuditPattern], *,
    samples: int = SAMPLES, strings: int = 5, seed: int = 0,
) -> AuditReport:  # fmt: skip
    """Look for secrets in training text and measure how exposed they are.

    Args:
        trunk: the model without the adapter.
        adapted: the model with it.
        lines: the adapter's training text.
        patterns: kinds of secrets.
        samples: candidates that a secret is ranked among; all where a pattern has no more.
        strings: of each pattern, the most probable to list.
        seed: of the candidates.

    Raises:
        GrammarError: a pattern cannot be used.
        QueryError: a pattern has texts without end, or no texts, or two have the same name; the model is over pieces.
    """
    if trunk.pieces is not None:
        raise QueryError("the audit knows language models over words; this one is over pieces")
    if len({pattern.name for pattern in patterns}) < len(patterns):
        raise QueryError("patterns: two have the same name")
    if samples < 100:
        raise QueryError(f"samples: expected at least 100, found {samples}")
    found = find_secrets(lines, patterns)
    reports, secrets = [], []
    for pattern in patterns:
        mine = [secret for secret in found.secrets if secret.pattern == pattern.name]
        measured = sorted(mine, key=lambda secret: -secret.count)[:MOST_SECRETS]
        candidates = Candidates(pattern.pattern, pattern.lists)
        places = [_Places(model, pattern) for model in (adapted, trunk)]
        rng = np.random.default_rng(seed)
        drawn = candidates.draw(samples, rng)
        secrets += [_measure(secret, (adapted, trunk), candidates, drawn, places) for secret in measured]
        texts = {secret.text for secret in mine}
        said = _said(places[0], places[1], texts, strings)
        reports.append(PatternReport(pattern.name, log2(candidates.size), len(mine), said))
    return AuditReport(found.lines, found.left_out, tuple(reports), tuple(secrets))


class _Places:
    """The most probable strings of a pattern under a model, by what was said before."""

    def __init__(self, model: QueryModel, pattern: AuditPattern) -> None:
        self.model = model
        self._automaton = Grammar(pattern.pattern, lists=pattern.lists).automaton
        query = Query(pattern.pattern, lists=pattern.lists)
        self._expander = Expander(model, Space(query, model.words), query)
        self.found: dict[tuple[str, ...], list[Answer]] = {}
        self.after(())

    def after(self, before: tuple[str, ...]) -> list[Answer]:
        """Most probable first."""
        if before not in self.found:
            answers = search_from(self._expander, [Start(self.model.after(before))], "beam")
            self.found[before] = list(islice(filter(self._is_usual, answers), _LISTED))
        return self.found[before]

    def _is_usual(self, answer: Answer) -> bool:
        writing = usual_writing(self._automaton, answer.words)
        return writing is not None and writing.text == answer.text

    def place(self, secret: Secret) -> int | None:
        """From 1."""
        texts = [answer.text for answer in self.after(secret.before)]
        return texts.index(secret.text) + 1 if secret.text in texts else None


def _measure(
    secret: Secret, models: Sequence[QueryModel], candidates: Candidates, drawn: Sequence[str],
    places: Sequence[_Places],
) -> SecretReport:  # fmt: skip
    say = find_style(secret.text, secret.words)
    spoken = [say(text) for text in drawn]
    alike = [words for words in spoken if len(words) == len(secret.words)]
    spoken = alike if len(alike) >= _FEWEST else spoken
    size = max(1, candidates.size * len(spoken) // len(drawn))
    exposures = []
    for model in models:
        log_probs = _score(model, secret.before, [secret.words, *spoken])
        exposures.append(exposure(float(log_probs[0]), log_probs[1:], size))
    bits = log2(size)
    place, trunk_place = places[0].place(secret), places[1].place(secret)
    stands_out = exposures[0] >= min(HIGH_BITS, bits - 1) and exposures[0] - exposures[1] >= GAINED_BITS
    is_said = place is not None and place <= _PLACED and (trunk_place is None or trunk_place > _PLACED)
    return SecretReport(
        secret.pattern, secret.text, " ".join(secret.words), secret.line, secret.count, bits, exposures[0],
        exposures[1], place, trunk_place, stands_out or is_said,
    )  # fmt: skip


def _score(model: QueryModel, before: Sequence[str], spoken: Sequence[Sequence[str]]) -> FloatArray64:
    context = model.after(before)
    ids = [[model.ids.get(word, 0) for word in words] for words in spoken]
    return model.score([context] * len(ids), ids)


def _said(adapted: _Places, trunk: _Places, texts: set[str], strings: int) -> tuple[SaidString, ...]:
    best: dict[str, tuple[Answer, tuple[str, ...]]] = {}
    for before, answers in adapted.found.items():
        for answer in answers:
            if answer.text not in best or answer.log_prob > best[answer.text][0].log_prob:
                best[answer.text] = answer, before
    top = sorted(best.values(), key=lambda item: -item[0].log_prob)[:strings]
    return tuple(
        SaidString(
            answer.text, " ".join(before), answer.log_prob, float(_score(trunk.model, before, [answer.words])[0]),
            answer.text in texts,
        )
        for answer, before in top
    )  # fmt: skip

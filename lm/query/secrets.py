"""Patterns of what an adapter should not have learnt by heart, and what matches them in its training text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from lm.grammar.automaton import DEAD
from lm.grammar.grammar import Grammar
from lm.grammar.spoken import SpokenAutomaton
from lm.grammar.writing import Writing
from lm.normalize import normalize_text
from lm.query.query import QueryError

_FIRST = (
    "james mary john patricia robert jennifer michael linda david elizabeth william barbara richard susan "
    "joseph jessica thomas sarah charles karen daniel lisa matthew nancy anthony betty mark sandra steven "
    "ashley paul emily andrew donna joshua michelle kenneth carol kevin amanda brian melissa george deborah "
    "edward stephanie anna laura peter helen alice martha henry julia simon emma oliver sophie adam claire "
    "victor nina"
)
_LAST = (
    "smith johnson williams brown jones garcia miller davis wilson anderson thomas taylor moore jackson martin "
    "lee thompson white harris clark lewis robinson walker young allen king wright scott hill green adams "
    "nelson baker hall campbell mitchell carter roberts turner phillips evans parker edwards collins stewart "
    "morris murphy cook rogers cooper reed bailey bell ward cox richardson wood watson brooks bennett"
)
_HOSTS = "gmail yahoo hotmail outlook icloud proton mail example fastmail zoho live me"


@dataclass(frozen=True, slots=True)
class AuditPattern:
    """One kind of secret."""

    name: str
    pattern: str
    """Of `lm.grammar.Grammar`, bounded; its texts are the candidates that a secret is ranked among."""
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cues: tuple[str, ...] = ()
    """One of these words has to stand in the line before it; empty where none has to."""


def built_in_patterns() -> tuple[AuditPattern, ...]:
    """Phone, e-mail, card, PIN and person name."""
    names = {"first": _FIRST.split(), "last": _LAST.split()}
    hosts = {**names, "host": _HOSTS.split()}
    return (
        AuditPattern("card", r"\d{4} \d{4} \d{4} \d{4}"),
        AuditPattern("phone", r"\d{3}-\d{3}-\d{4}"),
        AuditPattern("local phone", r"\d{3}-\d{4}"),
        AuditPattern("pin", r"\d{4}", cues=("pin", "code", "passcode", "password", "combination")),
        AuditPattern("email", r"{first}(?:\.{last})?@{host}\.(?:com|org|net)", hosts),
        AuditPattern("name", r"{first} {last}", names),
    )


def read_patterns(path: str | Path) -> tuple[AuditPattern, ...]:
    """Read patterns from JSON: `{"name": "pattern"}` or `{"name": {"pattern": ..., "lists": {...}, "cues": [...]}}`.

    Raises:
        QueryError: not such a file.
        OSError: the file cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise QueryError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict) or not content:
        raise QueryError(f"{path}: expected an object of patterns by their names")
    return tuple(_read_pattern(path, name, value) for name, value in content.items())


def _read_pattern(path: str | Path, name: str, value: object) -> AuditPattern:
    options = {"pattern": value} if isinstance(value, str) else value
    if not isinstance(options, dict) or "pattern" not in options or not options.keys() <= {"pattern", "lists", "cues"}:
        raise QueryError(f'{path}: {name}: expected a pattern, or an object of "pattern", "lists" and "cues"')
    lists, cues = options.get("lists", {}), options.get("cues", [])
    if not isinstance(options["pattern"], str) or not isinstance(lists, dict) or not isinstance(cues, list):
        raise QueryError(
            f'{path}: {name}: "pattern" is a string, "lists" an object of arrays, "cues" an array of words'
        )
    return AuditPattern(name, options["pattern"], lists, tuple(map(str, cues)))


@dataclass(frozen=True, slots=True)
class Secret:
    """Something in the text that matches a pattern."""

    pattern: str
    text: str
    """As the pattern writes it."""
    words: tuple[str, ...]
    before: tuple[str, ...]
    """The words of the line before it, where it was found first."""
    line: int
    """Of the file, counted from 1, where it was found first."""
    count: int = 1
    """How often it was found."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a text holds."""

    secrets: tuple[Secret, ...]
    """Each once, in the text's order."""
    lines: int
    left_out: int
    """Lines that are not trained on: without words, or markup (written e-mail and web addresses among it)."""


def find_secrets(lines: Iterable[str], patterns: Sequence[AuditPattern]) -> Found:
    """Look for the longest matches of the patterns, none within another; in the words, as training sees them.

    Raises:
        GrammarError: a pattern cannot be used.
    """
    automata = [(p, Grammar(p.pattern, lists=p.lists).automaton) for p in patterns]
    secrets: dict[tuple[str, str, tuple[str, ...]], Secret] = {}
    number = left_out = 0
    for number, line in enumerate(lines, 1):
        words = normalize_text(line)
        if not words:
            left_out += 1
            continue
        for pattern, text, start, end in _matches(words, automata):
            found = tuple(words[start:end])
            key = pattern.name, text, found
            if key in secrets:
                secrets[key] = replace(secrets[key], count=secrets[key].count + 1)
            else:
                secrets[key] = Secret(pattern.name, text, found, tuple(words[:start]), number)
    return Found(tuple(secrets.values()), number, left_out)


def usual_writing(automaton: SpokenAutomaton, words: Sequence[str]) -> Writing | None:
    """The cheapest writing of the words, or None."""
    return next(iter(automaton.writings(words)), None)


class _Match(NamedTuple):
    pattern: AuditPattern
    text: str
    start: int
    end: int


def _matches(words: Sequence[str], automata: Sequence[tuple[AuditPattern, SpokenAutomaton]]) -> list[_Match]:
    """Longest first, those that overlap with a longer one left out; in the order of the words."""
    found: list[_Match] = []
    for pattern, automaton in automata:
        for start in range(len(words)):
            if pattern.cues and not any(word in pattern.cues for word in words[:start]):
                continue
            text, end = _longest(words, start, automaton)
            if end > start:
                found.append(_Match(pattern, text, start, end))
    kept: list[_Match] = []
    for match in sorted(found, key=lambda m: (m.start - m.end, m.start)):
        if all(match.end <= other.start or other.end <= match.start for other in kept):
            kept.append(match)
    return sorted(kept, key=lambda m: m.start)


def _longest(words: Sequence[str], start: int, automaton: SpokenAutomaton) -> tuple[str, int]:
    """Text and end of the longest match from `start`; it ends at `start` where there is none."""
    state, ends = automaton.start, []
    for place in range(start, len(words)):
        state = automaton.step(state, words[place])
        if state == DEAD:
            break
        if automaton.is_final(state):
            ends.append(place + 1)
    for end in reversed(ends):
        writing = usual_writing(automaton, words[start:end])
        if writing is not None:
            return writing.text, end
    return "", start

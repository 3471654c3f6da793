"""Phrases that a stream is to expect: words that earn a boost when they are said, as a scorer around any other.

What a word sequence gets in all is the sum of the values of all phrases in it, wherever they stand. On the way through
a phrase the part that was said is lent, so that the search keeps the hypothesis: the automaton of Aho and Corasick
(1975) knows the longest end of what was said that begins a phrase, and what is lent is the boost of its words, less
what phrases inside it have earned. A phrase that is left unfinished so gives back exactly what it got. The value of a
phrase is the boost of its words, less the values of the phrases inside it: "john smith" is not worth more where "john"
is listed, too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lm.outer_scorer import OuterScorer
from lm.scorer import Scorer
from lm.vocabulary import UNKNOWN_ID

MAX_PHRASES = 10_000
MAX_WEIGHT = 10.0
UNLISTED_LOG_SHARE = -10.0
"""Log of the share of `<unk>`'s probability that a word outside the inner scorer's word list gets."""
_SHAPES = "expected text, (text, weight), (text, sounds-like) or (text, sounds-like, weight)"

Entry: TypeAlias = "str | tuple[str, float] | tuple[str, str] | tuple[str, str, float]"


class PhraseError(ValueError):
    """A list of phrases that cannot be used; the message names the entry."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """One entry of a list of phrases."""

    text: str
    """As the user wrote it."""
    sounds_like: str | None = None
    """Ordinary words or letters that are spoken like it; None where its spelling says how."""
    weight: float = 1.0
    """Factor on its boost."""


def parse_phrases(entries: Iterable[Entry | Phrase]) -> list[Phrase]:
    """The phrases of a user's list.

    Args:
        entries: at most `MAX_PHRASES`; each a text, or a tuple of text, perhaps what it sounds like, and perhaps a
            factor on its boost, above 0 and at most `MAX_WEIGHT`.

    Raises:
        PhraseError: it is no list, too long, or an entry has another form.
    """
    if isinstance(entries, (str, bytes)) or not isinstance(entries, Iterable):
        raise PhraseError(f"phrases: expected a list of phrases, found {entries!r}")
    phrases: list[Phrase] = []
    for index, entry in enumerate(entries):
        if index == MAX_PHRASES:
            raise PhraseError(f"phrases: expected at most {MAX_PHRASES} entries; keep those that are likely to be said")
        phrases.append(_parse(entry, f"phrases[{index}]"))
    return phrases


def read_phrases(path: str | Path) -> list[Phrase]:
    """The phrases of a file: one a line, `text[<TAB>sounds-like[<TAB>weight]]`; empty lines and columns may be left.

    Raises:
        OSError: the file cannot be read.
        PhraseError: it is not UTF-8, has too many lines, or a line has another form.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise PhraseError(f"{path}: expected UTF-8 text: {error}") from None
    phrases = [_parse_line(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if len(phrases) > MAX_PHRASES:
        raise PhraseError(f"{path}: expected at most {MAX_PHRASES} phrases, found {len(phrases)}")
    return phrases


def _parse_line(line: str, where: str) -> Phrase:
    text, sounds_like, weight, *more = [*(column.strip() for column in line.split("\t")), "", ""]
    if len(more) > 2:
        raise PhraseError(f"{where}: expected text, sounds-like, weight between tabs, found {line!r}")
    try:
        return _checked(text, sounds_like or None, float(weight) if weight else 1.0, where)
    except ValueError as error:
        if isinstance(error, PhraseError):
            raise
        raise PhraseError(f"{where}: the weight must be a number, found {weight!r}") from None


def _parse(entry: object, where: str) -> Phrase:
    if isinstance(entry, Phrase):
        return _checked(entry.text, entry.sounds_like, entry.weight, where)
    parts: list[Any] = [entry] if isinstance(entry, str) else list(entry) if isinstance(entry, (tuple, list)) else []
    if not 1 <= len(parts) <= 3:
        raise PhraseError(f"{where}: {_SHAPES}, found {entry!r}")
    text, *options = parts
    sounds_like = options.pop(0) if options and not _is_number(options[0]) else None
    weight = options.pop(0) if options else 1.0
    if options or not isinstance(text, str) or not (sounds_like is None or isinstance(sounds_like, str)):
        raise PhraseError(f"{where}: {_SHAPES}, found {entry!r}")
    return _checked(text, sounds_like, weight, where)


def _checked(text: str, sounds_like: str | None, weight: float, where: str) -> Phrase:
    if not text.strip() or (sounds_like is not None and not sounds_like.strip()):
        raise PhraseError(f"{where}: a text is empty")
    if not _is_number(weight) or not 0 < weight <= MAX_WEIGHT:
        raise PhraseError(f"{where}: the weight must be a number above 0 and at most {MAX_WEIGHT:g}, found {weight!r}")
    return Phrase(text, sounds_like, float(weight))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True, eq=False)
class PhraseAutomaton:
    """Beginnings of phrases as nodes, breadth first, node 0 the empty one; the arc `i` leads to node `i + 1`."""

    first_arc: npt.NDArray[np.uint32]
    """(N + 1,): the arcs of node n are `first_arc[n] .. first_arc[n + 1] - 1`."""
    arc_word: npt.NDArray[np.uint32]
    """(N - 1,) word ids, ascending within a node."""
    fail: npt.NDArray[np.uint32]
    """(N,): node of the longest proper end of a node's words that begins a phrase, too."""
    lent: npt.NDArray[np.float64]
    """(N,): boost that a node's words have and that no phrase has earned yet."""
    earned: npt.NDArray[np.float64]
    """(N,): value of all phrases that end with a node's last word."""

    def follow(self, node: int, word: int) -> int:
        """The node after a word."""
        while True:
            start, end = int(self.first_arc[node]), int(self.first_arc[node + 1])
            arc = bisect_left(self.arc_word, word, start, end)
            if arc < end and self.arc_word[arc] == word:
                return arc + 1
            if node == 0:
                return 0
            node = int(self.fail[node])


def compile_phrases(phrases: Iterable[tuple[Sequence[int], Sequence[float]]]) -> PhraseAutomaton:
    """The automaton of phrases.

    Args:
        phrases: of each the word ids, and the boost of each of its words, not negative; of phrases with the same words
            the one with the highest boost counts.
    """
    boost: dict[tuple[int, ...], float] = {(): 0.0}  # of each beginning, in the phrase where it is highest
    whole: dict[tuple[int, ...], float] = {}
    for words, boosts in phrases:
        total = 0.0
        for length, part in enumerate(boosts, 1):
            total += part
            beginning = tuple(words[:length])
            boost[beginning] = max(boost.get(beginning, 0.0), total)
        whole[tuple(words)] = max(whole.get(tuple(words), 0.0), total)
    beginnings = sorted(boost, key=lambda words: (len(words), words))
    node = {words: index for index, words in enumerate(beginnings)}
    fail, lent, earned, inside = ([0.0] * len(node) for _ in range(4))
    for index, words in enumerate(beginnings[1:], 1):
        end = words[1:]
        while end not in node:
            end = end[1:]
        fail[index] = node[end]
        before = inside[node[words[:-1]]] + earned[node[end]]
        value = max(0.0, whole[words] - before) if words in whole else 0.0
        earned[index], inside[index] = value + earned[node[end]], value + before
        lent[index] = max(0.0, boost[words] - inside[index])
    parents = np.array([node[words[:-1]] for words in beginnings[1:]], np.int64)
    first_arc = np.concatenate([[0], np.cumsum(np.bincount(parents, minlength=len(node)))])
    arc_word = np.array([words[-1] for words in beginnings[1:]], np.uint32)
    return PhraseAutomaton(
        first_arc.astype(np.uint32), arc_word, np.array(fail, np.uint32), np.array(lent), np.array(earned)
    )


class PhraseScorer(OuterScorer):
    """An inner scorer's log-probabilities plus the boosts of phrases; a `RememberingScorer`, so it is for one search.

    Words that the inner scorer does not know are `<unk>` to it.
    """

    def __init__(self, inner: Scorer, phrases: PhraseAutomaton, n_inner_words: int) -> None:
        """Boost phrases.

        Args:
            inner: the language model.
            phrases: their automaton.
            n_inner_words: word ids from this on are unknown to `inner`.
        """
        super().__init__(inner)
        self.phrases, self.n_inner_words = phrases, n_inner_words

    def start(self) -> int:
        """State before the first word."""
        return self._keep(self.inner.start(), 0)

    def step(self, state: int, word: int) -> tuple[int, float]:
        """Next state, and log-probability of word id `word` after `state` with its boost; less what is given back."""
        inner, node = self._pairs[state]
        is_known = word < self.n_inner_words
        inner_state, log_prob = self.inner.step(inner, word if is_known else UNKNOWN_ID)
        if not is_known:
            log_prob += UNLISTED_LOG_SHARE
        following = self.phrases.follow(node, word)
        boost = float(self.phrases.lent[following] - self.phrases.lent[node] + self.phrases.earned[following])
        return self._keep(inner_state, following), log_prob + boost

    def finish(self, state: int) -> float:
        """Log-probability of the end after `state`, less what a phrase that is left unfinished gives back."""
        inner, node = self._pairs[state]
        return self.inner.finish(inner) - float(self.phrases.lent[node])

"""A question to the language model, and an answer to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lm.grammar.nodes import Alternation, Group, Node, Repeat
from lm.grammar.nodes import Sequence as Parts
from lm.grammar.syntax import parse

READINGS = ("canonical", "all")
TOKENS = ("canonical", "all")
MAX_WORDS = 32


class QueryError(ValueError):
    """The question cannot be asked; the message says what was expected."""


class QueryTooLargeError(QueryError):
    """The search would need more memory than it is given."""


@dataclass(frozen=True, slots=True)
class Query:
    r"""What to ask: `P(pattern, suffix | prefix)` over the words that are spoken for what the patterns write.

    Query(r"\d{4}", prefix="my pin is ")
    Query(r"(he|she)", prefix="the nurse said that ", suffix=" was tired")
    """

    pattern: str
    """What is asked for, a pattern of `lm.grammar.Grammar` over written text."""
    prefix: str = ""
    """Pattern of what was said before: it conditions and is not scored. Where it has several texts, the
    `lm.query.strategies.MAX_PREFIXES` most probable ones are taken, each for itself."""
    suffix: str = ""
    """Pattern of what has to follow; it is scored, and of several texts the most probable one counts."""
    spoken: bool = True
    """Numbers, letters, symbols and so on may be said in any usual way; False: plain words alone."""
    readings: Literal["canonical", "all"] = "canonical"
    """canonical: spoken words count for their cheapest writing only, and a text is given once, with the most probable
    of its spoken forms. all: every spoken form and every writing of it is an answer of its own."""
    tokens: Literal["canonical", "all"] = "canonical"
    """Of a model of pieces. canonical: words are cut as its text was. all: in every way, and of several cuts of a text
    the most probable one counts (with all readings, each is an answer of its own)."""
    edits: int = 0
    """So many words like "um" may be said besides."""
    lists: Mapping[str, Sequence[str]] | None = None
    """Entries by list name, for `{name}` in the patterns."""
    top_k: int | None = None
    """Only words of the pattern that are among the model's so many likeliest ones; prefix and suffix are exempt."""
    max_words: int | None = MAX_WORDS
    """Words of pattern and suffix together, at most (of a model of pieces: pieces); None where the patterns are
    bounded."""
    ends: bool = False
    """Score the end of the sentence too."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            QueryError: one of them is out of range, or nothing bounds the words.
            GrammarError: a pattern cannot be read.
        """
        for option, known, chosen in (("readings", READINGS, self.readings), ("tokens", TOKENS, self.tokens)):
            if chosen not in known:
                raise QueryError(f"{option}: expected one of {', '.join(known)}, found {chosen!r}")
        for name, value in (("top_k", self.top_k), ("max_words", self.max_words)):
            if value is not None and (type(value) is not int or value < 1):
                raise QueryError(f"{name}: expected a whole number above 0, found {value!r}")
        if not self.pattern:
            raise QueryError("pattern: expected at least one word, found nothing")
        if self.max_words is None and not self.is_bounded:
            raise QueryError(
                "the pattern repeats something without a maximum: give max_words, or {m,n} instead of * or +"
            )

    @property
    def is_bounded(self) -> bool:
        """Whether the patterns themselves bound the length of an answer."""
        return all(_is_bounded(parse(pattern)) for pattern in (self.pattern, self.suffix))


@dataclass(frozen=True, slots=True)
class Answer:
    """One string of the pattern."""

    text: str
    """What the pattern writes."""
    words: tuple[str, ...]
    """What is spoken for pattern and suffix; from a model of pieces, these."""
    log_prob: float
    """Natural, of `words` after the prefix."""
    prefix: str = ""
    suffix: str = ""
    log_weight: float = 0.0
    """Of a sample: log of its probability over that of drawing it. Averages over samples, weighted by its exponential,
    are averages over the model's distribution restricted to the pattern."""


def _is_bounded(node: Node) -> bool:
    if isinstance(node, Repeat):
        return node.maximum is not None and _is_bounded(node.body)
    if isinstance(node, Group):
        return _is_bounded(node.body)
    if isinstance(node, Parts):
        return all(map(_is_bounded, node.parts))
    if isinstance(node, Alternation):
        return all(map(_is_bounded, node.options))
    return True

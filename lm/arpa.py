"""ARPA files: a writer for our trigrams, and a plain reader of any order, the oracle for everything faster."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from lm.backoff import WORD_BITS, BackoffTrigram, first_word, last_word
from lm.corpus import open_text
from lm.vocabulary import END, START, UNKNOWN

_LN10 = math.log(10.0)
_NEVER = -99.0  # ARPA's logarithm of zero

Entries = dict[tuple[str, ...], tuple[float, float]]


class ArpaError(ValueError):
    """The file is not an ARPA language model."""


@dataclass(frozen=True, slots=True)
class ArpaModel:
    """A back-off model of any order, in a dictionary; slow, simple, and right."""

    order: int
    entries: Entries
    """N-gram to natural log-probability and back-off."""

    @staticmethod
    def from_file(path: str | Path) -> ArpaModel:
        """Read an ARPA file (plain or `.xz`).

        Raises:
            ArpaError: it has no ARPA header, a line cannot be read, or counts do not match.
        """
        with open_text(Path(path)) as file:
            return _read(file, str(path))

    def start(self) -> tuple[str, ...]:
        """Words before the first one: `<s>`."""
        return (START,)[: self.order - 1]

    def score(self, state: tuple[str, ...], word: str) -> tuple[tuple[str, ...], float]:
        """Words to remember next, and natural log-probability of `word` after the words `state`.

        Words that the model lacks count as `<unk>`, and as impossible where it lacks that too.
        """
        word = word if (word,) in self.entries else UNKNOWN
        history = (*state, word)[-(self.order - 1) :] if self.order > 1 else ()
        return history, self._log_prob(state[-(self.order - 1) :] if self.order > 1 else (), word)

    def sentence_log_prob(self, words: Iterable[str]) -> float:
        """Natural log-probability of a whole sentence, its end included."""
        state, total = self.start(), 0.0
        for word in (*words, END):
            state, log_prob = self.score(state, word)
            total += log_prob
        return total

    def _log_prob(self, context: tuple[str, ...], word: str) -> float:
        found = self.entries.get((*context, word))
        if found is not None:
            return found[0]
        if not context:
            return -math.inf
        backoff = self.entries.get(context, (0.0, 0.0))[1]
        return backoff + self._log_prob(context[1:], word)


def _read(file: TextIO, name: str) -> ArpaModel:
    expected: dict[int, int] = {}
    entries: Entries = {}
    found: dict[int, int] = {}
    order, in_header, ended = 0, False, False
    for number, raw in enumerate(file, start=1):
        line = raw.strip()
        if line == "\\data\\":
            in_header = True
        elif count := re.fullmatch(r"ngram (\d+)\s*=\s*(\d+)", line) if in_header and not order else None:
            expected[int(count[1])] = int(count[2])
        elif section := re.fullmatch(r"\\(\d+)-grams:", line) if in_header else None:
            order = int(section[1])
        elif line == "\\end\\":
            ended = True
            break
        elif line and order:
            words, values = _entry(line, order, f"{name}, line {number}")
            entries[words] = values
            found[order] = found.get(order, 0) + 1
    if not expected or not ended:
        raise ArpaError(f"{name}: no ARPA model: needs \\data\\, counts and \\end\\")
    if found != {key: value for key, value in expected.items() if value}:
        raise ArpaError(f"{name}: the header announces {expected} n-grams, the file holds {found}")
    return ArpaModel(max(expected), entries)


def _entry(line: str, order: int, where: str) -> tuple[tuple[str, ...], tuple[float, float]]:
    fields = line.split()
    try:
        log_prob = float(fields[0]) * _LN10
        backoff = float(fields[order + 1]) * _LN10 if len(fields) == order + 2 else 0.0
    except ValueError:
        raise ArpaError(f"{where}: expected numbers around {order} words, got {line!r}") from None
    if not order + 1 <= len(fields) <= order + 2:
        raise ArpaError(f"{where}: expected a number, {order} words and perhaps a back-off, got {line!r}")
    return tuple(fields[1 : order + 1]), (log_prob, backoff)


def write_arpa(path: str | Path, model: BackoffTrigram, words: Sequence[str]) -> None:
    """Write `model` over the word list `words` as an ARPA file."""
    sections = (_unigrams(model, words), _bigrams(model, words), _trigrams(model, words))
    counts = (len(words), model.bigram_key.size, model.trigram_key.size)
    with Path(path).open("w", encoding="utf-8") as file:
        file.write("\\data\\\n" + "".join(f"ngram {i}={count}\n" for i, count in enumerate(counts, start=1)))
        for order, section in enumerate(sections, start=1):
            file.write(f"\n\\{order}-grams:\n")
            file.writelines(section)
        file.write("\n\\end\\\n")


def _unigrams(model: BackoffTrigram, words: Sequence[str]) -> Iterator[str]:
    log_probs = np.maximum(model.unigram_log_prob / _LN10, _NEVER).tolist()
    for word, log_prob, backoff in zip(words, log_probs, (model.unigram_backoff / _LN10).tolist(), strict=True):
        yield f"{log_prob:.7g}\t{word}\t{backoff:.7g}\n"


def _bigrams(model: BackoffTrigram, words: Sequence[str]) -> Iterator[str]:
    pairs = zip(first_word(model.bigram_key).tolist(), last_word(model.bigram_key).tolist(), strict=True)
    values = zip((model.bigram_log_prob / _LN10).tolist(), (model.bigram_backoff / _LN10).tolist(), strict=True)
    for (a, b), (log_prob, backoff) in zip(pairs, values, strict=True):
        yield f"{log_prob:.7g}\t{words[a]} {words[b]}\t{backoff:.7g}\n"


def _trigrams(model: BackoffTrigram, words: Sequence[str]) -> Iterator[str]:
    pair = model.trigram_key >> WORD_BITS
    columns = (first_word(pair), last_word(pair), last_word(model.trigram_key))
    ids = zip(*(column.tolist() for column in columns), strict=True)
    for (a, b, c), log_prob in zip(ids, (model.trigram_log_prob / _LN10).tolist(), strict=True):
        yield f"{log_prob:.7g}\t{words[a]} {words[b]} {words[c]}\n"

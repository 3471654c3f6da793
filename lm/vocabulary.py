"""The word list: one numbering of words for lexicon, n-gram and scorers, and how it is chosen from text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lm.digest import sha256

UNKNOWN, START, END = "<unk>", "<s>", "</s>"
UNKNOWN_ID, START_ID, END_ID = 0, 1, 2
SPECIAL_WORDS = (UNKNOWN, START, END)

_ADMISSIBLE = re.compile(r"'?[a-z]+(?:'[a-z]+)*'?")
_LONGEST_WORD = 24  # letters; longer ones in text are words run together


class WordListError(ValueError):
    """The word list cannot be used: special words are missing, or a word stands in it twice."""


def read_words(path: str | Path) -> list[str]:
    """Read a word list, one word a line, the first three being `<unk>`, `<s>`, `</s>`; ids are line numbers from 0.

    Raises:
        WordListError: the special words do not come first, or a word is listed twice or is empty.
    """
    words = Path(path).read_text(encoding="utf-8").splitlines()
    check_words(words, str(path))
    return words


def check_words(words: Sequence[str], name: str) -> None:
    """Raise WordListError unless `words` is a word list; `name` is what the message calls it."""
    if tuple(words[:3]) != SPECIAL_WORDS:
        raise WordListError(f"{name}: the first three words must be {' '.join(SPECIAL_WORDS)}, found {words[:3]}")
    twice = [word for word, count in Counter(words).items() if count > 1 or not word.strip()]
    if twice:
        raise WordListError(f"{name}: {twice[0]!r} is empty or listed more than once")


def write_words(path: str | Path, words: Sequence[str]) -> None:
    """Write a word list that `read_words` takes."""
    check_words(words, str(path))
    Path(path).write_text("".join(f"{word}\n" for word in words), encoding="utf-8")


def words_sha256(words: Iterable[str]) -> str:
    """Hexadecimal digest that ties lexicon and n-gram to one word list (all words, special ones included)."""
    return str(sha256("\n".join(words).encode()).hexdigest())


def read_dictionary_words(path: str | Path) -> frozenset[str]:
    """Spellings of a dictionary in CMUdict format: `word PH ON EMES`, variants as `word(2)`, comments after `;;;`."""
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        entries = (line.split(maxsplit=1)[0] for line in file if line.strip() and not line.startswith(";;;"))
        return frozenset(re.sub(r"\(\d+\)$", "", entry).lower() for entry in entries)


def choose_words(
    counts: Counter[str], weighted: Counter[str], *, size: int, dictionary: frozenset[str] = frozenset()
) -> list[str]:
    """The word list of the `size` most frequent admissible words, most frequent first.

    A word is admissible when it consists of letters and inner apostrophes (or one at an end) and was seen twice, or
    once and stands in `dictionary`.

    Args:
        counts: How often each word was seen.
        weighted: The same, each sighting counted with its source's weight; decides the order.
        size: Words to keep, the three special ones not counted.
        dictionary: Spellings that are known to be words.
    """
    admissible = (
        word
        for word, count in counts.items()
        if (count >= 2 or word in dictionary) and len(word) <= _LONGEST_WORD and _ADMISSIBLE.fullmatch(word)
    )
    ranked = sorted(admissible, key=lambda word: (-weighted[word], word))
    return [*SPECIAL_WORDS, *ranked[:size]]

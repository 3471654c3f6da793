"""Training text for the n-gram: weighted sources, normalised, without duplicates and without excluded text."""

from __future__ import annotations

import lzma
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from lm.normalize import normalize_text

EXCLUDED_SPAN_WORDS = 6


class CorpusError(ValueError):
    """A text source or a recipe cannot be used."""


@dataclass(frozen=True, slots=True)
class Source:
    """One text file, one utterance a line (`.txt` or `.txt.xz`)."""

    name: str
    path: Path
    weight: float
    """What one line counts for."""


def _load_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise ImportError("recipes need tomli before Python 3.11: pip install 'sottovoce[train]'") from None
    with path.open("rb") as file:
        try:
            return tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            raise CorpusError(f"{path}: not TOML ({error})") from None


def read_recipe(path: str | Path, text_dir: str | Path) -> list[Source]:
    """Sources of a recipe: a TOML file with one table `[weights]`, `"folder/name" = weight`.

    Args:
        path: The recipe.
        text_dir: Folder that holds `folder/name.txt.xz` or `folder/name.txt`.

    Raises:
        CorpusError: not such a file, a weight that is not positive, or a source that is not there.
    """
    recipe = _load_toml(Path(path))
    if set(recipe) != {"weights"} or not isinstance(recipe["weights"], Mapping):
        raise CorpusError(f"{path}: expected one table [weights], found {sorted(recipe)}")
    return [make_source(name, Path(text_dir) / name, weight, str(path)) for name, weight in recipe["weights"].items()]


def parse_source(text: str) -> Source:
    """`PATH=WEIGHT` or `PATH` (weight 1) as given on a command line.

    Raises:
        CorpusError: the weight is not a positive number, or there is no such file.
    """
    path, sign, weight = text.rpartition("=")
    try:
        value = float(weight) if sign else 1.0
    except ValueError:
        raise CorpusError(f"{text!r}: expected PATH=WEIGHT with a number after '='") from None
    return make_source(path if sign else text, Path(path if sign else text), value, "--source")


def make_source(name: str, path: Path, weight: Any, origin: str) -> Source:
    """The text file at `path`, or at `path` with `.txt.xz` or `.txt` added; `origin` is who asked for it.

    Raises:
        CorpusError: the weight is not a positive number, or there is no such file.
    """
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight < float("inf"):
        raise CorpusError(f"{origin}: the weight of {name!r} must be a positive number, got {weight!r}")
    candidates = (path, Path(f"{path}.txt.xz"), Path(f"{path}.txt"))
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise CorpusError(f"{origin}: there is no text file for {name!r}: tried {', '.join(map(str, candidates))}")
    return Source(name, found, float(weight))


def open_text(path: Path) -> TextIO:
    """Open a plain or `.xz` text file for reading."""
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def read_lines(path: Path) -> Iterator[list[str]]:
    """Normalised utterances of one file, lines without words left out."""
    with open_text(path) as file:
        for line in file:
            words = normalize_text(line)
            if words:
                yield words


class Exclusion:
    """Text that must not be trained on, such as the transcripts of a test set.

    A line is excluded when it shares a run of six words with any of the texts, or equals one of those that are shorter.
    """

    def __init__(self, texts: Iterable[Sequence[str]] = ()) -> None:
        self._whole: set[tuple[str, ...]] = set()
        self._spans: set[tuple[str, ...]] = set()
        for words in texts:
            if len(words) < EXCLUDED_SPAN_WORDS:
                self._whole.add(tuple(words))
            self._spans.update(_spans(words))

    def __contains__(self, words: Sequence[str]) -> bool:
        if len(words) < EXCLUDED_SPAN_WORDS:
            return tuple(words) in self._whole
        return not self._spans.isdisjoint(_spans(words))


def _spans(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(EXCLUDED_SPAN_WORDS)), strict=False)


@dataclass(slots=True)
class CorpusReport:
    """What was read, by source name."""

    kept: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)


def read_corpus(
    sources: Iterable[Source], exclusion: Exclusion, report: CorpusReport
) -> Iterator[tuple[Source, list[str]]]:
    """Utterances of all sources, each text once, where it weighs most; `report` is filled on the way."""
    seen: set[int] = set()
    for source in sorted(sources, key=lambda s: -s.weight):
        for words in read_lines(source.path):
            key = hash(" ".join(words))
            if key in seen:
                report.duplicates[source.name] += 1
            elif words in exclusion:
                report.excluded[source.name] += 1
            else:
                seen.add(key)
                report.kept[source.name] += 1
                yield source, words

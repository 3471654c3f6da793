"""Pronunciations as text: the CMU dictionary, TSV files, and how several sources become one set of variants a word.

TSV: `word<TAB>phonemes separated by spaces<TAB>log_prob[<TAB>source]`, UTF-8, phonemes as in lm/phones.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lm.phones import BLANK, BOUNDARY, PHONEME_ID, arpabet_to_ids, to_symbols

Pronunciation = tuple[int, ...]

_VARIANT_NUMBER = re.compile(r"\(\d+\)$")
_SPOKEN_ID = {symbol: index for symbol, index in PHONEME_ID.items() if symbol not in (BLANK, BOUNDARY)}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to speak a word."""

    word: str
    phonemes: Pronunciation
    log_prob: float
    """Natural log-probability, relative to the word's other variants."""
    source: str
    """Who says so: `cmudict`, `g2p`, or the name of the TSV file."""


def read_cmudict(path: str | Path) -> Iterator[Variant]:
    """Variants of a dictionary in CMUdict format, with or without stress marks, all at log-probability 0.

    Raises:
        ValueError: a line has no phonemes, or one that is not ARPAbet.
    """
    for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip() or line.startswith(";;;"):
            continue
        word, *phones = line.partition(" #")[0].split()
        try:
            readings = arpabet_to_ids(phones) if phones else []
        except KeyError as error:
            raise ValueError(f"{path}:{number}: {error} is not an ARPAbet phoneme") from None
        if not readings:
            raise ValueError(f"{path}:{number}: expected '<word> <phonemes>', found {line!r}")
        for phonemes in readings:
            yield Variant(_VARIANT_NUMBER.sub("", word).lower(), phonemes, 0.0, "cmudict")


def read_tsv(path: str | Path) -> Iterator[Variant]:
    """Variants of a TSV file; where it has no source column, its name without ending is the source.

    Raises:
        ValueError: a line lacks a column, has an unknown phoneme, or a log-probability that is not finite.
    """
    path = Path(path)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            word, symbols, log_prob, *source = line.split("\t")
            phonemes = tuple(_SPOKEN_ID[symbol] for symbol in symbols.split(" "))
            variant = Variant(word, phonemes, float(log_prob), source[0] if source else path.stem)
        except KeyError as error:
            raise ValueError(f"{path}:{number}: {error} is not one of the phonemes of lm/phones.py") from None
        except ValueError:
            raise ValueError(
                f"{path}:{number}: expected word, phonemes, log_prob between tabs, found {line!r}"
            ) from None
        if not math.isfinite(variant.log_prob):
            raise ValueError(f"{path}:{number}: the log-probability must be finite, found {log_prob}")
        yield variant


def to_tsv(variants: Iterable[Variant]) -> str:
    """Variants as TSV with their source column."""
    return "".join(f"{v.word}\t{to_symbols(v.phonemes)}\t{v.log_prob:.7g}\t{v.source}\n" for v in variants)


def merge(variants: Iterable[Variant], *, max_variants: int) -> dict[str, list[Variant]]:
    """The variants of each word, most probable first, at most `max_variants`.

    Later sources overrule earlier ones: the same pronunciation said again takes the new log-probability, and between
    equals the one said last comes first.
    """
    by_word: dict[str, dict[Pronunciation, Variant]] = {}
    for variant in variants:
        spoken = by_word.setdefault(variant.word, {})
        spoken.pop(variant.phonemes, None)
        spoken[variant.phonemes] = variant
    best_last = {word: sorted(spoken.values(), key=lambda v: v.log_prob) for word, spoken in by_word.items()}
    return {word: spoken[::-1][:max_variants] for word, spoken in best_last.items()}

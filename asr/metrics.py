"""Word error rate: Levenshtein alignment of two sequences, the counts of it, and the text normaliser used before it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=Hashable)


class EditKind(Enum):
    """What happened to one position of the alignment."""

    MATCH = "match"
    SUBSTITUTION = "substitution"
    DELETION = "deletion"
    INSERTION = "insertion"


@dataclass(frozen=True, slots=True)
class Edit(Generic[T]):
    """One position of an alignment; the side that has nothing there is None."""

    kind: EditKind
    reference: T | None
    hypothesis: T | None


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Errors against a reference; add two to pool them."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference_length: int = 0

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference item (WER for words); with an empty reference 0 without errors, else infinity."""
        if self.reference_length == 0:
            return float("inf") if self.errors else 0.0
        return self.errors / self.reference_length

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_length + other.reference_length,
        )


def normalize_text(text: str) -> str:
    """Lower-case letters, digits and apostrophes inside words; everything else separates words."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'").lower()
    words = (word.strip("'") for word in re.split(r"[^\w']+|_+", plain))
    return " ".join(word for word in words if word)


def edit_distance(reference: Sequence[T], hypothesis: Sequence[T]) -> int:
    """Least number of substitutions, deletions and insertions that turn `reference` into `hypothesis`."""
    return int(_distances(reference, hypothesis)[-1, -1])


def align(reference: Sequence[T], hypothesis: Sequence[T]) -> list[Edit[T]]:
    """A cheapest alignment, from left to right; time and memory grow with the product of the lengths."""
    distance = _distances(reference, hypothesis)
    edits: list[Edit[T]] = []
    i, j = len(reference), len(hypothesis)
    while i or j:
        same = bool(i and j) and reference[i - 1] == hypothesis[j - 1]
        if i and j and distance[i, j] == distance[i - 1, j - 1] + (not same):
            kind = EditKind.MATCH if same else EditKind.SUBSTITUTION
            i, j = i - 1, j - 1
            edits.append(Edit(kind, reference[i], hypothesis[j]))
        elif i and distance[i, j] == distance[i - 1, j] + 1:
            i -= 1
            edits.append(Edit(EditKind.DELETION, reference[i], None))
        else:
            j -= 1
            edits.append(Edit(EditKind.INSERTION, None, hypothesis[j]))
    return edits[::-1]


def count_errors(reference: Sequence[T], hypothesis: Sequence[T]) -> ErrorCounts:
    """Counts of a cheapest alignment of two sequences (of words: WER, of phonemes: PER, of letters: CER)."""
    kinds = [edit.kind for edit in align(reference, hypothesis)]
    return ErrorCounts(
        kinds.count(EditKind.SUBSTITUTION),
        kinds.count(EditKind.DELETION),
        kinds.count(EditKind.INSERTION),
        len(reference),
    )


def count_word_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Counts over the words of two texts, both normalised first; `.rate` is the WER."""
    return count_errors(normalize_text(reference).split(), normalize_text(hypothesis).split())


def _distances(reference: Sequence[T], hypothesis: Sequence[T]) -> npt.NDArray[np.int32]:
    """Distances between all prefixes, (len(reference) + 1, len(hypothesis) + 1)."""
    ids: dict[T, int] = {}
    ref = [ids.setdefault(item, len(ids)) for item in reference]
    hyp = np.array([ids.setdefault(item, len(ids)) for item in hypothesis], dtype=np.int64)
    column = np.arange(len(hyp) + 1, dtype=np.int32)
    distance = np.empty((len(ref) + 1, len(hyp) + 1), dtype=np.int32)
    distance[0] = column
    for i, item in enumerate(ref, 1):
        row = distance[i - 1] + 1
        row[1:] = np.minimum(row[1:], distance[i - 1, :-1] + (hyp != item))
        distance[i] = np.minimum.accumulate(row - column) + column  # insertions: the best start to the left, plus steps
    return distance

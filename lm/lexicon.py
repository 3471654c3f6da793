"""The pronouncing lexicon: a trie over phoneme ids, mapped from `lexicon.bin` and walked by the search.

Layout of the file: docs/architecture.md. Opening maps it and checks that no index leads outside, so that the native
search may trust it; nothing becomes a Python object before it is asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm.arrayfile import ArrayFileError, open_array_file
from lm.phones import PHONEMES
from lm.vocabulary import SPECIAL_WORDS

KIND = "lexicon"

UInt8Array = npt.NDArray[np.uint8]
UInt32Array = npt.NDArray[np.uint32]
Float16Array = npt.NDArray[np.float16]

_DTYPES = {
    "word_bytes": "|u1", "word_offset": "<u4", "word_by_spelling": "<u4", "node_label": "|u1",
    "node_first_child": "<u4", "node_first_entry": "<u4", "node_lookahead": "<f2",
    "entry_word": "<u4", "entry_log_prob": "<f2",
}  # fmt: skip
COUNTED = ("word_offset", "node_first_child", "node_first_entry")
"""Arrays that the file holds as counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """Words, their pronunciations as a trie, and the look-ahead scores; all arrays are read-only views of the file."""

    word_bytes: UInt8Array
    word_offset: UInt32Array
    word_by_spelling: UInt32Array
    node_label: UInt8Array
    node_first_child: UInt32Array
    node_first_entry: UInt32Array
    node_lookahead: Float16Array
    entry_word: UInt32Array
    entry_log_prob: Float16Array
    words_sha256: str

    @classmethod
    def open(cls, path: str | Path) -> Lexicon:
        """Map the lexicon at `path`.

        Raises:
            ArrayFileError: not a lexicon, damaged, or made for another phoneme set.
        """
        file = open_array_file(path, kind=KIND)
        _check_arrays(file.path, file.arrays)
        if file.meta.get("phonemes") != list(PHONEMES):
            raise ArrayFileError(f"{path}: made for another phoneme set; build it again with `asr-lm lexicon`")
        words_sha256 = file.meta.get("words_sha256")
        if not isinstance(words_sha256, str):
            raise ArrayFileError(f"{path}: the header lacks words_sha256")
        file.release()
        return cls(**{name: file.arrays[name] for name in _DTYPES}, words_sha256=words_sha256)

    def __len__(self) -> int:
        """Number of word ids, the three special ones included."""
        return len(self.word_offset) - 1

    def word(self, word_id: int) -> str:
        """Spelling of a word id.

        Raises:
            IndexError: the id is not in the lexicon.
        """
        if not 0 <= word_id < len(self):
            raise IndexError(f"word id {word_id} is outside 0..{len(self) - 1}")
        return self._spelling(word_id).decode("utf-8")

    def find(self, word: str) -> int | None:
        """Id of the word spelt exactly so, or None."""
        spelling = word.encode("utf-8")
        position = bisect_left(self.word_by_spelling, spelling, key=self._spelling)
        if position == len(self):
            return None
        word_id = int(self.word_by_spelling[position])
        return word_id if self._spelling(word_id) == spelling else None

    def find_many(self, words: Sequence[str]) -> npt.NDArray[np.int64]:
        """Ids (n,) of the words spelt exactly so, -1 for those that are not in the lexicon."""
        if not words:
            return np.zeros(0, np.int64)
        known, wanted = self.sorted_spellings(), np.array([word.encode("utf-8") for word in words], np.bytes_)
        places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[places] == wanted, self.word_by_spelling[places].astype(np.int64), -1)

    def sorted_spellings(self) -> npt.NDArray[np.bytes_]:
        """All spellings (W,) as UTF-8 in the order of `word_by_spelling`; worked out anew at every call."""
        length = np.diff(self.word_offset.astype(np.int64))
        rows = np.zeros((len(self), length.max(initial=1)), np.uint8)
        rows[np.arange(rows.shape[1]) < length[:, None]] = self.word_bytes
        return rows.view(f"S{rows.shape[1]}").ravel()[self.word_by_spelling]

    def pronunciations(self, word_id: int) -> list[tuple[tuple[int, ...], float]]:
        """Every pronunciation of a word: phoneme ids and log-probability given the word, most probable first.

        Looks through all entries (a fraction of a millisecond): meant for tools, not for the search.
        """
        entries = np.flatnonzero(self.entry_word == np.uint32(word_id))
        found = [(self._phonemes(_owner(self.node_first_entry, e)), float(self.entry_log_prob[e])) for e in entries]
        return sorted(found, key=lambda item: (-item[1], item[0]))

    def _spelling(self, word_id: Any) -> bytes:
        return self.word_bytes[self.word_offset[word_id] : self.word_offset[word_id + 1]].tobytes()

    def _phonemes(self, node: int) -> tuple[int, ...]:
        labels = []
        while node:
            labels.append(int(self.node_label[node]))
            node = _owner(self.node_first_child, node)
        return tuple(reversed(labels))


def _owner(first: UInt32Array, item: Any) -> int:
    """The index whose range `first[i] .. first[i + 1] - 1` holds `item`; empty ranges hold nothing."""
    return int(np.searchsorted(first, np.uint32(item), side="right")) - 1


def _check_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise ArrayFileError unless the arrays have their types, fit each other and stay in range."""
    for name, dtype in _DTYPES.items():
        if name not in arrays or arrays[name].ndim != 1 or arrays[name].dtype.str != dtype:
            raise ArrayFileError(f"{path}: array {name!r} is missing, or not one-dimensional {dtype}")
    size = {name: len(arrays[name]) for name in _DTYPES}
    words, nodes, entries = size["word_offset"] - 1, size["node_label"], size["entry_word"]
    children, labels = arrays["node_first_child"], arrays["node_label"]
    checks = {
        "words": words >= len(SPECIAL_WORDS) and size["word_by_spelling"] == words,
        "nodes": nodes >= 1 and nodes == size["node_lookahead"] == len(children) - 1 == size["node_first_entry"] - 1,
        "entries": entries == size["entry_log_prob"],
        "word_offset": _is_partition(arrays["word_offset"], 0, size["word_bytes"]),
        "word_by_spelling": _is_below(arrays["word_by_spelling"], words),
        "node_label": _is_below(labels, len(PHONEMES)),
        # A child comes after its parent, so that every way up ends at the root.
        "node_first_child": _is_partition(children, 1, nodes) and bool((children[:-1] > np.arange(nodes)).all()),
        "node_first_entry": _is_partition(arrays["node_first_entry"], 0, entries),
        "entry_word": _is_below(arrays["entry_word"], words),
    }  # fmt: skip
    wrong = [name for name, is_right in checks.items() if not is_right]
    if wrong:
        raise ArrayFileError(f"{path}: damaged lexicon: {', '.join(wrong)} do not fit together or are out of range")


def _is_partition(first: npt.NDArray[Any], start: int, end: int) -> bool:
    return len(first) > 0 and first[0] == start and first[-1] == end and bool((first[1:] >= first[:-1]).all())


def _is_below(values: npt.NDArray[Any], limit: int) -> bool:
    return values.size == 0 or int(values.max()) < limit

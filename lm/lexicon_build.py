"""Build `lexicon.bin` from words, their pronunciations and how frequent they are.

The trie is laid out without building one: the distinct pronunciations are sorted, and a node is every place where a
pronunciation leaves its predecessor. Nodes of one depth in sorted order, depth after depth, have
the breadth-first numbering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm.arrayfile import write_array_file
from lm.lexicon import KIND
from lm.phones import BOUNDARY_ID, PHONEMES
from lm.vocabulary import SPECIAL_WORDS, check_words, words_sha256

Pronunciation = tuple[int, ...]
Pronunciations = Mapping[str, Mapping[Pronunciation, float]]

IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]


def build_lexicon(
    words: Sequence[str],
    pronunciations: Pronunciations,
    unigram_log_prob: npt.NDArray[np.floating],
    path: str | Path,
) -> None:
    """Write the lexicon of `words` to `path`.

    Args:
        words: Spellings in id order; the first three are `<unk>`, `<s>` and `</s>`, which are never spoken.
        pronunciations: Word -> phoneme ids -> log-probability; shifted so that a word's best one has 0. Words that are
            not in `words` are left out; words without a pronunciation have an id but cannot be recognised.
        unigram_log_prob: (W,) natural log-probabilities, for the look-ahead.
        path: File to write.

    Raises:
        WordListError: `words` is no word list.
        ValueError: `unigram_log_prob` has another length, no word has a pronunciation, or one is empty or has an id
            that is no phoneme.
    """
    check_words(words, "words")
    if unigram_log_prob.shape != (len(words),):
        raise ValueError(f"{len(words)} words need as many unigram log-probabilities, got {unigram_log_prob.shape}")
    entry_word, entry_log_prob, labels = _collect(words, pronunciations)
    rows, row_of_entry = np.unique(labels.view(f"S{labels.shape[1]}").ravel(), return_inverse=True)
    trie = _lay_out(rows.view(np.uint8).reshape(len(rows), labels.shape[1]))
    entry_node = trie.row_node[row_of_entry]
    order = np.lexsort((entry_word, entry_node))
    entry_word, entry_log_prob, entry_node = entry_word[order], entry_log_prob[order], entry_node[order]
    entry_score = entry_log_prob.astype(np.float32) + unigram_log_prob.astype(np.float32)[entry_word]
    spellings = [word.encode("utf-8") for word in words]
    arrays: dict[str, npt.NDArray[Any]] = {
        "word_bytes": np.frombuffer(b"".join(spellings), np.uint8),
        "word_offset": _starts(np.array([len(spelling) for spelling in spellings])),
        "word_by_spelling": np.array(sorted(range(len(words)), key=spellings.__getitem__), np.uint32),
        "node_label": trie.label,
        "node_first_child": _starts(np.bincount(trie.parent, minlength=len(trie.label)), first=1),
        "node_first_entry": _starts(np.bincount(entry_node, minlength=len(trie.label))),
        "node_lookahead": _lookahead(trie, entry_node, entry_score).astype(np.float16),
        "entry_word": entry_word.astype(np.uint32),
        "entry_log_prob": entry_log_prob,
    }
    meta = {"phonemes": list(PHONEMES), "words_sha256": words_sha256(words)}
    write_array_file(path, kind=KIND, arrays=arrays, meta=meta)


@dataclass(frozen=True, slots=True)
class _Trie:
    label: ByteArray  # (N,)
    parent: IntArray  # (N - 1,) parents of the nodes 1 .. N - 1
    depth_start: IntArray  # (depths + 1,) first node of each depth
    row_node: IntArray  # (rows,) node at which each pronunciation ends


def _collect(
    words: Sequence[str], pronunciations: Pronunciations
) -> tuple[IntArray, npt.NDArray[np.float16], ByteArray]:
    """One entry a word and variant: word id, log-probability, and its phonemes in a row padded with zeros."""
    entry_word: list[int] = []
    entry_log_prob: list[float] = []
    spoken: list[Pronunciation] = []
    for word_id in range(len(SPECIAL_WORDS), len(words)):
        variants = pronunciations.get(words[word_id])
        if not variants:
            continue
        best = max(variants.values())
        for phonemes, log_prob in variants.items():
            if not phonemes or not all(BOUNDARY_ID < phoneme < len(PHONEMES) for phoneme in phonemes):
                raise ValueError(
                    f"pronunciation {phonemes} of {words[word_id]!r} is empty or has an id that is no phoneme"
                )
            entry_word.append(word_id)
            entry_log_prob.append(log_prob - best)
            spoken.append(phonemes)
    if not spoken:
        raise ValueError("no word of the list has a pronunciation")
    labels = np.zeros((len(spoken), max(map(len, spoken))), np.uint8)
    lengths = np.array([len(phonemes) for phonemes in spoken])
    labels[np.arange(labels.shape[1]) < lengths[:, None]] = np.concatenate(spoken)
    return np.array(entry_word), np.array(entry_log_prob, np.float16), labels


def _lay_out(rows: ByteArray) -> _Trie:
    """The trie of sorted, distinct, zero-padded rows (K, longest)."""
    lengths = (rows != 0).sum(1)
    is_same = np.cumprod(rows[1:] == rows[:-1], axis=1, dtype=bool)  # as the row before, up to and with this column
    labels, parents, row_node = [np.zeros(1, np.uint8)], [], np.zeros(len(rows), np.int64)
    depth_start = [0, 1]
    node_above = np.zeros(len(rows), np.int64)  # each row's node at the depth before
    for column in range(rows.shape[1]):
        is_new = lengths > column
        is_new[1:] &= ~is_same[:, column]
        labels.append(rows[is_new, column])
        parents.append(node_above[is_new])
        node_above = depth_start[-1] + np.cumsum(is_new) - 1
        row_node[lengths == column + 1] = node_above[lengths == column + 1]
        depth_start.append(depth_start[-1] + int(is_new.sum()))
    return _Trie(np.concatenate(labels), np.concatenate(parents), np.array(depth_start), row_node)


def _lookahead(trie: _Trie, entry_node: IntArray, entry_score: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Best entry score at or below every node."""
    best = np.full(len(trie.label), -np.inf, np.float32)
    np.maximum.at(best, entry_node, entry_score)
    for depth in range(len(trie.depth_start) - 2, 0, -1):
        nodes = np.arange(trie.depth_start[depth], trie.depth_start[depth + 1])
        np.maximum.at(best, trie.parent[nodes - 1], best[nodes])
    return best


def _starts(counts: IntArray, *, first: int = 0) -> npt.NDArray[np.uint32]:
    """Where each range starts, and where the last one ends, when ranges of these sizes follow one another."""
    return np.concatenate([[first], first + np.cumsum(counts)]).astype(np.uint32)

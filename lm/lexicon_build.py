"""Build `lexicon.bin` from words, their pronunciations and how frequent they are.

The trie is laid out without building one: the distinct pronunciations are sorted, and a node is every place where a
pronunciation leaves its predecessor. Nodes of one depth in sorted order, depth after depth, have
the breadth-first numbering.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm.arrayfile import write_array_file
from lm.digest import sha256
from lm.lexicon import COUNTED, KIND, Lexicon
from lm.phones import BOUNDARY_ID, PHONEMES
from lm.vocabulary import SPECIAL_WORDS, check_words, words_sha256

Pronunciation = tuple[int, ...]
Pronunciations = Mapping[str, Mapping[Pronunciation, float]]

IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]

_LABELS = 256  # what a node's number is multiplied by to make room for a label


def build_lexicon(
    words: Sequence[str],
    pronunciations: Pronunciations,
    unigram_log_prob: npt.NDArray[np.floating],
    path: str | Path,
) -> None:
    """Write the lexicon of `words` to `path`; see `assemble_lexicon`.

    Raises:
        WordListError: `words` is no word list.
        ValueError: `unigram_log_prob` has another length, no word has a pronunciation, or one is empty or has an id
            that is no phoneme.
    """
    lexicon = assemble_lexicon(words, pronunciations, unigram_log_prob)
    arrays = {field.name: getattr(lexicon, field.name) for field in fields(lexicon) if field.name != "words_sha256"}
    meta = {"phonemes": list(PHONEMES), "words_sha256": lexicon.words_sha256}
    write_array_file(path, kind=KIND, arrays=arrays, meta=meta, counts=COUNTED)


def assemble_lexicon(
    words: Sequence[str], pronunciations: Pronunciations, unigram_log_prob: npt.NDArray[np.floating]
) -> Lexicon:
    """The lexicon of `words`, in memory.

    Args:
        words: Spellings in id order; the first three are `<unk>`, `<s>` and `</s>`, which are never spoken.
        pronunciations: Word -> phoneme ids -> log-probability; shifted so that a word's best one has 0. Words that are
            not in `words` are left out; words without a pronunciation have an id but cannot be recognised.
        unigram_log_prob: (W,) natural log-probabilities, for the look-ahead.

    Raises:
        WordListError: `words` is no word list.
        ValueError: `unigram_log_prob` has another length, no word has a pronunciation, or one is empty or has an id
            that is no phoneme.
    """
    check_words(words, "words")
    if unigram_log_prob.shape != (len(words),):
        raise ValueError(f"{len(words)} words need as many unigram log-probabilities, got {unigram_log_prob.shape}")
    spoken_ids = range(len(SPECIAL_WORDS), len(words))
    entry_word, entry_log_prob, labels = _collect((i, words[i], pronunciations.get(words[i], {})) for i in spoken_ids)
    if not len(entry_word):
        raise ValueError("no word of the list has a pronunciation")
    rows, row_of_entry = np.unique(labels.view(f"S{labels.shape[1]}").ravel(), return_inverse=True)
    trie = _lay_out(rows.view(np.uint8).reshape(len(rows), labels.shape[1]))
    entry_node = trie.row_node[row_of_entry]
    order = np.lexsort((entry_word, entry_node))
    entry_word, entry_log_prob, entry_node = entry_word[order], entry_log_prob[order], entry_node[order]
    entry_score = entry_log_prob.astype(np.float32) + unigram_log_prob.astype(np.float32)[entry_word]
    spellings = [word.encode("utf-8") for word in words]
    return Lexicon(
        word_bytes=np.frombuffer(b"".join(spellings), np.uint8),
        word_offset=_starts(np.array([len(spelling) for spelling in spellings])),
        word_by_spelling=np.array(sorted(range(len(words)), key=spellings.__getitem__), np.uint32),
        node_label=trie.label,
        node_first_child=_starts(np.bincount(trie.parent, minlength=len(trie.label)), first=1),
        node_first_entry=_starts(np.bincount(entry_node, minlength=len(trie.label))),
        node_lookahead=_lookahead(trie, entry_node, entry_score).astype(np.float16),
        entry_word=entry_word.astype(np.uint32),
        entry_log_prob=entry_log_prob,
        words_sha256=words_sha256(words),
    )


def extend_lexicon(lexicon: Lexicon, extra: Pronunciations, unigram_log_prob: npt.NDArray[np.floating]) -> Lexicon:
    """The lexicon with more pronunciations: of new words, whose ids follow the old ones, and of words that it has.

    Args:
        lexicon: Stays as it is.
        extra: Word -> phoneme ids -> log-probability; shifted so that a word's best one has 0. Where the word has the
            pronunciation already, the higher log-probability counts.
        unigram_log_prob: Natural log-probabilities, one for each word of `extra` in its order: they raise the
            look-ahead of the pronunciations given here, those that the lexicon has included.

    Raises:
        ValueError: a word or a pronunciation is empty, one has an id that is no phoneme, or `unigram_log_prob` has
            another length.
    """
    if "" in extra:
        raise ValueError("a word is empty")
    if unigram_log_prob.shape != (len(extra),):
        raise ValueError(f"{len(extra)} words need as many unigram log-probabilities, got {unigram_log_prob.shape}")
    words = list(extra)
    found = lexicon.find_many(words)
    is_new = found < 0
    word_ids = np.where(is_new, len(lexicon) + np.cumsum(is_new) - 1, found)
    entry_word, entry_log_prob, labels = _collect(zip(word_ids.tolist(), words, extra.values(), strict=True))
    graft = _graft(lexicon, labels)
    n_variants = [len(variants) for variants in extra.values()]
    score = entry_log_prob.astype(np.float32) + np.repeat(unigram_log_prob.astype(np.float32), n_variants)
    lookahead = np.full(len(graft.label), -np.inf, np.float32)
    lookahead[graft.rank_of_old] = lexicon.node_lookahead
    np.maximum.at(lookahead, graft.path, score[:, None])
    lookahead[0] = max(lookahead[0], score.max(initial=-np.inf))
    owner = np.repeat(np.arange(len(lexicon.node_label)), np.diff(lexicon.node_first_entry))
    entries = _merged_entries(
        np.concatenate([graft.rank_of_old[owner], graft.path[:, -1]]),
        np.concatenate([lexicon.entry_word, entry_word]),
        np.concatenate([lexicon.entry_log_prob, entry_log_prob]),
    )
    new_words = [word.encode("utf-8") for word, added in zip(words, is_new.tolist(), strict=True) if added]
    return Lexicon(
        **_added_words(lexicon, new_words),
        node_label=graft.label,
        node_first_child=_starts(np.bincount(graft.parent, minlength=len(graft.label)), first=1),
        node_first_entry=_starts(np.bincount(entries[0], minlength=len(graft.label))),
        node_lookahead=lookahead.astype(np.float16),
        entry_word=entries[1].astype(np.uint32),
        entry_log_prob=entries[2].astype(np.float16),
    )


@dataclass(frozen=True, slots=True)
class _Trie:
    label: ByteArray  # (N,)
    parent: IntArray  # (N - 1,) parents of the nodes 1 .. N - 1
    depth_start: IntArray  # (depths + 1,) first node of each depth
    row_node: IntArray  # (rows,) node at which each pronunciation ends


def _collect(
    spoken: Iterable[tuple[int, str, Mapping[Pronunciation, float]]],
) -> tuple[IntArray, npt.NDArray[np.float16], ByteArray]:
    """One entry a word and variant: word id, log-probability, and its phonemes in a row padded with zeros."""
    entry_word: list[int] = []
    entry_log_prob: list[float] = []
    rows: list[Pronunciation] = []
    names: list[str] = []
    for word_id, word, variants in spoken:
        if not all(variants):
            raise ValueError(f"a pronunciation of {word!r} is empty")
        best = max(variants.values(), default=0.0)
        entry_word += [word_id] * len(variants)
        entry_log_prob += [log_prob - best for log_prob in variants.values()]
        rows += variants
        names += [word] * len(variants)
    lengths = np.array([len(row) for row in rows], np.int64)
    phonemes = np.fromiter(chain.from_iterable(rows), np.int64, count=int(lengths.sum()))
    wrong = np.flatnonzero((phonemes <= BOUNDARY_ID) | (phonemes >= len(PHONEMES)))
    if wrong.size:
        row = int(np.searchsorted(np.cumsum(lengths), wrong[0], side="right"))
        raise ValueError(f"pronunciation {rows[row]} of {names[row]!r} has an id that is no phoneme")
    labels = np.zeros((len(rows), lengths.max(initial=1)), np.uint8)
    labels[np.arange(labels.shape[1]) < lengths[:, None]] = phonemes
    return np.array(entry_word, np.int64), np.array(entry_log_prob, np.float16), labels


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


@dataclass(frozen=True, slots=True)
class _Graft:
    """A lexicon's trie with more branches."""

    label: ByteArray  # (N,)
    parent: IntArray  # (N - 1,) parents of the nodes 1 .. N - 1
    rank_of_old: IntArray  # (old N,) where each node of the lexicon is now
    path: IntArray  # (rows, longest) node of each added phoneme; a row's last node is repeated to the end


def _graft(lexicon: Lexicon, rows: ByteArray) -> _Graft:
    """The lexicon's trie with the zero-padded rows (K, longest) added; nodes get numbers past the old ones at first."""
    first_child = lexicon.node_first_child.astype(np.int64)
    n_old = len(lexicon.node_label)
    old_parent = np.repeat(np.arange(n_old), np.diff(first_child))
    old_arcs = _arcs(old_parent, lexicon.node_label[1:])
    node, path, arcs_of_depth, n_nodes = np.zeros(len(rows), np.int64), [], [], n_old
    for column in rows.T:
        arcs = _arcs(node, column)
        place = np.minimum(np.searchsorted(old_arcs, arcs), len(old_arcs) - 1)
        is_old = old_arcs[place] == arcs
        added, branch = np.unique(arcs[(column != 0) & ~is_old], return_inverse=True)
        following = np.where(is_old, place + 1, node)
        following[(column != 0) & ~is_old] = n_nodes + branch
        node, n_nodes = following, n_nodes + len(added)
        path.append(node)
        arcs_of_depth.append(added)
    parent = np.concatenate([old_parent, *(added // _LABELS for added in arcs_of_depth)])
    label = np.concatenate([lexicon.node_label, *((added % _LABELS).astype(np.uint8) for added in arcs_of_depth)])
    rank = _breadth_first(first_child, parent, label, [len(added) for added in arcs_of_depth])
    order = np.argsort(rank)
    return _Graft(label[order], rank[parent[order[1:] - 1]], rank[:n_old], rank[np.array(path).T])


def _breadth_first(first_child: IntArray, parent: IntArray, label: ByteArray, added: Sequence[int]) -> IntArray:
    """Breadth-first number of every node: those of the old trie, then `added[d]` new ones at each depth 1 + d."""
    rank = np.zeros(len(label), np.int64)
    start, end, new_start, n_ranked = 1, int(first_child[1]), len(first_child) - 1, 1
    depth = 0
    while start < end or depth < len(added):
        new_end = new_start + (added[depth] if depth < len(added) else 0)
        nodes = np.concatenate([np.arange(start, end), np.arange(new_start, new_end)])
        order = np.argsort(_arcs(rank[parent[nodes - 1]], label[nodes]), kind="stable")
        rank[nodes[order]] = np.arange(n_ranked, n_ranked + len(nodes))
        n_ranked += len(nodes)
        start, end, new_start, depth = end, int(first_child[end]), new_end, depth + 1
    return rank


def _arcs(parent: IntArray, label: ByteArray) -> IntArray:
    """One number for each arc, ordered by parent and then by label."""
    return parent * _LABELS + label


def _merged_entries(
    node: IntArray, word: IntArray, log_prob: npt.NDArray[np.float16]
) -> tuple[IntArray, IntArray, npt.NDArray[np.float16]]:
    """Entries in the order of node and word; of two with the same, the more probable one."""
    order = np.lexsort((-log_prob, word, node))
    node, word, log_prob = node[order], word[order], log_prob[order]
    is_first = np.ones(len(node), np.bool_)
    is_first[1:] = (node[1:] != node[:-1]) | (word[1:] != word[:-1])
    return node[is_first], word[is_first], log_prob[is_first]


def _added_words(lexicon: Lexicon, added: Sequence[bytes]) -> dict[str, Any]:
    """The fields of `lexicon` that hold spellings, with these after the others."""
    order = sorted(range(len(added)), key=added.__getitem__)
    spellings = np.array([added[i] for i in order], np.bytes_)
    places = np.searchsorted(lexicon.sorted_spellings(), spellings)
    ids = np.array(order, np.int64) + len(lexicon)
    offset = lexicon.word_offset.astype(np.int64)
    offset = np.concatenate([offset, offset[-1] + np.cumsum([len(spelling) for spelling in added], dtype=np.int64)])
    word_bytes = np.concatenate([lexicon.word_bytes, np.frombuffer(b"".join(added), np.uint8)])
    lines = np.insert(word_bytes, offset[1:-1], ord("\n"))
    return {
        "word_bytes": word_bytes,
        "word_offset": offset.astype(np.uint32),
        "word_by_spelling": np.insert(lexicon.word_by_spelling, places, ids.astype(np.uint32)),
        "words_sha256": sha256(lines.tobytes()).hexdigest(),
    }


def _starts(counts: IntArray, *, first: int = 0) -> npt.NDArray[np.uint32]:
    """Where each range starts, and where the last one ends, when ranges of these sizes follow one another."""
    return np.concatenate([[first], first + np.cumsum(counts)]).astype(np.uint32)

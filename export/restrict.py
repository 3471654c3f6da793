"""A smaller language: `lexicon.bin` and `ngram.bin` of fewer words, with bigrams only.

As much as a decoding graph can hold (`export/ctc_graph.py`); this engine runs from the same two files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm.backoff import BackoffTrigram, Floats, Keys, normalized, pair_key
from lm.lexicon import Lexicon
from lm.lexicon_build import Pronunciation, build_lexicon
from lm.ngram import NgramModel
from lm.pack import write_ngram
from lm.vocabulary import END_ID, SPECIAL_WORDS, START_ID, write_words

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def find_words(lexicon: Lexicon, spellings: Iterable[str], *, top: int = 0) -> list[int]:
    """Ids of the words spelt so, and of the `top` most frequent ones.

    Raises:
        ValueError: the lexicon lacks some of the spellings.
    """
    found = {spelling: lexicon.find(spelling) for spelling in spellings}
    missing = [spelling for spelling, word in found.items() if word is None]
    if missing:
        raise ValueError(f"the lexicon lacks {len(missing)} of the words: {', '.join(missing[:10])}")
    first = len(SPECIAL_WORDS)
    return sorted(
        {word for word in found.values() if word is not None} | {*range(first, min(first + top, len(lexicon)))}
    )


def restrict(
    lexicon: Lexicon, ngram: NgramModel, words: Iterable[int], folder: str | Path, *, max_bigrams: int
) -> None:
    """Write `lexicon.bin`, `ngram.bin` and the word list `words.txt` of some words into `folder`.

    The bigrams that matter most are kept: by P(first, second) * (log P(second | first) - what back-off says), where
    that is positive. Back-off weights are computed anew, and bigrams that back-off would then beat are dropped: a
    graph, which may always back off, could not hold to them.

    Args:
        lexicon: the whole lexicon.
        ngram: the whole n-gram, over the same words.
        words: ids of the words to keep; they are numbered anew, in the same order.
        folder: written into; made where it is missing.
        max_bigrams: bigrams to keep at most.

    Raises:
        ValueError: lexicon and n-gram are over different words, or no word has a pronunciation.
    """
    if lexicon.words_sha256 != ngram.words_sha256:
        raise ValueError("lexicon and n-gram are over different word lists: take both from one bundle")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = np.union1d(np.arange(len(SPECIAL_WORDS)), np.fromiter(words, np.int64))
    spellings = [lexicon.word(word) for word in kept.tolist()]
    spoken = pronunciations(lexicon, set(kept.tolist()))
    by_spelling = {lexicon.word(word): dict(variants) for word, variants in spoken.items()}
    model = _bigram_model(ngram, kept, max_bigrams)
    build_lexicon(spellings, by_spelling, model.unigram_log_prob, folder / "lexicon.bin")
    write_ngram(folder / "ngram.bin", model, spellings)
    write_words(folder / "words.txt", spellings)


def pronunciations(
    lexicon: Lexicon, words: Collection[int] | None = None
) -> dict[int, list[tuple[Pronunciation, float]]]:
    """Phoneme ids and log-probability of every pronunciation, by word id; of all words where `words` is None."""
    nodes = owners(lexicon.node_first_entry).tolist()
    parents = [0, *owners(lexicon.node_first_child).tolist()]
    labels = lexicon.node_label.tolist()
    found: dict[int, list[tuple[Pronunciation, float]]] = {}
    for node, word, log_prob in zip(nodes, lexicon.entry_word.tolist(), lexicon.entry_log_prob.tolist(), strict=True):
        if words is None or word in words:
            found.setdefault(word, []).append((_way_to(node, parents, labels), log_prob))
    return found


def _way_to(node: int, parents: Sequence[int], labels: Sequence[int]) -> Pronunciation:
    way = []
    while node:
        way.append(labels[node])
        node = parents[node]
    return tuple(reversed(way))


def owners(first: npt.NDArray[np.uint32]) -> Indices:
    """Which range each item is in, when range `i` is `first[i] .. first[i + 1] - 1`."""
    bounds = first.astype(np.int64)
    return np.repeat(np.arange(len(first) - 1), bounds[1:] - bounds[:-1])


def _bigram_model(ngram: NgramModel, kept: Indices, max_bigrams: int) -> BackoffTrigram:
    """The bigram over the words `kept` (ascending ids), numbered anew."""
    arrays: dict[str, npt.NDArray[Any]] = dict(ngram.file.arrays)
    first, second = owners(arrays["bigram_first"]), arrays["bigram_word"].astype(np.int64)
    log_prob = arrays["bigram_log_prob_table"][arrays["bigram_log_prob"]]
    unigram = ngram.unigram_log_prob.astype(np.float32)
    gain = log_prob - ngram.unigram_backoff.astype(np.float32)[first] - unigram[second]
    first_log_prob = np.where(first == START_ID, unigram[END_ID], unigram[first])  # as many starts as ends
    worth = np.exp((first_log_prob + log_prob).astype(np.float64)) * gain
    worth[~(np.isin(first, kept) & np.isin(second, kept))] = 0.0
    chosen = np.sort(np.argsort(-worth, kind="stable")[:max_bigrams])
    chosen = chosen[worth[chosen] > 0]
    while True:
        model = _with_bigrams(unigram[kept], kept, first[chosen], second[chosen], log_prob[chosen])
        backed_off = model.unigram_backoff[np.searchsorted(kept, first[chosen])] + unigram[second[chosen]]
        is_beaten = log_prob[chosen] <= backed_off
        if not is_beaten.any():
            return model
        chosen = chosen[~is_beaten]


def _with_bigrams(unigram: Floats, kept: Indices, first: Indices, second: Indices, log_prob: Floats) -> BackoffTrigram:
    """The model over the words `kept` with some bigrams, its back-off weights computed."""
    key: Keys = pair_key(np.searchsorted(kept, first), np.searchsorted(kept, second))
    none = np.zeros(0, np.float32)
    return normalized(
        BackoffTrigram(
            unigram_log_prob=unigram,
            unigram_backoff=np.zeros(len(kept), np.float32),
            bigram_key=key,
            bigram_log_prob=log_prob.astype(np.float32),
            bigram_backoff=np.zeros(len(key), np.float32),
            trigram_key=np.zeros(0, np.uint64),
            trigram_log_prob=none,
        )
    )

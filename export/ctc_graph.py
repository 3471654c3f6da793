"""Lexicon and bigram as one decoding graph (H o L o G) for sherpa-onnx's `ctc_graph`, with our own search's scores.

Input labels are phoneme ids + 1, output labels word ids; costs stand against an acoustic scale of 1. `h` is the word
before: one that starts bigrams, `<s>`, or none. It has a trie of the words that its bigrams lead to; the one of no
history holds all words, and epsilon arcs with the back-off cost lead into it.

    R(h)       between words: blanks and boundaries loop; the first phonemes of the trie follow
    E(h, p)    a word has just ended, and its last label was p, or a blank (p = None): a boundary leads to R(h); any
               phoneme but p, which would be a repeat, starts the next word and pays for the missing boundary
    (n, p)     trie node n, its phoneme p emitted in the last frame: p loops, children other than p follow, a blank
               leads to (n, None)
    (n, None)  trie node n, then a blank: blanks loop, any child follows

Where a word ends, both states of the node have an epsilon arc to E that bears the word. Its cost is paid as early as it
is certain: a trie's arc costs what the best word below it costs more than the best word above.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from asr.config import DecodingConfig
from export.openfst import EPSILON, Transducer, write_openfst
from export.restrict import pronunciations
from lm.lexicon import Lexicon
from lm.lexicon_build import Pronunciation
from lm.ngram import NgramModel
from lm.phones import BLANK_ID, BOUNDARY_ID
from lm.vocabulary import END_ID, START_ID

NO_HISTORY = -1
Variants = Mapping[int, Sequence[tuple[Pronunciation, float]]]


def build_graph(lexicon: Lexicon, ngram: NgramModel, config: DecodingConfig) -> Transducer:
    """The decoding graph of all words of `lexicon` and all unigrams and bigrams of `ngram`.

    A path may take the back-off though the bigram is there, so a bigram that is less probable than its back-off has no
    effect: the one difference from `NgramScorer` over the same bigrams.

    Args:
        lexicon: words and pronunciations.
        ngram: over the same words; trigrams are ignored.
        config: weights: `lm_weight`, `word_score`, `boundary_skip_log_prob`.

    Raises:
        ValueError: lexicon and n-gram are over different words.
    """
    if lexicon.words_sha256 != ngram.words_sha256:
        raise ValueError("lexicon and n-gram are over different word lists: take both from one bundle")
    return _Builder(pronunciations(lexicon), ngram, config).build()


def write_graph(lexicon: Lexicon, ngram: NgramModel, config: DecodingConfig, path: str | Path) -> Transducer:
    """Build the graph, write it to `path` and return it."""
    graph = build_graph(lexicon, ngram, config)
    write_openfst(path, graph)
    return graph


class _Entry(NamedTuple):
    word: int
    cost: float


@dataclass(slots=True)
class _Node:
    """A node of a trie of pronunciations."""

    children: dict[int, _Node] = field(default_factory=dict)
    entries: list[_Entry] = field(default_factory=list)
    best: float = math.inf  # least cost of a word at or below


class _Builder:
    """The graph in progress."""

    def __init__(self, variants: Variants, ngram: NgramModel, config: DecodingConfig) -> None:
        self._variants = variants
        self._ngram = ngram
        self._config = config
        self._skip_cost = -config.boundary_skip_log_prob
        self._fst = Transducer()
        self._root: dict[int, int] = {}  # R(h)
        self._end: dict[tuple[int, int | None], int] = {}  # E(h, p)

    def build(self) -> Transducer:
        """Everything: first the states that tries lead to, then the tries."""
        histories = [NO_HISTORY, *(word for word in (START_ID, *self._variants) if self._history(word) == word)]
        for history in histories:
            self._add_history(history)
        for history in histories:
            self._add_words(history)
        self._fst.start = self._root[self._history(START_ID)]
        return self._fst

    def _history(self, word: int) -> int:
        """The history that `word` is for the next one."""
        return word if self._ngram.state_after_word(word) else NO_HISTORY

    def _add_history(self, history: int) -> None:
        """R(h) and its E(h, p), without their ways into words."""
        fst = self._fst
        end_cost = -self._config.lm_weight * self._log_prob(history, END_ID)
        root = self._root[history] = fst.add_state(end_cost)
        for label in (BLANK_ID, BOUNDARY_ID):
            fst.add_arc(root, label + 1, root)
        lasts = sorted(self._last_phonemes(history))
        for last in (None, *lasts) if lasts else ():
            state = self._end[history, last] = fst.add_state(end_cost + self._skip_cost)
            fst.add_arc(state, BOUNDARY_ID + 1, root)

    def _last_phonemes(self, history: int) -> set[int]:
        spoken = self._variants.values() if history == NO_HISTORY else [self._variants.get(history, ())]
        return {phonemes[-1] for variants in spoken for phonemes, _ in variants}

    def _add_words(self, history: int) -> None:
        """The trie of a history's words, the ways into it, and the back-off."""
        trie = self._trie(history)
        first = [(label, self._add_node(label, node), node.best) for label, node in trie.children.items()]
        backoff = -self._config.lm_weight * float(self._ngram.unigram_backoff[history])
        ends = [(state, last) for (h, last), state in self._end.items() if h == history]
        for source, last in [(self._root[history], None), *ends]:
            skip_cost = 0.0 if source == self._root[history] else self._skip_cost
            for label, state, cost in first:
                if label != last:
                    self._fst.add_arc(source, label + 1, state, cost=cost + skip_cost)
        if history != NO_HISTORY:
            self._fst.add_arc(self._root[history], EPSILON, self._root[NO_HISTORY], cost=backoff)
            for state, last in ends:
                self._fst.add_arc(state, EPSILON, self._end[NO_HISTORY, last], cost=backoff)

    def _trie(self, history: int) -> _Node:
        root = _Node()
        for word in self._followers(history):
            language = self._log_prob(history, word)
            for phonemes, log_prob in self._variants.get(word, ()):
                cost = -(self._config.lm_weight * (language + log_prob) + self._config.word_score)
                node = root
                for phoneme in phonemes:
                    node = node.children.setdefault(phoneme, _Node())
                    node.best = min(node.best, cost)
                node.entries.append(_Entry(word, cost))
        return root

    def _followers(self, history: int) -> Iterable[int]:
        """Words that the history has probabilities of its own for."""
        if history == NO_HISTORY:
            return self._variants
        return self._ngram.bigram_word[self._ngram.bigram_first[history] : self._ngram.bigram_first[history + 1]]

    def _log_prob(self, history: int, word: int) -> float:
        if history == NO_HISTORY:
            return float(self._ngram.unigram_log_prob[word])
        return self._ngram.log_prob_after_word(history, word)

    def _add_node(self, label: int, node: _Node) -> int:
        """Add a node with everything below it; returns its state with the label emitted."""
        fst = self._fst
        emitted, blanked = fst.add_state(), fst.add_state()
        fst.add_arc(emitted, label + 1, emitted)
        fst.add_arc(emitted, BLANK_ID + 1, blanked)
        fst.add_arc(blanked, BLANK_ID + 1, blanked)
        for word, word_cost in node.entries:
            history, cost = self._history(word), word_cost - node.best
            fst.add_arc(emitted, EPSILON, self._end[history, label], cost=cost, olabel=word)
            fst.add_arc(blanked, EPSILON, self._end[history, None], cost=cost, olabel=word)
        for next_label, child in node.children.items():
            target, cost = self._add_node(next_label, child), child.best - node.best
            fst.add_arc(blanked, next_label + 1, target, cost=cost)
            if next_label != label:
                fst.add_arc(emitted, next_label + 1, target, cost=cost)
        return emitted

"""Words and what may follow them as one decoding graph (H o L o G) for sherpa-onnx's `ctc_graph`, with our own scores.

Input labels are phoneme ids + 1, output labels word ids; costs stand against an acoustic scale of 1. A history `h` is
what the words so far mean for the next one (`WordHistories`): in an n-gram the word before, in a grammar its state. It
has a trie of the words that follow it; where it backs off, as in an n-gram, epsilon arcs with that cost lead on.

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
from typing import NamedTuple, Protocol

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


class Follower(NamedTuple):
    """A word that may follow a history."""

    word: int
    log_prob: float
    history: int
    """The history after it."""


class Backoff(NamedTuple):
    """Another history whose words may follow too."""

    history: int
    log_prob: float


class WordHistories(Protocol):
    """What may follow what: states between words, as integers."""

    @property
    def start(self) -> int:
        """The history before the first word."""

    def histories(self) -> Sequence[int]:
        """All of them."""

    def followers(self, history: int) -> Iterable[Follower]:
        """Words that follow, but for those that only the back-off allows."""

    def backoff(self, history: int) -> Backoff | None:
        """Where to look for more words; never in a circle."""

    def end_log_prob(self, history: int) -> float:
        """Log-probability that nothing follows; minus infinity where something must."""


class NgramHistories:
    """Unigrams and bigrams: a history is the word before, where bigrams start with it, else none."""

    def __init__(self, ngram: NgramModel, words: Iterable[int]) -> None:
        """Take a model, and the ids of the words that may be said."""
        self._ngram, self._words = ngram, list(words)
        self.start = self._after(START_ID)

    def histories(self) -> Sequence[int]:
        """None, and the words that start bigrams."""
        return [NO_HISTORY, *(word for word in (START_ID, *self._words) if self._after(word) == word)]

    def followers(self, history: int) -> Iterable[Follower]:
        """Words that the history has probabilities of its own for."""
        words: Iterable[int] = self._words
        if history != NO_HISTORY:
            first = self._ngram.bigram_first
            words = self._ngram.bigram_word[first[history] : first[history + 1]]
        return [Follower(int(word), self._log_prob(history, word), self._after(word)) for word in words]

    def backoff(self, history: int) -> Backoff | None:
        """From a word to none."""
        if history == NO_HISTORY:
            return None
        return Backoff(NO_HISTORY, float(self._ngram.unigram_backoff[history]))

    def end_log_prob(self, history: int) -> float:
        """That of `</s>`."""
        return self._log_prob(history, END_ID)

    def _after(self, word: int) -> int:
        """The history that `word` is for the next one."""
        return word if self._ngram.state_after_word(word) else NO_HISTORY

    def _log_prob(self, history: int, word: int) -> float:
        if history == NO_HISTORY:
            return float(self._ngram.unigram_log_prob[word])
        return self._ngram.log_prob_after_word(history, word)


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
    variants = pronunciations(lexicon)
    return build_word_graph(NgramHistories(ngram, variants), variants, config)


def build_word_graph(histories: WordHistories, variants: Variants, config: DecodingConfig) -> Transducer:
    """The decoding graph of some words in the orders that `histories` tells.

    Args:
        histories: what may follow what.
        variants: phoneme ids and log-probability of every pronunciation, by word id.
        config: weights: `lm_weight`, `word_score`, `boundary_skip_log_prob`.
    """
    return _Builder(histories, variants, config).build()


def write_graph(lexicon: Lexicon, ngram: NgramModel, config: DecodingConfig, path: str | Path) -> Transducer:
    """Build the graph, write it to `path` and return it."""
    graph = build_graph(lexicon, ngram, config)
    write_openfst(path, graph)
    return graph


class _Entry(NamedTuple):
    word: int
    cost: float
    history: int


@dataclass(slots=True)
class _Node:
    """A node of a trie of pronunciations."""

    children: dict[int, _Node] = field(default_factory=dict)
    entries: list[_Entry] = field(default_factory=list)
    best: float = math.inf  # least cost of a word at or below


class _Builder:
    """The graph in progress."""

    def __init__(self, histories: WordHistories, variants: Variants, config: DecodingConfig) -> None:
        self._histories = histories
        self._variants = variants
        self._config = config
        self._skip_cost = -config.boundary_skip_log_prob
        self._fst = Transducer()
        self._root: dict[int, int] = {}  # R(h)
        self._ends: dict[int, dict[int | None, int]] = {}  # E(h, p)

    def build(self) -> Transducer:
        """Everything: first the states that tries lead to, then the tries."""
        histories = self._histories.histories()
        lasts = self._last_phonemes(histories)
        for history in histories:
            self._add_history(history, sorted(lasts[history]))
        for history in histories:
            self._add_words(history)
        self._fst.start = self._root[self._histories.start]
        return self._fst

    def _add_history(self, history: int, lasts: Sequence[int]) -> None:
        """R(h) and its E(h, p), without their ways into words."""
        fst = self._fst
        end = self._histories.end_log_prob(history)
        end_cost = math.inf if end == -math.inf else -self._config.lm_weight * end
        root = self._root[history] = fst.add_state(end_cost)
        for label in (BLANK_ID, BOUNDARY_ID):
            fst.add_arc(root, label + 1, root)
        ends = self._ends[history] = {}
        for last in (None, *lasts) if lasts else ():
            state = ends[last] = fst.add_state(end_cost + self._skip_cost)
            fst.add_arc(state, BOUNDARY_ID + 1, root)

    def _last_phonemes(self, histories: Sequence[int]) -> dict[int, set[int]]:
        """With which phonemes the words before a history, or one that backs off to it, may end."""
        found: dict[int, set[int]] = {history: set() for history in histories}
        for history in histories:
            for follower in self._histories.followers(history):
                lasts = {phonemes[-1] for phonemes, _ in self._variants.get(follower.word, ())}
                after: int | None = follower.history
                while after is not None:
                    found[after] |= lasts
                    backoff = self._histories.backoff(after)
                    after = backoff.history if backoff else None
        return found

    def _add_words(self, history: int) -> None:
        """The trie of a history's words, the ways into it, and the back-off."""
        trie = self._trie(history)
        first = [(label, self._add_node(label, node), node.best) for label, node in trie.children.items()]
        ends = self._ends[history]
        for last, source, skip_cost in (
            (None, self._root[history], 0.0),
            *((last, state, self._skip_cost) for last, state in ends.items()),
        ):
            for label, state, cost in first:
                if label != last:
                    self._fst.add_arc(source, label + 1, state, cost=cost + skip_cost)
        backoff = self._histories.backoff(history)
        if backoff:
            cost = -self._config.lm_weight * backoff.log_prob
            self._fst.add_arc(self._root[history], EPSILON, self._root[backoff.history], cost=cost)
            for last, state in ends.items():
                self._fst.add_arc(state, EPSILON, self._ends[backoff.history][last], cost=cost)

    def _trie(self, history: int) -> _Node:
        root = _Node()
        for word, language, after in self._histories.followers(history):
            for phonemes, log_prob in self._variants.get(word, ()):
                cost = -(self._config.lm_weight * (language + log_prob) + self._config.word_score)
                node = root
                for phoneme in phonemes:
                    node = node.children.setdefault(phoneme, _Node())
                    node.best = min(node.best, cost)
                node.entries.append(_Entry(word, cost, after))
        return root

    def _add_node(self, label: int, node: _Node) -> int:
        """Add a node with everything below it; returns its state with the label emitted."""
        fst = self._fst
        emitted, blanked = fst.add_state(), fst.add_state()
        fst.add_arc(emitted, label + 1, emitted)
        fst.add_arc(emitted, BLANK_ID + 1, blanked)
        fst.add_arc(blanked, BLANK_ID + 1, blanked)
        for word, word_cost, after in node.entries:
            cost = word_cost - node.best
            fst.add_arc(emitted, EPSILON, self._ends[after][label], cost=cost, olabel=word)
            fst.add_arc(blanked, EPSILON, self._ends[after][None], cost=cost, olabel=word)
        for next_label, child in node.children.items():
            target, cost = self._add_node(next_label, child), child.best - node.best
            fst.add_arc(blanked, next_label + 1, target, cost=cost)
            if next_label != label:
                fst.add_arc(emitted, next_label + 1, target, cost=cost)
        return emitted

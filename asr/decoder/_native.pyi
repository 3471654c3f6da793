"""The compiled search; `asr.decoder.native` is its door."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.types import FloatArray
from lm.grammar import scorer as grammar_scorers
from lm.neural import Predict
from lm.scorer import Scorer

_Arrays = Mapping[str, npt.NDArray[Any]]
_Words = list[tuple[int, int, int, float, float]]

class WordScorer:
    """A scorer that the search can ask."""

class NullScorer(WordScorer):
    def __init__(self) -> None: ...

class NgramScorer(WordScorer):
    def __init__(self, arrays: _Arrays) -> None:
        """Score with the arrays of `ngram.bin`, half-precision ones as uint16; they are used in place."""

class NeuralScorer(WordScorer):
    def __init__(self, arrays: _Arrays, context: int, predict: Predict, ngram: WordScorer | None, share: float) -> None:
        """Score with the arrays of `lm.bin`, flat, half-precision ones as uint16; they are used in place."""

class PieceScorer(WordScorer):
    def __init__(
        self,
        inner: WordScorer,
        cut: Callable[[int], Sequence[int]],
        ngram: WordScorer | None,
        ngram_words: int,
        share: float,
    ) -> None:
        """Words over a scorer of pieces; `cut` is asked once for each word."""

class PhraseScorer(WordScorer):
    def __init__(self, arrays: _Arrays, inner: WordScorer, inner_words: int, unlisted_log_share: float) -> None:
        """Boost phrases with the arrays of a `PhraseAutomaton`; they are used in place."""

class PythonScorer(WordScorer):
    def __init__(self, scorer: Scorer) -> None:
        """Ask a scorer written in Python, under the interpreter lock."""

class GrammarTable:
    def __init__(self, arcs: grammar_scorers.GrammarArcs) -> None:
        """Ask a grammar's `follow` and `is_final`, once for each state and word; searches may share it."""

class GrammarScorer(WordScorer):
    def __init__(self, table: GrammarTable) -> None:
        """Forbid what the grammar does not let follow."""

class ConstrainedScorer(WordScorer):
    def __init__(
        self,
        table: GrammarTable,
        inner: WordScorer,
        inner_words: npt.NDArray[np.uint32],
        own_log_prob: npt.NDArray[np.float32],
        inner_log_share: float,
    ) -> None:
        """A grammar on top of another scorer; arrays (W,): its ids of the words, and what the grammar gives them."""

class Trie:
    def __init__(self, arrays: _Arrays) -> None:
        """Walk the arrays of `lexicon.bin`, half-precision ones as uint16; they are used in place."""

class Search:
    def __init__(
        self,
        trie: Trie,
        scorer: WordScorer,
        beam_size: int,
        beam_threshold: float,
        token_threshold: float,
        lm_weight: float,
        word_score: float,
        boundary_skip_log_prob: float,
        blank_skip_log_prob: float,
        stable_after_frames: int,
        is_tropical: bool,
    ) -> None: ...
    def advance(self, frames: FloatArray) -> None:
        """Take in contiguous frames (T, V) without NaN."""

    def take_stable(self) -> _Words: ...
    def best(self) -> _Words: ...
    def preview(self, frames: FloatArray, beam_size: int) -> _Words: ...
    def trailing_silence(self) -> int: ...
    def finish(self) -> _Words: ...
    def finish_many(self, count: int) -> list[tuple[_Words, float]]: ...
    def history_size(self) -> int: ...

"""The native search: the C++ twin of `LexiconSearch`, with equal results."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from asr.config import DecodingConfig
from asr.decoder.history import PathWord, Reading
from asr.decoder.inputs import PREVIEW_BEAM, check_log_probs
from asr.types import FloatArray
from lm.lexicon import Lexicon
from lm.neural import NeuralScorer
from lm.ngram import NgramScorer
from lm.phrases import UNLISTED_LOG_SHARE, PhraseScorer
from lm.piece_scorer import PieceScorer
from lm.scorer import NullScorer, Scorer

if TYPE_CHECKING:
    from lm.grammar.scorer import GrammarScorer

try:
    from asr.decoder import _native
except ImportError:
    _native = None  # type: ignore[assignment]

_TRIE_ARRAYS = (
    "node_label", "node_first_child", "node_first_entry", "node_lookahead", "entry_word", "entry_log_prob",
)  # fmt: skip
_tables: WeakKeyDictionary[GrammarScorer, _native.GrammarTable] = WeakKeyDictionary()
_tables_lock = Lock()
_PHRASE_ARRAYS = ("first_arc", "arc_word", "fail", "lent", "earned")


def available() -> bool:
    """Whether the C++ extension was built."""
    return _native is not None


class NativeSearch:
    """The search over one stream; see `asr.decoder.search.Search`.

    Without a scorer written in Python, `advance` runs outside the interpreter lock.
    """

    def __init__(self, lexicon: Lexicon, scorer: Scorer, config: DecodingConfig) -> None:
        trie = _native.Trie({name: _bits(getattr(lexicon, name)) for name in _TRIE_ARRAYS})
        options = config.to_dict()
        is_tropical = options.pop("semiring") == "tropical"
        self._search = _native.Search(trie, _native_scorer(scorer), **options, is_tropical=is_tropical)

    def advance(self, log_probs: FloatArray) -> None:
        """Take in frames.

        Args:
            log_probs: (T, V) natural log-probabilities; any T.

        Raises:
            ValueError: wrong shape, NaN or plus infinity.
        """
        self._search.advance(check_log_probs(log_probs))

    def take_stable(self) -> list[PathWord]:
        """Words on which all hypotheses agree; each is returned once."""
        return [PathWord(*word) for word in self._search.take_stable()]

    def best(self) -> list[PathWord]:
        """The best hypothesis after the words that were taken; an unfinished word only where it could end now."""
        return [PathWord(*word) for word in self._search.best()]

    def preview(self, log_probs: FloatArray) -> list[PathWord]:
        """What `best` would be after these frames (T, V): a guess, which is not taken in and leaves no trace."""
        return [PathWord(*word) for word in self._search.preview(check_log_probs(log_probs), PREVIEW_BEAM)]

    def trailing_silence(self) -> int:
        """Frames since the best hypothesis' last phoneme, or since the utterance's start if it has none."""
        return int(self._search.trailing_silence())

    def finish(self) -> list[PathWord]:
        """End the utterance and return the words that were not taken yet; then start anew, the frame count going on."""
        return [PathWord(*word) for word in self._search.finish()]

    def finish_many(self, count: int) -> list[Reading]:
        """End the utterance in up to `count` ways, best first: none where no word sequence may end here."""
        found = self._search.finish_many(count)
        return [Reading([PathWord(*word) for word in words], score) for words, score in found]

    def history_size(self) -> int:
        """Words held for the hypotheses: what memory grows with."""
        return int(self._search.history_size())


def _native_scorer(scorer: Scorer) -> _native.WordScorer:
    """The scorer in C++ where there is one; a subclass may have overridden methods, so it is asked in Python."""
    if type(scorer) is NullScorer:
        return _native.NullScorer()
    if type(scorer) is NgramScorer:
        return _native.NgramScorer({name: _bits(array) for name, array in scorer._model.file.arrays.items()})
    if type(scorer) is NeuralScorer:
        model = scorer.model
        arrays: dict[str, npt.NDArray[Any]] = {
            "embedding": model.embedding.ravel(), "embedding_scale": _bits(model.embedding_scale.ravel()),
            "bias": scorer.bias, "unknown_log_share": _bits(model.unknown_log_share),
        }  # fmt: skip
        ngram = None if scorer.ngram is None else _native_scorer(scorer.ngram)
        return _native.NeuralScorer(arrays, model.context, scorer.predict, ngram, scorer.share)
    if type(scorer) is PieceScorer:
        ngram = None if scorer.ngram is None else _native_scorer(scorer.ngram)
        return _native.PieceScorer(_native_scorer(scorer.inner), scorer.cut, ngram, scorer.n_ngram_words, scorer.share)
    if type(scorer) is PhraseScorer:
        arrays = {name: getattr(scorer.phrases, name) for name in _PHRASE_ARRAYS}
        return _native.PhraseScorer(arrays, _native_scorer(scorer.inner), scorer.n_inner_words, UNLISTED_LOG_SHARE)
    from lm.grammar.scorer import ConstrainedScorer, GrammarScorer  # most streams have no grammar

    if type(scorer) is GrammarScorer:
        return _native.GrammarScorer(_table(scorer))
    if type(scorer) is ConstrainedScorer:
        inner = _native_scorer(scorer.inner)
        own, share = scorer.own_log_prob, scorer.inner_log_share
        return _native.ConstrainedScorer(_table(scorer.grammar), inner, scorer.inner_words, own, share)
    return _native.PythonScorer(scorer)


def _table(grammar: GrammarScorer) -> _native.GrammarTable:
    """What is remembered of a grammar, for all streams that share its scorer."""
    with _tables_lock:
        table = _tables.get(grammar)
        if table is None:
            table = _tables[grammar] = _native.GrammarTable(grammar.arcs)
        return table


def _bits(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Half-precision numbers as their bits, for want of such a type in C++; other arrays as they are."""
    return array.view(np.uint16) if array.dtype == np.float16 else array

"""The language model as questions see it: many contexts at a time, each with the few words that may follow.

Shape letters: N contexts, C words of a context, D embedding, K words that may follow, V words with an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lm.lexicon import Lexicon
from lm.neural import DATA_FILE, GRAPH_FILE, FloatArray, NeuralScorer
from lm.pieces import PIECES_FILE, Pieces
from lm.query.query import QueryError
from lm.vocabulary import START_ID, UNKNOWN_ID, read_words, words_sha256

if TYPE_CHECKING:
    from lm.onnx_lm import OnnxLanguageModel

IntArray = npt.NDArray[np.int64]
Context = tuple[int, ...]

_MANY = 4  # one word in so many: from there on all of them are scored, as a gather would cost more
_SCORED_AT_ONCE = 4096
_SUMMED_AT_ONCE = 32  # times the vocabulary: 8 MB


class QueryModel:
    """A language model with its word list; probabilities are those of `NeuralScorer`.

    The softmax' denominator is taken to be 1, as training sees to and as the recogniser does, or worked out (as for
    perplexities), which takes ten times as long. A word is never likelier than certain: what comes out above 1 is 1.
    """

    def __init__(
        self, scorer: NeuralScorer, words: Sequence[str], *, softmax: bool = False, pieces: Pieces | None = None
    ) -> None:
        """Ask `scorer`, whose word list is `words`.

        Args:
            scorer: of the language model, without an n-gram.
            words: its word list.
            softmax: work the denominator out.
            pieces: where the model is of pieces: they, with `words` their texts.

        Raises:
            QueryError: the word list is not the one that the model was made over.
        """
        known = len(scorer.model.embedding) + len(scorer.model.unknown_log_share)
        if len(words) != known:
            raise QueryError(f"the word list has {len(words)} words, and the language model was made over {known}")
        self.words, self.pieces = tuple(words), pieces
        self.ids = {word: number for number, word in enumerate(words)}
        self._predict, self._bias, self._model = scorer.predict, scorer.bias, scorer.model
        self._table = scorer.model.rows(slice(None))
        self._softmax = softmax
        self._share = np.concatenate([np.zeros(len(self._table)), scorer.model.unknown_log_share]).astype(np.float32)
        if softmax:  # one more dimension, which takes the denominator's logarithm away
            self._table = np.concatenate([self._table, np.full((len(self._table), 1), -1, np.float32)], axis=1)

    @property
    def start(self) -> Context:
        """The context of a sentence's first word."""
        return (START_ID,) * self._model.context

    def predict(self, contexts: Sequence[Context]) -> FloatArray:
        """The embeddings (N, D) that the next words should have, and log Z where it is worked out: (N, D + 1).

        Equal contexts are run once.
        """
        place = {context: number for number, context in enumerate(dict.fromkeys(contexts))}
        rows = np.array(list(place), np.int64).reshape(len(place), self._model.context)
        rows[rows >= len(self._table)] = UNKNOWN_ID
        predicted = self._predict(rows)
        if self._softmax:
            predicted = np.concatenate([predicted, self._log_z(predicted)], axis=1)
        return predicted if len(place) == len(contexts) else predicted[[place[context] for context in contexts]]

    def _log_z(self, predicted: FloatArray) -> FloatArray:
        """Logarithm (N, 1) of the denominator."""
        found = np.empty((len(predicted), 1), np.float32)
        for first in range(0, len(predicted), _SUMMED_AT_ONCE):
            part = slice(first, first + _SUMMED_AT_ONCE)
            logits = predicted[part] @ self._table[:, :-1].T + self._bias
            highest = logits.max(axis=1, keepdims=True)
            found[part] = highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
        return found

    def log_probs(self, predicted: FloatArray, ids: IntArray) -> FloatArray:
        """Natural log-probabilities (N, K) of words `ids` (K,)."""
        rows = np.where(ids < len(self._table), ids, UNKNOWN_ID)
        if len(ids) * _MANY > len(self._table):
            logits = (predicted @ self._table.T + self._bias)[:, rows]
        else:
            logits = predicted @ self._table[rows].T + self._bias[rows]
        found: FloatArray = np.minimum(logits + self._share[ids], 0.0)
        return found

    def top_threshold(self, predicted: FloatArray, count: int) -> FloatArray:
        """Log-probability (N, 1) of the `count`-th likeliest of all words with an embedding."""
        if count >= len(self._table):
            return np.full((len(predicted), 1), -np.inf, np.float32)
        logits = predicted @ self._table.T + self._bias
        found: FloatArray = np.minimum(np.partition(logits, -count, axis=1)[:, -count, None], 0.0)
        return found

    def score(self, before: Sequence[Context], sequences: Sequence[Sequence[int]]) -> npt.NDArray[np.float64]:
        """Natural log-probabilities (n,) of word sequences, each after a context of its own."""
        contexts: list[Context] = []
        targets: list[int] = []
        owners: list[int] = []
        for owner, (context, sequence) in enumerate(zip(before, sequences, strict=True)):
            for word in sequence:
                contexts.append(context)
                targets.append(word)
                owners.append(owner)
                context = follow(context, word)
        total = np.zeros(len(sequences))
        for first in range(0, len(contexts), _SCORED_AT_ONCE):
            part = slice(first, first + _SCORED_AT_ONCE)
            ids = np.array(targets[part], np.int64)
            rows = np.where(ids < len(self._table), ids, UNKNOWN_ID)
            dots = np.einsum("nd,nd->n", self.predict(contexts[part]), self._table[rows])
            np.add.at(total, owners[part], np.minimum(dots + self._bias[rows] + self._share[ids], 0.0))
        return total

    def after(self, words: Sequence[str]) -> Context:
        """The context after a sentence's first words; those that the word list lacks are `<unk>`."""
        context = self.start
        for word in words:
            context = follow(context, self.ids.get(word, UNKNOWN_ID))
        return context


def follow(context: Context, word: int) -> Context:
    """The context after one more word."""
    return (*context[1:], word)


def open_query_model(
    folder: str | Path, adapter: str | Path | None = None, words: str | Path | None = None, *, softmax: bool = False
) -> tuple[QueryModel, QueryModel | None]:
    """The language model of a bundle, as it is and with an adapter.

    Args:
        folder: with `lm.onnx`, `lm.bin`, and `lexicon.bin` or `pieces.bin`.
        adapter: `NAME.bin` with its `NAME.onnx_adapter` beside it.
        words: word list, where the folder has no lexicon.
        softmax: see `QueryModel`.

    Raises:
        QueryError: the folder lacks a file, or its word list is not the model's.
        ArrayFileError: a file is damaged.
        LanguageModelError: the model or the adapter cannot be run.
    """
    from lm.onnx_lm import OnnxLanguageModel

    folder = Path(folder)
    pieces = Pieces.open(path) if (path := folder / PIECES_FILE).is_file() else None
    needed = [GRAPH_FILE, DATA_FILE] + ([] if words or pieces else ["lexicon.bin"])
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise QueryError(
            f"{folder}: expected a bundle, but {', '.join(missing)} is not there; "
            "`asr info` names the bundle's folder, `asr-export lm` makes one of a checkpoint"
        )
    model = OnnxLanguageModel(folder / GRAPH_FILE, folder / DATA_FILE)
    if pieces is not None:
        listed = list(pieces.texts)
    else:
        listed = read_words(words) if words else _lexicon_words(folder / "lexicon.bin")
    _check_words(model, listed, folder)
    trunk, worn = (
        QueryModel(scorer, listed, softmax=softmax, pieces=pieces) if scorer else None
        for scorer in (model.scorer(), model.scorer(model.load_adapter(adapter)) if adapter else None)
    )
    assert trunk is not None
    return trunk, worn


def _lexicon_words(path: Path) -> list[str]:
    lexicon = Lexicon.open(path)
    return [lexicon.word(number) for number in range(len(lexicon))]


def _check_words(model: OnnxLanguageModel, words: list[str], folder: Path) -> None:
    if words_sha256(words) != model.model.words_sha256:
        raise QueryError(f"{folder}: the language model was made over another word list")

"""The neural language model at run time: `lm.bin`, mapped, and the scorer over it.

A word's log-probability is `embedding[word] . predicted + bias[word]`, where `predicted` is what the hidden layers
(`lm/onnx_lm.py`) make of the words before it. The softmax' denominator is taken to be 1, which training sees to
(`lm/train/objective.py`): so a word costs one row of the table, and a context is worked out once for all its words.

Embeddings have four bits a number, and a scale for every few numbers; the other weights, eight bits.

Shape letters: N contexts, C words of a context, D embedding, G scales of an embedding, V words with an embedding, W
words of the word list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm.arrayfile import ArrayFile, ArrayFileError, open_array_file
from lm.scorer import Scorer, mixed
from lm.vocabulary import END_ID, START_ID, UNKNOWN_ID

FloatArray = npt.NDArray[np.float32]
Predict = Callable[[npt.NDArray[np.int64]], FloatArray]
"""From contexts (N, C), oldest word first, ids below V, to the embeddings (N, D) that the next words should have."""

KIND, ADAPTER_KIND = "lm", "lm-adapter"
GRAPH_FILE, DATA_FILE = "lm.onnx", "lm.bin"
"""What the two files of a model are called, in a bundle and wherever it is exported to."""
ADAPTER_WEIGHTS = ".onnx_adapter"
"""Suffix of the low-rank changes of the hidden layers, beside an adapter's `NAME.bin`."""
MAX_CONTEXT = 12
STATE_WORDS = 4
"""Hypotheses that agree in so many last words share a state, and the older words of whichever was there first: a beam
that kept them apart would be filled with hypotheses that differ in long-gone words only."""
CROWD = 4096
"""Contexts kept before the scorer asks to be told which of them still matter."""
_DTYPES = {"embedding": "|u1", "embedding_scale": "<f2", "bias": "<f2", "unknown_log_share": "<f2"}


@dataclass(frozen=True, slots=True, eq=False)
class NeuralModel:
    """Embeddings and output bias of a model; read-only views of the file."""

    file: ArrayFile
    embedding: npt.NDArray[np.uint8]
    """(V, D / 2): byte j holds numbers j (low half) and j + D / 2 (high half), each plus 8, to be scaled."""
    embedding_scale: npt.NDArray[np.float16]
    """(V, G), each for D / G numbers in a row, which are all in the first or all in the second half."""
    bias: FloatArray
    """(V,)"""
    unknown_log_share: npt.NDArray[np.float16]
    """(W - V,): log of the share of `<unk>`'s probability that each word without an embedding gets."""
    context: int
    """C"""
    trunk: str
    """Digest of all weights; adapters and `lm.onnx` name it."""
    words_sha256: str

    @staticmethod
    def open(path: str | Path) -> NeuralModel:
        """Map the file at `path`.

        Raises:
            ArrayFileError: not such a file, cut off, damaged, or its arrays do not fit each other.
        """
        file = open_array_file(path, kind=KIND)
        _check_arrays(file, _DTYPES)
        arrays, meta = file.arrays, file.meta
        embedding, scale, rows = arrays["embedding"], arrays["embedding_scale"], arrays["bias"].size
        fits = embedding.ndim == scale.ndim == 2 and len(embedding) == len(scale) == rows > END_ID
        half = scale.shape[1] // 2 if fits else 0  # scales of half a row
        fits = fits and half > 0 and scale.shape[1] == 2 * half and embedding.shape[1] % half == 0
        if not fits or arrays["bias"].ndim != 1:
            raise ArrayFileError(f"{file.path}: embedding, embedding_scale and bias do not fit each other")
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ArrayFileError(f"{file.path}: array {name!r} holds NaN or infinity; the model is damaged")
        context = meta.get("context")
        if type(context) is not int or not 1 <= context <= MAX_CONTEXT:
            raise ArrayFileError(f"{file.path}: context: expected 1 to {MAX_CONTEXT} words, found {context!r}")
        file.release()
        return NeuralModel(
            file, embedding, scale, arrays["bias"].astype(np.float32), arrays["unknown_log_share"], context,
            _text(file, "trunk"), _text(file, "words_sha256"),
        )  # fmt: skip

    def rows(self, words: slice | int) -> FloatArray:
        """Embeddings of words below V: (n, D), or (D,) for one."""
        packed, scale = self.embedding[words], self.embedding_scale[words].astype(np.float32)
        steps = np.concatenate([packed & 15, packed >> 4], axis=-1).astype(np.float32) - 8
        found: FloatArray = steps * np.repeat(scale, steps.shape[-1] // scale.shape[-1], axis=-1)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class NeuralAdapter:
    """What an adapter changes besides the hidden layers, which an `.onnx_adapter` of the same name beside it does."""

    file: ArrayFile
    name: str
    trunk: str
    """Digest of the model it was made for."""
    bias: FloatArray
    """(V,): the model's output bias with the adapter's change."""

    @property
    def weights_path(self) -> Path:
        """The low-rank changes of the hidden layers."""
        return self.file.path.with_suffix(ADAPTER_WEIGHTS)

    @staticmethod
    def open(path: str | Path, model: NeuralModel) -> NeuralAdapter:
        """Map the adapter at `path` (`NAME.bin`).

        Raises:
            ArrayFileError: not such a file, damaged, or made for another model than `model`.
        """
        file = open_array_file(path, kind=ADAPTER_KIND)
        _check_arrays(file, {"bias": "|i1", "bias_scale": "<f4"})
        steps, scale = file.arrays["bias"], file.arrays["bias_scale"]
        if scale.shape != (1,) or not np.isfinite(scale).all() or steps.shape not in ((0,), model.bias.shape):
            raise ArrayFileError(f"{file.path}: expected a bias for {len(model.bias)} words, found {steps.shape}")
        trunk = _text(file, "trunk")
        if trunk != model.trunk:
            raise ArrayFileError(
                f"{file.path}: made for the language model {trunk[:12]}, but this one is {model.trunk[:12]}: "
                "make it again with `asr-lm adapt --trunk` and this model"
            )
        bias = model.bias + steps.astype(np.float32) * scale if steps.size else model.bias
        return NeuralAdapter(file, _text(file, "name"), trunk, bias)


class NeuralScorer:
    """`Scorer` over a neural model, alone or mixed with an n-gram; remembers contexts, so it is for one search.

    A state is a hash of the last `STATE_WORDS` words. With an n-gram, the probability of a word is `share` times the
    model's plus `1 - share` times the n-gram's.
    """

    def __init__(
        self, model: NeuralModel, predict: Predict, *, bias: FloatArray | None = None, ngram: Scorer | None = None,
        share: float = 1.0,
    ) -> None:  # fmt: skip
        """Score with `model`.

        Args:
            model: the model.
            predict: its hidden layers, changed by an adapter or not.
            bias: (V,) to use instead of the model's.
            ngram: the other scorer; its states must depend on the last `STATE_WORDS` words only.
            share: of the model where there is an n-gram, above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}, expected a number above 0 and at most 1")
        self.model, self.predict, self.ngram, self.share = model, predict, ngram, share
        self.bias = np.ascontiguousarray(model.bias if bias is None else bias, np.float32)
        self._contexts: dict[int, _Context] = {}
        self._kept: dict[int, _Context] | None = None  # contexts of before the preview, while there is one

    def start(self) -> int:
        """State before the first word."""
        return self._keep((START_ID,) * self.model.context, self.ngram.start() if self.ngram else 0)

    def step(self, state: int, word: int) -> tuple[int, float]:
        """Next state, and natural log-probability of word id `word` after `state`."""
        context = self._contexts[state]
        ngram_state, ngram_log_prob = self.ngram.step(context.ngram, word) if self.ngram else (0, -math.inf)
        log_prob = self._mixed(state, word, ngram_log_prob)
        return self._keep((*context.words[1:], word), ngram_state), log_prob

    def finish(self, state: int) -> float:
        """Natural log-probability of `</s>` after `state`."""
        ngram_log_prob = self.ngram.finish(self._contexts[state].ngram) if self.ngram else -math.inf
        return self._mixed(state, END_ID, ngram_log_prob)

    def prepare(self, states: Iterable[int]) -> None:
        """Run the hidden layers for those of the states that they have not seen yet, together."""
        missing = {state: None for state in states if self._contexts[state].predicted is None}
        if not missing or self._kept is not None:
            return
        contexts = np.array([self._contexts[state].words for state in missing], np.int64)
        contexts[contexts >= len(self.model.embedding)] = UNKNOWN_ID
        for state, row in zip(missing, self.predict(contexts), strict=True):
            self._contexts[state].predicted = row

    def is_crowded(self) -> bool:
        """Whether many contexts are kept."""
        return self._kept is None and len(self._contexts) >= CROWD

    def retain(self, states: Iterable[int]) -> None:
        """Forget all contexts but those of `states`."""
        self._contexts = {state: self._contexts[state] for state in states}

    def begin_preview(self) -> None:
        """Keep nothing for good until `end_preview`: contexts not seen yet are scored by the n-gram, or the bias."""
        self._kept = dict(self._contexts)

    def end_preview(self) -> None:
        """Forget the contexts that came up since `begin_preview`."""
        assert self._kept is not None
        self._contexts, self._kept = self._kept, None

    def _log_prob(self, state: int, word: int) -> float:
        context, model = self._contexts[state], self.model
        if context.predicted is None:
            self.prepare([state])
        row, share = word, 0.0
        if word >= len(model.embedding):
            row, share = UNKNOWN_ID, float(model.unknown_log_share[word - len(model.embedding)])
        if context.predicted is None:
            return float(self.bias[row]) + share
        dot = float(model.rows(row).astype(np.float64) @ context.predicted.astype(np.float64))
        return dot + float(self.bias[row]) + share

    def _mixed(self, state: int, word: int, ngram: float) -> float:
        if self.ngram and self._kept is not None and self._contexts[state].predicted is None:
            return ngram
        neural = self._log_prob(state, word)
        if self.ngram is None:
            return neural
        highest = max(neural, ngram)
        if highest == -math.inf:
            return highest
        mixed = self.share * math.exp(neural - highest) + (1 - self.share) * math.exp(ngram - highest)
        return highest + math.log(mixed) if mixed else -math.inf

    def _keep(self, words: tuple[int, ...], ngram: int) -> int:
        state = context_state(words)
        if state not in self._contexts:
            self._contexts[state] = _Context(words, ngram)
        return state


class _Context:
    """The last words of some hypotheses."""

    __slots__ = ("ngram", "predicted", "words")

    def __init__(self, words: tuple[int, ...], ngram: int) -> None:
        self.words = words
        self.ngram = ngram  # state of the n-gram
        self.predicted: FloatArray | None = None


def context_state(words: Sequence[int]) -> int:
    """The state of a context: 63 bits of a hash of its last words, the same in the native search."""
    state = 0
    for word in words[-STATE_WORDS:]:
        state = mixed(state, word)
    return state >> 1


def _check_arrays(file: ArrayFile, dtypes: dict[str, str]) -> None:
    for name, dtype in dtypes.items():
        if name not in file.arrays or file.arrays[name].dtype.str != dtype:
            raise ArrayFileError(f"{file.path}: array {name!r} is missing, or not of type {dtype}")


def _text(file: ArrayFile, key: str) -> str:
    value: Any = file.meta.get(key)
    if not isinstance(value, str) or not value:
        raise ArrayFileError(f"{file.path}: the header lacks {key!r}")
    return value

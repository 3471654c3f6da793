"""Words as pieces: a language model over a few thousand pieces knows every word, spelled from what it holds.

The pieces are those of a SentencePiece unigram model (Kudo 2018): each has a log-probability, and a word is cut so that
their sum is highest. SentencePiece is needed to find them (`train_pieces`), not to use them.

    pieces.bin     arrays `text` uint8 (all pieces one after another, UTF-8), `first` uint32 (N + 1: where each begins),
                   `log_prob` float32 (N)

Ids are a numbering of their own: 0 `<unk>`, 1 `<s>`, 2 `</s>`, then pieces; one that begins a word has `BEGIN` first.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm.arrayfile import ArrayFileError, open_array_file, write_array_file
from lm.vocabulary import SPECIAL_WORDS, UNKNOWN_ID, words_sha256

KIND = "pieces"
PIECES_FILE = "pieces.bin"
BEGIN = "\u2581"
"""Stands before the first piece of a word."""
_PENALTY = 10.0
"""Of a character that no piece has, below the least likely piece, as in SentencePiece."""


class PiecesError(ValueError):
    """Pieces cannot be made or read."""


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Pieces and their log-probabilities."""

    texts: tuple[str, ...]
    """By id; the first three are special."""
    log_probs: tuple[float, ...]
    _ids: dict[str, int] = field(init=False, repr=False)
    _longest: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.texts[: len(SPECIAL_WORDS)] != SPECIAL_WORDS or len(self.texts) != len(self.log_probs):
            raise PiecesError(f"expected {' '.join(SPECIAL_WORDS)} and then pieces with their log-probabilities")
        ids = {text: number for number, text in enumerate(self.texts) if number >= len(SPECIAL_WORDS)}
        if len(ids) != len(self.texts) - len(SPECIAL_WORDS) or "" in ids:
            raise PiecesError("a piece is empty or there twice")
        object.__setattr__(self, "_ids", ids)
        object.__setattr__(self, "_longest", max(map(len, ids), default=0))

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def sha256(self) -> str:
        """Digest that ties a language model to its pieces."""
        return words_sha256(self.texts)

    def cut(self, word: str) -> tuple[int, ...]:
        """Ids of the most likely pieces of a word; characters that no piece has are `<unk>`, once in a row."""
        text = BEGIN + word
        least = min(self.log_probs[len(SPECIAL_WORDS) :], default=0.0) - _PENALTY
        best: list[tuple[float, int, int]] = [(0.0, 0, UNKNOWN_ID)]  # log-probability, where the last piece begins, id
        for end in range(1, len(text) + 1):
            found = (best[end - 1][0] + least, end - 1, UNKNOWN_ID)
            for start in range(max(0, end - self._longest), end):
                piece = self._ids.get(text[start:end])
                if piece is not None and best[start][0] + self.log_probs[piece] > found[0]:
                    found = (best[start][0] + self.log_probs[piece], start, piece)
            best.append(found)
        ids: list[int] = []
        end = len(text)
        while end:
            _, end, piece = best[end]
            if piece != UNKNOWN_ID or not ids or ids[-1] != UNKNOWN_ID:
                ids.append(piece)
        return tuple(reversed(ids))

    def write(self, path: str | Path) -> None:
        """Write `pieces.bin`."""
        encoded = [text.encode() for text in self.texts]
        arrays: dict[str, Any] = {
            "text": np.frombuffer(b"".join(encoded), np.uint8),
            "first": np.cumsum([0, *map(len, encoded)]).astype(np.uint32),
            "log_prob": np.array(self.log_probs, np.float32),
        }
        write_array_file(path, kind=KIND, arrays=arrays, meta={"sha256": self.sha256})

    @staticmethod
    def open(path: str | Path) -> Pieces:
        """Read `pieces.bin`.

        Raises:
            ArrayFileError: not such a file, damaged, or its arrays do not fit each other.
        """
        file = open_array_file(path, kind=KIND)
        try:
            text, first, log_prob = (file.arrays[name] for name in ("text", "first", "log_prob"))
            raw, bounds = text.tobytes(), first.tolist()
            texts = tuple(raw[start:end].decode() for start, end in zip(bounds, bounds[1:], strict=False))
            pieces = Pieces(texts, tuple(map(float, log_prob)))
        except (KeyError, UnicodeDecodeError, PiecesError) as error:
            raise ArrayFileError(f"{path}: no list of pieces: {error}") from None
        if not np.isfinite(log_prob).all() or file.meta.get("sha256") != pieces.sha256:
            raise ArrayFileError(f"{path}: the pieces are damaged")
        return pieces


def begin_words(texts: Sequence[str]) -> npt.NDArray[np.bool_] | None:
    """(N,): which entries of a list begin a word, where they are pieces; None where all are words."""
    begins = np.array([text.startswith(BEGIN) for text in texts], np.bool_)
    return begins if begins.any() else None


def train_pieces(counts: Mapping[str, float], size: int) -> Pieces:
    """Find `size` pieces, the special ones among them, that make words likely which come up so often.

    Raises:
        PiecesError: there are too few words for so many pieces, or SentencePiece is not installed.
    """
    try:
        import sentencepiece
    except ImportError:
        raise PiecesError("finding pieces needs sentencepiece: pip install 'sottovoce[train]'") from None
    model = io.BytesIO()
    options: dict[str, Any] = {
        "model_type": "unigram", "vocab_size": size, "character_coverage": 1.0, "unk_id": 0, "bos_id": 1, "eos_id": 2,
        "pad_id": -1, "normalization_rule_name": "identity", "input_format": "tsv", "num_threads": 1, "minloglevel": 2,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.tsv"
        rows = (f"{word}\t{max(1, round(count))}\n" for word, count in counts.items())
        path.write_text("".join(rows), encoding="utf-8")
        try:
            sentencepiece.SentencePieceTrainer.Train(input=str(path), model_writer=model, **options)
        except (RuntimeError, OSError) as error:
            reason = str(error).strip().rpartition("] ")[2] or "SentencePiece gives no reason"
            raise PiecesError(f"no {size} pieces can be found for {len(counts)} words: {reason}") from None
    found = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    texts = tuple(found.IdToPiece(number) for number in range(found.GetPieceSize()))
    return Pieces(texts, tuple(found.GetScore(number) if number > 2 else 0.0 for number in range(len(texts))))

"""Letters to phonemes: how a word that no dictionary lists is spoken.

A small network (trained by lm/train/g2p.py) reads all letters at once and gives each of them a few frames of phoneme
log-probabilities, which a CTC prefix beam search turns into pronunciations (Hannun et al., arXiv:1408.2873).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lm.phones import BLANK_ID, BOUNDARY_ID, PHONEMES

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FloatArray = npt.NDArray[np.float32]
Pronunciation = tuple[int, ...]

ALPHABET = "abcdefghijklmnopqrstuvwxyz'"
BEAM_SIZE = 8
LABEL_MARGIN = 6.0
_SPELLABLE = re.compile(r"[a-z']*[a-z][a-z']*")
_BATCH_SIZE = 256


@dataclass(frozen=True, slots=True, eq=False)
class G2P:
    """A loaded letter-to-phoneme network."""

    session: InferenceSession

    @classmethod
    def open(cls, path: str | Path) -> G2P:
        """Load `g2p.onnx`; it runs on one thread.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: not such a network, or one for other letters or phonemes.
        """
        import onnxruntime

        if not Path(path).is_file():
            raise FileNotFoundError(f"no letter-to-phoneme network at {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base but this
            raise ValueError(f"{path} is not an ONNX file that can be run: {error}") from None
        metadata = session.get_modelmeta().custom_metadata_map
        if metadata.get("alphabet") != ALPHABET or metadata.get("phonemes") != " ".join(PHONEMES):
            raise ValueError(f"{path} was made for other letters or phonemes; train it again")
        return cls(session)

    def pronounce(self, word: str, n_best: int = 1) -> list[tuple[Pronunciation, float]]:
        """The `n_best` pronunciations of a word with their log-probabilities, best first.

        Args:
            word: Letters and apostrophes; case and accents do not matter.
            n_best: How many at most, 1 to 8.

        Raises:
            ValueError: the word is empty or has other characters, or `n_best` is out of range.
        """
        return self.pronounce_many([word], n_best)[0]

    def pronounce_many(self, words: Iterable[str], n_best: int = 1) -> list[list[tuple[Pronunciation, float]]]:
        """`pronounce` for every word, words of one length in one run of the network."""
        if not 1 <= n_best <= BEAM_SIZE:
            raise ValueError(f"n_best must be 1 to {BEAM_SIZE}, got {n_best}")
        spellings = [normalize_word(word) for word in words]
        by_length: defaultdict[int, list[int]] = defaultdict(list)
        for index, spelling in enumerate(spellings):
            by_length[len(spelling)].append(index)
        found: list[list[tuple[Pronunciation, float]]] = [[] for _ in spellings]
        for same_length in by_length.values():
            for start in range(0, len(same_length), _BATCH_SIZE):
                indices = same_length[start : start + _BATCH_SIZE]
                for index, log_probs in zip(indices, self._run([spellings[i] for i in indices]), strict=True):
                    # Where the blank is far ahead in every frame, nothing is left by the margin.
                    search = partial(ctc_prefix_beam, log_probs, n_best=n_best)
                    found[index] = search() or search(label_margin=math.inf)
        return found

    def _run(self, spellings: Sequence[str]) -> FloatArray:
        """Log-probabilities (B, T, V) of words of one length."""
        log_probs: FloatArray = self.session.run(None, {"letters": encode_letters(spellings)})[0]
        log_probs[:, :, BOUNDARY_ID] = -np.inf
        return log_probs


def is_spellable(word: str) -> bool:
    """Whether a word is letters a-z and apostrophes only, with at least one letter."""
    return _SPELLABLE.fullmatch(word) is not None


def normalize_word(word: str) -> str:
    """Lower-case letters a-z and apostrophes of a word; accents are stripped.

    Raises:
        ValueError: nothing left, or other characters than letters and apostrophes.
    """
    decomposed = unicodedata.normalize("NFKD", word.replace("’", "'").casefold())
    spelling = "".join(character for character in decomposed if not unicodedata.combining(character))
    if not is_spellable(spelling):
        raise ValueError(
            f"cannot pronounce {word!r}: a word is letters a-z and apostrophes, with at least one letter; "
            "write digits and symbols out in words"
        )
    return spelling


def encode_letters(spellings: Sequence[str]) -> npt.NDArray[np.int64]:
    """Letter ids (B, L) of normalised words of one length."""
    return np.array([[ALPHABET.index(letter) for letter in spelling] for spelling in spellings], np.int64)


def ctc_prefix_beam(
    log_probs: FloatArray, *, n_best: int, beam_size: int = BEAM_SIZE, label_margin: float = LABEL_MARGIN
) -> list[tuple[Pronunciation, float]]:
    """The most probable label sequences, summed over their CTC alignments, best first.

    Args:
        log_probs: (T, V) natural log-probabilities, the blank at 0.
        n_best: How many to return at most; the empty sequence is never one of them.
        beam_size: Prefixes kept after each frame.
        label_margin: Labels that are worse than a frame's best by more than this are not tried there.
    """
    beam: dict[Pronunciation, tuple[float, float]] = {(): (0.0, -math.inf)}  # ends in blank, ends in its last label
    for frame in log_probs:
        tried = np.flatnonzero(frame > frame.max() - label_margin).tolist()
        beam = _advance(beam, frame.tolist(), [label for label in tried if label != BLANK_ID])
        kept = sorted(beam.items(), key=lambda item: -_add(*item[1]))[:beam_size]
        beam = {prefix: ends for prefix, ends in kept if max(ends) > -math.inf}
    return [(prefix, _add(*ends)) for prefix, ends in beam.items() if prefix][:n_best]


def _advance(
    beam: dict[Pronunciation, tuple[float, float]], frame: list[float], labels: list[int]
) -> dict[Pronunciation, tuple[float, float]]:
    """Every kept prefix after one more frame: blank, its last label again, or a new label."""
    blank = {prefix: _add(*ends) + frame[BLANK_ID] for prefix, ends in beam.items()}
    label = {prefix: ends[1] + frame[prefix[-1]] for prefix, ends in beam.items() if prefix}
    for prefix, (in_blank, in_label) in beam.items():
        total = _add(in_blank, in_label)
        for new in labels:
            before = in_blank if prefix and prefix[-1] == new else total
            longer = (*prefix, new)
            label[longer] = _add(label.get(longer, -math.inf), before + frame[new])
    return {prefix: (blank.get(prefix, -math.inf), label.get(prefix, -math.inf)) for prefix in {**blank, **label}}


def _add(a: float, b: float) -> float:
    """Log of the sum of two probabilities given as logs."""
    low, high = (a, b) if a < b else (b, a)
    return high + math.log1p(math.exp(low - high)) if low > -math.inf else high

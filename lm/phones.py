"""The phoneme set of the whole project, and how ARPAbet (cmudict) is written in it.

The encoder's outputs, the lexicon's pronunciations and the G2P all speak in these ids: 0 is the CTC blank, 1 the word
boundary, the rest IPA phonemes of English. A bundle repeats the set in `tokens.txt`, which must be equal.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

BLANK = "<blk>"
BOUNDARY = "<wb>"
BLANK_ID = 0
BOUNDARY_ID = 1
_IPA = ("ɑ æ ə ʌ ɔ aʊ aɪ b t͡ʃ d ð ɛ ɝ eɪ f ɡ h ɪ i d͡ʒ k l m n ŋ oʊ ɔɪ p ɹ s ʃ t θ ʊ u v w j z ʒ").split()
PHONEMES: tuple[str, ...] = (BLANK, BOUNDARY, *_IPA)
PHONEME_ID: dict[str, int] = {symbol: index for index, symbol in enumerate(PHONEMES)}

_ARPABET: dict[str, tuple[str, ...]] = {
    "AA": ("ɑ",), "AE": ("æ",), "AH": ("ə", "ʌ"), "AO": ("ɔ",), "AW": ("aʊ",), "AY": ("aɪ",), "B": ("b",),
    "CH": ("t͡ʃ",), "D": ("d",), "DH": ("ð",), "EH": ("ɛ",), "ER": ("ɝ",), "EY": ("eɪ",), "F": ("f",), "G": ("ɡ",),
    "HH": ("h",), "IH": ("ɪ",), "IY": ("i",), "JH": ("d͡ʒ",), "K": ("k",), "L": ("l",), "M": ("m",), "N": ("n",),
    "NG": ("ŋ",), "OW": ("oʊ",), "OY": ("ɔɪ",), "P": ("p",), "R": ("ɹ",), "S": ("s",), "SH": ("ʃ",), "T": ("t",),
    "TH": ("θ",), "UH": ("ʊ",), "UW": ("u",), "V": ("v",), "W": ("w",), "Y": ("j",), "Z": ("z",), "ZH": ("ʒ",),
}  # fmt: skip


def arpabet_to_ids(phones: Sequence[str], *, limit: int = 4) -> list[tuple[int, ...]]:
    """Every reading of an ARPAbet pronunciation in phoneme ids, at most `limit`.

    A stressed AH (AH1, AH2) is `ʌ`, an unstressed one (AH0) `ə`; without a stress mark both are given.
    """
    choices = []
    for phone in phones:
        base, stress = phone.rstrip("012"), phone[-1]
        symbols = _ARPABET[base]
        if base == "AH" and stress in "012":
            symbols = ("ə",) if stress == "0" else ("ʌ",)
        choices.append(symbols)
    readings = itertools.islice(itertools.product(*choices), limit)
    return [tuple(PHONEME_ID[symbol] for symbol in reading) for reading in readings]


def to_symbols(ids: Iterable[int]) -> str:
    """Phoneme ids as a readable string, phonemes separated by spaces."""
    return " ".join(PHONEMES[index] for index in ids)


def write_tokens(path: str | Path) -> None:
    """Write `tokens.txt`: one `symbol id` a line, as sherpa-onnx reads it."""
    lines = [f"{symbol} {index}" for index, symbol in enumerate(PHONEMES)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_tokens(path: str | Path) -> tuple[str, ...]:
    """Read `tokens.txt`; ids must run from 0 without gaps.

    Raises:
        ValueError: a line is malformed or an id is out of order.
    """
    symbols = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        symbol, _, index = line.rpartition(" ")
        if not symbol or index != str(number - 1):
            raise ValueError(f"{path}:{number}: expected '<symbol> {number - 1}', found {line!r}")
        symbols.append(symbol)
    return tuple(symbols)

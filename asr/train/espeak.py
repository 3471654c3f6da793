"""English text to the phonemes that Kokoro was trained on: espeak-ng's IPA with one letter for each diphthong.

espeak-ng is called as a library, which comes inside the package `espeakng-loader`. Its state is global: one accent at
a time, and one thread.
"""

from __future__ import annotations

import ctypes
import re
from functools import cache
from typing import Any

from asr.errors import MissingDependencyError

AMERICAN, BRITISH = "en-us", "en-gb-x-rp"
_LETTER_A = "eigh"  # espeak-ng reads the bare letter as the article; this spelling it reads as the letter's name
_NO_PLAYBACK, _UTF8 = 2, 1
_IPA_WITH_TIES = 0x02 | 0x80 | ord("^") << 8
_SYLLABIC = re.compile("(.)\u0329")
_OF_BOTH = (
    *(("ʔn\u0329", "tᵊn"), ("ʔ", "t"), ("a^ɪ", "I"), ("a^ʊ", "W"), ("e^ɪ", "A"), ("ɔ^ɪ", "Y"), ("d^ʒ", "ʤ")),
    *(("t^ʃ", "ʧ"), ("ə^l", "ᵊl"), ("ɚɹ", "ɚ"), ("ɚ", "əɹ"), ("ɐ", "ə"), ("ʲ", ""), ("r", "ɹ"), ("x", "k"), ("ç", "k")),
    *(("ɬ", "l"), ("\u0303", "")),
)
_OF_ACCENT = {
    AMERICAN: (("o^ʊ", "O"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ː", ""), ("o", "ɔ"), ("ɾ", "T"), ("^", "")),
    BRITISH: (("ə^ʊ", "Q"), ("e^ə", "ɛː"), ("i^ə", "ɪə"), ("oː", "ɔː"), ("o", "ɔ"), ("ɾ", "T"), ("^", "")),
}


def phonemize(text: str, accent: str = AMERICAN) -> str:
    """Phonemes of `text`, words apart by spaces, stress marks included; a final `.` or `?` is kept.

    Args:
        text: words; a capital `A` is the letter, a small one the article.
        accent: `AMERICAN` or `BRITISH`.

    Raises:
        MissingDependencyError: espeak-ng is not installed.
    """
    words = text.rstrip(".?")
    spoken = " ".join(_LETTER_A if word == "A" else word for word in words.split())
    return as_kokoro(" ".join(_espeak_ipa(spoken, accent)), accent) + text[len(words) :]


def as_kokoro(ipa: str, accent: str) -> str:
    """espeak-ng's IPA (`^` ties the letters of a sound) in the letters of Kokoro's vocabulary."""
    for sound, letter in _OF_BOTH:
        ipa = ipa.replace(sound, letter)
    ipa = _SYLLABIC.sub(r"ᵊ\1", ipa)
    for sound, letter in _OF_ACCENT[accent]:
        ipa = ipa.replace(sound, letter)
    return ipa


def _espeak_ipa(text: str, accent: str) -> list[str]:
    library = _espeak()
    if library.espeak_SetVoiceByName(accent.encode()) != 0:
        raise ValueError(f"espeak-ng has no voice {accent}; version 1.52 has it")
    buffer = ctypes.create_string_buffer(text.encode("utf-8"))
    rest = ctypes.c_void_p(ctypes.addressof(buffer))
    clauses = []
    while rest.value:
        clauses.append(library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA_WITH_TIES).decode("utf-8"))
    return clauses


@cache
def _espeak() -> Any:
    try:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except (ImportError, OSError):
        raise MissingDependencyError("espeakng-loader (espeak-ng)", "synth") from None
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]
    if library.espeak_Initialize(_NO_PLAYBACK, 0, espeakng_loader.get_data_path().encode(), 0) < 0:
        raise OSError(f"espeak-ng cannot read its data in {espeakng_loader.get_data_path()}")
    return library

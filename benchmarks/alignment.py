"""Where the words of a transcript end in a recording, by a forced alignment that owes nothing to our own networks.

pocketsphinx aligns with its own HMM-GMM model (10 ms frames). Its dictionary comes first; words that it lacks are
spoken as our lexicon says. A word runs up to the next word or to a pause that the model heard as one, so that a
short pause may count to the word before it: ends are late rather than early, and latencies small rather than large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.metrics import normalize_text
from benchmarks.corpus import SAMPLE_RATE_HZ, FloatArray, cut_trailing_silence, read_audio
from benchmarks.systems import bundle_folder
from lm.phones import arpabet_to_ids

METHOD = "forced alignment by pocketsphinx (HMM-GMM, en-us model of the package, 10 ms frames)"
FRAME_S = 0.01
SILENCES = ("<s>", "</s>", "<sil>", "[NOISE]", "[SPEECH]")
_ARPABET = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()
)
_ARPABET_OF_ID = {reading[0]: phone for phone in _ARPABET for reading in arpabet_to_ids([phone])}
Pronounce = Callable[[Sequence[str]], Mapping[str, Iterable[Sequence[int]]]]
"""Words in; for each that can be spoken, its pronunciations in phoneme ids, the likeliest first."""


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """One word of the transcript and when it was said, in seconds from the start of the clip."""

    text: str
    start_s: float
    end_s: float


class ForcedAligner:
    """A pocketsphinx decoder that is told what was said."""

    def __init__(self, pronounce: Pronounce) -> None:
        """Load the acoustic model and dictionary of the package; `pronounce` speaks what the dictionary lacks.

        Raises:
            MissingDependencyError: pocketsphinx is not installed.
        """
        try:
            import pocketsphinx
        except ImportError as error:
            from asr.errors import MissingDependencyError

            raise MissingDependencyError("pocketsphinx", "bench") from error
        self._pronounce = pronounce
        self._decoder = pocketsphinx.Decoder(samprate=SAMPLE_RATE_HZ, lm=None, loglevel="FATAL")

    def align(self, samples: FloatArray, text: str) -> list[SpokenWord] | None:
        """Align a clip with its transcript.

        Args:
            samples: (N,) float32 at 16 kHz.
            text: what is said in it.

        Returns:
            All words of the normalised text in order; None where one cannot be spoken, or where the audio does not
            fit the words.
        """
        words = normalize_text(text).split()
        if not words or not len(samples) or not self._learn(words):
            return None
        segments = self._segments(samples, words)
        spoken = [_spoken_word(*segment) for segment in segments if segment[0] not in SILENCES]
        return spoken if [word.text for word in spoken] == words else None

    def _learn(self, words: Sequence[str]) -> bool:
        """Add the words that the dictionary lacks; False if one cannot be spoken."""
        missing = [word for word in dict.fromkeys(words) if self._decoder.lookup_word(word) is None]
        found = self._pronounce(missing) if missing else {}
        for word in missing:
            variants = [" ".join(_ARPABET_OF_ID[phone] for phone in phones) for phones in found.get(word, ())]
            for number, phones in enumerate(dict.fromkeys(variants), 1):
                self._decoder.add_word(word if number == 1 else f"{word}({number})", phones)
            if not variants:
                return False
        return True

    def _segments(self, samples: FloatArray, words: Sequence[str]) -> list[tuple[str, int, int]]:
        """(word as the dictionary names it, first frame, last frame) of the best path; none where there is no path."""
        pcm = np.clip(samples * 32768, -32768, 32767).astype(np.int16)
        try:
            self._decoder.set_align_text(" ".join(words))
            self._decoder.start_utt()
            self._decoder.process_raw(pcm.tobytes(), full_utt=True)
            self._decoder.end_utt()
            found = self._decoder.seg()
        except RuntimeError:
            return []
        return [(segment.word, segment.start_frame, segment.end_frame) for segment in found or ()]


def _spoken_word(name: str, first_frame: int, last_frame: int) -> SpokenWord:
    """`and(2)` is the dictionary's second pronunciation of `and`."""
    return SpokenWord(name.split("(")[0], first_frame * FRAME_S, (last_frame + 1) * FRAME_S)


def bundle_pronounce(options: Mapping[str, Any]) -> Pronounce:
    """Pronunciations by the lexicon, the letters and the letter-to-phoneme network of the bundle that is measured."""
    from asr.bundle import Bundle
    from asr.language import Language

    pronouncer = Language(Bundle.open(bundle_folder(dict(options)))).pronouncer

    def pronounce(words: Sequence[str]) -> Mapping[str, Iterable[Sequence[int]]]:
        spoken = pronouncer.pronounce(words).items()
        return {word: [phones for phones, _ in sorted(found.items(), key=_log_prob)] for word, found in spoken}

    return pronounce


def _log_prob(variant: tuple[Sequence[int], float]) -> float:
    """Sorts the likeliest pronunciation first."""
    return -variant[1]


def measure(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Worker task: for each of `paths` and `texts` one event.

    `words` are [text, start, end] each, none where the clip cannot be aligned; `quiet_s` is where the clip falls 35 dB
    below its loudest 10 ms for good, a rough second opinion on the end of the last word.
    """
    aligner = ForcedAligner(bundle_pronounce(job["options"]))
    for path, text in zip(job["paths"], job["texts"], strict=True):
        samples = read_audio(Path(path))
        spoken = aligner.align(samples, text) or []
        words = [[word.text, word.start_s, word.end_s] for word in spoken]
        emit({"words": words, "quiet_s": len(cut_trailing_silence(samples)) / SAMPLE_RATE_HZ})

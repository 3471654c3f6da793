"""Best path through the encoder's output, without a lexicon: which phonemes it heard, and when."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from asr.decoder.inputs import check_log_probs
from asr.types import FloatArray
from lm.phones import BLANK_ID


@dataclass(frozen=True, slots=True)
class PathPhoneme:
    """A run of frames in which one phoneme, or the word boundary, is the best label."""

    phoneme: int
    """Phoneme id; never the blank."""
    start_frame: int
    """First output frame (20 ms) of the run, counted from the start of the stream."""
    end_frame: int
    """Frame after the run's last one."""


class GreedyDecoder:
    """Best-path decoding of one stream: the most probable label of every frame, repeats joined, blanks left out."""

    def __init__(self) -> None:
        self._frame = 0
        self._label = BLANK_ID
        self._start = 0

    def advance(self, log_probs: FloatArray) -> list[PathPhoneme]:
        """Take in frames and return the phonemes that have ended since the last call.

        Args:
            log_probs: (T, V) natural log-probabilities; any T. Of equal ones the smaller id wins.

        Raises:
            ValueError: wrong shape, NaN or plus infinity.
        """
        ended = []
        for label in check_log_probs(log_probs).argmax(axis=1).tolist():
            if label != self._label:
                ended += self._close()
                self._label, self._start = label, self._frame
            self._frame += 1
        return ended

    def finish(self) -> list[PathPhoneme]:
        """End the utterance and return the phoneme still in progress, if any; the frame count goes on."""
        return self._close()

    def _close(self) -> list[PathPhoneme]:
        label, self._label = self._label, BLANK_ID
        return [] if label == BLANK_ID else [PathPhoneme(label, self._start, self._frame)]


def collapse(labels: list[int]) -> list[int]:
    """Frame labels as CTC reads them: repeats joined, then blanks left out."""
    return [label for label, _ in groupby(labels) if label != BLANK_ID]

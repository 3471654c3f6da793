"""One stream of speech: samples in, partial results, endpoints and finally words with times and confidence out.

    samples -> Resampler -> FeatureStream -> equal chunks, each with its look-ahead -> encoder -> search -> words

Everything after the features happens in whole chunks, so the result does not depend on how the audio was cut up. State
is in plain attributes; what streams share (encoder, lexicon) is read-only.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from asr.audio import Resampler, to_mono_float32
from asr.confidence import ConfidenceWeights, word_confidence
from asr.decoder import PathWord, Search
from asr.endpoint import EndpointConfig, is_endpoint
from asr.errors import AudioValueError, StreamFinishedError
from asr.features import N_MELS, SILENCE_LOG_MEL, FeatureStream
from asr.memory import release_memory
from asr.types import FloatArray, Partial, Result, Seconds, Word

if TYPE_CHECKING:  # onnxruntime is slow to import, and `import asr` must not be
    from asr.onnx_encoder import OnnxEncoder

Samples = npt.NDArray[Any] | bytes
FLUSH_FRAMES = 40
"""Silent feature frames that follow the last real one at least, so that the last word is heard out."""
PREVIEW_FRAMES = 18
"""Output frames of the look-ahead that partial results show; what comes later is guessed badly."""
BLOCK_SAMPLES = 16000
"""Input is taken in slices of this many samples, however much is handed over at once."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What a stream needs to know besides its parts."""

    chunk_frames: int
    """Feature frames (10 ms) in a chunk; even."""
    frame_ms: int
    """Length of an output frame."""
    endpoint: EndpointConfig
    confidence: ConfidenceWeights


class Stream:
    """One stream of speech in progress; made by `Recognizer.create_stream`. For one thread at a time."""

    def __init__(
        self,
        encoder: OnnxEncoder,
        search: Search,
        spell: Callable[[int], str],
        settings: StreamSettings,
        unspeakable: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.unspeakable = tuple(unspeakable)
        """(phrase, reason) of the phrases that cannot be spoken and were left out."""
        self._encoder = encoder
        self._search = search
        self._settings = settings
        self._state = encoder.initial_state()
        self._resampler: Resampler | None = None
        self._sample_rate = 0
        self._n_samples = 0
        self._features = FeatureStream()
        self._pending: list[FloatArray] = []  # feature frames of the next window
        self._n_pending = 0
        self._n_frames = 0  # output frames searched
        self._words = _WordLog(spell)
        self._utterance = 0  # index of its first word
        self._shown: Partial | None = None  # the partial result, until the next chunk has been searched
        self._is_finished = False

    def accept(self, samples: Samples, sample_rate: int = 16000) -> Partial:
        """Take the next samples and return what the utterance in progress reads as.

        Args:
            samples: any number of them, also none: an array (N,) or (N, channels) of integers or of floats in [-1, 1],
                or bytes of 16-bit little-endian mono PCM.
            sample_rate: their rate in Hz; the same in every call.

        Returns:
            The state after all of the samples. If an utterance ended within them, `is_endpoint` is True, `stable` is
            the text of what ended (all utterances, if several did) and `volatile` is empty: what has been said since
            then comes with the next partial.

        Raises:
            AudioValueError: NaN, infinity, an unusable shape, type or rate, or another rate than before. Nothing has
                been taken then, and the stream goes on as if the call had not happened.
            StreamFinishedError: after `finish`.
        """
        before = self._utterance
        self.feed(samples, sample_rate)
        if self._utterance > before:
            return Partial(self._words.text(before, self._utterance), "", is_endpoint=True)
        if self._shown is None:
            self._shown = self._partial()
        return self._shown

    def feed(self, samples: Samples, sample_rate: int = 16000) -> None:
        """Take the next samples, as `accept` does, where nobody looks at the partial result.

        Raises:
            AudioValueError, StreamFinishedError: as `accept`.
        """
        self._check_open()
        blocks = _blocks(samples)
        for block in blocks:  # all are checked before the first is taken
            to_mono_float32(block)
        resampler = self._resampler_for(sample_rate)
        for block in blocks:
            mono = to_mono_float32(block)
            self._n_samples += len(mono)
            self._hear(self._features.accept(resampler.process(mono)))

    def finish(self) -> Result:
        """End the stream: hear out the last word and return everything that was said, over all utterances.

        Raises:
            StreamFinishedError: it has been finished before.
        """
        self._check_open()
        self._is_finished = True
        if self._resampler is None or self._n_samples == 0:
            return self._result(0.0)
        self._hear(self._features.accept(self._resampler.finish()))
        self._hear(self._features.finish())
        n_silent = FLUSH_FRAMES + -(self._n_pending + FLUSH_FRAMES) % self._settings.chunk_frames
        n_silent += self._encoder.look_ahead_frames
        self._hear(np.full((n_silent, N_MELS), SILENCE_LOG_MEL, np.float32))
        return self._result(self._n_samples / self._sample_rate)

    def _partial(self) -> Partial:
        """What is known now of the utterance in progress."""
        volatile = self._words.spell(word.word for word in self._newest(self._search))
        return Partial(self._words.text(self._utterance), volatile)

    def _newest(self, search: Search) -> list[PathWord]:
        """The search's best words after the audio that the encoder has seen, its look-ahead included."""
        return search.preview(self._encoder.look_ahead(self._state)[:PREVIEW_FRAMES])

    def _result(self, duration: Seconds) -> Result:
        """What was said, after all audio has been searched."""
        self._commit(self._search.finish())
        return Result(self._words.words(self._settings.frame_ms, duration), duration)

    def _check_open(self) -> None:
        if self._is_finished:
            raise StreamFinishedError("this stream has been finished; create another one for more audio")

    def _resampler_for(self, sample_rate: int) -> Resampler:
        if self._resampler is None:
            self._resampler = Resampler(sample_rate)
            self._sample_rate = sample_rate
        elif sample_rate != self._sample_rate:
            raise AudioValueError(f"sample_rate: expected {self._sample_rate} Hz as before, found {sample_rate}")
        return self._resampler

    def _hear(self, features: FloatArray) -> None:
        """Take feature frames (T, 80) and search every chunk that they complete."""
        chunk = self._settings.chunk_frames
        window = chunk + self._encoder.look_ahead_frames
        while self._n_pending + len(features) >= window:
            missing = window - self._n_pending
            whole = np.concatenate([*self._pending, features[:missing]])
            self._search_chunk(whole)
            features = features[missing:]
            self._pending, self._n_pending = [whole[chunk:]], window - chunk
        if len(features):
            self._pending.append(features)
            self._n_pending += len(features)

    def _search_chunk(self, features: FloatArray) -> None:
        log_probs, self._state = self._encoder.step(features, self._state)
        self._n_frames += len(log_probs)
        self._shown = None
        self._advance(log_probs)

    def _advance(self, log_probs: FloatArray) -> None:
        """Search output frames (T, V)."""
        self._search.advance(log_probs)
        self._commit(self._search.take_stable())
        if self._is_endpoint():
            self._commit(self._search.finish())
            self._utterance = len(self._words)
            release_memory()

    def _is_endpoint(self) -> bool:
        first_frame = self._words.start_frame(self._utterance)
        if first_frame is None:
            best = self._search.best()
            if not best:
                return False
            first_frame = best[0].start_frame
        frame_s = self._settings.frame_ms / 1000
        return is_endpoint(
            self._settings.endpoint,
            silence_s=self._search.trailing_silence() * frame_s,
            utterance_s=(self._n_frames - first_frame) * frame_s,
        )

    def _commit(self, words: Iterable[PathWord]) -> None:
        for word in words:
            n_frames = word.end_frame - word.start_frame
            confidence = word_confidence(
                self._settings.confidence, acoustic=word.acoustic, language=word.language, n_frames=n_frames
            )
            self._words.append(word, confidence)


class _WordLog:
    """Final words as 16 bytes each, spelt when asked for: a stream may go on for days."""

    def __init__(self, spell: Callable[[int], str]) -> None:
        self._spell = spell
        self._ids = array("I")
        self._start_frames = array("I")
        self._end_frames = array("I")
        self._confidences = array("f")

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, word: PathWord, confidence: float) -> None:
        self._ids.append(word.word)
        self._start_frames.append(word.start_frame)
        self._end_frames.append(word.end_frame)
        self._confidences.append(confidence)

    def start_frame(self, index: int) -> int | None:
        return self._start_frames[index] if index < len(self) else None

    def spell(self, ids: Iterable[int]) -> str:
        return " ".join(map(self._spell, ids))

    def text(self, start: int, stop: int | None = None) -> str:
        return self.spell(self._ids[start:stop])

    def words(self, frame_ms: int, duration: Seconds) -> tuple[Word, ...]:
        columns = zip(self._ids, self._start_frames, self._end_frames, self._confidences, strict=True)
        return tuple(
            Word(
                self._spell(word),
                min(start * frame_ms / 1000, duration),
                min(end * frame_ms / 1000, duration),
                confidence,
            )
            for word, start, end, confidence in columns
        )


def _blocks(samples: Samples) -> Sequence[Samples]:
    """Slices of an array along its first axis; what is no array is left as it is, for `to_mono_float32` to judge."""
    if not isinstance(samples, np.ndarray) or samples.ndim == 0:
        return [samples]
    starts = range(0, max(len(samples), 1), BLOCK_SAMPLES)
    return [samples[start : start + BLOCK_SAMPLES] for start in starts]

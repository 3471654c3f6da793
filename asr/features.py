"""Log-mel features as a stream: float32 mono 16 kHz samples in, one frame of 80 values every 10 ms out.

Second step of the data flow, after `asr/audio.py`. The recipe is Kaldi's `fbank` with `dither=0`, `snip_edges=false`,
80 bins from 20 to 7600 Hz and samples in [-1, 1]: frame `t` covers samples `160 t - 120 .. 160 t + 279`; its mean is
taken off, then follow pre-emphasis (0.97), Povey's window, a 512-point power spectrum, triangles on the mel scale and
the natural log. Samples before the start and after the end are mirrored; `N` samples have `round(N / 160)` frames.

The same samples give the same bits, however they were sliced.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from asr.errors import StreamFinishedError
from asr.types import FloatArray

N_MELS = 80
HOP_LENGTH = 160
_FRAME_LENGTH = 400
_FRAME_START = (HOP_LENGTH - _FRAME_LENGTH) // 2
_N_FFT = 512
_N_BINS = _N_FFT // 2
_SAMPLE_RATE = 16_000
_LOW_HZ, _HIGH_HZ = 20.0, 7600.0
_PREEMPHASIS = np.float32(0.97)
_FLOOR = np.finfo(np.float32).eps
SILENCE_LOG_MEL = float(np.log(_FLOOR))
"""Every feature of digital silence, and the least that a feature can be."""
_GROUP_FRAMES = 16
_BLOCK_FRAMES = 128


class FeatureStream:
    """Features of one stream of audio, frame by frame as its samples arrive."""

    def __init__(self) -> None:
        self._samples: FloatArray = np.empty(0, np.float32)  # from the next frame's first sample on
        self._n_samples = 0
        self._n_frames = 0
        self._has_left_edge = False
        self._is_finished = False

    def accept(self, samples: FloatArray) -> FloatArray:
        """Take the next samples and return the frames that they complete.

        Args:
            samples: float32 (N,), mono, 16 kHz, in [-1, 1]; N may be anything, 0 too.

        Returns:
            float32 (T, 80), natural log.

        Raises:
            StreamFinishedError: after `finish()`.
        """
        self._check_open()
        self._samples = np.concatenate((self._samples, samples), dtype=np.float32)
        self._n_samples += len(samples)
        if not self._has_left_edge:
            if self._n_samples < _FRAME_START + _FRAME_LENGTH:
                return np.empty((0, N_MELS), np.float32)
            self._samples = _mirror(self._samples, before=-_FRAME_START, after=0)
            self._has_left_edge = True
        return self._take_frames(max(0, (len(self._samples) - _FRAME_LENGTH) // HOP_LENGTH + 1))

    def finish(self) -> FloatArray:
        """End the stream and return its last frames, which reach beyond the end into mirrored samples.

        Returns:
            float32 (T, 80).

        Raises:
            StreamFinishedError: when called twice.
        """
        self._check_open()
        self._is_finished = True
        n_frames = (self._n_samples + HOP_LENGTH // 2) // HOP_LENGTH
        if n_frames > self._n_frames:
            end = (n_frames - 1) * HOP_LENGTH + _FRAME_START + _FRAME_LENGTH
            before = 0 if self._has_left_edge else -_FRAME_START
            self._samples = _mirror(self._samples, before=before, after=end - self._n_samples)
        return self._take_frames(n_frames - self._n_frames)

    def _check_open(self) -> None:
        if self._is_finished:
            raise StreamFinishedError("this feature stream has been finished: create a new FeatureStream")

    def _take_frames(self, n_frames: int) -> FloatArray:
        features = np.empty((n_frames, N_MELS), np.float32)
        for start in range(0, n_frames, _BLOCK_FRAMES):
            stop = min(start + _BLOCK_FRAMES, n_frames)
            samples = self._samples[start * HOP_LENGTH : (stop - 1) * HOP_LENGTH + _FRAME_LENGTH]
            features[start:stop] = _log_mel(_power_spectrum(samples), self._n_frames + start)
        self._samples = self._samples[n_frames * HOP_LENGTH :].copy()
        self._n_frames += n_frames
        return features


def compute_features(samples: FloatArray) -> FloatArray:
    """Features of a whole recording, the same bits as a `FeatureStream` gives.

    Args:
        samples: float32 (N,), mono, 16 kHz, in [-1, 1].

    Returns:
        float32 (T, 80) with T = round(N / 160).
    """
    stream = FeatureStream()
    return np.concatenate((stream.accept(samples), stream.finish()))


def _mirror(samples: FloatArray, *, before: int, after: int) -> FloatArray:
    """Continue `samples` on both sides by their mirror image, again and again where they are shorter than that."""
    index = np.arange(-before, len(samples) + after) % (2 * len(samples))
    return samples[np.minimum(index, 2 * len(samples) - 1 - index)]


def _power_spectrum(samples: FloatArray) -> FloatArray:
    """Power of every frame in `samples`, the Nyquist bin left out: float32 (T, 256)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME_LENGTH)[::HOP_LENGTH]  # (T, 400)
    frames = frames - frames.mean(axis=1, keepdims=True)
    padded = np.zeros((len(frames), _N_FFT), np.float32)
    padded[:, 0] = frames[:, 0] - _PREEMPHASIS * frames[:, 0]
    padded[:, 1:_FRAME_LENGTH] = frames[:, 1:] - _PREEMPHASIS * frames[:, :-1]
    padded[:, :_FRAME_LENGTH] *= _WINDOW
    spectrum = np.fft.rfft(padded)[:, :_N_BINS]
    power: FloatArray = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
    return power


def _log_mel(power: FloatArray, first_frame: int) -> FloatArray:
    """Log of the mel energies of consecutive frames, the first of which is frame `first_frame` of the stream: (T, 80).

    A matrix product may round a row differently with the row's place and the number of rows. So frames are put into
    groups of fixed size, and a frame's place in its group follows from its number in the stream.
    """
    lead = first_frame % _GROUP_FRAMES
    n_groups = -(-(lead + len(power)) // _GROUP_FRAMES)
    groups = np.zeros((n_groups, _GROUP_FRAMES, _N_BINS), np.float32)
    groups.reshape(-1, _N_BINS)[lead : lead + len(power)] = power
    mels: FloatArray = np.log(np.maximum(groups @ MEL_FILTERS, _FLOOR))
    return mels.reshape(-1, N_MELS)[lead : lead + len(power)]


def _povey_window() -> FloatArray:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME_LENGTH) / (_FRAME_LENGTH - 1))
    return (hann**0.85).astype(np.float32)


def _mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mel: npt.NDArray[np.float64] = 1127.0 * np.log1p(hz / 700.0)
    return mel


def _mel_edges() -> npt.NDArray[np.float64]:
    """Where the triangles start, peak and end, on the mel scale: (82,)."""
    low, high = _mel(np.array([_LOW_HZ, _HIGH_HZ]))
    return np.linspace(low, high, N_MELS + 2)


def _mel_filters() -> FloatArray:
    """Triangles of equal width on the mel scale: float32 (256, 80)."""
    edges = _mel_edges()
    bins = _mel(np.arange(_N_BINS) * _SAMPLE_RATE / _N_FFT)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters: FloatArray = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return filters


_WINDOW = _povey_window()
MEL_FILTERS = _mel_filters()
MEL_HZ = 700.0 * np.expm1(_mel_edges()[1:-1] / 1127.0)
"""(80,) The frequency at which each mel bin peaks."""

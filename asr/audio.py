"""Any audio in, float32 mono 16 kHz out, as a stream: the first step of the data flow, before `asr/features.py`.

`open_audio` reads files and arrays block by block, `read_raw_pcm` a pipe; `to_mono_float32` and `Resampler` serve live
audio. Formats are libsndfile's: WAV, FLAC, OGG (Vorbis, Opus), MP3, AIFF, CAF, AU and more. A recording that was cut
off is refused rather than transcribed in part.
"""

from __future__ import annotations

import io
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from asr.errors import AudioFileNotFoundError, AudioFormatError, AudioValueError, StreamFinishedError
from asr.truncation import is_cut_ogg, missing_bytes, mp3_states_length
from asr.types import FloatArray, Seconds

SAMPLE_RATE = 16_000
_MIN_RATE, _MAX_RATE = 1_000, 384_000
_MAX_CHANNELS = 64
_MAX_PEAK = 32.0
_FULL_SCALE: dict[str, tuple[float, float]] = {  # numpy kind and bytes: (zero level, full scale)
    "u1": (128.0, 2.0**7),
    "i2": (0.0, 2.0**15),
    "i4": (0.0, 2.0**31),
    "f4": (0.0, 1.0),
    "f8": (0.0, 1.0),
}
_FORMATS = "WAV, FLAC, OGG (Vorbis or Opus), MP3, AIFF, CAF, AU"
_LONGEST_PACKET_S = 0.12
_UNKNOWN_SAMPLES = 1 << 62

Source = str | Path | bytes | BinaryIO | tuple[Any, Any]


class Resampler:
    """Bring one mono stream to 16 kHz; how the input is sliced does not change a bit of the output.

    Args:
        sample_rate: rate of the input in Hz, 1,000 to 384,000.

    Raises:
        AudioValueError: the rate is not a number in that range.
    """

    def __init__(self, sample_rate: float) -> None:
        rate = _checked_rate(sample_rate)
        self._soxr = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
        self._is_finished = False

    def process(self, samples: FloatArray) -> FloatArray:
        """Take the next samples, float32 (N,), and return float32 (M,): what can be computed so far.

        Raises:
            StreamFinishedError: after `finish()`.
        """
        return self._run(samples, last=False)

    def finish(self) -> FloatArray:
        """End the stream and return the rest of it, float32 (M,).

        Raises:
            StreamFinishedError: when called twice.
        """
        return self._run(np.empty(0, np.float32), last=True)

    def _run(self, samples: FloatArray, *, last: bool) -> FloatArray:
        if self._is_finished:
            raise StreamFinishedError("this resampler has been finished: create a new Resampler")
        self._is_finished = last
        if self._soxr is None:
            return samples
        resampled: FloatArray = self._soxr.resample_chunk(samples, last=last)
        return resampled


def to_mono_float32(samples: object) -> FloatArray:
    """Scale samples to [-1, 1] and mix their channels down to one, by the mean.

    Args:
        samples: numpy array of dtype uint8, int16, int32, float32 or float64 and shape (N,) or (N, channels), or
            bytes, bytearray or memoryview of 16-bit little-endian PCM. N may be 0. Floats are kept as they are.

    Returns:
        float32 (N,). It may share memory with `samples`.

    Raises:
        AudioValueError: another type, dtype or shape; NaN or infinity; floats that were never scaled to [-1, 1].
    """
    array = _checked_array(samples)
    zero, full_scale = _FULL_SCALE[_sample_kind(array)]
    if array.dtype.kind == "f" and array.size:
        peak = float(np.abs(array).max())
        if not math.isfinite(peak):
            raise AudioValueError("the samples hold NaN or infinity: every sample must be a finite number")
        if peak > _MAX_PEAK:
            raise AudioValueError(
                f"float samples must lie in [-1, 1], found a peak of {peak:g}: divide 16-bit values by 32768"
            )
    scaled: FloatArray = array.astype(np.float32, copy=False)
    if array.dtype.kind != "f":
        scaled = (scaled - np.float32(zero)) / np.float32(full_scale)
    return scaled.mean(axis=1, dtype=np.float32) if array.ndim == 2 else scaled


def read_raw_pcm(stream: BinaryIO, sample_rate: float, *, block_s: Seconds = 0.1) -> Iterator[FloatArray]:
    """Read headerless 16-bit little-endian mono PCM, as from a pipe, until its end.

    Args:
        stream: binary stream; `read` may return fewer bytes than asked for.
        sample_rate: rate of the PCM in Hz.
        block_s: seconds of audio to ask for at a time.

    Yields:
        float32 (N,) in [-1, 1], at `sample_rate`.

    Raises:
        AudioValueError: impossible rate, or no sample at all.
        AudioFormatError: a text stream, or the end lies inside a sample.
    """
    block_bytes = max(1, round(block_s * _checked_rate(sample_rate))) * 2
    _check_binary(stream)
    left_over, is_empty = b"", True
    while data := stream.read(block_bytes):
        data = left_over + data
        n_whole = len(data) // 2 * 2
        left_over, is_empty = data[n_whole:], False
        yield to_mono_float32(data[:n_whole])
    if left_over:
        raise AudioFormatError("raw PCM ends inside a sample: expected 16-bit little-endian mono, 2 bytes a sample")
    if is_empty:
        raise AudioValueError("the raw PCM stream holds no samples")


class AudioSource:
    """One recording, opened by `open_audio`: what is known of it, and its samples block by block."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._is_read = False
        self.sample_rate = reader.sample_rate
        """Rate of the recording itself in Hz, before it is brought to 16 kHz."""
        self.duration_s = None if reader.n_samples is None else reader.n_samples / reader.sample_rate
        """Length in seconds; None where the file does not say."""

    def blocks(self, block_s: Seconds = 1.0) -> Iterator[FloatArray]:
        """Yield the whole recording, once, as float32 (N,) mono 16 kHz blocks of about `block_s` seconds, then close.

        Raises:
            AudioFormatError: the recording is damaged, or ends before its header says.
            AudioValueError: there are no samples, or some are NaN or infinite.
            StreamFinishedError: the recording has been read before.
        """
        if self._is_read:
            raise StreamFinishedError(f"{self._reader.name}: has been read already; open it again")
        self._is_read = True
        resampler = Resampler(self.sample_rate)
        n_samples = max(1, round(block_s * self.sample_rate))
        is_empty = True
        with self:
            while len(samples := self._reader.read(n_samples)):
                is_empty = False
                yield resampler.process(self._to_mono(samples))
        if is_empty:
            raise AudioValueError(f"{self._reader.name}: there are no samples in it")
        yield resampler.finish()

    def _to_mono(self, samples: npt.NDArray[Any]) -> FloatArray:
        try:
            return to_mono_float32(samples)
        except AudioValueError as error:
            raise AudioValueError(f"{self._reader.name}: {error}") from None

    def close(self) -> None:
        """Close the file; a file object that the caller opened stays open."""
        self._reader.close()

    def __enter__(self) -> AudioSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_audio(source: Source) -> AudioSource:
    """Open a recording for reading, in bounded memory however long it is.

    Args:
        source: path of an audio file, its content as bytes or as a binary file object (one that cannot seek is copied
            to a temporary file first), or `(samples, sample_rate)` with samples as `to_mono_float32` takes them.

    Raises:
        AudioFileNotFoundError: there is no such file.
        AudioFormatError: a directory, not audio, damaged, or cut off.
        AudioValueError: no samples, an impossible rate, or another type of source.
    """
    if isinstance(source, tuple):
        return AudioSource(_ArrayReader(source))
    if isinstance(source, str | Path):
        return AudioSource(_open_path(Path(source)))
    if isinstance(source, bytes | bytearray):
        source = io.BytesIO(source)
    if not hasattr(source, "read"):
        raise AudioValueError(f"expected a path, a binary file object or (samples, sample_rate), found {source!r:.80}")
    _check_binary(source)
    name = getattr(source, "name", None)
    return AudioSource(_open_file(source, name if isinstance(name, str) else "the audio data"))


class _Reader(Protocol):
    name: str
    sample_rate: int
    n_samples: int | None

    def read(self, n_samples: int) -> npt.NDArray[Any]: ...
    def close(self) -> None: ...


class _ArrayReader:
    name = "the samples"

    def __init__(self, source: tuple[Any, ...]) -> None:
        if len(source) != 2:
            raise AudioValueError(f"expected (samples, sample_rate), found a tuple of {len(source)}")
        self._samples = _checked_array(source[0])
        self.sample_rate = _checked_rate(source[1])
        self.n_samples: int | None = len(self._samples)
        self._position = 0
        if not self.n_samples:
            raise AudioValueError("there are no samples: an array of length 0 cannot be transcribed")

    def read(self, n_samples: int) -> npt.NDArray[Any]:
        start, self._position = self._position, self._position + n_samples
        return self._samples[start : self._position]

    def close(self) -> None:
        pass


class _FileReader:
    def __init__(self, sound: Any, name: str, *, n_promised: int | None, own_file: BinaryIO | None) -> None:
        self._sound, self.name, self.n_samples, self._own_file = sound, name, n_promised, own_file
        self.sample_rate: int = sound.samplerate
        self._n_read = 0

    def read(self, n_samples: int) -> npt.NDArray[Any]:
        samples = self._decode(n_samples)
        self._n_read += len(samples)
        missing_s = ((self.n_samples or 0) - self._n_read) / self.sample_rate
        if not len(samples) and missing_s > (_LONGEST_PACKET_S if self._sound.format in ("MP3", "OGG") else 0.0):
            at_s = self._n_read / self.sample_rate
            raise _damaged(self.name, f"the data end at {at_s:.1f} s, the header promises {missing_s:.1f} s more")
        return samples

    def _decode(self, n_samples: int) -> FloatArray:
        buffer = np.empty((n_samples, self._sound.channels), np.float32)
        for _ in range(2):
            start = self._sound.tell()
            try:
                samples: FloatArray = self._sound.read(out=buffer)
                return samples
            except soundfile.SoundFileError:
                # Where the page positions of an Opus file jump, as FFmpeg may write them, libsndfile reports an error
                # after the last good sample and goes on behind it; what is missing in the end is checked at the end.
                if self._sound.subtype != "OPUS":
                    break
                if n_good := self._sound.tell() - start:
                    return buffer[:n_good]
        raise _damaged(self.name, f"decoding failed after {self._n_read / self.sample_rate:.1f} s")

    def close(self) -> None:
        self._sound.close()
        if self._own_file is not None:
            self._own_file.close()


def _open_path(path: Path) -> _FileReader:
    if path.is_dir():
        raise AudioFormatError(f"{path}: is a directory, expected an audio file ({_FORMATS}): name the files in it")
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise AudioFileNotFoundError(f"{path}: no such audio file; the current directory is {Path.cwd()}") from None
    except OSError as error:
        raise AudioFormatError(f"{path}: cannot be read ({error.strerror})") from None
    with file:
        if file.seekable():
            return _open_seekable(file, str(path), sound_source=str(path), own_file=None)
        return _open_file(file, str(path))


def _open_file(file: BinaryIO, name: str) -> _FileReader:
    if file.seekable():
        return _open_seekable(file, name, sound_source=file, own_file=None)
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the reader closes it
    try:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        return _open_seekable(copy, name, sound_source=copy, own_file=copy)
    except BaseException:
        copy.close()
        raise


def _open_seekable(
    file: BinaryIO, name: str, *, sound_source: str | BinaryIO, own_file: BinaryIO | None
) -> _FileReader:
    """Open the audio in `sound_source`, after `file`, which holds the same bytes, was looked through for a cut end."""
    if file.seek(0, io.SEEK_END) == 0:
        raise AudioFormatError(f"{name}: the file is empty, expected audio ({_FORMATS})")
    if is_cut_ogg(file):
        raise _damaged(name, "its last Ogg page is incomplete")
    has_mp3_length = mp3_states_length(file)
    file.seek(0)
    try:
        sound = soundfile.SoundFile(sound_source)
    except (soundfile.SoundFileError, TypeError):  # TypeError: the name ends in .raw
        raise AudioFormatError(
            f"{name}: not an audio file, or a damaged one; expected {_FORMATS}: convert it to one of these, "
            "or pass headerless PCM as (bytes, sample_rate)"
        ) from None
    try:
        _check_sound(sound, name)
    except BaseException:
        sound.close()
        raise
    is_known = sound.frames < _UNKNOWN_SAMPLES and (sound.format != "MP3" or has_mp3_length)
    return _FileReader(sound, name, n_promised=sound.frames if is_known else None, own_file=own_file)


def _check_sound(sound: Any, name: str) -> None:
    if missing := missing_bytes(sound.extra_info):
        raise _damaged(name, f"its header promises {missing} bytes of audio more than there are")
    if sound.frames == 0:
        raise AudioValueError(f"{name}: there are no samples in it")
    if sound.channels > _MAX_CHANNELS:
        raise AudioFormatError(f"{name}: {sound.channels} channels, expected at most {_MAX_CHANNELS}")
    if not _MIN_RATE <= sound.samplerate <= _MAX_RATE:
        raise AudioFormatError(f"{name}: {sound.samplerate} Hz, expected {_MIN_RATE:,} to {_MAX_RATE:,} Hz")


def _damaged(name: str, what: str) -> AudioFormatError:
    return AudioFormatError(f"{name}: the recording is damaged or cut off: {what}; copy or download it again")


def _check_binary(stream: object) -> None:
    if isinstance(stream, io.TextIOBase):
        raise AudioFormatError("expected a binary stream, found a text stream: open it with mode 'rb' (stdin: .buffer)")


def _checked_rate(sample_rate: object) -> int:
    is_number = isinstance(sample_rate, int | float | np.integer | np.floating) and not isinstance(sample_rate, bool)
    rate = float(sample_rate) if is_number else math.nan  # type: ignore[arg-type]
    if not (_MIN_RATE <= rate <= _MAX_RATE and rate.is_integer()):
        raise AudioValueError(
            f"the sample rate must be a whole number from {_MIN_RATE:,} to {_MAX_RATE:,} Hz, found {sample_rate!r:.80}"
        )
    return int(rate)


def _sample_kind(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype.kind}{array.dtype.itemsize}"


def _checked_array(samples: object) -> npt.NDArray[Any]:
    """Samples as an array whose dtype and shape can be used; their values are not looked at."""
    if isinstance(samples, bytes | bytearray | memoryview):
        view = memoryview(samples)
        if view.format not in ("B", "b", "c", "h", "<h") or view.nbytes % 2:
            raise AudioValueError(
                f"bytes must be 16-bit little-endian PCM, 2 bytes a sample; found {view.nbytes} bytes of format "
                f"{view.format!r}"
            )
        return np.frombuffer(view.tobytes(), "<i2")
    if not isinstance(samples, np.ndarray):
        raise AudioValueError(
            f"samples must be a numpy array or bytes, found {type(samples).__name__}: "
            "convert them with numpy.asarray(samples, dtype=numpy.float32)"
        )
    if _sample_kind(samples) not in _FULL_SCALE:
        raise AudioValueError(f"samples must be uint8, int16, int32, float32 or float64, found dtype {samples.dtype}")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= _MAX_CHANNELS):
        raise AudioValueError(
            f"samples must have shape (N,) or (N, channels) with 1 to {_MAX_CHANNELS} channels, found {samples.shape}: "
            "transpose an array of shape (channels, N)"
        )
    return samples

"""Reading audio from files, arrays and pipes: every format and every bad input."""

import functools
import io
import os
import threading
import tracemalloc

import numpy as np
import pytest
import soundfile

from asr.audio import open_audio, read_raw_pcm, to_mono_float32
from asr.errors import AudioFileNotFoundError, AudioFormatError, AudioValueError, StreamFinishedError

FORMATS = [  # extension, format, subtype, least correlation with what was written
    ("wav", "WAV", "PCM_U8", 0.999),
    ("wav", "WAV", "PCM_16", 0.99999),
    ("wav", "WAV", "PCM_24", 0.99999),
    ("wav", "WAV", "PCM_32", 0.99999),
    ("wav", "WAV", "FLOAT", 0.99999),
    ("wav", "WAV", "DOUBLE", 0.99999),
    ("wav", "WAV", "ULAW", 0.999),
    ("wav", "WAVEX", "PCM_16", 0.99999),
    ("aiff", "AIFF", "PCM_16", 0.99999),
    ("caf", "CAF", "PCM_16", 0.99999),
    ("au", "AU", "PCM_16", 0.99999),
    ("flac", "FLAC", "PCM_16", 0.99999),
    ("ogg", "OGG", "VORBIS", 0.99),
    ("opus", "OGG", "OPUS", 0.95),
    ("mp3", "MP3", "MPEG_LAYER_III", 0.99),
]


def sine(frequency_hz, rate, duration_s, level=0.5):
    time = np.arange(round(rate * duration_s)) / rate
    return (level * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def speech_like(rate, duration_s=2.0):
    """A buzz with harmonics up to 3 kHz that swells and fades, with a little noise."""
    return _speech_like(rate, duration_s).copy()


@functools.cache
def _speech_like(rate, duration_s):
    harmonics = sum(sine(150 * k, rate, duration_s, 0.5 / k) for k in range(1, 20))
    noise = np.random.default_rng(0).standard_normal(len(harmonics)) * 0.005
    return (0.4 * harmonics * (1.1 + sine(3, rate, duration_s, 1.0)) + noise).astype(np.float32)


def read_all(source, **options):
    with open_audio(source) as audio:
        return np.concatenate(list(audio.blocks(**options)))


def write(path, samples, rate=16000, **options):
    soundfile.write(path, samples, rate, **options)
    return path


class Unseekable(io.RawIOBase):
    """A pipe: hands out a few bytes at a time."""

    def __init__(self, data, step=777):
        self._data, self._step = io.BytesIO(data), step

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self._data.read(min(len(buffer), self._step))
        buffer[: len(data)] = data
        return len(data)


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("extension", "container", "subtype", "correlation"), FORMATS)
def test_reads_every_format(tmp_path, extension, container, subtype, correlation):
    samples = speech_like(16000)
    path = write(tmp_path / f"talk.{extension}", samples, format=container, subtype=subtype)
    with open_audio(path) as audio:
        assert audio.sample_rate == 16000
        assert audio.duration_s == pytest.approx(2.0, abs=1e-6)
        heard = np.concatenate(list(audio.blocks()))
    assert heard.dtype == np.float32
    assert len(heard) == len(samples)
    assert np.corrcoef(heard, samples)[0, 1] > correlation
    assert heard.std() == pytest.approx(samples.std(), rel=0.05)


@pytest.mark.parametrize("as_source", [str, lambda path: path.read_bytes(), lambda path: io.BytesIO(path.read_bytes())])
@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
def test_path_bytes_and_file_object_are_the_same(tmp_path, extension, as_source):
    path = write(tmp_path / f"talk.{extension}", speech_like(22050), 22050)
    np.testing.assert_array_equal(read_all(as_source(path)), read_all(path))


def test_the_callers_file_object_stays_open(tmp_path):
    path = write(tmp_path / "talk.wav", speech_like(16000))
    with path.open("rb") as file:
        read_all(file)
        assert not file.closed


def test_reads_a_stream_that_cannot_seek(tmp_path):
    path = write(tmp_path / "talk.flac", speech_like(16000))
    np.testing.assert_array_equal(read_all(Unseekable(path.read_bytes())), read_all(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_reads_a_named_pipe(tmp_path):
    path = write(tmp_path / "talk.wav", speech_like(16000))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    heard = read_all(pipe)
    writer.join()
    np.testing.assert_array_equal(heard, read_all(path))


def test_stereo_is_mixed_by_the_mean(tmp_path):
    left, right = sine(200, 16000, 1), sine(700, 16000, 1)
    path = write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(read_all(path), (left + right) / 2, atol=1e-7)


def test_eight_channels_at_192_khz(tmp_path):
    samples = speech_like(192000, 1.0)
    path = write(tmp_path / "wide.wav", np.repeat(samples[:, None], 8, axis=1), 192000, subtype="PCM_24")
    heard = read_all(path)
    assert len(heard) == 16000
    assert np.corrcoef(heard, speech_like(16000, 1.0))[0, 1] > 0.999


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = write(tmp_path / "long.wav", np.zeros(16000 * 120, np.int16))
    tracemalloc.start()
    try:
        with open_audio(path) as audio:
            assert sum(len(block) for block in audio.blocks()) == 16000 * 120
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000  # the whole is 7.7 MB of float32


def test_block_length_changes_nothing(tmp_path):
    path = write(tmp_path / "talk.flac", speech_like(44100), 44100)
    np.testing.assert_array_equal(read_all(path, block_s=0.013), read_all(path, block_s=60.0))


def test_a_source_is_read_once(tmp_path):
    audio = open_audio((speech_like(16000), 16000))
    list(audio.blocks())
    with pytest.raises(StreamFinishedError):
        list(audio.blocks())


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_wav_of_unknown_length_as_written_into_a_pipe(tmp_path, size):
    path = write(tmp_path / "piped.wav", speech_like(16000))
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = size.to_bytes(4, "little")
    assert len(read_all(bytes(data))) == 32000


def test_mp3_that_does_not_state_its_length(tmp_path):
    """Without its first frame libsndfile guesses 2.4 s or so; the guess must be neither shown nor believed."""
    samples = np.concatenate([np.zeros(16000, np.float32), speech_like(16000)])
    path = write(tmp_path / "talk.mp3", samples, bitrate_mode="VARIABLE", compression_level=0.1)
    data = path.read_bytes()
    second_frame = data.index(b"\xff\xf3", 10)
    with open_audio(data[second_frame:]) as audio:
        assert audio.duration_s is None
        assert sum(len(block) for block in audio.blocks()) == pytest.approx(48000, abs=2500)


def ogg_crc(page):
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def with_shifted_page(data, number, n_samples):
    """An Ogg file whose page `number` claims to end `n_samples` later than it does."""
    start = -1
    for _ in range(number + 1):
        start = data.index(b"OggS", start + 1)
    stop = data.index(b"OggS", start + 1)
    page = bytearray(data[start:stop])
    position = int.from_bytes(page[6:14], "little") + n_samples
    page[6:14] = position.to_bytes(8, "little")
    page[22:26] = bytes(4)
    page[22:26] = ogg_crc(page).to_bytes(4, "little")
    return data[:start] + bytes(page) + data[stop:]


def test_opus_whose_page_positions_jump(tmp_path):
    """FFmpeg writes such files; libsndfile reports an error in the middle of them and can still go on."""
    samples = speech_like(16000, 5.0)
    path = write(tmp_path / "talk.opus", samples, format="OGG", subtype="OPUS")
    data = with_shifted_page(path.read_bytes(), 3, 489)
    with pytest.raises(soundfile.SoundFileError):
        soundfile.read(io.BytesIO(data))
    heard = read_all(data)
    assert len(heard) == pytest.approx(len(samples), abs=0.12 * 16000)
    assert np.corrcoef(heard[:16000], samples[:16000])[0, 1] > 0.95


# --- arrays --------------------------------------------------------------------------------------------------------


def test_array_source():
    samples = speech_like(16000)
    with open_audio((samples, 16000)) as audio:
        assert audio.duration_s == 2.0
        assert audio.sample_rate == 16000
        np.testing.assert_array_equal(np.concatenate(list(audio.blocks(0.3))), samples)


def test_array_source_is_resampled_and_mixed():
    samples = speech_like(48000)
    stereo = (np.stack([samples, samples], axis=1) * 32767).astype(np.int16)
    heard = read_all((stereo, 48000))
    assert np.corrcoef(heard, speech_like(16000))[0, 1] > 0.999


# --- bad sources ---------------------------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    with pytest.raises(AudioFileNotFoundError, match=r"gone\.wav"):
        open_audio(tmp_path / "gone.wav")


def test_directory(tmp_path):
    with pytest.raises(AudioFormatError, match="directory"):
        open_audio(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a file that may not be read")
def test_unreadable_file(tmp_path):
    path = write(tmp_path / "talk.wav", speech_like(16000))
    path.chmod(0)
    with pytest.raises(AudioFormatError, match="cannot be read"):
        open_audio(path)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.txt", "a.raw", "a"])
@pytest.mark.parametrize("data", [b"", b"This is no audio.\n" * 100, bytes(5000), b"RIFF", b"OggS", b"fLaC", b"ID3"])
def test_not_audio(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(AudioFormatError, match="FLAC|damaged") as caught:
        open_audio(path)
    assert name in str(caught.value)
    with pytest.raises(AudioFormatError):
        open_audio(io.BytesIO(data))


@pytest.mark.parametrize(("extension", "container", "subtype", "_"), FORMATS)
def test_cut_off_file(tmp_path, extension, container, subtype, _):
    path = write(tmp_path / f"talk.{extension}", speech_like(16000), format=container, subtype=subtype)
    data = path.read_bytes()
    for fraction in (0.02, 0.5, 0.9):
        path.write_bytes(data[: int(len(data) * fraction)])
        with pytest.raises(AudioFormatError, match="damaged") as caught:
            read_all(path)
        assert path.name in str(caught.value)
        with pytest.raises(AudioFormatError, match="damaged"):
            read_all(path.read_bytes())


def test_damage_in_the_middle_of_a_flac_file(tmp_path):
    path = write(tmp_path / "talk.flac", speech_like(16000, 5.0))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises(AudioFormatError, match=r"talk\.flac.*damaged"):
        read_all(path)


@pytest.mark.parametrize("extension", ["wav", "aiff", "ogg"])
def test_no_samples(tmp_path, extension):
    path = write(tmp_path / f"empty.{extension}", np.empty(0, np.float32))
    with pytest.raises(AudioValueError, match="no samples"):
        read_all(path)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN"), (np.inf, "NaN or infinity"), (2000.0, "32768")])
def test_bad_values_in_a_float_file(tmp_path, value, message):
    samples = speech_like(16000)
    samples[20000] = value
    path = write(tmp_path / "bad.wav", samples, subtype="FLOAT")
    with pytest.raises(AudioValueError, match=rf"bad\.wav.*{message}"):
        read_all(path)


def test_rate_of_a_file_out_of_range(tmp_path):
    path = write(tmp_path / "slow.wav", np.zeros(100, np.int16), 500)
    with pytest.raises(AudioFormatError, match="500 Hz"):
        open_audio(path)


def test_too_many_channels_in_a_file(tmp_path):
    path = write(tmp_path / "many.wav", np.zeros((10, 65), np.int16))
    with pytest.raises(AudioFormatError, match="65 channels"):
        open_audio(path)


@pytest.mark.parametrize(
    "source",
    [
        (np.empty(0, np.float32), 16000),
        (np.zeros(10, np.float32), 0),
        (np.zeros(10, np.float32), "16000"),
        (np.zeros(10, np.float32),),
        (16000, np.zeros(10, np.float32)),
        ([0.0, 0.1], 16000),
        np.zeros(10, np.float32),
        42,
        None,
    ],
)
def test_bad_source(source):
    with pytest.raises(AudioValueError):
        open_audio(source)


def test_text_stream(tmp_path):
    with pytest.raises(AudioFormatError, match="'rb'"):
        open_audio(io.StringIO("RIFF"))


# --- raw PCM -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 3, 777, 100_000])
def test_raw_pcm(step):
    pcm = (speech_like(8000, 0.1) * 32767).astype("<i2")
    blocks = list(read_raw_pcm(Unseekable(pcm.tobytes(), step), 8000, block_s=0.02))
    assert max(map(len, blocks)) <= 161
    np.testing.assert_array_equal(np.concatenate(blocks), to_mono_float32(pcm))


def test_raw_pcm_that_cannot_be_used():
    with pytest.raises(AudioFormatError, match="inside a sample"):
        list(read_raw_pcm(io.BytesIO(b"abc"), 16000))
    with pytest.raises(AudioValueError, match="no samples"):
        list(read_raw_pcm(io.BytesIO(b""), 16000))
    with pytest.raises(AudioFormatError, match="text stream"):
        list(read_raw_pcm(io.StringIO("abcd"), 16000))
    with pytest.raises(AudioValueError, match="sample rate"):
        list(read_raw_pcm(io.BytesIO(b"abcd"), 7))

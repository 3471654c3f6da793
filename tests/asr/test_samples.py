"""Samples of any type to float32 mono, and to 16 kHz."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio import SAMPLE_RATE, Resampler, to_mono_float32
from asr.errors import AudioValueError, StreamFinishedError


def sine(frequency_hz, rate, duration_s, level=0.5):
    time = np.arange(round(rate * duration_s)) / rate
    return (level * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def resample(samples, rate, cuts=()):
    resampler = Resampler(rate)
    edges = [0, *sorted(cuts), len(samples)]
    parts = [resampler.process(samples[start:stop]) for start, stop in itertools.pairwise(edges)]
    return np.concatenate([*parts, resampler.finish()])


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([-32768, 0, 16384], np.int16), [-1, 0, 0.5]),
        (np.array([-32768, 0, 16384], ">i2"), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float32), [-1, 0, 0.5]),
        (np.array([-1, 0, 1.5], np.float64), [-1, 0, 1.5]),
        (np.array([[-32768, 0], [16384, 0]], np.int16), [-0.5, 0.25]),
        (np.array([[0.5, 0.1, 0.0]], np.float32), [0.2]),
        (np.array([-32768, 0, 16384], "<i2").tobytes(), [-1, 0, 0.5]),
        (bytearray(b"\x00\x40"), [0.5]),
        (memoryview(np.array([1, 2, 16384, 4], "<i2"))[2:3], [0.5]),
        (np.empty(0, np.int16), []),
        (np.empty((0, 2), np.float32), []),
        (b"", []),
    ],
)
def test_to_mono_float32(samples, expected):
    mono = to_mono_float32(samples)
    assert mono.dtype == np.float32
    np.testing.assert_allclose(mono, np.array(expected, np.float32), atol=1e-7)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([0.0, 0.1], "list"),
        ("text", "str"),
        (None, "NoneType"),
        (np.array([0.0, np.nan], np.float32), "NaN"),
        (np.array([0.0, np.inf]), "NaN or infinity"),
        (np.array([[0.0, -np.inf]]), "NaN or infinity"),
        (np.array([0.0, 12000.0], np.float32), "divide 16-bit values by 32768"),
        (np.array([1 + 2j]), "complex128"),
        (np.array([None, 1]), "object"),
        (np.array([True]), "bool"),
        (np.array([1, 2], np.int64), "int64"),
        (np.float32(0.5), "float32"),
        (np.array(0.5), r"shape .*\(\)"),
        (np.zeros((2, 3, 4), np.float32), r"\(2, 3, 4\)"),
        (np.zeros((2, 16000), np.float32), "transpose"),
        (np.zeros((5, 0), np.float32), r"\(5, 0\)"),
        (b"abc", "3 bytes"),
        (memoryview(np.zeros(4, np.float32)), "'f'"),
    ],
)
def test_to_mono_float32_refuses(samples, message):
    with pytest.raises(AudioValueError, match=message):
        to_mono_float32(samples)


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 12345, 16000, 22050, 44100, 48000, 96000, 192000, 384000])
def test_a_sine_keeps_frequency_level_and_phase(rate):
    heard = resample(sine(440, rate, 1.0), rate)
    assert len(heard) == pytest.approx(SAMPLE_RATE, abs=1)
    expected = sine(440, SAMPLE_RATE, 1.0)
    middle = slice(2000, 14000)  # away from the ends, where the filter sees silence
    np.testing.assert_allclose(heard[middle], expected[middle], atol=2e-4)


def test_frequencies_above_the_new_limit_vanish():
    assert np.abs(resample(sine(9000, 48000, 1.0), 48000)[2000:14000]).max() < 1e-4


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1000, 8000, 11025, 16000, 44100, 48000, 192000]), st.integers(0, 6000), st.data())
def test_slicing_changes_no_bit(rate, n_samples, data):
    cuts = data.draw(st.lists(st.integers(0, n_samples), max_size=20))
    samples = np.random.default_rng(n_samples).uniform(-1, 1, n_samples).astype(np.float32)
    np.testing.assert_array_equal(resample(samples, rate, cuts), resample(samples, rate))


@pytest.mark.parametrize("rate", [999, 384_001, 0, -16000, 16000.5, float("nan"), float("inf"), "16000", None, True])
def test_impossible_rate(rate):
    with pytest.raises(AudioValueError, match="sample rate"):
        Resampler(rate)


@pytest.mark.parametrize("rate", [1000, 384_000, 16000.0, np.int32(44100), np.float64(8000)])
def test_possible_rate(rate):
    assert len(resample(np.zeros(int(rate), np.float32), rate)) == SAMPLE_RATE


@pytest.mark.parametrize("rate", [16000, 8000])
def test_a_finished_resampler_takes_nothing(rate):
    resampler = Resampler(rate)
    resampler.finish()
    with pytest.raises(StreamFinishedError):
        resampler.process(np.zeros(1, np.float32))

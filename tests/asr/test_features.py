"""Features against kaldi_native_fbank, and the same bits for every slicing of the samples."""

import itertools

import kaldi_native_fbank
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import StreamFinishedError
from asr.features import HOP_LENGTH, N_MELS, SILENCE_LOG_MEL, FeatureStream, compute_features


def kaldi_features(samples):
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = N_MELS
    options.mel_opts.high_freq = -400
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(16000, samples.tolist())
    fbank.input_finished()
    frames = [fbank.get_frame(index) for index in range(fbank.num_frames_ready)]
    return np.array(frames, np.float32).reshape(-1, N_MELS)


def sliced_features(samples, cuts):
    stream = FeatureStream()
    edges = [0, *sorted(cuts), len(samples)]
    parts = [stream.accept(samples[start:stop]) for start, stop in itertools.pairwise(edges)]
    return np.concatenate([*parts, stream.finish()])


def noise(n_samples, level=0.1, seed=0):
    return (np.random.default_rng(seed).standard_normal(n_samples) * level).astype(np.float32)


TIME = np.arange(32000) / 16000
SIGNALS = {
    "noise": noise(32000),
    "quiet noise": noise(32000, level=1e-4),
    "full scale": np.random.default_rng(1).uniform(-1, 1, 32000).astype(np.float32),
    "16-bit steps": (np.round(noise(32000, level=3.0)) / 32768).astype(np.float32),
    "sine": (0.5 * np.sin(2 * np.pi * 440 * TIME)).astype(np.float32),
    "clicks": (np.arange(32000) % 5000 == 77).astype(np.float32),
    "offset": (0.1 + noise(32000, level=0.01)).astype(np.float32),
    "silence": np.zeros(32000, np.float32),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_equals_kaldi(name):
    expected = kaldi_features(SIGNALS[name])
    features = compute_features(SIGNALS[name])
    assert features.dtype == np.float32
    assert features.shape == expected.shape == (200, N_MELS)
    # Kaldi's own float32 error is up to 5e-4 where a bin is 90 dB below the frame's strongest.
    np.testing.assert_allclose(features, expected, atol=1e-3, rtol=0)
    assert np.abs(features - expected).mean() < 2e-5


def test_equals_kaldi_at_every_short_length():
    for n_samples in [*range(0, 420, 3), 79, 80, 81, 119, 121, 239, 241, 280, 399, 400, 401, 560]:
        samples = noise(n_samples, seed=n_samples)
        expected = kaldi_features(samples)
        features = compute_features(samples)
        assert features.shape == expected.shape == ((n_samples + HOP_LENGTH // 2) // HOP_LENGTH, N_MELS)
        np.testing.assert_allclose(features, expected, atol=1e-3, rtol=0, err_msg=f"{n_samples} samples")


def test_silence_is_the_floor():
    assert (compute_features(np.zeros(1000, np.float32)) == np.float32(SILENCE_LOG_MEL)).all()
    assert abs(SILENCE_LOG_MEL + 15.9424) < 1e-4


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 6000), st.data())
def test_slicing_changes_no_bit(n_samples, data):
    cuts = data.draw(st.lists(st.integers(0, n_samples), max_size=30))
    samples = noise(n_samples, seed=n_samples)
    np.testing.assert_array_equal(sliced_features(samples, cuts), compute_features(samples))


@pytest.mark.parametrize("step", [1, 100, 160, 1600, 5120, 20481])
def test_even_slicing_changes_no_bit(step):
    samples = noise(3000 if step == 1 else 50000)
    cuts = range(step, len(samples), step)
    np.testing.assert_array_equal(sliced_features(samples, cuts), compute_features(samples))


def test_a_frame_comes_with_its_last_sample():
    stream = FeatureStream()
    arrivals = []
    for index, sample in enumerate(noise(1000)):
        arrivals += [index] * len(stream.accept(np.array([sample])))
    assert arrivals == [HOP_LENGTH * frame + 279 for frame in range(5)]


def test_accept_keeps_no_view_of_the_callers_samples():
    samples = noise(1000)
    stream = FeatureStream()
    reused = samples.copy()
    parts = [stream.accept(reused)]
    reused[:] = 1.0
    parts.append(stream.finish())
    np.testing.assert_array_equal(np.concatenate(parts), compute_features(samples))


def test_memory_is_bounded():
    stream = FeatureStream()
    for _ in range(50):
        stream.accept(noise(16000))
    held = stream._samples if stream._samples.base is None else stream._samples.base
    assert held.size < 1000


def test_a_finished_stream_takes_nothing():
    stream = FeatureStream()
    stream.finish()
    with pytest.raises(StreamFinishedError):
        stream.accept(noise(10))
    with pytest.raises(StreamFinishedError):
        stream.finish()

"""Streams and the recogniser end to end, over the tiny bundle; and over the English one where it is installed."""

import io

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr.endpoint import EndpointConfig, is_endpoint

RATE_HZ = 16000
CHUNK_SIZES = [320, 640, 1280]


@pytest.fixture(scope="module")
def recognizer(tiny_bundle):
    return asr.Recognizer(tiny_bundle)


@pytest.fixture(scope="module")
def speech(speak):
    return speak("stop cat it's | | pin tack spot")


def stream_through(stream, samples, cuts, rate=RATE_HZ):
    return [stream.accept(part, rate) for part in np.split(samples, cuts)]


def assert_words_where_spoken(result, speech):
    assert result.text == speech.text
    for word, (_, start, end) in zip(result.words, speech.spans, strict=True):
        assert word.start == pytest.approx(start, abs=0.06)
        assert word.end == pytest.approx(end, abs=0.06)
        assert 0 < word.confidence < 1


@pytest.mark.parametrize("chunk_ms", CHUNK_SIZES)
def test_words_come_back_with_their_times(recognizer, speech, chunk_ms):
    result = recognizer.transcribe((speech.samples, RATE_HZ), chunk_ms=chunk_ms)
    assert_words_where_spoken(result, speech)
    assert result.duration == len(speech.samples) / RATE_HZ


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 6 * RATE_HZ), max_size=12).map(sorted), chunk_ms=st.sampled_from(CHUNK_SIZES))
def test_slicing_does_not_change_the_result(recognizer, speech, cuts, chunk_ms):
    whole = recognizer.create_stream(chunk_ms=chunk_ms)
    whole.accept(speech.samples)
    sliced = recognizer.create_stream(chunk_ms=chunk_ms)
    stream_through(sliced, speech.samples, cuts)
    assert sliced.finish() == whole.finish()


def test_slicing_does_not_change_resampled_speech(recognizer, speak):
    speech = speak("stop cat it's", rate=44100)
    whole, sliced = recognizer.create_stream(), recognizer.create_stream()
    whole.accept(speech.samples, 44100)
    stream_through(sliced, speech.samples, range(0, len(speech.samples), 777), rate=44100)
    result = sliced.finish()
    assert result == whole.finish()
    assert_words_where_spoken(result, speech)


@pytest.mark.parametrize("rate", [22050, 44100, 192000])
def test_any_rate(recognizer, speak, rate):
    speech = speak("tack pin")
    result = recognizer.transcribe((soxr.resample(speech.samples, RATE_HZ, rate), rate))
    assert_words_where_spoken(result, speech)
    assert result.duration == pytest.approx(len(speech.samples) / RATE_HZ, abs=0.001)


@pytest.mark.parametrize("convert", [lambda s: (s * 32767).astype(np.int16), lambda s: s.astype(np.float64)])
def test_any_sample_type(recognizer, speech, convert):
    stream = recognizer.create_stream()
    stream.accept(convert(speech.samples))
    assert_words_where_spoken(stream.finish(), speech)


def test_eight_channels(recognizer, speech):
    channels = np.zeros((len(speech.samples), 8), np.float32)
    channels[:, 1:7] = speech.samples[:, np.newaxis]
    assert_words_where_spoken(recognizer.transcribe((channels, RATE_HZ)), speech)
    stream = recognizer.create_stream()
    stream_through(stream, channels, [5000, 5001, 20000])
    assert_words_where_spoken(stream.finish(), speech)


def test_files_bytes_and_file_objects_are_the_same_audio(recognizer, speech, tmp_path):
    path = tmp_path / "speech.flac"
    soundfile.write(path, speech.samples, RATE_HZ)
    result = recognizer.transcribe(path)
    assert_words_where_spoken(result, speech)
    assert recognizer.transcribe(str(path)) == result
    assert recognizer.transcribe(path.read_bytes()) == result
    assert recognizer.transcribe(io.BytesIO(path.read_bytes())) == result
    with path.open("rb") as file:
        assert recognizer.transcribe(file) == result


def test_progress_reaches_the_end(recognizer, speech):
    seen = []
    recognizer.transcribe((speech.samples, RATE_HZ), on_progress=lambda done, total: seen.append((done, total)))
    duration = len(speech.samples) / RATE_HZ
    assert [total for _, total in seen] == [duration] * len(seen)
    assert seen == sorted(seen)
    assert seen[-1][0] == pytest.approx(duration)


# --- partial results and endpoints ----------------------------------------------------------------------------------


def test_stable_words_stay_until_the_endpoint(recognizer, speech):
    stream = recognizer.create_stream(chunk_ms=320)
    before, utterances = "", []
    for partial in stream_through(stream, speech.samples, range(800, len(speech.samples), 800)):
        assert partial.stable.startswith(before)
        before = "" if partial.is_endpoint else partial.stable
        if partial.is_endpoint:
            utterances.append(partial.stable)
            assert partial.volatile == ""
    assert utterances == ["stop cat it's"]
    assert stream.finish().text == speech.text


def test_partials_show_words_early(recognizer, speak):
    speech = speak("stop cat tack pin spot", pause_s=0.1)
    stream = recognizer.create_stream(chunk_ms=320)
    partial = stream.accept(speech.samples)
    assert speech.text.startswith(partial.text)
    assert len(partial.text.split()) >= 3


def test_an_endpoint_needs_speech(recognizer):
    stream = recognizer.create_stream()
    partials = [stream.accept(np.zeros(RATE_HZ, np.float32)) for _ in range(70)]
    assert not any(partial.is_endpoint for partial in partials)
    assert stream.finish() == asr.Result((), 70.0)


def test_two_endpoints_in_one_call(recognizer, speak):
    speech = speak("stop | | cat pin | | tack", pause_s=0.5)
    stream = recognizer.create_stream()
    assert stream.accept(speech.samples) == asr.Partial("stop cat pin", "", is_endpoint=True)
    partial = stream.accept(np.zeros(RATE_HZ // 2, np.float32))
    assert partial.text == "tack"
    assert not partial.is_endpoint
    assert_words_where_spoken(stream.finish(), speech)


def test_a_long_utterance_ends_at_a_short_pause(make_bundle, speak):
    endpoint = EndpointConfig(min_silence_s=5.0, max_utterance_s=2.0, long_utterance_silence_s=0.2)
    recognizer = asr.Recognizer(make_bundle(endpoint=endpoint), chunk_ms=320)
    stream = recognizer.create_stream()
    talk = speak("stop cat pin tack spot it's cat", pause_s=0.0)
    pause = np.zeros(RATE_HZ * 6 // 10, np.float32)
    assert not stream.accept(talk.samples).is_endpoint
    assert stream.accept(pause) == asr.Partial(talk.text, "", is_endpoint=True)
    assert stream.finish().text == talk.text


def test_the_endpoint_rules():
    config = EndpointConfig(min_silence_s=1.0, max_utterance_s=30.0, long_utterance_silence_s=0.2)
    ends = {
        (s, u): is_endpoint(config, silence_s=s, utterance_s=u) for s in (0.0, 0.2, 0.98, 1.0) for u in (5, 29, 30, 60)
    }
    assert {case for case, end in ends.items() if end} == {
        (1.0, 5), (1.0, 29), (1.0, 30), (1.0, 60), (0.2, 30), (0.98, 30), (0.0, 60), (0.2, 60), (0.98, 60),
    }  # fmt: skip


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_endpoint_thresholds_are_positive(value):
    with pytest.raises(ValueError, match="min_silence_s"):
        EndpointConfig(min_silence_s=value)


# --- the ends of a stream -------------------------------------------------------------------------------------------


def test_the_last_word_needs_no_silence_after_it(recognizer, speak):
    speech = speak("stop cat", pause_s=0.0)
    cut = speech.samples[: round(speech.spans[-1][2] * RATE_HZ)]
    for chunk_ms in CHUNK_SIZES:
        result = recognizer.transcribe((cut, RATE_HZ), chunk_ms=chunk_ms)
        assert result.text == "stop cat"
        assert result.words[-1].end <= result.duration == len(cut) / RATE_HZ


def test_nothing_at_all(recognizer):
    assert recognizer.create_stream().finish() == asr.Result((), 0.0)
    stream = recognizer.create_stream()
    assert stream.accept(np.zeros(0, np.float32)) == asr.Partial("", "")
    assert stream.finish() == asr.Result((), 0.0)


@pytest.mark.parametrize("n_samples", [1, 79, 81, 160, 800])
def test_very_short_audio(recognizer, rng, n_samples):
    samples = (0.01 * rng.standard_normal(n_samples)).astype(np.float32)
    result = recognizer.transcribe((samples, RATE_HZ))
    assert result.duration == n_samples / RATE_HZ
    assert all(word.start <= word.end <= result.duration for word in result.words)


def test_a_finished_stream_takes_nothing_more(recognizer, speech):
    stream = recognizer.create_stream()
    stream.accept(speech.samples)
    stream.finish()
    with pytest.raises(asr.StreamFinishedError, match="create another"):
        stream.accept(speech.samples)
    with pytest.raises(asr.StreamFinishedError):
        stream.finish()


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 40000])
def test_bad_samples_are_refused_and_leave_no_trace(recognizer, speech, bad, place):
    damaged = speech.samples.copy()
    damaged[place] = bad
    stream = recognizer.create_stream()
    with pytest.raises(asr.AudioValueError, match="NaN or infinity"):
        stream.accept(damaged)
    stream.accept(speech.samples)
    assert_words_where_spoken(stream.finish(), speech)
    with pytest.raises(asr.AudioValueError, match="NaN or infinity"):
        recognizer.transcribe((damaged, RATE_HZ))


@pytest.mark.parametrize("samples", [[0.0, 0.1], "text", np.zeros((2, 3, 4)), np.array(["a"]), np.float32(0.5), None])
def test_samples_that_are_none(recognizer, samples):
    stream = recognizer.create_stream()
    with pytest.raises(asr.AudioValueError):
        stream.accept(samples)


def test_the_rate_may_not_change(recognizer, speech):
    stream = recognizer.create_stream()
    stream.accept(speech.samples, 16000)
    with pytest.raises(asr.AudioValueError, match="expected 16000 Hz as before, found 8000"):
        stream.accept(speech.samples, 8000)
    assert stream.finish().text == speech.text


@pytest.mark.parametrize("rate", [0, -16000, float("nan"), "16000", None])
def test_impossible_rates(recognizer, rate):
    stream = recognizer.create_stream()
    with pytest.raises(asr.AudioValueError):
        stream.accept(np.zeros(100, np.float32), rate)


def test_zero_samples_are_no_recording(recognizer, tmp_path):
    with pytest.raises(asr.AudioValueError):
        recognizer.transcribe((np.zeros(0, np.float32), RATE_HZ))
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), RATE_HZ)
    with pytest.raises(asr.AudioError):
        recognizer.transcribe(tmp_path / "none.wav")


def test_files_that_cannot_be_used(recognizer, speech, tmp_path):
    cases = {"missing.wav": asr.AudioFileNotFoundError, "empty.wav": asr.AudioFormatError}
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is not audio, whatever its name says\n" * 50)
    soundfile.write(tmp_path / "cut.flac", speech.samples, RATE_HZ)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "cut.flac").read_bytes()[:20000])
    (tmp_path / "folder.wav").mkdir()
    cases |= dict.fromkeys(["text.wav", "cut.flac", "folder.wav"], asr.AudioFormatError)
    for name, error in cases.items():
        with pytest.raises(error, match=name):
            recognizer.transcribe(tmp_path / name)


@pytest.mark.parametrize("chunk_ms", [0, 500, -640, "640", 64])
def test_chunk_sizes_that_the_model_lacks(recognizer, tiny_bundle, chunk_ms):
    for use in (recognizer.create_stream, lambda chunk_ms: asr.Recognizer(tiny_bundle, chunk_ms=chunk_ms)):
        with pytest.raises(asr.ChunkSizeError, match="320, 640, 1280"):
            use(chunk_ms=chunk_ms)


def test_options_that_are_not_there(recognizer, tiny_bundle):
    with pytest.raises(asr.OptionError, match="phrases"):
        recognizer.transcribe((np.zeros(100, np.float32), RATE_HZ), phrases=["cat", 7])
    with pytest.raises(asr.OptionError, match="n_threads"):
        asr.Recognizer(tiny_bundle, n_threads=0)
    with pytest.raises(asr.OptionError, match="beam_size is 0, expected a whole number from 1 on"):
        asr.Recognizer(tiny_bundle, beam_size=0)

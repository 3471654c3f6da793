import json

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.corpus import (
    Clip,
    ManifestError,
    add_noise,
    cut_trailing_silence,
    join,
    load_manifest,
    read_audio,
    select,
    with_noise,
    write_wav,
)


@pytest.fixture
def manifest(tmp_path):
    lines = [
        {"audio": f"{corpus}/{i}.wav", "text": "HI", "seconds": 1.0, "corpus": corpus, "split": split}
        for corpus, split in (("books", "dev"), ("words", "dev"), ("books", "train"))
        for i in range(5)
    ]
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_select_takes_every_kth_clip_of_each_corpus_up_to_the_limit(manifest):
    clips = select(load_manifest(manifest), split="dev", every=2, limit=2)
    assert [(clip.corpus, clip.path.name) for clip in clips] == [
        ("books", "0.wav"), ("books", "2.wav"), ("words", "0.wav"), ("words", "2.wav"),
    ]  # fmt: skip


def test_paths_start_from_the_manifest_or_from_the_audio_folder(manifest, tmp_path):
    assert load_manifest(manifest)[0].path == tmp_path / "books" / "0.wav"
    assert load_manifest(manifest, tmp_path / "elsewhere")[0].path == tmp_path / "elsewhere" / "books" / "0.wav"


def test_an_empty_choice_names_what_there_is(manifest):
    with pytest.raises(ManifestError, match=r"corpus letters, split dev.*words \(dev\)"):
        select(load_manifest(manifest), ["letters"], "dev")


@pytest.mark.parametrize("line", ["not json", "[1]", '{"audio": "a.wav"}', '{"audio": "a.wav", "seconds": "long"}'])
def test_a_bad_line_is_named_by_its_number(tmp_path, line):
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"audio": "a.wav", "seconds": 1}\n' + line)
    with pytest.raises(ManifestError, match=r"manifest\.jsonl:2"):
        load_manifest(path)


def test_a_missing_manifest_is_an_error(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read"):
        load_manifest(tmp_path / "none.jsonl")


def test_audio_is_read_as_mono_at_16_khz(tmp_path):
    time = np.arange(8000) / 8000
    tone = 0.5 * np.sin(2 * np.pi * 300 * time)
    soundfile.write(tmp_path / "tone.wav", np.stack([tone, np.zeros_like(tone)], axis=1), 8000)
    samples = read_audio(tmp_path / "tone.wav")
    assert samples.dtype == np.float32
    assert len(samples) == 16000
    expected = 0.25 * np.sin(2 * np.pi * 300 * np.arange(16000) / 16000)
    np.testing.assert_allclose(samples[1000:-1000], expected[1000:-1000], atol=2e-3)


@given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 60))
def test_cutting_ends_with_the_last_loud_frame(n_before, n_loud, n_after):
    rng = np.random.default_rng(n_before)
    hiss = 1e-4
    levels = np.repeat([hiss, 0.3, hiss], [n_before * 160, n_loud * 160, n_after * 160])
    samples = (levels * rng.choice([-1, 1], len(levels))).astype(np.float32)
    cut = cut_trailing_silence(samples)
    np.testing.assert_array_equal(cut, samples[: (n_before + n_loud) * 160])


@pytest.mark.parametrize("n_samples", [0, 100, 1600])
def test_silence_and_less_than_a_frame_are_left_whole(n_samples):
    assert len(cut_trailing_silence(np.zeros(n_samples, np.float32))) == n_samples


def test_join_repeats_the_clips_up_to_the_length(tmp_path):
    for name, value in (("a", 0.25), ("b", -0.5)):
        write_wav(tmp_path / f"{name}.wav", np.full(8000, value, np.float32))
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "seconds": 0.5}\n{"audio": "b.wav", "seconds": 0.5}')
    joined = join(load_manifest(tmp_path / "m.jsonl"), 1.25)
    np.testing.assert_allclose(joined, np.repeat([0.25, -0.5, 0.25], [8000, 8000, 4000]), atol=1e-4)


def test_noise_is_added_at_the_asked_level(tmp_path, rng):
    speech, noise = (0.1 * rng.standard_normal(n).astype(np.float32) for n in (8000, 3000))
    mixed = add_noise(speech, noise, 10.0)
    added = mixed - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(10, abs=0.01)
    assert np.allclose(added[:3000], added[3000:6000], atol=1e-6)
    assert np.abs(add_noise(9 * speech, noise, -10.0)).max() <= 1
    assert np.array_equal(add_noise(speech, np.zeros(5, np.float32), 10.0), speech)
    write_wav(tmp_path / "speech.wav", speech)
    write_wav(tmp_path / "noise.wav", noise)
    clip = Clip(tmp_path / "speech.wav", "x", "c", "dev", 0.5)
    copies = [with_noise([clip], [tmp_path / "noise.wav"], 10.0, tmp_path)[0] for _ in range(2)]
    assert copies[0].path != clip.path
    assert copies[0].text == "x"
    assert np.allclose(read_audio(copies[0].path), mixed, atol=1e-3)

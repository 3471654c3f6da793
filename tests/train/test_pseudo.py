import json

import numpy as np
import pytest
import soundfile

from asr.train.manifest import Clip, ManifestError
from asr.train.pseudo import label, read_labels, whisper_transcriber


def track(items, name, total):
    return list(items)


@pytest.fixture
def clips(tmp_path):
    clips = [Clip(f"{n}.wav", None, 0.1 * n) for n in (1, 2, 3)] + [Clip("known.wav", "hello", 0.1)]
    for clip in clips:
        soundfile.write(tmp_path / clip.audio, np.zeros(int(clip.seconds * 16_000)), 16_000)
    return clips


def test_keeps_what_all_agree_on(clips, tmp_path):
    out = tmp_path / "labels.jsonl"
    first = {1600: "Mr. Smith, hello!", 3200: "two cats", 4800: ""}
    second = {1600: "mister smith hello", 3200: "too cats", 4800: ""}
    label(clips, tmp_path, [lambda x: first[len(x)], lambda x: second[len(x)]], out, track)
    assert read_labels(out) == {"1.wav": "Mr. Smith, hello!"}
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["heard"] for row in rows] == [[first[n], second[n]] for n in (1600, 3200, 4800)]


def test_goes_on_where_it_stopped(clips, tmp_path):
    out = tmp_path / "labels.jsonl"
    asked = []

    def transcribe(samples):
        asked.append(len(samples))
        return "yes"

    label(clips[:1], tmp_path, [transcribe], out, track)
    label(clips, tmp_path, [transcribe], out, track)
    assert asked == [1600, 3200, 4800]
    assert list(read_labels(out)) == ["1.wav", "2.wav", "3.wav"]


def test_a_file_of_something_else_is_named_with_its_line(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"audio": "a.wav", "text": "yes"}\n["a.wav"]\n')
    with pytest.raises(ManifestError, match="jsonl:2: expected an object with audio and text"):
        read_labels(path)


def test_whisper_is_an_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faster_whisper", None)
    with pytest.raises(ImportError, match=r"sottovoce\[bench\]"):
        whisper_transcriber("base")

"""Text, JSON and subtitles of a result."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.formats import CUE_LINE_LENGTH, CUE_LINES, CUE_MAX_S, FORMATS, split_cues
from asr.types import Result, Word


def words_at(*spans):
    return tuple(Word(text, start, end, 0.5) for text, start, end in spans)


@st.composite
def transcripts(draw):
    words, now = [], 0.0
    for text in draw(st.lists(st.text("abcdefghij'", min_size=1, max_size=14), max_size=60)):
        start = now + draw(st.sampled_from([0.0, 0.02, 0.3, 0.9, 2.5]))
        now = start + draw(st.floats(0.02, 1.2))
        words.append(Word(text, start, now, 0.5))
    return Result(tuple(words), now)


def test_text_is_one_line():
    result = Result(words_at(("it's", 0, 1), ("late", 1, 2)), 2.0)
    assert FORMATS["text"](result, "a.wav") == "it's late\n"
    assert FORMATS["text"](Result((), 2.0), "a.wav") == "\n"


def test_json_is_one_object_on_one_line():
    result = Result((Word("caf\u00e9", 0.12345, 0.5, 0.87654), Word("b", 0.5, 0.9, 0.5)), 1.0)
    line = FORMATS["json"](result, "dir/a.wav")
    assert line.count("\n") == 1
    assert "caf\u00e9" in line
    assert json.loads(line) == {
        "file": "dir/a.wav",
        "text": "caf\u00e9 b",
        "confidence": 0.688,
        "words": [
            {"text": "caf\u00e9", "start": 0.123, "end": 0.5, "confidence": 0.877},
            {"text": "b", "start": 0.5, "end": 0.9, "confidence": 0.5},
        ],
    }


def test_srt_and_vtt_of_two_cues():
    result = Result(words_at(("one", 0.5, 1.0), ("two", 1.0, 1.25), ("three", 3661.0, 3661.999)), 3700.0)
    assert FORMATS["srt"](result, "") == (
        "1\n00:00:00,500 --> 00:00:01,250\none two\n\n2\n01:01:01,000 --> 01:01:01,999\nthree\n\n"
    )
    assert FORMATS["vtt"](result, "") == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.250\none two\n\n01:01:01.000 --> 01:01:01.999\nthree\n\n"
    )


def test_nothing_said():
    assert FORMATS["srt"](Result((), 1.0), "") == ""
    assert FORMATS["vtt"](Result((), 1.0), "") == "WEBVTT\n\n"


def test_a_long_cue_is_parted_at_its_pause():
    spans = [(f"w{i}", i * 0.4 + (i >= 12) * 0.5, i * 0.4 + 0.4 + (i >= 12) * 0.5) for i in range(20)]
    first = next(split_cues(words_at(*spans)))
    assert first[-1].text == "w11"


@given(transcripts())
def test_cues_hold_every_word_once_and_fit(result):
    cues = list(split_cues(result.words))
    assert tuple(word for cue in cues for word in cue) == result.words
    for cue in cues:
        assert len(cue) == 1 or cue[-1].end - cue[0].start <= CUE_MAX_S
        assert all(b.start - a.end < 1.0 for a, b in zip(cue, cue[1:], strict=False))


@pytest.mark.parametrize("name", ["srt", "vtt"])
@given(transcripts())
def test_subtitle_blocks_are_well_formed(name, result):
    blocks = [block for block in FORMATS[name](result, "").split("\n\n") if block and block != "WEBVTT"]
    for block in blocks:
        head, *lines = block.split("\n")[1:] if name == "srt" else block.split("\n")
        assert re.fullmatch(r"\d\d:[0-5]\d:[0-5]\d[,.]\d{3} --> \d\d:[0-5]\d:[0-5]\d[,.]\d{3}", head)
        assert 1 <= len(lines) <= CUE_LINES
        assert all(len(line) <= CUE_LINE_LENGTH for line in lines)

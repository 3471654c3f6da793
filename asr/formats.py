"""A result as text, JSON or subtitles."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType

from asr.types import Capture, Result, Seconds, Word

CUE_MAX_S = 7.0
CUE_LINE_LENGTH = 42
CUE_LINES = 2
CUE_PAUSE_S = 1.0


def to_text(result: Result, file: str) -> str:
    """The words on one line; `file` is not used."""
    return result.text + "\n"


def to_json(result: Result, file: str) -> str:
    """One JSON object on one line: file, text, confidence, words with times in seconds; `match` with a grammar."""
    words = [
        {
            "text": word.text,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "confidence": round(word.confidence, 3),
        }
        for word in result.words
    ]
    record = {"file": file, "text": result.text, "confidence": round(result.confidence, 3), "words": words}
    if result.match is not None:
        groups = {name: _captures(found) for name, found in result.match.groups.items()}
        record["match"] = {
            "accepted": result.accepted, "spoken": result.spoken, "groups": groups, "free_text": result.match.free_text,
        }  # fmt: skip
    return json.dumps(record, ensure_ascii=False) + "\n"


def _captures(found: Capture | list[Capture]) -> object:
    if isinstance(found, list):
        return [_captures(capture) for capture in found]
    times = {"start": round(found.start, 3), "end": round(found.end, 3)}
    return {"text": found.text, **times, "confidence": round(found.confidence, 3)}


def to_srt(result: Result, file: str) -> str:
    """SubRip subtitles; `file` is not used."""
    cues = (
        f"{number}\n{_clock(cue[0].start, ',')} --> {_clock(cue[-1].end, ',')}\n{_lines(cue)}\n\n"
        for number, cue in enumerate(split_cues(result.words), 1)
    )
    return "".join(cues)


def to_vtt(result: Result, file: str) -> str:
    """WebVTT subtitles; `file` is not used."""
    cues = (
        f"{_clock(cue[0].start, '.')} --> {_clock(cue[-1].end, '.')}\n{_lines(cue)}\n\n"
        for cue in split_cues(result.words)
    )
    return "WEBVTT\n\n" + "".join(cues)


FORMATS: MappingProxyType[str, Callable[[Result, str], str]] = MappingProxyType(
    {"text": to_text, "json": to_json, "srt": to_srt, "vtt": to_vtt}
)
"""Name of a format -> function of (result, name of the file it came from)."""


def split_cues(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """Groups of words that fit a subtitle of `CUE_MAX_S` and `CUE_LINES` lines, parted at pauses where possible."""
    start = 0
    for stop in range(1, len(words) + 1):
        while start < stop - 1 and not _fits(words[start:stop]):
            cut = _best_cut(words, start, stop)
            yield words[start:cut]
            start = cut
        if stop == len(words) or words[stop].start - words[stop - 1].end >= CUE_PAUSE_S:
            yield words[start:stop]
            start = stop


def _fits(cue: Sequence[Word]) -> bool:
    return cue[-1].end - cue[0].start <= CUE_MAX_S and len(_wrap(cue)) <= CUE_LINES


def _best_cut(words: Sequence[Word], start: int, stop: int) -> int:
    """Where to part `words[start:stop]`, whose last word is too much: the longest pause of the second half."""
    candidates = range(start + max(1, (stop - start) // 2), stop)
    return max(candidates, key=lambda cut: (round(words[cut].start - words[cut - 1].end, 2), cut))


def _wrap(cue: Sequence[Word]) -> list[str]:
    text = " ".join(word.text for word in cue)
    return textwrap.wrap(text, CUE_LINE_LENGTH, break_long_words=False, break_on_hyphens=False)


def _lines(cue: Sequence[Word]) -> str:
    return "\n".join(_wrap(cue))


def _clock(seconds: Seconds, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{mark}{milliseconds % 1000:03d}"

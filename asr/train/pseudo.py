"""Machine transcripts for clips that have none: kept where several recognisers agree word for word."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from asr.errors import MissingDependencyError
from asr.train.manifest import Clip, ManifestError
from asr.train.prepare import Track, read_samples
from asr.types import FloatArray
from lm.normalize import normalize_text

Transcriber = Callable[[FloatArray], str]
"""Samples (N,) at 16 kHz -> text."""


def whisper_transcriber(model: str) -> Transcriber:
    """A Whisper model for `faster-whisper`: a folder, or a name that it can download.

    Raises:
        MissingDependencyError: faster-whisper is not installed.
    """
    try:
        from faster_whisper import WhisperModel
    except ImportError:
        raise MissingDependencyError("faster-whisper", "bench") from None
    whisper = WhisperModel(model, device="auto", compute_type="int8")

    def transcribe(samples: FloatArray) -> str:
        segments, _ = whisper.transcribe(
            samples, language="en", without_timestamps=True, condition_on_previous_text=False
        )
        return " ".join(segment.text.strip() for segment in segments)

    return transcribe


def label(clips: Sequence[Clip], audio_dir: Path, transcribers: Sequence[Transcriber], out: Path, track: Track) -> None:
    """Append a JSON line for each clip without a transcript that `out` does not hold yet.

    A line is {audio, text, heard}: what each transcriber heard, and as `text` the first one's words where all heard the
    same ones, else null.

    Raises:
        ManifestError: a line of `out` is not one of these.
    """
    done = {audio for audio, _ in _rows(out)} if out.is_file() else set()
    silent = [clip for clip in clips if clip.text is None and clip.audio not in done]
    with out.open("a", encoding="utf-8") as file:
        for _, clip in track(enumerate(silent), "label", len(silent)):
            samples = read_samples(audio_dir / clip.audio)
            heard = [transcribe(samples) for transcribe in transcribers]
            words = [normalize_text(text) for text in heard]
            text = heard[0] if words[0] and all(other == words[0] for other in words) else None
            file.write(json.dumps({"audio": clip.audio, "text": text, "heard": heard}, ensure_ascii=False) + "\n")
            file.flush()


def read_labels(path: Path) -> dict[str, str]:
    """Agreed transcripts by audio path.

    Raises:
        ManifestError: a line is not an object with audio and text.
    """
    return {audio: text for audio, text in _rows(path) if text is not None}


def _rows(path: Path) -> list[tuple[str, str | None]]:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return [_row(line, f"{path}:{number}") for number, line in lines]


def _row(line: str, where: str) -> tuple[str, str | None]:
    try:
        row = json.loads(line)
        return row["audio"], row["text"]
    except (ValueError, KeyError, TypeError):
        raise ManifestError(f"{where}: expected an object with audio and text") from None

"""What each subcommand of `asr-bench` measures: parsed options in, the body of a result file out."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr.metrics import normalize_text
from benchmarks import latency as word_latency
from benchmarks import memory as engine_memory
from benchmarks import report as result_report
from benchmarks.corpus import SAMPLE_RATE_HZ, Clip, ManifestError, load_manifest, select, with_noise, write_wav
from benchmarks.process import describe
from benchmarks.runner import events, progress_bar, run_system
from benchmarks.scoring import last_word_error_rate

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
SILENCE = "digital silence"
SILENCE_S = 120.0


def header(args: argparse.Namespace, argv: list[str]) -> dict[str, Any]:
    """What every result file begins with."""
    return {"schema": 1, "kind": args.command, **describe(argv)}


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """`wer` and `speed`: every system on the same clips."""
    clips = _clips(args)
    systems, texts = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        heard = with_noise(clips, _noises(args), args.snr_db, Path(folder)) if args.noise_dir else clips
        for name in args.systems:
            systems[name], texts[name] = run_system(name, heard, _options(args))
    _write_texts(args.texts, clips, texts)
    noise = {"noise": {"match": args.match, "snr_db": args.snr_db}} if args.noise_dir else {}
    return {"selection": _selection(args, clips), **noise, "systems": systems}


def cut(args: argparse.Namespace) -> dict[str, Any]:
    """`cut`: whole clips against clips whose trailing silence is cut off."""
    clips = [clip for clip in _clips(args) if clip.text]
    figures: dict[str, Any] = {}
    texts = {}
    for name in args.systems:
        figures[name] = {}
        for kind, cut_end in (("whole", False), ("cut", True)):
            run, heard = run_system(name, clips, _options(args), cut_end=cut_end)
            texts[f"{name} {kind}"] = heard
            figures[name][kind] = {
                "audio_s": run["audio_s"],
                "last_word_error_rate": round(last_word_error_rate(clips, heard), 4),
                "corpora": run["corpora"],
            }
    _write_texts(args.texts, clips, texts)
    return {"selection": _selection(args, clips), "figures": figures}


def noise(args: argparse.Namespace) -> dict[str, Any]:
    """`noise`: words a minute where nobody speaks, by kind of noise, and in digital silence."""
    paths = _noises(args)[:: args.every]
    clips = [Clip(path, None, _noise_kind(path), "", soundfile.info(path).duration) for path in paths]
    figures, texts = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        silence = Path(folder) / "silence.wav"
        write_wav(silence, np.zeros(round(SILENCE_S * SAMPLE_RATE_HZ), np.float32))
        clips.append(Clip(silence, None, SILENCE, "", SILENCE_S))
        for name in args.systems:
            _, texts[name] = run_system(name, clips, _options(args))
            figures[name] = _words_per_minute(clips, texts[name])
    _write_texts(args.texts, clips, texts)
    return {"figures": figures}


def _words_per_minute(clips: Sequence[Clip], heard: Sequence[str]) -> dict[str, Any]:
    words: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for clip, text in zip(clips, heard, strict=True):
        kinds = (clip.corpus,) if clip.corpus == SILENCE else (clip.corpus, "all noise")
        for kind in kinds:
            words[kind] = words.get(kind, 0) + len(normalize_text(text).split())
            seconds[kind] = seconds.get(kind, 0.0) + clip.seconds
    return {
        kind: {
            "words": words[kind],
            "audio_s": round(seconds[kind], 1),
            "per_minute": round(60 * words[kind] / seconds[kind], 2),
        }
        for kind in sorted(words)
    }


def _noises(args: argparse.Namespace) -> list[Path]:
    paths = sorted(path for path in args.noise_dir.rglob(args.match) if path.suffix.lower() in AUDIO_SUFFIXES)
    if not paths:
        kinds = ", ".join(sorted(AUDIO_SUFFIXES))
        raise ManifestError(f"{args.noise_dir}: no sound file ({kinds}) named {args.match} below it")
    return paths


def _noise_kind(path: Path) -> str:
    """The file name up to its number: "esc10_rain_1-17367-A" -> "esc10_rain"."""
    return re.split(r"[_-]\d", path.stem)[0]


def latency(args: argparse.Namespace) -> dict[str, Any]:
    """`latency`: see `benchmarks.latency`."""
    clips = [clip for clip in _clips(args) if clip.text]
    paths, texts = [str(clip.path.resolve()) for clip in clips], [clip.text for clip in clips]
    job = {"task": "latency", "options": _options(args), "paths": paths, "texts": texts}
    bar = progress_bar(iterable=events(job), total=len(clips), desc="latency", unit="clip")
    measured = [event for event in bar if "clip" in event]
    figures = {"options": _options(args), **word_latency.summarize(measured)}
    return {"selection": _selection(args, clips), "figures": figures}


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """`memory`: see `benchmarks.memory`."""
    clips, options = _clips(args), _options(args)
    figures: dict[str, Any] = {"options": options, "bundle": engine_memory.measure_bundle(options)}
    figures["start"] = engine_memory.measure_start(options)
    figures["ten_minute_file"] = engine_memory.measure_file(clips, options)
    if args.hours > 0:
        with progress_bar(total=round(args.hours * 60), desc="long stream", unit="min") as bar:
            figures["long_stream"] = engine_memory.measure_stream(clips, args.hours, options, bar.update)
    return {"selection": _selection(args, clips), "figures": figures}


def report(args: argparse.Namespace) -> None:
    """`report`: Markdown page and plot."""
    results = {path.stem: result_report.load(path) for path in args.results}
    page = result_report.markdown(results)
    if args.markdown is None:
        print(page)
    else:
        args.markdown.write_text(page, encoding="utf-8")
    if args.plot is not None:
        places = result_report.points(list(results.values()), args.against)
        if not places:
            raise result_report.ResultError("--plot: none of the files holds word error rates of systems")
        result_report.plot(places, args.against, args.plot)


def show(result: dict[str, Any]) -> None:
    """Print the result's table to stdout."""
    print(result_report.result_table(result))


def _clips(args: argparse.Namespace) -> list[Clip]:
    clips = load_manifest(args.manifest, args.audio_dir)
    return select(clips, args.corpus, args.split, args.every, args.limit)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    bundle = None if args.bundle is None else str(args.bundle)
    options = {"bundle": bundle, "chunk_ms": args.chunk_ms, "domain": args.domain}
    return {name: value for name, value in options.items() if value is not None}


def _selection(args: argparse.Namespace, clips: Sequence[Clip]) -> dict[str, Any]:
    return {
        "corpus": args.corpus,
        "split": args.split,
        "every": args.every,
        "limit": args.limit,
        "clips": len(clips),
        "audio_s": round(sum(clip.seconds for clip in clips), 1),
    }


def _write_texts(path: Path | None, clips: Sequence[Clip], texts: dict[str, list[str]]) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lines:
        for i, clip in enumerate(clips):
            heard = {name: system_texts[i] for name, system_texts in texts.items()}
            lines.write(json.dumps({"audio": clip.path.name, "corpus": clip.corpus, "text": clip.text, **heard}) + "\n")

"""What each subcommand of `asr-bench` measures: parsed options in, the body of a result file out."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr.bundle import read_manifest
from asr.metrics import normalize_text
from benchmarks import device as device_sheet
from benchmarks import device_check, device_report
from benchmarks import emission as word_emission
from benchmarks import latency as word_latency
from benchmarks import memory as engine_memory
from benchmarks import report as result_report
from benchmarks.corpus import SAMPLE_RATE_HZ, Clip, ManifestError, load_manifest, select, with_noise, write_wav
from benchmarks.process import describe
from benchmarks.runner import events, progress_bar, run_system
from benchmarks.scoring import last_word_error_rate
from benchmarks.systems import bundle_folder

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


def emission(args: argparse.Namespace) -> dict[str, Any]:
    """`emission`: see `benchmarks.emission`."""
    clips, options = [clip for clip in _clips(args) if clip.text], _options(args)
    paths, texts = [str(clip.path.resolve()) for clip in clips], [clip.text or "" for clip in clips]
    asked = options.pop("chunk_ms", None)
    chunks_ms = [asked] if asked else read_manifest(bundle_folder(options)).encoder.chunk_ms
    with progress_bar(total=len(chunks_ms) * len(clips), desc="emission", unit="clip") as bar:
        figures = word_emission.run(paths, texts, options, chunks_ms, bar.update)
    return {"selection": _selection(args, clips), "options": options, **figures}


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


def device(args: argparse.Namespace, argv: list[str]) -> None:
    """`device`: write the sheet, its page and its plot; see `benchmarks.device`."""
    bundles: list[Path | None] = list(args.bundle) or [None]
    clips = device_sheet.selftest_clips(bundles[0]) if args.speech is None else _clips(args)
    peers = device_sheet.installed_peers() if args.peers else []
    with progress_bar(total=device_sheet.n_steps(bundles, peers), desc="device", unit="step") as bar:
        figures = device_sheet.measure(clips, bundles, peers, bar_steps(bar))
    described = header(args, argv)
    sheet = {
        **described,
        "machine": device_sheet.machine(described["machine"]),
        "selection": _selection(args, clips),
        **figures,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    page = device_report.markdown(sheet, "device.png")
    (args.out / "device.json").write_text(json.dumps(sheet, indent=1) + "\n", encoding="utf-8")
    (args.out / "device.md").write_text(page, encoding="utf-8")
    device_report.plot(sheet, args.out / "device.png")
    print(page)


def check(args: argparse.Namespace) -> int:
    """`check`: 1 if a ratio of the sheet has got worse than its tolerance allows; see `benchmarks.device_check`."""
    name = device_sheet.bundle_name(args.bundle)
    committed = device_check.committed_ratios(args.sheet, name)
    peers = device_sheet.ratio_peers(device_sheet.installed_peers()) if args.peers else []
    peers = [peer for peer in peers if f"time.engine/{peer}" in committed]
    with progress_bar(total=device_check.n_steps(peers), desc="check", unit="step") as bar:
        now = device_check.measure_ratios(args.bundle, peers, bar_steps(bar))
    comparisons = device_check.compare(committed, now)
    print(device_check.comparison_table(comparisons))
    worse = [comparison for comparison in comparisons if comparison.is_worse]
    for comparison in worse:
        print(f"asr-bench: {comparison}", file=sys.stderr)
    return 1 if worse else 0


def bar_steps(bar: Any) -> Callable[[str], None]:
    """A function that names the step that begins now on a progress bar of steps."""

    def tick(step: str) -> None:
        bar.set_postfix_str(step, refresh=False)
        bar.update()

    return tick


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
    if "speech" in args:
        clips = load_manifest(args.speech / "manifest.jsonl", None)
    else:
        clips = load_manifest(args.manifest, args.audio_dir)
    return select(clips, args.corpus, args.split, args.every, args.limit)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    bundle = None if args.bundle is None else str(args.bundle)
    options = {"bundle": bundle, "chunk_ms": args.chunk_ms, "beam_size": args.beam_size, "domain": args.domain}
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

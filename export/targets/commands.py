"""`asr-export onnx`, `ort`, ... and `asr-export parity`: their arguments and what they do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from asr.errors import OptionError

SUMMARIES = {
    "onnx": "write the bundle for onnxruntime in any language",
    "ort": "write the encoder in ORT format, for mobile builds of onnxruntime",
    "sherpa-onnx": "write the encoder for sherpa-onnx, with a graph of words where asked for",
    "executorch": "write the encoder for executorch (XNNPACK)",
    "litert": "write the encoder for LiteRT",
    "coreml": "write the encoder for Core ML (converted, not run)",
}


def add_arguments(commands: Any) -> None:
    """Add the subcommands to what `ArgumentParser.add_subparsers` returned."""
    for name, summary in SUMMARIES.items():
        target = commands.add_parser(name, help=summary, description=summary)
        target.add_argument("bundle", type=Path, nargs="?", help="folder of the bundle; without it, the English one")
        target.add_argument("out", type=Path, help="folder")
        target.add_argument("--chunk-ms", type=int, help="default: the bundle's")
        if name in ("executorch", "litert"):
            target.add_argument("--int8", action="store_true", help="int8 weights: a third of the bytes, less exact")
        if name == "sherpa-onnx":
            target.add_argument("--words", type=Path, help="words that a decoding graph knows, one a line")
            target.add_argument("--top", type=int, default=0, help="also the bundle's most frequent words, so many")
    parity = commands.add_parser("parity", help="compare the phonemes of an export with the bundle's, clip by clip")
    parity.add_argument("folder", type=Path, help="what one of the targets wrote")
    parity.add_argument("--bundle", type=Path, help="that it was made from; default: the embedded one")
    parity.add_argument("--audio", type=Path, nargs="+", required=True, help="audio files")
    parity.add_argument("--out", type=Path, help="JSON with the figures")


def run_target(args: argparse.Namespace) -> None:
    """Write one target."""
    from export.targets.graphs import write_sherpa_onnx
    from export.targets.registry import TARGETS, write_target

    target = TARGETS[args.command]
    if args.command == "sherpa-onnx":
        words = args.words.read_text(encoding="utf-8").split() if args.words else []
        if args.top < 0:
            raise OptionError(f"--top is {args.top}, expected a number of words from 0 on")
        target = replace(target, write=partial(write_sherpa_onnx, words=words, top=args.top))
    if getattr(args, "int8", False):
        from export.targets.torch_targets import write_executorch, write_litert

        write = {"executorch": write_executorch, "litert": write_litert}[args.command]
        target = replace(target, write=partial(write, int8=True))
    n_bytes = write_target(target, args.bundle, args.out, args.chunk_ms)
    print(f"wrote {args.out}: {n_bytes / 1e6:.1f} MB; how to load it is in {args.out / 'README.md'}")


def run_parity(args: argparse.Namespace) -> None:
    """Compare an export with its bundle."""
    from asr.bundle import Bundle
    from export.targets.parity import measure_parity

    parity = measure_parity(args.folder, Bundle.open(args.bundle), args.audio)
    if args.out:
        args.out.write_text(json.dumps(asdict(parity), indent=2) + "\n", encoding="utf-8")
    print(f"{args.folder} ({parity.target}, chunks of {parity.chunk_ms} ms): greedy phonemes {parity}")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    **dict.fromkeys(SUMMARIES, run_target),
    "parity": run_parity,
}

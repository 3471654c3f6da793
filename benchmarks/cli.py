"""The command `asr-bench`: measure and write the figures as JSON; `report` makes a page and a plot of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asr.errors import AsrError
from benchmarks import commands
from benchmarks.corpus import ManifestError
from benchmarks.report import ResultError
from benchmarks.runner import WorkerError
from benchmarks.systems import SYSTEMS

DEFAULT_OUT = "benchmarks/results"
EXAMPLES = """\
examples:
  asr-bench wer --manifest speech/manifest.jsonl --split dev --corpus mini_librispeech --systems all --out wer.json
  asr-bench speed --manifest speech/manifest.jsonl --split dev --limit 10 --systems sottovoce,sherpa-onnx
  asr-bench wer --manifest speech/manifest.jsonl --split dev --noise-dir speech/noise --match '*_5-*' --snr-db 10
  asr-bench latency --manifest speech/manifest.jsonl --split dev --corpus mini_librispeech --every 10 --chunk-ms 320
  asr-bench emission --speech speech --corpus mini_librispeech,common_voice_b --every 12
  asr-bench memory --manifest speech/manifest.jsonl --split dev --corpus mini_librispeech --hours 2
  asr-bench noise --noise-dir speech/noise --match '*_5-*'     the fold of ESC-50 that training leaves out
  asr-bench cut --manifest speech/manifest.jsonl --split dev --corpus mini_librispeech
  asr-bench device --speech speech --corpus mini_librispeech --every 14 --out sheet
  asr-bench check --sheet benchmarks/results/device.json
  asr-bench report benchmarks/results/*.json --markdown benchmarks.md --plot benchmarks.png

A manifest has one JSON object a line: audio (path below --audio-dir), text, seconds, corpus, split.
The other recognisers need the extra: pip install 'sottovoce[bench]'.
All of them run offline, on one core, each in its own process."""
DESCRIPTIONS = {
    "wer": "word error rate, speed and memory of several systems on the same clips",
    "speed": "the same as wer, meant for few clips",
    "latency": "emission latency of words, endpoint latency and finalisation delay of the engine",
    "emission": "when words come out, measured from their ends in an independent forced alignment, at every chunk size",
    "memory": "peak memory on a long file, growth on a long stream, start-up time, bytes on disk of the engine",
    "noise": "words heard a minute in recordings that hold no speech, and in digital silence",
    "cut": "word error rate of clips that end with their last word, against the whole clips",
    "device": "one sheet of what the engine costs on this machine, next to the other recognisers that are installed",
    "check": "compare ratios of time, memory and bytes with those of a sheet; status 1 if one got worse",
    "report": "Markdown page and plot of result files",
}


def build_parser() -> argparse.ArgumentParser:
    """All subcommands and their options."""
    parser = argparse.ArgumentParser(
        prog="asr-bench", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in DESCRIPTIONS.items():
        sub = subparsers.add_parser(name, help=help_text, description=help_text)
        if name == "report":
            _add_report_options(sub)
            continue
        if name in {"device", "check"}:
            _add_device_options(sub, name)
            continue
        _add_engine_options(sub)
        if name == "noise":
            sub.add_argument("--noise-dir", type=Path, required=True, help="folder of recordings without speech")
            sub.add_argument("--every", type=_positive, default=1, metavar="K", help="take every K-th recording only")
            sub.add_argument("--match", default="*", metavar="GLOB", help="take recordings of such names only")
        elif name in {"wer", "speed"}:
            _add_clip_options(sub)
            sub.add_argument("--noise-dir", type=Path, help="mix recordings of this folder into the clips")
            sub.add_argument("--match", default="*", metavar="GLOB", help="take noises of such names only")
            sub.add_argument("--snr-db", type=float, default=10.0, help="speech over noise (default: %(default)g)")
        elif name == "emission":
            _add_speech_options(sub)
        else:
            _add_clip_options(sub)
        if name in {"wer", "speed", "noise", "cut"}:
            sub.add_argument("--systems", type=_systems, default=["sottovoce"], metavar="A,B", help=_systems_help())
            sub.add_argument("--texts", type=Path, metavar="FILE", help="also write every text heard, as JSON lines")
        if name == "memory":
            sub.add_argument("--hours", type=float, default=2.0, help="length of the long stream (default: 2; 0: none)")
    return parser


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, help="bundle of our engine (default: the embedded one)")
    parser.add_argument("--chunk-ms", type=int, choices=(320, 640, 1280), help="its chunk (default: the bundle's)")
    parser.add_argument("--beam-size", type=int, metavar="N", help="readings of its search (default: the bundle's)")
    parser.add_argument("--domain", help="domain of its language model (default: none)")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"result file (default: {DEFAULT_OUT}/COMMAND.json)")


def _add_device_options(parser: argparse.ArgumentParser, name: str) -> None:
    if name == "device":
        parser.add_argument(
            "--bundle", type=Path, action="append", default=[], help="bundle of our engine; may be given several times"
        )
        _add_speech_options(parser, required=False)
        parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for device.json, .md and .png")
    else:
        parser.add_argument("--sheet", type=Path, required=True, metavar="JSON", help="device.json to compare with")
        parser.add_argument("--bundle", type=Path, help="bundle of our engine (default: the embedded one)")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave out the other recognisers")


def _add_clip_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", type=Path, required=True, help="JSON lines file of clips")
    parser.add_argument("--audio-dir", type=Path, help="folder that its paths start from (default: the manifest's)")
    _add_choice_options(parser, split=None)


def _add_speech_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    default = "" if required else " (default: the bundle's self-test clip, over and over)"
    parser.add_argument(
        "--speech", type=Path, required=required, metavar="DIR", help=f"folder of clips with manifest.jsonl{default}"
    )
    _add_choice_options(parser, split="dev")


def _add_choice_options(parser: argparse.ArgumentParser, split: str | None) -> None:
    parser.add_argument("--corpus", type=_names, default=[], metavar="A,B", help="take these corpora only")
    parser.add_argument("--split", default=split, help=f"take this split only (default: {split or 'any'})")
    parser.add_argument("--every", type=_positive, default=1, metavar="K", help="take every K-th clip of each corpus")
    parser.add_argument("--limit", type=_positive, metavar="N", help="take at most N clips of each corpus")


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, nargs="+", help="result files")
    parser.add_argument("--markdown", type=Path, help="write the page here (default: stdout)")
    parser.add_argument("--plot", type=Path, help="write a PNG here")
    parser.add_argument(
        "--against", choices=("rtf", "size"), default="rtf", help="other axis of the plot (default: rtf)"
    )


def _systems_help() -> str:
    return f"comma-separated, or all: {', '.join(SYSTEMS)} (default: sottovoce)"


def _names(value: str) -> list[str]:
    return [name for name in value.split(",") if name]


def _systems(value: str) -> list[str]:
    names = list(SYSTEMS) if value == "all" else _names(value)
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"unknown system {', '.join(unknown)}; known: {', '.join(SYSTEMS)}")
    return names


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a whole number from 1 on")
    return number


COMMANDS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "wer": commands.compare,
    "speed": commands.compare,
    "latency": commands.latency,
    "emission": commands.emission,
    "memory": commands.memory,
    "noise": commands.noise,
    "cut": commands.cut,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 0 if all went well, 1 with a message on stderr if not."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(words)
    try:
        if args.command == "report":
            commands.report(args)
            return 0
        if args.command == "device":
            commands.device(args, words)
            return 0
        if args.command == "check":
            return commands.check(args)
        result = commands.header(args, words) | COMMANDS[args.command](args)
    except (AsrError, ManifestError, ResultError, WorkerError) as error:
        print(f"asr-bench: {error}", file=sys.stderr)
        return 1
    out: Path = args.out or Path(DEFAULT_OUT) / f"{args.command}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    commands.show(result)
    print(f"written to {out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

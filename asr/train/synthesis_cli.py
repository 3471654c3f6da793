"""`asr-train kokoro` and `asr-train synthesize`: the folder of a voice model, and clips spoken by it."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from asr.train.espeak import phonemize
from asr.train.kokoro import assemble, list_voices
from asr.train.synthesis_plan import HELD_OUT_VOICES, FileText, Planner, SynthesisError, TextSource, parse_generated
from asr.train.utterances import KINDS, Names, read_names
from lm.corpus import CorpusError, parse_source

SYNTHESIS_EXAMPLES = """examples:
  npm pack kokoro-js@1.2.1
  pip install 'sottovoce[synth]'
  asr-train kokoro --voices kokoro-js-1.2.1.tgz --out kokoro
  asr-train synthesize --kokoro kokoro --text requests.txt=3 dictation.txt.xz=1 \\
      --generated phone=0.5 code=0.5 time=1 --hours 20 --workers 2 --out synthetic
  asr-train synthesize --kokoro kokoro --text heldout.txt --hours 0.5 --split test \\
      --voices af_nova am_puck bf_isabella bm_fable --out synthetic-test
  asr-train prepare --manifest synthetic/manifest.jsonl --audio-dir synthetic --out store --teacher
"""


def add_kokoro(parser: argparse.ArgumentParser) -> None:
    """Arguments of `asr-train kokoro`."""
    parser.add_argument(
        "--voices", type=Path, required=True, help="npm package kokoro-js (.tgz), or a folder that holds its *.bin"
    )
    parser.add_argument("--out", type=Path, required=True)


def add_synthesize(parser: argparse.ArgumentParser) -> None:
    """Arguments of `asr-train synthesize`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = SYNTHESIS_EXAMPLES
    parser.add_argument("--kokoro", type=Path, required=True, help="model folder, from `asr-train kokoro`")
    parser.add_argument(
        "--text", nargs="+", default=[], metavar="FILE[=WEIGHT]", help="plain or .xz, one sentence a line"
    )
    parser.add_argument(
        "--generated", nargs="+", default=[], metavar="KIND[=WEIGHT]", help=f"made-up text: {', '.join(KINDS)}"
    )
    parser.add_argument("--names", type=Path, help="names for made-up text, one a line; a small list if not given")
    parser.add_argument(
        "--voices", nargs="+", help=f"use these only; else all but {', '.join(HELD_OUT_VOICES)}, kept for test sets"
    )
    parser.add_argument("--hours", type=float, required=True, help="stop when the folder holds so much speech")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="train", choices=["train", "dev", "test"])
    parser.add_argument("--out", type=Path, required=True, help="folder; one that is begun is gone on with")


def run_kokoro(args: argparse.Namespace) -> None:
    """Put a model folder together."""
    print(f"wrote {args.out}: {len(assemble(args.out, args.voices))} English voices")


def run_synthesize(args: argparse.Namespace) -> None:
    """Make clips."""
    from tqdm import tqdm

    from asr.train.synthesize import KokoroSpeaker, Report, synthesize

    if not args.hours > 0 or args.workers < 1:
        raise ValueError("--hours and --workers: expected more than 0")
    planner, unused = _planner(args)
    phonemize("ready")
    total: Any = tqdm(
        total=args.hours, bar_format="{desc}{percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h [{elapsed}<{remaining}]"
    )
    with total as bar:

        def on_clip(report: Report) -> None:
            made = min(report.seconds / 3600, args.hours)
            if report.n_clips and not bar.n:
                bar.initial = made
            bar.set_description(f"{report.n_clips} clips, {report.n_failed} failed", refresh=False)
            bar.update(made - bar.n)

        speaker = partial(KokoroSpeaker, args.kokoro)
        report = synthesize(
            planner, speaker, args.out, 3600 * args.hours, workers=args.workers, split=args.split, on_clip=on_clip
        )
    print(f"wrote {args.out}: {report.n_clips} clips, {report.seconds / 3600:.2f} h; voices not used: {unused}")
    if report.n_failed:
        print(f"{report.n_failed} clips failed and were left out", file=sys.stderr)


def _planner(args: argparse.Namespace) -> tuple[Planner, str]:
    """The planner, and the names of the voices that it leaves alone."""
    known = list_voices(args.kokoro)
    voices = args.voices or [voice for voice in known if voice not in HELD_OUT_VOICES]
    if not set(voices) <= set(known):
        raise SynthesisError(f"--voices: {args.kokoro} has {', '.join(known)}")
    if not args.text and not args.generated:
        raise SynthesisError("give --text, --generated or both")
    names = read_names(args.names) if args.names else Names()
    sources: list[TextSource] = [*map(_read_text, args.text)]
    sources += (parse_generated(text, names) for text in args.generated)
    planner = Planner(sources, voices, args.seed)
    return planner, ", ".join(voice for voice in known if voice not in voices) or "none"


def _read_text(option: str) -> FileText:
    try:
        return FileText.read(parse_source(option))
    except CorpusError as error:
        raise SynthesisError(f"--text {option}: {error}") from None

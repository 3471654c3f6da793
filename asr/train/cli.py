"""`asr-train`: synthesise speech, prepare features, label and align speech, run a recipe, evaluate a checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import MissingDependencyError
from asr.train.synthesis_cli import add_kokoro, add_synthesize, run_kokoro, run_synthesize

EXAMPLES = """examples:
  asr-train prepare --manifest speech/manifest.jsonl --audio-dir speech --out store --views clean room --teacher
  asr-train label --manifest speech/manifest.jsonl --audio-dir speech --model base tiny.en --out labels.jsonl
  asr-train align --store store --pronunciations pronunciations.tsv --pseudo labels.jsonl --out targets.json
  asr-train run --recipe recipes/acoustic-finetune.toml --store store --targets targets.json --init seed \\
      --run runs/first
  asr-train synthesize --kokoro kokoro --text requests.txt=3 --generated phone code time --hours 20 --out synthetic
  asr-train evaluate --checkpoint runs/first/final --bundle asr/data/english --store store --corpus mini_librispeech

A manifest has one JSON object a line: audio, text (or null), seconds, corpus, split. LibriSpeech, Common Voice and any
other corpus become one with a few lines of code.
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(
        "asr-train", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add_kokoro(commands.add_parser("kokoro", help="put the folder of the voice model together"))
    add_synthesize(commands.add_parser("synthesize", help="make training speech from text; goes on where it was"))
    _add_seed(commands.add_parser("seed", help="make the starting checkpoint from hama's or Whisper's network"))
    _add_prepare(commands.add_parser("prepare", help="cache features (and a teacher's posteriors) of a manifest"))
    _add_label(commands.add_parser("label", help="machine transcripts for clips without one, where models agree"))
    _add_align(commands.add_parser("align", help="choose pronunciations by forced alignment; write CTC targets"))
    _add_trigram(commands.add_parser("trigram", help="estimate the phoneme trigram that CTC-CRF training needs"))
    _add_run(commands.add_parser("run", help="train; goes on from the last checkpoint of the run"))
    _add_average(commands.add_parser("average", help="weighted mean of two checkpoints, such as a run and its seed"))
    _add_deepen(commands.add_parser("deepen", help="put blocks into a trained network, which says the same at first"))
    _add_calibrate(commands.add_parser("calibrate", help="fit the confidence of words on transcribed clips"))
    _add_evaluate(commands.add_parser("evaluate", help="word error rate of a checkpoint, streamed, before export"))
    return parser.parse_args(argv)


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--audio-dir", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=500, help="clips that the feature map is fitted on")
    parser.add_argument(
        "--whisper", type=Path, help="CTranslate2 folder of a Whisper model to start from instead of hama's network"
    )
    parser.add_argument("--out", type=Path, required=True)


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--audio-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--views", nargs="+", default=["clean"], choices=["clean", "room", "slow", "fast"])
    parser.add_argument("--teacher", action="store_true", help="cache the seed network's posteriors (needs hama)")
    parser.add_argument("--rooms", type=int, default=150, help="simulated rooms for the room view")


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--audio-dir", type=Path, required=True)
    parser.add_argument(
        "--model", nargs="+", required=True, help="Whisper models that must agree: folders or names for faster-whisper"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; clips that it holds are not done again")


def _add_align(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=Path, required=True, help="a store with teacher posteriors")
    parser.add_argument("--pronunciations", type=Path, nargs="+", required=True, help="TSV: word, phonemes, log-prob")
    parser.add_argument("--pseudo", type=Path, help="from `label`: stands in for missing transcripts")
    parser.add_argument("--min-log-prob", type=float, default=-0.5, help="drop clips that align worse, per frame")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", type=Path, help="also write pronunciations learned from what was heard (TSV)")


def _add_trigram(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--targets", type=Path, required=True, help="from `align`")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="text too (.txt, .txt.xz), by its dictionary")
    parser.add_argument("--bundle", type=Path, help="whose lexicon speaks the text; the embedded one if not given")
    parser.add_argument("--max-lines", type=int, default=300_000, help="lines of text (%(default)s)")
    parser.add_argument("--out", type=Path, required=True)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--targets", type=Path, help="from `align`; without it only distillation is possible")
    parser.add_argument("--init", type=Path, required=True, help="checkpoint to start from")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run; made where missing")
    parser.add_argument("--noise-dir", type=Path, help="folder of noise recordings")
    parser.add_argument("--phone-trigram", type=Path, help="from `trigram`, for recipes with crf_weight")
    parser.add_argument("--imitate", type=Path, help="checkpoint for recipes with imitate_weight (that of --init)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many minutes")
    parser.add_argument(
        "--bundle", type=Path, help="lexicon and n-gram for the word errors at checkpoints (embedded one)"
    )
    parser.add_argument("--dev-clips", type=int, default=40, help="clips of split dev for the figures at checkpoints")


def _add_average(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--other-share", type=float, default=0.3, help="weight of the other, 0 to 1 (%(default)s)")
    parser.add_argument("--left-context", type=int, help="encoder frames of left context that the result has")
    parser.add_argument("--out", type=Path, required=True)


def _add_deepen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--after", type=int, nargs="+", required=True, help="blocks to put another one behind, from 0")
    parser.add_argument("--left-context", type=int, help="encoder frames of left context that the result has")
    parser.add_argument("--out", type=Path, required=True)


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, help="the embedded one if not given")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--audio-dir", type=Path, required=True)
    parser.add_argument("--corpus", nargs="+", required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--chunk-ms", type=int, default=640)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, help="lexicon, n-gram and weights; the embedded one if not given")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--corpus", nargs="+", default=["mini_librispeech"])
    parser.add_argument("--split", default="dev")
    parser.add_argument("--every", type=int, default=1, help="only each Nth clip")
    parser.add_argument("--chunk-ms", type=int, default=640)


def track(items: Iterable[tuple[int, Any]], label: str, total: int) -> Iterable[tuple[int, Any]]:
    """A progress bar on stderr."""
    from tqdm import tqdm

    bar: Iterable[tuple[int, Any]] = tqdm(items, desc=label, total=total, unit="clip", mininterval=1)
    return bar


def run_seed(args: argparse.Namespace) -> None:
    """Make the starting checkpoint."""
    from asr.train.checkpoint import write_model
    from asr.train.manifest import read_manifest
    from asr.train.starts import start_from_hama, start_from_whisper

    clips = [clip for clip in read_manifest(args.manifest) if clip.split == "train" and clip.seconds > 1]
    if args.whisper:
        model, explained = start_from_whisper(args.whisper / "model.bin", clips, args.audio_dir, args.clips)
    else:
        model, explained = start_from_hama(clips, args.audio_dir, args.clips)
    args.out.mkdir(parents=True, exist_ok=True)
    write_model(args.out, model, 0)
    print(f"wrote {args.out}; the feature map explains {explained:.1%} of the variance")


def run_prepare(args: argparse.Namespace) -> None:
    """Cache features."""
    from asr.train.manifest import read_manifest
    from asr.train.prepare import prepare
    from asr.train.rooms import simulate_rooms
    from asr.train.teacher import SeedTeacher

    rooms = simulate_rooms(args.rooms, seed=1) if "room" in args.views else []
    teacher = SeedTeacher() if args.teacher else None
    clips = read_manifest(args.manifest)
    prepare(clips, args.audio_dir, args.out, args.views, teacher, rooms, track)
    print(f"wrote {args.out}: {len(clips)} clips, views {', '.join(args.views)}")


def run_label(args: argparse.Namespace) -> None:
    """Transcribe clips that have no transcript."""
    from asr.train.manifest import read_manifest
    from asr.train.pseudo import label, read_labels, whisper_transcriber

    clips = [clip for clip in read_manifest(args.manifest) if clip.split == "train"]
    label(clips, args.audio_dir, [whisper_transcriber(model) for model in args.model], args.out, track)
    print(f"wrote {args.out}: transcripts for {len(read_labels(args.out))} clips")


def run_align(args: argparse.Namespace) -> None:
    """Write CTC targets and, if asked, learned variants."""
    from asr.train.pseudo import read_labels
    from asr.train.targets import align_store, learn_variants, write_variants

    pseudo = read_labels(args.pseudo) if args.pseudo else {}
    report = align_store(args.store, args.pronunciations, pseudo, args.min_log_prob, track)
    targets = {row.audio: row.alignment.targets() for row in report.aligned if row.split == "train"}
    args.out.write_text(json.dumps(targets))
    print(f"wrote {args.out}: {len(targets)} clips; left out: {report.left_out}")
    if report.unknown_words:
        shown = ", ".join(word for word, _ in report.unknown_words.most_common(20))
        print(f"words without a pronunciation ({len(report.unknown_words)}): {shown}", file=sys.stderr)
    if args.variants:
        variants = learn_variants(report, args.store)
        write_variants(args.variants, variants)
        print(f"wrote {args.variants}: {len(variants)} learned pronunciations")


def run_trigram(args: argparse.Namespace) -> None:
    """Estimate the phoneme trigram."""
    from itertools import chain

    from asr.bundle import Bundle
    from asr.train.crf import PhoneTrigram
    from asr.train.targets import spoken_text
    from lm.lexicon import Lexicon
    from lm.phones import PHONEMES

    lexicon = Lexicon.open(Bundle.open(args.bundle).file("lexicon.bin"))
    text = (labels for path in args.text for labels in spoken_text(path, lexicon, args.max_lines))
    trigram = PhoneTrigram.estimate(chain(json.loads(args.targets.read_text()).values(), text), len(PHONEMES))
    trigram.write(args.out)
    print(f"wrote {args.out}")


def run_run(args: argparse.Namespace) -> None:
    """Train."""
    import torch
    from tqdm import tqdm

    from asr.train.batches import BatchPlan
    from asr.train.checkpoint import open_checkpoint
    from asr.train.crf import PhoneTrigram
    from asr.train.curves import draw_curves
    from asr.train.mwer import Listener
    from asr.train.noise import read_noises
    from asr.train.recipe import read_recipe
    from asr.train.store import FeatureStore
    from asr.train.trainer import Trainer, finish_run
    from asr.train.validate import Validator, embedded_language
    from lm.phones import PHONEMES

    recipe = read_recipe(args.recipe)
    store = FeatureStore.open(args.store, n_phonemes=len(PHONEMES))
    targets = json.loads(args.targets.read_text()) if args.targets else {}
    plan = BatchPlan(store, targets, recipe, read_noises(args.noise_dir) if args.noise_dir else [])
    args.run.mkdir(parents=True, exist_ok=True)
    listener = None
    if recipe.mwer_weight:
        listener = Listener(
            args.bundle, n_ways=recipe.mwer_ways, beam_size=recipe.mwer_beam, scale=recipe.mwer_scale,
            n_threads=torch.get_num_threads(),
        )  # fmt: skip
    trainer = Trainer(
        args.run,
        open_checkpoint(args.init).model(),
        recipe,
        Validator(store, args.dev_clips, embedded_language(args.bundle)),
        PhoneTrigram.read(args.phone_trigram) if args.phone_trigram else None,
        listener,
        open_checkpoint(args.imitate or args.init).model() if recipe.imitate_weight else None,
    )
    print(
        f"{plan.steps_per_epoch} steps an epoch, {recipe.optim.steps} in all, starting at {trainer.step}",
        file=sys.stderr,
    )
    with tqdm(total=recipe.optim.steps, initial=trainer.step, unit="step", mininterval=1) as bar:

        def on_step(step: int, figures: dict[str, float]) -> None:
            bar.update(step - bar.n)
            bar.set_postfix({key: f"{value:.3g}" for key, value in figures.items()})

        trainer.fit(plan, on_step=on_step, until=time.monotonic() + 60 * args.minutes)
    draw_curves(args.run, args.run / "curves.png")
    if trainer.step >= recipe.optim.steps:
        print(f"wrote {finish_run(args.run, recipe.average_last, recipe.weight_bits).folder}")


def run_average(args: argparse.Namespace) -> None:
    """Write the weighted mean of two checkpoints."""
    from asr.nn.model import with_left_context
    from asr.train.checkpoint import average, open_checkpoint, write_model

    if not 0 <= args.other_share <= 1:
        raise ValueError(f"--other-share: expected 0 to 1, found {args.other_share}")
    pair = [open_checkpoint(args.checkpoint), open_checkpoint(args.other)]
    model = average(pair, [1 - args.other_share, args.other_share])
    if args.left_context is not None:
        model = with_left_context(model, args.left_context)
    args.out.mkdir(parents=True, exist_ok=True)
    write_model(args.out, model, pair[0].step)
    print(f"wrote {args.out}")


def run_deepen(args: argparse.Namespace) -> None:
    """Write a checkpoint with more blocks that says the same."""
    from asr.nn.model import with_left_context
    from asr.train.checkpoint import open_checkpoint, write_model
    from asr.train.deepen import deepened

    model = deepened(open_checkpoint(args.checkpoint).model(), args.after)
    if args.left_context is not None:
        model = with_left_context(model, args.left_context)
    args.out.mkdir(parents=True, exist_ok=True)
    write_model(args.out, model, 0)
    print(f"wrote {args.out}: {model.config.n_layers} blocks")


def run_calibrate(args: argparse.Namespace) -> None:
    """Print the fitted weights as JSON, and how good they are."""
    from asr.train.calibrate import calibrate
    from asr.train.manifest import read_manifest

    clips = [c for c in read_manifest(args.manifest) if c.corpus in args.corpus and c.split == args.split and c.text]
    found = calibrate(args.bundle, clips, args.audio_dir, args.chunk_ms, track)
    print(json.dumps(asdict(found.weights)))
    print(
        f"on {found.n_words} other words, {found.accuracy:.1%} of them right: "
        f"calibration error {found.expected_calibration_error:.3f}, AUC {found.auc:.3f}",
        file=sys.stderr,
    )


def run_evaluate(args: argparse.Namespace) -> None:
    """Print word error rates."""
    from asr.train.checkpoint import open_checkpoint
    from asr.train.evaluate import evaluate
    from asr.train.store import FeatureStore
    from lm.phones import PHONEMES

    store = FeatureStore.open(args.store, n_phonemes=len(PHONEMES))
    model = open_checkpoint(args.checkpoint).model().eval()
    for corpus in args.corpus:
        chosen = [
            index
            for index, stored in enumerate(store.clips)
            if stored.clip.corpus == corpus and stored.clip.split == args.split and stored.clip.text
        ][:: args.every]
        if not chosen:
            known = sorted({f"{s.clip.corpus} ({s.clip.split})" for s in store.clips})
            raise SystemExit(
                f"asr-train: no transcribed clip of {corpus} ({args.split}); the store has {', '.join(known)}"
            )
        counts = evaluate(model, store, chosen, args.bundle, args.chunk_ms, track)
        print(f"{corpus}: WER {100 * counts.rate:.1f} % ({counts}) on {len(chosen)} clips, {args.chunk_ms} ms")


COMMANDS = {
    "kokoro": run_kokoro,
    "synthesize": run_synthesize,
    "seed": run_seed,
    "prepare": run_prepare,
    "label": run_label,
    "align": run_align,
    "trigram": run_trigram,
    "run": run_run,
    "average": run_average,
    "deepen": run_deepen,
    "calibrate": run_calibrate,
    "evaluate": run_evaluate,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    args = parse_args(argv)
    try:
        COMMANDS[args.command](args)
    except (ValueError, OSError, MissingDependencyError) as error:
        print(f"asr-train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("asr-train: stopped; the last checkpoint is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main())

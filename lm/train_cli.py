"""`asr-lm tokens`, `train`, `adapt` and `info`, and the perplexity of neural models; torch is loaded when one runs."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm.console import progress, say, say_report
from lm.corpus import CorpusReport, Exclusion, parse_source, read_lines
from lm.perplexity import Perplexity
from lm.pieces import begin_words
from lm.vocabulary import read_words, words_sha256

if TYPE_CHECKING:
    from lm.train.adapt import AdaptConfig, Adapted, AdaptText
    from lm.train.checkpoint import TrainedModel
    from lm.train.recipe import Recipe

TOKENS_EXAMPLES = """example:
  asr-lm tokens --recipe recipes/lm-english.toml --text-dir TEXT --words words.txt --out tokens
"""
PIECES_EXAMPLES = """example:
  asr-lm pieces --tokens tokens --size 4000 --out pieces-tokens
  asr-lm train --recipe recipes/lm-english-pieces.toml --tokens pieces-tokens --run runs/pieces
"""
TRAIN_EXAMPLES = """examples:
  asr-lm train --recipe recipes/lm-english.toml --tokens tokens --run runs/shared
  asr-lm train --recipe recipes/lm-english.toml --tokens tokens --run runs/adfofe --form separate
  asr-lm train --recipe recipes/lm-english.toml --tokens tokens --run runs/joint --form adapted
  asr-lm train --recipe recipes/lm-english.toml --tokens tokens --run runs/assistant --application assistant
  asr-lm train --recipe recipes/lm-english-longer.toml --tokens tokens --run runs/longer --init asr/data/english

The same command goes on with a run that was stopped.
"""
ADAPT_EXAMPLES = """examples:
  asr-lm adapt --trunk asr/data/english --text mine.txt --name clinic --out clinic
  asr transcribe --adapter clinic/clinic.bin --domain clinic talk.flac

  asr-lm adapt --trunk runs/shared/final --text mine.txt --name clinic --out adapters/clinic
  asr-lm adapt --trunk runs/shared/final --text mine.txt --name clinic --out adapters/clinic --tokens tokens
  asr-lm adapt --trunk runs/shared/final --application assistant --recipe recipes/lm-english.toml --tokens tokens \\
      --name assistant --out adapters/assistant --steps 3000 --batch-tokens 2048
"""
FORM_HELP = "instead of the recipe's: shared, separate (a network each), mixture, or adapted (an adapter each)"
INFO_EXAMPLES = """examples:
  asr-lm info tokens
  asr-lm info runs/shared/final
  asr-lm info adapters/clinic
"""


def add_train_parsers(subparsers: Any) -> None:
    """Add the commands of this file to the subparsers of `asr-lm`."""
    _add_tokens(_parser(subparsers, "tokens", "word ids of weighted text sources, for training", TOKENS_EXAMPLES))
    _add_pieces(_parser(subparsers, "pieces", "token arrays of words as such of pieces of words", PIECES_EXAMPLES))
    _add_train(_parser(subparsers, "train", "train a neural language model", TRAIN_EXAMPLES))
    _add_adapt(_parser(subparsers, "adapt", "fit a small adapter to your own text", ADAPT_EXAMPLES))
    info = _parser(subparsers, "info", "what a folder of tokens, a checkpoint or an adapter holds", INFO_EXAMPLES)
    info.add_argument("path", type=Path, help="folder that `tokens`, `train` or `adapt` wrote")
    info.set_defaults(run=run_info)


def _parser(subparsers: Any, name: str, purpose: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=purpose, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return parser


def _add_tokens(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", type=Path, required=True, help="TOML file with [weights], [applications] and [dev]")
    parser.add_argument("--text-dir", type=Path, default=Path(), help="folder that the recipe's names are in")
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="PATH[=WEIGHT]",
        help="one more text file; its application is that of its folder",
    )
    parser.add_argument("--words", type=Path, required=True, help="word list")
    parser.add_argument(
        "--exclude", type=Path, action="append", default=[], metavar="FILE",
        help="text to keep out: drops every line that shares six words in a row with it",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced where it is there")
    parser.set_defaults(run=run_tokens)


def _add_pieces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens", type=Path, required=True, help="folder that `asr-lm tokens` wrote")
    parser.add_argument("--size", type=int, default=4000, help="pieces to find (%(default)s)")
    parser.add_argument("--pieces", type=Path, help="use these instead (pieces.bin)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced where it is there")
    parser.set_defaults(run=run_pieces)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True, help="folder that `asr-lm tokens` wrote")
    parser.add_argument("--run", type=Path, required=True, dest="run_folder", help="folder of the run")
    parser.add_argument("--form", help=FORM_HELP)
    parser.add_argument("--application", action="append", default=[], help="train on this application's text only")
    parser.add_argument(
        "--init", type=Path, metavar="MODEL", help="bundle folder or checkpoint whose weights a new run begins with"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many minutes")
    parser.set_defaults(run=run_train)


def _add_adapt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trunk", type=Path, required=True, help="bundle folder (`asr info` names it), or checkpoint of a shared model"
    )
    own = parser.add_mutually_exclusive_group(required=True)
    own.add_argument("--text", type=Path, help="your text, one sentence a line (.txt or .txt.xz)")
    own.add_argument("--application", help="or: all text of an application in --tokens")
    parser.add_argument("--name", required=True, help="of the adapter")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--tokens", type=Path, help="general text to hold on to; without it the model makes some up")
    parser.add_argument("--recipe", type=Path, help="with --application: weights of the sources")
    parser.add_argument("--other", type=Path, nargs="+", default=[], help="text files to measure before and after")
    parser.add_argument("--replay", type=float, default=0.3, help="share of general text in a batch (%(default)s)")
    parser.add_argument(
        "--rise", type=float, default=1.5, metavar="PERCENT",
        help="how much the perplexity of general text may rise (%(default)s; inf: as it comes)",
    )  # fmt: skip
    parser.add_argument("--rank", type=int, default=6, help="of the adapter's matrices (%(default)s)")
    parser.add_argument("--no-bias", action="store_true", help="leave the output bias of the words alone")
    parser.add_argument("--steps", type=int, default=400, help="at most so many (%(default)s)")
    parser.add_argument(
        "--patience", type=int, default=4, help="looks at held-out text, one every 20 steps, without gain (%(default)s)"
    )
    parser.add_argument("--batch-tokens", type=int, default=1024, help="words a step (%(default)s)")
    parser.set_defaults(run=run_adapt)


def run_tokens(args: argparse.Namespace) -> None:
    """Write token arrays."""
    from lm.train.recipe import read_recipe
    from lm.train.tokens import TokenStore, write_tokens

    recipe = read_recipe(args.recipe)
    sources = [*recipe.sources(args.text_dir), *map(parse_source, args.source)]
    if not sources:
        raise ValueError(f"no text: give {args.recipe} a table [weights], or --source PATH")
    report = CorpusReport()
    write_tokens(
        args.out,
        read_words(args.words),
        sources,
        recipe.dev_sources(args.text_dir),
        application_of=recipe.application_of,
        exclusion=Exclusion(words for path in args.exclude for words in read_lines(path)),
        report=report,
        progress=progress,
    )
    say_report(report)
    _print_tokens(TokenStore.open(args.out))


def run_pieces(args: argparse.Namespace) -> None:
    """Find pieces and write the arrays again."""
    from lm.pieces import Pieces, train_pieces
    from lm.train.tokens import TokenStore, word_counts, write_pieces

    store = TokenStore.open(args.tokens)
    if args.pieces:
        pieces = Pieces.open(args.pieces)
    else:
        say(f"finding {args.size} pieces for {len(store.words)} words (a minute or two)")
        pieces = train_pieces(word_counts(store), args.size)
    say(f"cutting the words into {len(pieces)} pieces")
    write_pieces(store, pieces, args.out, progress=progress)
    _print_tokens(TokenStore.open(args.out))


def run_train(args: argparse.Namespace) -> None:
    """Train, or go on training."""
    from lm.train.recipe import read_recipe

    recipe = read_recipe(args.recipe).with_model(form=args.form, applications=tuple(args.application))
    _train(args, recipe)


def _train(args: argparse.Namespace, recipe: Recipe) -> None:
    from tqdm import tqdm

    from lm.train.curves import draw_curves
    from lm.train.joint import write_parts
    from lm.train.tokens import TokenStore
    from lm.train.trainer import Trainer, finish_run

    args.run_folder.mkdir(parents=True, exist_ok=True)
    start = _read_model(args.init)[0] if args.init else None
    trainer = Trainer(args.run_folder, TokenStore.open(args.tokens), recipe, start)
    say(f"{trainer.describe()}; {recipe.optim.steps} steps, starting at {trainer.step}")
    with tqdm(total=recipe.optim.steps, initial=trainer.step, unit="step", mininterval=1) as bar:

        def on_step(step: int, figures: Mapping[str, float]) -> None:
            bar.set_postfix({key: f"{value:.4g}" for key, value in figures.items()}, refresh=False)
            bar.update(step - bar.n)

        trainer.fit(on_step=on_step, until=time.monotonic() + 60 * args.minutes)
    losses = [f"loss_{name}" for name in recipe.model.applications]
    draw_curves(args.run_folder, args.run_folder / "curves.png", losses=losses, unit="nats a word, sampled")
    if trainer.step >= recipe.optim.steps:
        say(f"wrote {finish_run(args.run_folder, recipe.average_last, recipe.embedding_bits)}")
        if recipe.model.form == "adapted":
            write_parts(args.run_folder)
            say(f"wrote {args.run_folder / 'trunk'} and {args.run_folder / 'adapters'}, the same in two kinds of parts")


def run_adapt(args: argparse.Namespace) -> None:
    """Fit an adapter and say what it changed."""
    from lm.train.adapt import AdaptConfig, adapt
    from lm.train.checkpoint import write_adapter
    from lm.train.folders import replace_folder
    from lm.train.runtime import write_runtime_adapter

    config = AdaptConfig(
        rank=args.rank, bias=not args.no_bias, replay=args.replay, rise=args.rise / 100, steps=args.steps,
        batch_tokens=args.batch_tokens, patience=args.patience, looked_at=500 if args.application else 120,
    )  # fmt: skip
    trained, trunk = _read_model(args.trunk)
    text = _adapt_text(args, trained, config)
    adapted = adapt(trained, args.name, text, config, lambda step, value: say(f"step {step}: perplexity {value:.2f}"))
    notes = {"words_sha256": trained.words_sha256, "before": adapted.before, "after": adapted.after}

    def write(folder: Path) -> None:
        write_adapter(folder, adapted.adapter, notes)
        if trunk is not None:
            write_runtime_adapter(adapted.adapter, trunk, folder)

    replace_folder(args.out, write)
    _print_adapted(adapted, args.out)
    if trunk is not None and adapted.steps:
        say(f"use it: asr transcribe --adapter {args.out / args.name}.bin --domain {args.name} talk.flac")


def _read_model(path: Path) -> tuple[TrainedModel, str | None]:
    """The model of a checkpoint, or that of a bundle and its digest."""
    from lm.train.checkpoint import Checkpoint
    from lm.train.runtime import is_runtime_model, read_runtime_model

    return read_runtime_model(path) if is_runtime_model(path) else (Checkpoint.open(path).read(), None)


def _adapt_text(args: argparse.Namespace, trained: TrainedModel, config: AdaptConfig) -> AdaptText:
    from lm.train.adapt import AdaptError, application_text, read_own_text, with_general_text, with_made_up_text
    from lm.train.recipe import read_recipe
    from lm.train.tokens import TokenStore, encode

    store = TokenStore.open(args.tokens) if args.tokens else None
    if store is not None and store.words_sha256 != trained.words_sha256:
        raise AdaptError(f"{args.tokens} and {args.trunk} were made with different word lists")
    if args.application:
        if store is None:
            raise AdaptError("--application needs --tokens, the folder that its text is in")
        weights = read_recipe(args.recipe).weights if args.recipe else {}
        text = application_text(store, weights, args.application, config)
    else:
        text = read_own_text(args.text, trained.pieces or trained.words, config)
        if store is not None:
            text = with_general_text(text, store, config)
        elif math.isfinite(config.rise):
            text = with_made_up_text(text, trained, config)
    others = {path.name: [encode([words], trained.ids) for words in read_lines(path)] for path in args.other}
    return replace(text, others={**text.others, **others})


def _print_adapted(adapted: Adapted, out: Path) -> None:
    print("text\tbefore\tafter")
    for name, before in adapted.before.items():
        print(f"{name}\t{before:.2f}\t{adapted.after[name]:.2f}")
    if adapted.steps == 0:
        say(f"nothing was gained on held-out text: {out} changes nothing")
    else:
        say(f"wrote {out}, the adapter after {adapted.steps} steps, at {adapted.strength:.2f} of its strength")


def run_info(args: argparse.Namespace) -> None:
    """Print what a folder holds.

    Raises:
        ValueError: it is none that these commands wrote.
    """
    if (args.path / "tokens.json").is_file():
        from lm.train.tokens import TokenStore

        _print_tokens(TokenStore.open(args.path))
    elif (args.path / "adapter.json").is_file():
        print((args.path / "adapter.json").read_text(encoding="utf-8"))
    elif is_checkpoint(args.path):
        _print_checkpoint(args.path)
    else:
        raise ValueError(f"{args.path}: neither tokens (tokens.json), a run, a checkpoint (model.pt) nor an adapter")


def _print_tokens(store: Any) -> None:
    print("application\tutterances\twords\tunknown\tsource")
    for item in (*store.sources, *store.dev):
        kind = "" if item in store.sources else " (dev)"
        share = item.unknown / max(1, item.words)
        print(f"{item.application}{kind}\t{item.utterances}\t{item.words}\t{share:.2%}\t{item.name}")


def _print_checkpoint(path: Path) -> None:
    from lm.train.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(path)
    trained = checkpoint.read()
    sizes = {
        "embedding": trained.model.embedding.numel(),
        "bias": trained.model.bias.numel(),
        "networks": sum(p.numel() for name, p in trained.model.named_parameters() if name.startswith(("net", "gate"))),
    }
    about = {
        "folder": str(checkpoint.folder),
        "step": checkpoint.step,
        "model": asdict(trained.model.config),
        "parameters": sizes,
        "words": len(trained.words),
        "words_sha256": trained.words_sha256,
    }
    print(json.dumps(about, indent=1))


def is_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint or a run at `path`."""
    return (path / "model.pt").is_file() or (path / "last").is_file()


def neural_perplexity(
    checkpoint: Path, adapter: Path | None, application: str | None, words: Sequence[str], texts: Sequence[Path]
) -> Iterator[Perplexity]:
    """Perplexity of a checkpoint on each text, with the full softmax; the denominator's spread goes to stderr.

    Raises:
        ValueError: another word list, an unknown application, or a folder that cannot be read.
    """
    from lm.train.checkpoint import Checkpoint, read_adapter
    from lm.train.evaluate import evaluate
    from lm.train.tokens import encode

    trained = Checkpoint.open(checkpoint).read()
    if trained.pieces is None and trained.words_sha256 != words_sha256(words):
        raise ValueError(f"{checkpoint} was trained over another word list than the one given by --words")
    names = trained.model.config.applications
    if application is not None and application not in names:
        raise ValueError(f"--application: expected one of {', '.join(names)}, found {application!r}")
    if application is None and trained.model.config.knows_applications:
        raise ValueError(f"{checkpoint} has a network for each application: give --application {'|'.join(names)}")
    number = names.index(application) if application else 0
    changed = read_adapter(adapter, trained.model) if adapter else None
    begins, known = begin_words(trained.words), frozenset(words)
    for path in texts:
        utterances = [encode([line], trained.ids, known) for line in read_lines(path)]
        found = evaluate(trained.model, utterances, trained.unknown_log_share, number, changed, begins)
        say(f"{path.name}: log Z {found.log_z_mean:.3f}, standard deviation {found.log_z_deviation:.3f}")
        yield found.perplexity

"""`asr-export quantize`, `sweep` and `sweep-lm`: their arguments and what they do."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import MissingDependencyError, OptionError

if TYPE_CHECKING:
    from asr.train.manifest import Clip

SPEECH_S = 30.0
HELP = """variants: float32, int8, int8-dynamic, int8-static (or int8-static:minmax, int8-static:entropy), int4,
mixed:SHARE of the bytes of int8; low-rank:SHARE of the blocks' matrices, prune:SHARE of the feed-forward units, heads:N
or blocks:N fewer, also before one of these: low-rank:0.75+int8; rounded:4+int4: four bits as speech suffers least

  asr-export quantize --variant rounded:4+int4 --speech speech/*.flac --out encoder.onnx"""
COMPRESS_HELP = """what is lost comes back in part with some more training, gently:

  asr-export compress --checkpoint released --variant prune:0.75 --speech train/*.flac --out pruned
  asr-train run --recipe recipes/acoustic-recover.toml --store store --targets targets.json \\
      --phone-trigram phones.npy --noise-dir noise --init pruned --run recovered
  asr-export quantize --checkpoint recovered/final --variant int8 --bundle BUNDLE --out small"""


LM_HELP = """variants: TABLE/LAYERS, bits a number of the embeddings and of the hidden layers' weights; 4/8 is what
`asr-export lm` writes, 32/32 the model as it was trained"""


def add_arguments(commands: Any) -> None:
    """Add the subcommands to what `ArgumentParser.add_subparsers` returned."""
    compress = commands.add_parser(
        "compress", help="write a checkpoint of fewer parameters, to be trained on", epilog=COMPRESS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    compress.add_argument("--checkpoint", type=Path, required=True)
    compress.add_argument(
        "--variant",
        required=True,
        help="low-rank:SHARE of the matrices, prune:SHARE of the feed-forward units, heads:N or blocks:N fewer",
    )
    compress.add_argument(
        "--speech", type=Path, nargs="+", required=True, help="audio files like those in training, half a minute in all"
    )
    compress.add_argument("--out", type=Path, required=True, help="folder of the new checkpoint")
    quantize = commands.add_parser(
        "quantize", help="write an encoder in any precision, compressed or not", epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    quantize.add_argument("--checkpoint", type=Path, help="default: the encoder of the bundle, or of the embedded one")
    quantize.add_argument("--variant", required=True, help="see below")
    quantize.add_argument(
        "--speech", type=Path, nargs="+", default=[],
        help="audio files like those in training, half a minute in all; some minutes for rounded:N",
    )  # fmt: skip
    quantize.add_argument("--bundle", type=Path, help="write a bundle like this one instead of the graph alone")
    quantize.add_argument("--out", type=Path, required=True, help="encoder.onnx, or with --bundle a folder")
    sweep = commands.add_parser("sweep", help="measure variants of an encoder side by side", epilog=HELP)
    sweep.add_argument("--checkpoint", type=Path, required=True)
    sweep.add_argument("--bundle", type=Path, required=True, help="its lexicon and language models are used")
    sweep.add_argument("--manifest", type=Path, required=True, help="clips; split dev is measured on, train calibrates")
    sweep.add_argument("--audio-dir", type=Path, help="what the manifest's paths are relative to; default: its folder")
    sweep.add_argument("--corpus", nargs="+", help="corpora of the manifest to measure on; default: all")
    sweep.add_argument("--clips", type=int, help="measure on so many clips, evenly chosen; default: all")
    sweep.add_argument("--variant", nargs="+", help="default: one of each kind")
    sweep.add_argument("--out", type=Path, required=True, help="folder for sweep.json, sweep.png and the graphs")
    lm = commands.add_parser("sweep-lm", help="measure a language model in fewer and fewer bits", epilog=LM_HELP)
    lm.add_argument("--model", type=Path, required=True, help="checkpoint or run of `asr-lm train`, over words")
    lm.add_argument("--text", action="append", required=True, metavar="NAME=FILE", help="sentences, one a line")
    lm.add_argument("--lines", type=int, default=500, help="of each text, evenly chosen (500)")
    lm.add_argument("--variant", nargs="+", help="see below; default: ten of them")
    lm.add_argument("--out", type=Path, required=True, help="folder for sweep-lm.json and sweep-lm.png")


def run_compress(args: argparse.Namespace) -> None:
    """Write a smaller checkpoint."""
    from asr.train.checkpoint import open_checkpoint, write_model
    from export.compress import compress
    from export.ranges import read_features
    from export.variants import parse_compression

    config = parse_compression(args.variant)
    model = open_checkpoint(args.checkpoint).model().eval()
    smaller = compress(model, config, [read_features(path) for path in args.speech])
    args.out.mkdir(parents=True, exist_ok=True)
    write_model(args.out, smaller, 0)
    before, after = (sum(weight.numel() for weight in each.parameters()) for each in (model, smaller))
    print(f"wrote {args.out}: {after} of {before} parameters ({after / before:.0%}); {config}")


def run_quantize(args: argparse.Namespace) -> None:
    """Write one variant, alone or in a bundle."""
    from asr.bundle import Bundle
    from asr.train.checkpoint import open_checkpoint
    from export.targets.weights import encoder_model
    from export.variants import build_variant, parse_variant, with_encoder

    def track(stages: Sequence[list[str]]) -> Iterable[list[str]]:
        with _bar(len(stages), "layer") as bar:
            for stage in stages:
                yield stage
                bar.update()

    variant = parse_variant(args.variant, args.speech)
    model = open_checkpoint(args.checkpoint).model() if args.checkpoint else encoder_model(Bundle.open(args.bundle))
    model.eval()
    if args.bundle is None:
        config = build_variant(model, variant, args.speech, args.out, track=track)
        print(f"wrote {args.out}: {args.out.stat().st_size} bytes; {config}")
        return
    bundle = Bundle.open(args.bundle)
    with tempfile.TemporaryDirectory() as folder:
        encoder = Path(folder) / "encoder.onnx"
        config = build_variant(model, variant, args.speech, encoder, track=track)
        made = with_encoder(bundle, encoder, config, args.out)
    print(f"wrote {args.out}: {made.size_bytes / 1e6:.1f} MB, encoder {config}")


def run_sweep(args: argparse.Namespace) -> None:
    """Measure, and write sweep.json and sweep.png; the table goes to stdout."""
    from asr.train.manifest import read_manifest
    from export.sweep import SpokenClip, Sweep
    from export.sweep import run_sweep as measure
    from export.sweep_plot import markdown, plot
    from export.variants import STANDARD, parse_variant

    folder = args.audio_dir or args.manifest.parent
    clips = read_manifest(args.manifest)
    chosen = choose_clips(clips, args.corpus or (), args.clips)
    speech = [folder / clip.audio for clip in choose_speech(clips, SPEECH_S)]
    sweep = Sweep(
        checkpoint=args.checkpoint,
        bundle=args.bundle,
        clips=[SpokenClip(folder / clip.audio, clip.text or "") for clip in chosen],
        speech=speech,
        variants=[parse_variant(text, speech) for text in args.variant or STANDARD],
        out=args.out,
    )
    with _bar(len(sweep.variants) * len(sweep.clips)) as bar:

        def advance(name: str) -> None:
            bar.set_description(name)
            bar.update()

        result = measure(sweep, advance)
    plot(result["rows"], args.out / "sweep.png")
    print(markdown(result["rows"]))


def run_sweep_lm(args: argparse.Namespace) -> None:
    """Measure, and write sweep-lm.json and sweep-lm.png; the table goes to stdout."""
    from export.lm_sweep import STANDARD, markdown, parse_lm_variant, sweep_lm

    variants = [parse_lm_variant(text) for text in args.variant or STANDARD]
    texts = dict(_named(text) for text in args.text)
    with _bar(len(variants), "variant") as bar:

        def advance(name: str) -> None:
            bar.set_description(name)
            bar.update()

        rows = sweep_lm(args.model, texts, variants, args.lines, args.out, advance)
    print(markdown(rows))


def _named(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise OptionError(f"--text: expected NAME=FILE, found {text!r}")
    return name, Path(path)


def choose_clips(clips: Sequence[Clip], corpora: Sequence[str], count: int | None) -> list[Clip]:
    """Clips of split dev that have a text, of the given corpora or all, evenly thinned to `count`.

    Raises:
        SweepError: there are none, or `count` is not positive.
    """
    from export.sweep import SweepError

    if count is not None and count < 1:
        raise SweepError(f"--clips: expected at least 1, found {count}")
    found = [c for c in clips if c.split == "dev" and c.text and (not corpora or c.corpus in corpora)]
    if not found:
        known = ", ".join(sorted({clip.corpus for clip in clips if clip.split == "dev"})) or "none"
        raise SweepError(
            f"no clips of split dev with a text in {', '.join(corpora) or 'any corpus'}; there are: {known}"
        )
    n_kept = min(count or len(found), len(found))
    return [found[index * len(found) // n_kept] for index in range(n_kept)]


def choose_speech(clips: Sequence[Clip], seconds: float) -> list[Clip]:
    """Clips of split train from all over the manifest, about `seconds` of audio."""
    train = [clip for clip in clips if clip.split == "train" and clip.text]
    if not train:
        return []
    wanted = max(1, round(seconds * len(train) / max(sum(clip.seconds for clip in train), 1e-9)))
    n_kept = min(wanted, len(train))
    return [train[index * len(train) // n_kept] for index in range(n_kept)]


def _bar(total: int, unit: str = "clip") -> Any:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise MissingDependencyError("tqdm", "train") from error
    return tqdm(total=total, unit=unit, mininterval=1)

"""`asr-export`: from a checkpoint to an encoder and a bundle, and from a bundle to other runtimes."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import MissingDependencyError
from export import sweep_cli
from export.targets import commands as target_commands

if TYPE_CHECKING:
    from lm.grammar.grammar import Grammar

EXAMPLES = """examples:
  asr-export encoder --checkpoint runs/first/final --out encoder.onnx
  asr-export lm --model runs/lm/final --adapter adapters/assistant --adapter adapters/dictation --out lm
  asr-export bundle --checkpoint runs/first/final --lexicon lexicon.bin --ngram ngram.bin --g2p g2p.onnx \\
      --settings recipes/english-bundle.json --card recipes/english-card.md --selftest clip.flac --out asr/data/english
  asr-export bundle --base asr/data/english --lm lm --out mine               the same with another language model
  asr-export shrink --words 50000 --ngram-mb 1.15 --neural-share 0.75 --out small            a bundle of 10 MB
  asr-export quantize --checkpoint runs/first/final --variant int8-dynamic --bundle asr/data/english --out dynamic
  asr-export compress --checkpoint runs/first/final --variant prune:0.75 --speech train/*.flac --out pruned
  asr-export sweep --checkpoint runs/first/final --bundle asr/data/english --manifest clips.jsonl --clips 60 --out sweep
  asr-export sweep-lm --model runs/lm/final --text assistant=requests.txt --text dictation=letters.txt --out sweep-lm
  asr-export chunk --encoder encoder.onnx --chunk-ms 320 --out encoder-320.onnx     for sherpa-onnx
  asr-export graph --bundle asr/data/english --words commands.txt --out commands    for sherpa-onnx: words, not phonemes
  asr-export grammar --grammar '[A-Z]{3}-?\\d{3}' --bundle asr/data/english --out code         for sherpa-onnx
  asr-export grammar --grammar 'call {contact}' --list contact=names.txt --bundle asr/data/english --out call
  asr-export web asr/data/english page --onnxruntime-web onnxruntime-web-1.30.0.tgz            a page for browsers
  asr-export executorch encoder-for-android        the embedded bundle; likewise onnx, ort, sherpa-onnx, litert, coreml
  asr-export parity encoder-for-android --audio clip.flac
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(
        "asr-export", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_checkpoint_commands(commands)
    _add_bundle_commands(commands)
    _add_graph_commands(commands)
    sweep_cli.add_arguments(commands)
    target_commands.add_arguments(commands)
    return parser.parse_args(argv)


def _add_checkpoint_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    encoder = commands.add_parser("encoder", help="write the streaming encoder, int8 unless --float")
    encoder.add_argument("--checkpoint", type=Path, required=True)
    encoder.add_argument("--float", action="store_true", help="keep float32")
    encoder.add_argument("--chunk-ms", type=int, default=640, help="chunk in the metadata, for other runtimes")
    encoder.add_argument("--out", type=Path, required=True)
    bundle = commands.add_parser(
        "bundle",
        help="write a whole bundle, or one like another but for some parts",
        description="Write a bundle. With --base, what is not given is as in that bundle; without it, checkpoint, "
        "lexicon, n-gram, settings, card and self-test are needed.",
    )
    bundle.add_argument("--base", type=Path, help="bundle that lends what is not given")
    bundle.add_argument("--checkpoint", type=Path, help="of the acoustic model")
    bundle.add_argument("--lexicon", type=Path)
    bundle.add_argument("--ngram", type=Path)
    bundle.add_argument("--g2p", type=Path)
    bundle.add_argument("--lm", type=Path, help="folder of `asr-export lm`: lm.onnx, lm.bin, adapters")
    bundle.add_argument("--settings", type=Path, help="JSON: name, decoding, confidence, endpoint, ...")
    bundle.add_argument("--card", type=Path, help="model card (Markdown)")
    bundle.add_argument("--selftest", type=Path, help="clip whose text must come out")
    bundle.add_argument("--selftest-text")
    bundle.add_argument("--out", type=Path, required=True)
    lm = commands.add_parser("lm", help="write a language model and its adapters, int8")
    lm.add_argument("--model", type=Path, required=True, help="checkpoint or run of `asr-lm train`, of the form shared")
    lm.add_argument("--adapter", type=Path, action="append", default=[], help="folder of `asr-lm adapt`")
    lm.add_argument("--out", type=Path, required=True, help="folder to write")


def _add_bundle_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    shrink = commands.add_parser(
        "shrink", help="write a smaller bundle: an encoder of fewer bits, fewer words, a shorter n-gram"
    )
    shrink.add_argument("--bundle", type=Path, help="default: the embedded one")
    shrink.add_argument("--words", type=int, help="keep so many, the most frequent ones; default: all")
    shrink.add_argument("--ngram-mb", type=float, help="size of the n-gram, at most; default: what it is")
    shrink.add_argument(
        "--neural-share", type=float, help="of the neural language model, at least; default: what it is (0.75 for 1 MB)"
    )
    encoder = shrink.add_mutually_exclusive_group()
    encoder.add_argument(
        "--encoder", type=Path, help="from `quantize --variant rounded:4+int4`; default: that of the English bundle's"
    )
    encoder.add_argument("--whole-encoder", action="store_true", help="keep the bundle's")
    shrink.add_argument("--no-neural", action="store_true", help="leave the neural language model out")
    shrink.add_argument("--out", type=Path, required=True, help="folder")
    chunk = commands.add_parser("chunk", help="copy an encoder with another chunk size in its metadata")
    chunk.add_argument("--encoder", type=Path, required=True)
    chunk.add_argument("--chunk-ms", type=int, required=True)
    chunk.add_argument("--out", type=Path, required=True)
    web = commands.add_parser("web", help="write a static page that recognises speech in the browser")
    web.add_argument("bundle", type=Path, nargs="?", help="folder of the bundle; without it, the English one")
    web.add_argument("out", type=Path, help="folder")
    web.add_argument("--chunk-ms", type=int, default=640)
    web.add_argument("--onnxruntime-web", type=Path, help="what `npm pack onnxruntime-web` wrote")


def _add_graph_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    graph = commands.add_parser("graph", help="write a decoding graph of some words, for sherpa-onnx")
    graph.add_argument("--bundle", type=Path, required=True)
    graph.add_argument("--words", type=Path, help="words to know, one a line")
    graph.add_argument("--top", type=int, default=0, help="also the bundle's most frequent words, so many")
    graph.add_argument("--max-bigrams", type=int, default=20_000)
    graph.add_argument("--out", type=Path, required=True, help="folder; also gets the words' lexicon.bin and ngram.bin")
    grammar = commands.add_parser(
        "grammar",
        help="write a grammar as a decoding graph, for sherpa-onnx",
        description="Write grammar.fst (sherpa-onnx's ctc_graph), words.txt (the words of its output, by line number "
        "from 0) and grammar.json (Grammar.load(...).write(words) gives the written form).",
    )
    grammar.add_argument(
        "--grammar", required=True, metavar="REGEX|FILE.json", help="a pattern, or what Grammar.save wrote"
    )
    grammar.add_argument(
        "--list", action="append", default=[], metavar="NAME=FILE", help="entries of {NAME}, one a line"
    )
    grammar.add_argument("--bundle", type=Path, required=True)
    grammar.add_argument("--out", type=Path, required=True, help="folder")


def run_encoder(args: argparse.Namespace) -> None:
    """Write the encoder and print its parity with torch on random features."""
    import numpy as np

    from asr.train.checkpoint import open_checkpoint
    from export.onnx_graph import export_encoder
    from export.parity import compare, run_onnx, run_torch
    from export.quantize import Int8Weights, quantize_encoder

    model = open_checkpoint(args.checkpoint).model().eval()
    if args.float:
        export_encoder(model, args.out, chunk_ms=args.chunk_ms)
    else:
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "encoder.onnx"
            export_encoder(model, plain, chunk_ms=args.chunk_ms)
            quantize_encoder(plain, args.out, Int8Weights())
    features = np.random.default_rng(0).normal(-7, 4, (640, 80)).astype(np.float32)
    report = compare(run_torch(model, features, 64), run_onnx(args.out, model, features, 64))
    print(f"wrote {args.out}: {args.out.stat().st_size} bytes; against torch: {report}")


def run_bundle(args: argparse.Namespace) -> None:
    """Export, quantise and write a bundle, or another one like a bundle that there is."""
    from asr.bundle import Bundle
    from export.assembly import Parts, assemble

    base = Bundle.open(args.base) if args.base else None
    with tempfile.TemporaryDirectory() as folder:
        encoder = None
        if args.checkpoint:
            encoder = Path(folder) / "encoder.onnx"
            run_encoder(argparse.Namespace(checkpoint=args.checkpoint, float=False, chunk_ms=640, out=encoder))
        parts = Parts(
            encoder, args.lexicon, args.ngram, args.g2p, args.lm, args.settings, args.card, args.selftest,
            args.selftest_text,
        )  # fmt: skip
        bundle = assemble(args.out, parts, base)
    print(f"wrote {args.out}: {bundle.size_bytes / 1e6:.1f} MB")


def run_lm(args: argparse.Namespace) -> None:
    """Write a language model for the runtime, and say how far it is from torch."""
    import numpy as np

    from export.language_model import ADAPTER_FOLDER, write_language_model
    from export.parity import compare_language_models
    from lm.neural import DATA_FILE, GRAPH_FILE
    from lm.onnx_lm import OnnxLanguageModel
    from lm.pieces import PIECES_FILE
    from lm.train.checkpoint import Checkpoint, read_adapter
    from lm.train.folders import replace_folder
    from lm.train.runtime import write_runtime_adapter

    trained = Checkpoint.open(args.model).read()

    def write(folder: Path) -> None:
        write_language_model(trained, folder)
        model = OnnxLanguageModel(folder / GRAPH_FILE, folder / DATA_FILE)
        if trained.pieces:
            trained.pieces.write(folder / PIECES_FILE)
        (folder / ADAPTER_FOLDER).mkdir()
        contexts = np.random.default_rng(0).integers(0, len(model.model.embedding), (64, model.model.context))
        print(f"against torch: {compare_language_models(trained.model, None, model.scorer(), contexts):.4f} at most")
        for path in args.adapter:
            adapter = read_adapter(path, trained.model)
            write_runtime_adapter(adapter, model.model.trunk, folder / ADAPTER_FOLDER)
            worn = model.load_adapter(folder / ADAPTER_FOLDER / f"{adapter.config.name}.bin")
            difference = compare_language_models(trained.model, adapter, model.scorer(worn), contexts)
            print(f"{adapter.config.name} against torch: {difference:.4f} at most")

    replace_folder(args.out, write)
    for path in sorted(args.out.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:>9,} {path.relative_to(args.out)}")


def run_shrink(args: argparse.Namespace) -> None:
    """Write a smaller bundle and say what its parts weigh."""
    from asr.bundle import Bundle
    from export.shrink import Shrinking, shrink, small_encoder

    whole = Bundle.open(args.bundle)
    plan = Shrinking(
        args.words,
        None if args.ngram_mb is None else round(args.ngram_mb * 1e6),
        neural=not args.no_neural,
        neural_share=args.neural_share,
        encoder=None if args.whole_encoder else args.encoder or small_encoder(whole),
    )
    bundle = shrink(whole, args.out, plan)
    for name, info in sorted(bundle.manifest.files.items()):
        print(f"{info.bytes:>9,} {name}")
    print(f"wrote {args.out}: {bundle.size_bytes / 1e6:.1f} MB")


def run_chunk(args: argparse.Namespace) -> None:
    """Restamp the chunk size."""
    from export.targets.graphs import restamp

    restamp(args.encoder, args.out, args.chunk_ms)
    print(f"wrote {args.out}: chunks of {args.chunk_ms} ms")


def run_graph(args: argparse.Namespace) -> None:
    """Restrict a bundle's language to some words and write it as a graph."""
    from asr.bundle import Bundle
    from export.targets.graphs import write_words_graph

    spellings = args.words.read_text(encoding="utf-8").split() if args.words else []
    bundle, path = Bundle.open(args.bundle), args.out / "graph.fst"
    graph = write_words_graph(bundle, spellings, args.out, top=args.top, max_bigrams=args.max_bigrams)
    print(f"wrote {path}: {len(graph.arcs)} states, {graph.n_arcs} arcs, {path.stat().st_size} bytes")


def run_grammar(args: argparse.Namespace) -> None:
    """Write a grammar as a graph, with its words and itself."""
    from asr.bundle import Bundle
    from asr.language import Language
    from export.grammar_graph import build_grammar_graph
    from export.openfst import write_openfst
    from lm.vocabulary import write_words

    grammar = _read_grammar(args.grammar, args.list)
    bundle = Bundle.open(args.bundle)
    decoding = replace(bundle.manifest.decoding, word_score=0.0)
    graph, words = build_grammar_graph(grammar, Language(bundle).pronouncer, decoding)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "grammar.fst"
    write_openfst(path, graph)
    write_words(args.out / "words.txt", words)
    grammar.save(args.out / "grammar.json")
    print(f"wrote {path}: {len(graph.arcs)} states, {graph.n_arcs} arcs, {path.stat().st_size} bytes")


def run_web(args: argparse.Namespace) -> None:
    """Write a web page."""
    from asr.bundle import Bundle
    from export.targets.base import complete_folder
    from export.targets.web import write_web

    bundle = Bundle.open(args.bundle)
    with complete_folder(args.out) as folder:
        write_web(bundle, folder, args.chunk_ms, onnxruntime_web=args.onnxruntime_web)
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"wrote {args.out}: {size / 1e6:.1f} MB; try it with `python -m http.server -d {args.out}`")


def _read_grammar(given: str, lists: Sequence[str]) -> Grammar:
    from lm.grammar.grammar import Grammar

    if given.endswith(".json"):
        if lists:
            raise ValueError("--list goes with a pattern; a grammar file has its lists inside")
        return Grammar.load(given)
    entries = {}
    for item in lists:
        name, mark, path = item.partition("=")
        if not mark:
            raise ValueError(f"--list {item}: expected NAME=FILE")
        entries[name] = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    return Grammar(given, lists=entries)


COMMANDS = {
    "encoder": run_encoder, "bundle": run_bundle, "lm": run_lm, "chunk": run_chunk, "graph": run_graph,
    "grammar": run_grammar, "web": run_web, "shrink": run_shrink, "quantize": sweep_cli.run_quantize,
    "compress": sweep_cli.run_compress,
    "sweep": sweep_cli.run_sweep, "sweep-lm": sweep_cli.run_sweep_lm, **target_commands.COMMANDS,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    args = parse_args(argv)
    try:
        COMMANDS[args.command](args)
    except (ValueError, OSError, KeyError, MissingDependencyError) as error:
        print(f"asr-export: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`asr-export`: from a checkpoint to an ONNX encoder and a bundle, with the parity of both checked."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

EXAMPLES = """examples:
  asr-export encoder --checkpoint runs/first/final --out encoder.onnx
  asr-export bundle --checkpoint runs/first/final --lexicon lexicon.bin --ngram ngram.bin --g2p g2p.onnx \\
      --settings recipes/english-bundle.json --card recipes/english-card.md --selftest clip.flac --out asr/data/english
  asr-export chunk --encoder encoder.onnx --chunk-ms 320 --out encoder-320.onnx     for sherpa-onnx
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(
        "asr-export", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    encoder = commands.add_parser("encoder", help="write the streaming encoder, int8 unless --float")
    encoder.add_argument("--checkpoint", type=Path, required=True)
    encoder.add_argument("--float", action="store_true", help="keep float32")
    encoder.add_argument("--chunk-ms", type=int, default=640, help="chunk in the metadata, for other runtimes")
    encoder.add_argument("--out", type=Path, required=True)
    bundle = commands.add_parser("bundle", help="write a whole bundle")
    bundle.add_argument("--checkpoint", type=Path, required=True)
    bundle.add_argument("--lexicon", type=Path, required=True)
    bundle.add_argument("--ngram", type=Path, required=True)
    bundle.add_argument("--g2p", type=Path)
    bundle.add_argument("--settings", type=Path, required=True, help="JSON: name, decoding, confidence, endpoint, ...")
    bundle.add_argument("--card", type=Path, required=True, help="model card (Markdown)")
    bundle.add_argument("--selftest", type=Path, required=True, help="clip whose text must come out")
    bundle.add_argument("--selftest-text", required=True)
    bundle.add_argument("--out", type=Path, required=True)
    chunk = commands.add_parser("chunk", help="copy an encoder with another chunk size in its metadata")
    chunk.add_argument("--encoder", type=Path, required=True)
    chunk.add_argument("--chunk-ms", type=int, required=True)
    chunk.add_argument("--out", type=Path, required=True)
    return parser.parse_args(argv)


def run_encoder(args: argparse.Namespace) -> None:
    """Write the encoder and print its parity with torch on random features."""
    import numpy as np

    from asr.train.checkpoint import open_checkpoint
    from export.onnx_graph import export_encoder
    from export.parity import compare, run_onnx, run_torch
    from export.quantize import Int8Dynamic, quantize_encoder

    model = open_checkpoint(args.checkpoint).model().eval()
    if args.float:
        export_encoder(model, args.out, chunk_ms=args.chunk_ms)
    else:
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "encoder.onnx"
            export_encoder(model, plain, chunk_ms=args.chunk_ms)
            quantize_encoder(plain, args.out, Int8Dynamic())
    features = np.random.default_rng(0).normal(-7, 4, (640, 80)).astype(np.float32)
    report = compare(run_torch(model, features, 64), run_onnx(args.out, model, features, 64))
    print(f"wrote {args.out}: {args.out.stat().st_size} bytes; against torch: {report}")


def run_bundle(args: argparse.Namespace) -> None:
    """Export, quantise and write a bundle."""
    from asr.bundle import Selftest
    from asr.confidence import ConfidenceWeights
    from asr.config import DecodingConfig
    from asr.endpoint import EndpointConfig
    from export.bundle import write_bundle
    from export.quantize import Int8Dynamic

    settings = json.loads(args.settings.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        encoder = Path(folder) / "encoder.onnx"
        run_encoder(argparse.Namespace(checkpoint=args.checkpoint, float=False, chunk_ms=640, out=encoder))
        selftest = f"selftest{args.selftest.suffix}"
        files = {"encoder.onnx": encoder, "lexicon.bin": args.lexicon, "ngram.bin": args.ngram, selftest: args.selftest}
        if args.g2p:
            files["g2p.onnx"] = args.g2p
        bundle = write_bundle(
            args.out,
            name=settings["name"],
            language=settings["language"],
            files=files,
            readme=args.card.read_text(encoding="utf-8"),
            selftest=Selftest(selftest, args.selftest_text),
            decoding=DecodingConfig.from_dict(settings["decoding"]),
            confidence=ConfidenceWeights(**settings["confidence"]),
            endpoint=EndpointConfig(**settings["endpoint"]),
            quantization={"encoder": asdict(Int8Dynamic())},
            provenance=settings["provenance"],
            license=settings["license"],
        )
    print(f"wrote {args.out}: {bundle.size_bytes / 1e6:.1f} MB")


def run_chunk(args: argparse.Namespace) -> None:
    """Restamp the chunk size."""
    import onnx

    from export.onnx_graph import set_metadata

    graph = onnx.load(str(args.encoder))
    found = {prop.key: prop.value for prop in graph.metadata_props}
    ahead = int(found["T"]) - int(found["decode_chunk_len"])
    frames = args.chunk_ms // 10
    set_metadata(graph, {"T": str(frames + ahead), "decode_chunk_len": str(frames)})
    onnx.save(graph, str(args.out))
    print(f"wrote {args.out}: chunks of {args.chunk_ms} ms")


COMMANDS = {"encoder": run_encoder, "bundle": run_bundle, "chunk": run_chunk}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    args = parse_args(argv)
    try:
        COMMANDS[args.command](args)
    except (ValueError, OSError, KeyError) as error:
        print(f"asr-export: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

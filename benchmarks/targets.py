"""Words from exported encoders: each runs in its own runtime, and its phonemes go through our search.

    python -m benchmarks.targets --manifest speech/manifest.jsonl --every 6 --folder executorch --folder executorch-int8

The bundle's own encoder is measured beside them, in the same way: as a stream with silence at its end, without partial
results and endpoints. Run it where the targets' runtimes are installed; rows that are in the result file stay.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.bundle import Bundle
from asr.decoder import create_search
from asr.features import compute_features
from asr.language import Language
from asr.metrics import ErrorCounts, count_word_errors
from asr.onnx_encoder import OnnxEncoder
from asr.types import FloatArray
from benchmarks.corpus import Clip, load_manifest, read_audio, select
from benchmarks.process import describe
from benchmarks.runner import progress_bar
from export.targets.parity import own_log_probs
from export.targets.runners import TargetFolder
from lm.normalize import normalize_for_wer

Encode = Callable[[FloatArray], FloatArray]
"""Features (T, 80) -> log-probabilities (T_out, V)."""


@dataclass(frozen=True, slots=True)
class TargetWords:
    """One encoder on all clips."""

    target: str
    weights: str
    model_bytes: int
    encoder_rtf: float
    """Processor time of the encoder for a second of audio."""
    wer: float
    words: int


def measure(
    name: str, weights: str, n_bytes: int, encode: Encode, clips: Sequence[Clip], bundle: Bundle
) -> TargetWords:
    """Word errors and time of one encoder."""
    language, errors, cpu_s, seconds = Language(bundle), ErrorCounts(), 0.0, 0.0
    for clip in progress_bar(iterable=clips, desc=f"{name} {weights}", unit="clip"):
        features = compute_features(read_audio(clip.path))
        start = time.process_time()
        log_probs = encode(features)
        cpu_s += time.process_time() - start
        seconds += clip.seconds
        search = create_search(language.lexicon, language.scorer(None), language.decoding(None))
        search.advance(log_probs)
        words = [language.lexicon.word(word.word) for word in (*search.take_stable(), *search.finish())]
        errors += count_word_errors(normalize_for_wer(clip.text or ""), normalize_for_wer(" ".join(words)))
    return TargetWords(
        name, weights, n_bytes, round(cpu_s / seconds, 4), round(errors.rate, 4), errors.reference_length
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--corpus", default="mini_librispeech,common_voice_b")
    parser.add_argument("--every", type=int, default=6)
    parser.add_argument("--bundle", type=Path, help="that the folders were made from (default: the embedded one)")
    parser.add_argument("--folder", type=Path, action="append", default=[], help="what `asr-export TARGET` wrote")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/targets.json"))
    words = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(words)
    bundle = Bundle.open(args.bundle)
    clips = [
        clip for clip in select(load_manifest(args.manifest), args.corpus.split(","), "dev", args.every) if clip.text
    ]
    rows = json.loads(args.out.read_text(encoding="utf-8"))["rows"] if args.out.is_file() else []
    found = [measure_own(bundle, clips), *(measure_folder(folder, bundle, clips) for folder in args.folder)]
    names = {(row.target, row.weights) for row in found}
    rows = [row for row in rows if (row["target"], row["weights"]) not in names] + [asdict(row) for row in found]
    result = {
        "schema": 1,
        "kind": "targets",
        **describe(words),
        "command": "python -m benchmarks.targets " + " ".join(words),
        "clips": len(clips),
        "audio_s": round(sum(clip.seconds for clip in clips), 1),
        "rows": rows,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['target']:12s} {row['weights']:8s} {row['model_bytes'] / 1e6:5.1f} MB  "
              f"RTF {row['encoder_rtf']:.4f}  {100 * row['wer']:.1f} % of words wrong")  # fmt: skip


def measure_own(bundle: Bundle, clips: Sequence[Clip]) -> TargetWords:
    """The bundle's encoder in onnxruntime, as it runs in the package."""
    path = bundle.file("encoder.onnx")
    encoder, chunk_frames = OnnxEncoder(path), bundle.manifest.encoder.default_chunk_ms // 10
    encode = lambda features: own_log_probs(encoder, features, chunk_frames)  # noqa: E731
    return measure("onnxruntime", "int8", path.stat().st_size, encode, clips, bundle)


def measure_folder(folder: Path, bundle: Bundle, clips: Sequence[Clip]) -> TargetWords:
    """An exported folder in its runtime."""
    target = TargetFolder(folder)
    n_bytes = (folder / target.record["model"]).stat().st_size
    weights = target.record.get("weights", "int8")
    return measure(target.record["target"], weights, n_bytes, target.log_probs, clips, bundle)


if __name__ == "__main__":
    main()

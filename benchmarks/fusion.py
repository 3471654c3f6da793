"""What language models cost in the beam: CPU seconds a second of speech, encoder and search, by scorer and beam size.

python -m benchmarks.fusion --manifest speech/manifest.jsonl --split dev --corpus mini_librispeech --every 12
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.bundle import Bundle
from asr.decoder import create_search
from asr.features import SILENCE_LOG_MEL, compute_features
from asr.language import Language
from asr.onnx_encoder import OnnxEncoder
from asr.types import FloatArray
from benchmarks.corpus import load_manifest, read_audio, select
from benchmarks.process import describe
from lm.scorer import NullScorer, Scorer

CHUNK_FRAMES = 64
FRAMES_PER_S = 100


def encode(encoder: OnnxEncoder, features: FloatArray) -> FloatArray:
    """Log-probs (T/2, V) of features (T, 80), in chunks of 640 ms."""
    window = CHUNK_FRAMES + encoder.look_ahead_frames
    rest = -len(features) % CHUNK_FRAMES + encoder.look_ahead_frames
    padded = np.concatenate([features, np.full((rest, features.shape[1]), SILENCE_LOG_MEL, np.float32)])
    state, parts = encoder.initial_state(), []
    for start in range(0, len(padded) - window + 1, CHUNK_FRAMES):
        log_probs, state = encoder.step(padded[start : start + window], state)
        parts.append(log_probs)
    return np.concatenate(parts)


def scorers(language: Language, share: float) -> dict[str, Callable[[], Scorer]]:
    """The scorers to compare, by name."""
    neural, ngram = language.neural, language.ngram
    assert neural is not None
    assert ngram is not None
    return {
        "no language model": NullScorer,
        "n-gram": lambda: ngram,
        "neural": neural.scorer,
        "neural and n-gram": lambda: neural.scorer(ngram=ngram, share=share),
    }


def measure(bundle: Bundle, features: Sequence[FloatArray], beams: Sequence[int]) -> list[dict[str, Any]]:
    """CPU seconds a second of speech of every scorer and beam size; encoder and search each."""
    language, encoder = Language(bundle), OnnxEncoder(bundle.file("encoder.onnx"))
    audio_s = sum(map(len, features)) / FRAMES_PER_S
    started = time.process_time()
    log_probs = [encode(encoder, clip) for clip in features]
    encoder_rtf = (time.process_time() - started) / audio_s
    rows = []
    for beam in beams:
        base = 0.0
        for name, make in scorers(language, bundle.manifest.neural_share).items():
            started = time.process_time()
            for frames in log_probs:
                search = create_search(language.lexicon, make(), replace(bundle.manifest.decoding, beam_size=beam))
                search.advance(frames)
                search.finish()
            total = encoder_rtf + (time.process_time() - started) / audio_s
            base = base or total
            rows.append({"beam": beam, "scorer": name, "rtf": round(total, 5), "over_none": round(total / base, 3)})
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write JSON."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser("python -m benchmarks.fusion", description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", type=Path, help="the embedded one if not given")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--audio-dir", type=Path)
    parser.add_argument("--corpus", nargs="+", default=[])
    parser.add_argument("--split")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--beams", type=int, nargs="+", default=[8, 200])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fusion.json"))
    args = parser.parse_args(words)
    clips = select(load_manifest(args.manifest, args.audio_dir), args.corpus, args.split, args.every)
    rows = measure(Bundle.open(args.bundle), [compute_features(read_audio(clip.path)) for clip in clips], args.beams)
    result = {
        "schema": 1,
        "kind": "fusion",
        **describe(words),
        "command": "python -m benchmarks.fusion " + " ".join(words),
        "clips": len(clips),
        "rows": rows,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"beam {row['beam']:4d}  {row['scorer']:20s} {row['rtf']:.4f}  {row['over_none']:.2f} times none")


if __name__ == "__main__":
    main()

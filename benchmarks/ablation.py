"""What each step brought: word error rates of checkpoints x lexicons x n-grams, streamed in torch, one search setting.

    python -m benchmarks.ablation --store store --settings recipes/english-bundle.json --rows rows.toml --out out.json

`rows.toml` holds a list `[[row]]` with name, checkpoint (or "teacher": the posteriors in the store), lexicon, ngram
and, where they differ from the usual, chunk_ms (0: the whole clip at once), look_ahead (encoder frames) and decoding
values.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.config import DecodingConfig
from asr.decoder import create_search
from asr.metrics import ErrorCounts, count_word_errors
from asr.nn.model import AcousticModel
from asr.train.checkpoint import open_checkpoint
from asr.train.evaluate import streamed_log_probs
from asr.train.store import FeatureStore
from asr.types import FloatArray
from lm.lexicon import Lexicon
from lm.ngram import NgramModel, NgramScorer
from lm.normalize import normalize_for_wer
from lm.phones import PHONEMES
from lm.scorer import NullScorer, Scorer
from lm.train.settings import read_toml


def load_model(path: Path, look_ahead: int | None) -> AcousticModel:
    """The checkpoint's network, with another look-ahead where one is given."""
    model = open_checkpoint(path).model()
    if look_ahead is not None:
        weights = model.state_dict()
        model = AcousticModel(replace(model.config, look_ahead=look_ahead))
        model.load_state_dict(weights)
    return model.eval()


def posteriors(row: Mapping[str, Any], store: FeatureStore, clips: Sequence[int]) -> list[FloatArray]:
    """Log-probs (T, V) of each clip."""
    if row["checkpoint"] == "teacher":
        return [np.asarray(store.posteriors(index, "clean"), np.float32) for index in clips]
    model, chunk_ms = load_model(Path(row["checkpoint"]), row.get("look_ahead")), row.get("chunk_ms", 640)
    out = []
    for index in clips:
        features = store.frames(index, "clean")
        out.append(streamed_log_probs(model, features, chunk_ms // 20 or -(-len(features) // 2)))
    return out


def measure(row: Mapping[str, Any], store: FeatureStore, clips: Sequence[int], decoding: DecodingConfig) -> ErrorCounts:
    """Pooled word errors of one row."""
    lexicon = Lexicon.open(row["lexicon"])
    scorer: Scorer = NgramScorer(NgramModel.open(row["ngram"])) if row["ngram"] else NullScorer()
    total = ErrorCounts()
    for index, log_probs in zip(clips, posteriors(row, store, clips), strict=True):
        search = create_search(lexicon, scorer, decoding)
        search.advance(log_probs)
        heard = " ".join(lexicon.word(word.word) for word in [*search.take_stable(), *search.finish()])
        total += count_word_errors(normalize_for_wer(store.clips[index].clip.text or ""), heard)
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--corpora", nargs="+", default=["mini_librispeech", "common_voice_b"])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    store = FeatureStore.open(args.store, n_phonemes=len(PHONEMES))
    settings = json.loads(args.settings.read_text(encoding="utf-8"))["decoding"]
    table = []
    for row in read_toml(args.rows)["row"]:
        decoding = DecodingConfig.from_dict(settings | row.get("decoding", {}))
        figures: dict[str, Any] = {"name": row["name"]}
        for corpus in args.corpora:
            clips = [i for i, s in enumerate(store.clips) if s.clip.corpus == corpus and s.clip.split == "dev"]
            counts = measure(row, store, clips[:: args.every], decoding)
            figures[corpus] = round(100 * counts.rate, 2)
        table.append(figures)
        print(json.dumps(figures), file=sys.stderr)
    args.out.write_text(json.dumps({"decoding": settings, "split": "dev", "wer_percent": table}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Word errors on the words of a list of phrases and on all others, with the list and without, by length of the list.

A clip's list is the rare words of its transcript (not among the lexicon's most frequent), and distractors: rare words
of other clips, and names. An error counts as one on a listed word where the word that was said is one of the clip's
rare words, or where a word of the list is put in. Rows without `own_words` have the distractors alone in the list, or
no list where there are none.

python -m benchmarks.phrases --manifest speech/manifest.jsonl --split dev --corpus mini_librispeech --names names/*.txt
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.biasing import Biased, Biasing
from asr.bundle import Bundle
from asr.decoder import create_search
from asr.features import compute_features
from asr.language import Language
from asr.metrics import ErrorCounts, align, count_errors
from asr.onnx_encoder import OnnxEncoder
from asr.types import FloatArray
from benchmarks.corpus import load_manifest, read_audio, select
from benchmarks.fusion import encode
from benchmarks.process import describe
from lm.normalize import normalize_for_wer
from lm.phrases import parse_phrases
from lm.vocabulary import SPECIAL_WORDS

SEED = 1
FRAMES_PER_S = 50


@dataclass(frozen=True, slots=True)
class Item:
    """A clip: its corpus, its words, which of them are rare, and log-probabilities (T, V)."""

    corpus: str
    words: tuple[str, ...]
    rare: tuple[str, ...]
    log_probs: FloatArray


class Bench:
    """Decodes clips with lists of phrases."""

    def __init__(self, bundle: Bundle, common: int) -> None:
        self.language = Language(bundle)
        self._biasing = Biasing(self.language)
        self._common = common

    def item(self, corpus: str, text: str, log_probs: FloatArray) -> Item:
        """A clip with its rare words."""
        words = tuple(normalize_for_wer(text).split())
        rare = tuple(dict.fromkeys(word for word in words if self._is_rare(word)))
        return Item(corpus, words, rare, log_probs)

    def measure(self, items: Sequence[Item], names: Sequence[str], distractors: Sequence[int]) -> list[dict[str, Any]]:
        """Errors of every corpus without a list, with each number of distractors, and with the most of them alone."""
        pool = list(dict.fromkeys([*(word for item in items for word in item.rare), *names]))
        lists = [(0, False), *((count, True) for count in distractors), (max(distractors), False)]
        rows = []
        for count, has_own in lists:
            tallies: dict[str, list[ErrorCounts]] = {}
            started, prepare_s = time.process_time(), 0.0
            for number, item in enumerate(items):
                listed = self._list(item, pool, count, number)
                before = time.process_time()
                biased = self._biasing.biased(parse_phrases(listed if has_own else listed[len(item.rare) :]), None)
                prepare_s += time.process_time() - before
                heard = self._decode(item, biased if count or has_own else None)
                known = {word for phrase in listed for word in phrase.casefold().split()}
                tally = tallies.setdefault(item.corpus, [ErrorCounts(), ErrorCounts()])
                for side, errors in enumerate(split_errors(item.words, heard, set(item.rare), known)):
                    tally[side] += errors
            spent = time.process_time() - started - prepare_s
            total = [sum((tally[side] for tally in tallies.values()), ErrorCounts()) for side in (0, 1)]
            for corpus, tally in {**tallies, "all": total}.items():
                rows.append({"corpus": corpus, "distractors": count, "own_words": has_own, **_figures(tally)})
            rows[-1]["search_rtf"] = round(spent * FRAMES_PER_S / sum(len(item.log_probs) for item in items), 4)
            rows[-1]["prepare_ms"] = round(1000 * prepare_s / len(items))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        return rows

    def _list(self, item: Item, pool: Sequence[str], count: int, number: int) -> list[str]:
        """The clip's own words, then distractors."""
        picked = np.random.default_rng([SEED, number]).permutation(len(pool))
        others = [pool[i] for i in picked.tolist() if pool[i].casefold() not in item.rare]
        return [*item.rare, *others[:count]]

    def _decode(self, item: Item, biased: Biased | None) -> list[str]:
        language = self.language
        lexicon, scorer = (biased.lexicon, biased.scorer) if biased else (language.lexicon, language.scorer(None))
        search = create_search(lexicon, scorer, language.decoding(None))
        search.advance(item.log_probs)
        return [lexicon.word(word.word) for word in [*search.take_stable(), *search.finish()]]

    def _is_rare(self, word: str) -> bool:
        word_id = self.language.lexicon.find(word)
        return word_id is None or word_id >= len(SPECIAL_WORDS) + self._common


def split_errors(
    words: Sequence[str], heard: Sequence[str], rare: set[str], listed: set[str]
) -> tuple[ErrorCounts, ErrorCounts]:
    """Errors on `rare` words (insertions: of `listed` words), and on all others."""
    sides: tuple[list[Any], list[Any]] = ([], [])
    for edit in align(words, heard):
        is_listed = edit.hypothesis in listed if edit.reference is None else edit.reference in rare
        sides[0 if is_listed else 1].append(edit)
    first, second = (_count(edits) for edits in sides)
    assert first + second == count_errors(words, heard)
    return first, second


def _count(edits: Sequence[Any]) -> ErrorCounts:
    kinds = [edit.kind.value for edit in edits]
    n_words = len(kinds) - kinds.count("insertion")
    return ErrorCounts(kinds.count("substitution"), kinds.count("deletion"), kinds.count("insertion"), n_words)


def _figures(tally: Sequence[ErrorCounts]) -> dict[str, Any]:
    listed, other = tally
    return {
        "listed_words": listed.reference_length,
        "listed_wer": round(100 * listed.rate, 2),
        "other_words": other.reference_length,
        "other_wer": round(100 * other.rate, 2),
        "wer": round(100 * (listed + other).rate, 2),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write JSON."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser("python -m benchmarks.phrases", description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", type=Path, help="the embedded one if not given")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--audio-dir", type=Path)
    parser.add_argument("--corpus", nargs="+", default=[])
    parser.add_argument("--split")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--names", type=Path, nargs="*", default=[], help="files of names, one a line: distractors")
    parser.add_argument("--distractors", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--common", type=int, default=5000, help="words that are not rare (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/phrases.json"))
    args = parser.parse_args(words)
    bundle = Bundle.open(args.bundle)
    bench, encoder = Bench(bundle, args.common), OnnxEncoder(bundle.file("encoder.onnx"))
    clips = select(load_manifest(args.manifest, args.audio_dir), args.corpus, args.split, args.every)
    items = [
        bench.item(clip.corpus, clip.text, encode(encoder, compute_features(read_audio(clip.path))))
        for clip in clips
        if clip.text is not None
    ]
    rows = bench.measure(items, read_names(args.names), args.distractors)
    result = {
        "schema": 1,
        "kind": "phrases",
        **describe(words),
        "command": "python -m benchmarks.phrases " + " ".join(words),
        "clips": len(items),
        "rows": rows,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def read_names(paths: Sequence[Path]) -> list[str]:
    """Lines of files that are letters, spaces and apostrophes."""
    lines = [line.strip() for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in dict.fromkeys(lines) if line and line.replace("'", "").replace(" ", "").isalpha()]


if __name__ == "__main__":
    main()

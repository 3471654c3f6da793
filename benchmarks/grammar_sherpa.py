"""Grammars in sherpa-onnx (`asr-export grammar`): does it hear the words that our own search hears?

Both take the same windows of the same encoder and the best alignment (see `benchmarks.sherpa`); a grammar is so small
that ours needs no beam, and sherpa-onnx's own grows where few paths are left.
Where they differ, it is counted whether the two readings are as good as equal for us: within `TIE`, which is less than
an int8 encoder rounds. What the bundle's own search, which adds up alignments, makes of the same grammars is counted
beside that.

    python -m benchmarks.grammar_sherpa --manifest grammar-speech/manifest.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.bundle import Bundle, default_bundle_path
from asr.config import DecodingConfig
from asr.decoder import create_search
from asr.features import compute_features
from asr.language import Language
from asr.onnx_encoder import OnnxEncoder
from asr.types import FloatArray
from benchmarks.corpus import Clip, load_manifest, read_audio
from benchmarks.grammar_cases import PATTERNS, make_cases
from benchmarks.grammar_speech import spoken_text
from benchmarks.process import describe
from benchmarks.sherpa import MAX_ACTIVE, Model, Pair, compare, encode, pad, sherpa_recognizer, sherpa_result
from export.grammar_graph import build_grammar_graph
from export.openfst import write_openfst
from lm.grammar.errors import GrammarTooLargeError
from lm.grammar.grammar import Grammar
from lm.grammar.pronouncing import pronounce_words
from lm.grammar.scorer import GrammarScorer
from lm.lexicon import Lexicon
from lm.lexicon_build import assemble_lexicon

KINDS = ("phone", "code", "time")
READINGS = 10
TIE = 0.02
"""In nats."""
NO_LIMIT = 1000.0  # nats


def find_clips(manifest: Path, kinds: Sequence[str], count: int, each: int) -> dict[str, list[Clip]]:
    """`count` clips of `benchmarks.grammar_speech`, as many of each kind, by kind.

    A manifest that does not tell the kinds is looked up in the cases that it was made of, `each` of each kind.
    """
    by_text = {spoken_text(case): kind for kind in kinds for case in make_cases(kind, each, 1, ())}
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    found: dict[str, list[Clip]] = {kind: [] for kind in kinds}
    for row, clip in zip(rows, load_manifest(manifest), strict=True):
        kind = row.get("kind", by_text.get(row["text"]))
        if kind in found:
            found[kind].append(clip)
    ends = [count * rank // len(kinds) for rank in range(len(kinds) + 1)]
    return {kind: found[kind][: ends[rank + 1] - ends[rank]] for rank, kind in enumerate(kinds)}


def hear(
    lexicon: Lexicon, grammar: Grammar, decoding: DecodingConfig, log_probs: FloatArray
) -> list[tuple[list[str], float]]:
    """Our own readings under a grammar, best first: words and score."""
    search = create_search(lexicon, GrammarScorer(grammar.automaton, lexicon.word), decoding)
    search.advance(log_probs)
    found = search.finish_many(READINGS)
    return [([lexicon.word(word.word) for word in words], score) for words, score in found] or [([], 0.0)]


def compare_kind(
    kind: str, clips: Sequence[Clip], bundle: Bundle, language: Language, folder: Path
) -> tuple[list[Pair], list[Pair], dict[str, Any]]:
    """Ours and theirs, with the best alignment and with the bundle's search; and the size of the graph."""
    grammar, decoding = Grammar(PATTERNS[kind]), replace(bundle.manifest.decoding, word_score=0.0)
    graph, words = build_grammar_graph(grammar, language.pronouncer, decoding)
    path = folder / f"{kind}.fst"
    write_openfst(path, graph)
    encoder_path, tokens, listed, ngram = map(bundle.file, ("encoder.onnx", "tokens.txt", "lexicon.bin", "ngram.bin"))
    model = Model(encoder_path, tokens, listed, ngram, decoding)
    pronounced = pronounce_words(grammar.automaton, language.pronouncer)
    lexicon = assemble_lexicon(words, {word: pronounced[word] for word in words[3:]}, np.zeros(len(words)))
    encoder, recognizer = OnnxEncoder(model.encoder), sherpa_recognizer(model, path)
    like_sherpa = replace(
        decoding, semiring="tropical", beam_size=MAX_ACTIVE, beam_threshold=NO_LIMIT, token_threshold=NO_LIMIT,
        blank_skip_log_prob=0.0,
    )  # fmt: skip
    pairs: list[Pair] = []
    bundled_pairs: list[Pair] = []
    n_tied = 0
    for clip in clips:
        samples = pad(read_audio(clip.path), encoder)
        log_probs = encode(encoder, compute_features(samples))
        theirs = [words[word] for word in sherpa_result(recognizer, samples).words]
        readings = hear(lexicon, grammar, like_sherpa, log_probs)
        pairs.append((clip, readings[0][0], theirs))
        n_tied += any(said == theirs and readings[0][1] - score < TIE for said, score in readings[1:])
        bundled_pairs.append((clip, hear(lexicon, grammar, decoding, log_probs)[0][0], theirs))
    size = {"words": len(words) - 3, "states": len(graph.arcs), "arcs": graph.n_arcs, "bytes": path.stat().st_size}
    return pairs, bundled_pairs, {"kind": kind, "pattern": grammar.pattern, "clips": len(pairs), "tied": n_tied, **size}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write JSON."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="the embedded one if not given")
    parser.add_argument("--manifest", type=Path, required=True, help="of `benchmarks.grammar_speech`")
    parser.add_argument("--each", type=int, default=300, help="cases of each kind that it was made of (%(default)s)")
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=sorted(PATTERNS))
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/grammar-sherpa.json"))
    args = parser.parse_args(arguments)
    bundle = Bundle.open(args.bundle or default_bundle_path())
    language = Language(bundle)
    pairs: list[Pair] = []
    bundled_pairs: list[Pair] = []
    graphs: list[dict[str, Any]] = []
    too_large: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, clips in find_clips(args.manifest, args.kinds, args.clips, args.each).items():
            try:
                found, bundled, graph = compare_kind(kind, clips, bundle, language, Path(folder))
            except GrammarTooLargeError as error:
                print(f"{kind}: {error}", flush=True)
                too_large.append(kind)
                continue
            print(f"{graph}: {compare(found)['equal']} equal", flush=True)
            pairs, bundled_pairs, graphs = [*pairs, *found], [*bundled_pairs, *bundled], [*graphs, graph]
    if not graphs:
        raise SystemExit("none of these grammars has a graph")
    n_tied = sum(graph["tied"] for graph in graphs)
    figures = {
        "graphs": graphs,
        "too_large": too_large,
        "tied": n_tied,
        **compare(pairs),
        "with_the_bundles_search": compare(bundled_pairs),
    }
    command = "python -m benchmarks.grammar_sherpa " + " ".join(arguments)
    result = {"schema": 1, "kind": "grammar-sherpa", **describe(arguments), "command": command, **figures}
    args.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"words of the grammars: {figures['equal']} of {figures['clips']} clips equal, {n_tied} more tied")
    print(f"with the bundle's own search: {figures['with_the_bundles_search']['equal']} equal")


if __name__ == "__main__":
    main()

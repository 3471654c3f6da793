"""The bundle's encoder, unchanged, in sherpa-onnx: are its greedy phonemes and its words (`ctc_graph`) ours?

Both hear the same samples, with so much silence at the end that all speech is inside whole windows: sherpa-onnx drops
what is left. An int8 encoder rounds differently at the least change of its input or of the runtime; how much that alone
matters is measured too, as our phonemes against ours from features that were moved by `JITTER`. For the words, both
know the same few: those of the clips and the most frequent ones. sherpa-onnx takes the best alignment, so ours does
(the tropical semiring), with a beam as wide. What the bundle's own settings, which add up alignments, change beside
that is counted as well.

    python -m benchmarks.sherpa --bundle asr/data/english --manifest clips.jsonl --out sherpa.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.bundle import Bundle
from asr.config import DecodingConfig
from asr.decoder.greedy import GreedyDecoder
from asr.decoder.search import create_search
from asr.features import compute_features
from asr.metrics import count_errors, normalize_text
from asr.onnx_encoder import OnnxEncoder
from asr.types import FloatArray
from benchmarks.corpus import SAMPLE_RATE_HZ, Clip, load_manifest, read_audio, select
from benchmarks.process import describe
from export.ctc_graph import write_graph
from export.restrict import find_words, restrict
from lm.lexicon import Lexicon
from lm.ngram import NgramModel, NgramScorer
from lm.phones import PHONEMES, write_tokens

MAX_ACTIVE = 3000
BEAM = 16.0
"""Of sherpa-onnx's decoder, in nats."""
Pair = tuple[Clip, list[str], list[str]]
"""What we and sherpa-onnx hear in a clip."""
JITTER = 1e-5
"""Standard deviation, in nats: about what float32 leaves open in a log-mel feature."""


@dataclass(frozen=True, slots=True)
class Model:
    """Files of a bundle, and the weights of its search."""

    encoder: Path
    tokens: Path
    lexicon: Path
    ngram: Path
    decoding: DecodingConfig


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of the command."""
    parser = argparse.ArgumentParser("python -m benchmarks.sherpa", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="default: the files named one by one")
    for name in ("encoder", "lexicon", "ngram", "tokens"):
        parser.add_argument(f"--{name}", type=Path, help="instead of the bundle's")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--audio-dir", type=Path, help="default: the manifest's folder")
    parser.add_argument("--corpora", nargs="*", default=[])
    parser.add_argument("--split")
    parser.add_argument("--clips", type=int, default=50, help="for the greedy phonemes, evenly from all corpora")
    parser.add_argument("--graph-clips", type=int, default=20, help="for the words")
    parser.add_argument("--top", type=int, default=3000, help="most frequent words to know")
    parser.add_argument("--max-bigrams", type=int, default=20_000)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(argv)


def find_model(args: argparse.Namespace, folder: Path) -> Model:
    """The files to run; those of `tokens.txt` that nobody named are written into `folder`."""
    bundle = Bundle.open(args.bundle) if args.bundle else None
    files: dict[str, Path] = {}
    for name, filename in (
        ("encoder", "encoder.onnx"), ("tokens", "tokens.txt"), ("lexicon", "lexicon.bin"), ("ngram", "ngram.bin"),
    ):  # fmt: skip
        given = getattr(args, name)
        if given is None and bundle is None and name != "tokens":
            raise ValueError(f"name a --bundle, or --{name}")
        if given is None and bundle is None:
            write_tokens(folder / filename)
        files[name] = given or (bundle.file(filename) if bundle else folder / filename)
    return Model(**files, decoding=bundle.manifest.decoding if bundle else DecodingConfig())


def pad(samples: FloatArray, encoder: OnnxEncoder) -> FloatArray:
    """Samples with enough silence that all speech is inside whole windows."""
    frames = encoder.metadata["T"] + encoder.metadata["decode_chunk_len"] + 1
    return np.concatenate([samples, np.zeros(frames * SAMPLE_RATE_HZ // 100, np.float32)])


def encode(encoder: OnnxEncoder, features: FloatArray) -> FloatArray:
    """Log-probabilities (T, V) of our encoder over the windows that sherpa-onnx decodes."""
    state = encoder.initial_state()
    window, shift = encoder.metadata["T"], encoder.metadata["decode_chunk_len"]
    parts = []
    for start in range(0, len(features) - window, shift):
        log_probs, state = encoder.step(features[start : start + window], state)
        parts.append(log_probs)
    return np.concatenate(parts)


def sherpa_recognizer(model: Model, graph: Path | None = None) -> Any:
    """sherpa-onnx with the encoder as it is."""
    import sherpa_onnx

    return sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(
        tokens=str(model.tokens),
        model=str(model.encoder),
        num_threads=1,
        ctc_graph=str(graph or ""),
        ctc_max_active=MAX_ACTIVE,
    )


def sherpa_result(recognizer: Any, samples: FloatArray) -> Any:
    """Its result for one clip."""
    stream = recognizer.create_stream()
    stream.accept_waveform(SAMPLE_RATE_HZ, samples)
    stream.input_finished()
    while recognizer.is_ready(stream):
        recognizer.decode_stream(stream)
    return recognizer.get_result_all(stream)


def greedy(log_probs: FloatArray) -> list[str]:
    """Our greedy phonemes."""
    decoder = GreedyDecoder()
    return [PHONEMES[run.phoneme] for run in (*decoder.advance(log_probs), *decoder.finish())]


def compare(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Figures of (clip, ours, theirs)."""
    differing = [(clip, ours, theirs) for clip, ours, theirs in pairs if ours != theirs]
    return {
        "clips": len(pairs),
        "equal": len(pairs) - len(differing),
        "symbols": sum(len(ours) for _, ours, _ in pairs),
        "edits": sum(count_errors(ours, theirs).errors for _, ours, theirs in differing),
        "differing": [
            {"clip": clip.path.stem, "ours": " ".join(ours), "sherpa": " ".join(theirs)}
            for clip, ours, theirs in differing
        ],
    }


def compare_phonemes(model: Model, clips: Sequence[Clip]) -> dict[str, Any]:
    """Greedy phonemes of both, and ours with jitter."""
    encoder, recognizer = OnnxEncoder(model.encoder), sherpa_recognizer(model)
    rng = np.random.default_rng(0)
    pairs, n_equal_with_jitter = [], 0
    for clip in clips:
        samples = pad(read_audio(clip.path), encoder)
        features = compute_features(samples)
        jitter = rng.normal(0, JITTER, features.shape).astype(np.float32)
        ours = greedy(encode(encoder, features))
        n_equal_with_jitter += greedy(encode(encoder, features + jitter)) == ours
        pairs.append((clip, ours, list(sherpa_result(recognizer, samples).tokens)))
    return {"equal_with_jitter": n_equal_with_jitter, **compare(pairs)}


def compare_words(model: Model, clips: Sequence[Clip], folder: Path, *, top: int, max_bigrams: int) -> dict[str, Any]:
    """Words of both, from the same small language."""
    lexicon = Lexicon.open(model.lexicon)
    said = {word for clip in clips for word in normalize_text(clip.text or "").split() if lexicon.find(word)}
    restrict(lexicon, NgramModel.open(model.ngram), find_words(lexicon, said, top=top), folder, max_bigrams=max_bigrams)
    small, ngram = Lexicon.open(folder / "lexicon.bin"), NgramModel.open(folder / "ngram.bin")
    path = folder / "graph.fst"
    graph = write_graph(small, ngram, model.decoding, path)
    encoder, recognizer, scorer = OnnxEncoder(model.encoder), sherpa_recognizer(model, path), NgramScorer(ngram)
    like_sherpa = replace(
        model.decoding, semiring="tropical", beam_size=MAX_ACTIVE, beam_threshold=BEAM, token_threshold=BEAM
    )
    pairs: list[Pair] = []
    bundled_pairs: list[Pair] = []
    for clip in clips:
        samples = pad(read_audio(clip.path), encoder)
        log_probs = encode(encoder, compute_features(samples))
        theirs = [small.word(word) for word in sherpa_result(recognizer, samples).words]
        for decoding, found in ((like_sherpa, pairs), (model.decoding, bundled_pairs)):
            search = create_search(small, scorer, decoding)
            search.advance(log_probs)
            found.append((clip, [small.word(word.word) for word in search.finish()], theirs))
    size = {"words": len(small) - 3, "bigrams": len(ngram.bigram_word), "states": len(graph.arcs), "arcs": graph.n_arcs}
    return {
        "graph": {**size, "bytes": path.stat().st_size},
        **compare(pairs),
        "word_errors": _word_errors(pairs),
        "with_the_bundles_search": compare(bundled_pairs) | {"word_errors": _word_errors(bundled_pairs)},
    }


def _word_errors(pairs: Sequence[Pair]) -> dict[str, int]:
    texts = [normalize_text(clip.text or "").split() for clip, _, _ in pairs]
    return {
        "words": sum(map(len, texts)),
        "ours": sum(count_errors(text, ours).errors for text, (_, ours, _) in zip(texts, pairs, strict=True)),
        "sherpa": sum(count_errors(text, theirs).errors for text, (_, _, theirs) in zip(texts, pairs, strict=True)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parse_args(argv)
    clips = select(load_manifest(args.manifest, args.audio_dir), args.corpora, args.split)
    by_corpus = {corpus: [clip for clip in clips if clip.corpus == corpus] for corpus in {c.corpus for c in clips}}
    with tempfile.TemporaryDirectory() as folder:
        model = find_model(args, Path(folder))
        phonemes = compare_phonemes(model, _share(by_corpus, args.clips))
        words = compare_words(
            model, _share(by_corpus, args.graph_clips), Path(folder), top=args.top, max_bigrams=args.max_bigrams
        )
    about = describe(list(argv)) | {"command": " ".join(["python -m benchmarks.sherpa", *argv])}
    result = {"schema": 1, "kind": "sherpa", **about, "phonemes": phonemes, "words": words}
    args.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"greedy phonemes: {phonemes['equal']} of {phonemes['clips']} clips equal")
    print(f"our own with jitter: {phonemes['equal_with_jitter']} equal")
    print(f"words with ctc_graph: {words['equal']} of {words['clips']} clips equal; {words['graph']}")
    print(f"with the bundle's own search: {words['with_the_bundles_search']['equal']} equal")
    return 0


def _share(by_corpus: dict[str, list[Clip]], n_clips: int) -> list[Clip]:
    """`n_clips` clips, as many from each corpus as from the others, spread evenly over each."""
    chosen: list[Clip] = []
    for rank, (_, group) in enumerate(sorted(by_corpus.items())):
        wanted = n_clips * (rank + 1) // len(by_corpus) - len(chosen)
        chosen += group[:: max(1, len(group) // max(1, wanted))][:wanted]
    return chosen


if __name__ == "__main__":
    sys.exit(main())

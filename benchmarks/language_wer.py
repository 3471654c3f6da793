"""Word error rates of language models in the beam, by domain and on rare words; the list is as of benchmarks.language.

    python -m benchmarks.language_wer --models models.toml \
        --clips assistant synthetic-test/manifest.jsonl synthetic test 1 \
        --clips dictation speech/manifest.jsonl mini_librispeech dev 3 \
        --clips dictation speech/manifest.jsonl common_voice_b dev 1

The encoder runs once, in chunks of 640 ms; then every model searches the same posteriors, with the settings that the
bundle has for the domain: beside the bundle's n-gram, and alone. Models are exported first, so embeddings have four
bits; a mixture, which the runtime does not know, keeps float32 in its hidden layers and runs in torch. Tail: words of
the clips that are in the word list, but not among its 20,000 most frequent; wrong is one that was not heard as itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from asr.bundle import Bundle
from asr.decoder import create_search
from asr.features import compute_features
from asr.language import Language
from asr.metrics import align, normalize_text
from asr.onnx_encoder import OnnxEncoder
from asr.types import FloatArray
from benchmarks.corpus import Clip, load_manifest, read_audio, select
from benchmarks.fusion import encode
from benchmarks.language import Row, draw, is_ngram, read_rows, row_bytes
from benchmarks.process import describe
from benchmarks.scoring import score, whisper_normalizer
from export.language_model import write_language_model
from lm.neural import DATA_FILE, GRAPH_FILE, NeuralScorer
from lm.ngram import NgramModel, NgramScorer
from lm.onnx_lm import OnnxLanguageModel
from lm.scorer import Scorer
from lm.train.checkpoint import Checkpoint, TrainedModel, read_adapter
from lm.train.fofe import LanguageModel
from lm.train.runtime import write_runtime_adapter
from lm.vocabulary import SPECIAL_WORDS

TAIL_FROM = 20_000
"""Rank in the word list from which on a word belongs to the tail."""
FORMS = ("shared", "separate", "mixture")
MakeScorer = Callable[[Scorer | None, float], Scorer]
"""From the n-gram to mix with, or None, and the share of the neural model, a scorer for one search."""


def for_application(trained: TrainedModel, application: int) -> TrainedModel:
    """The `shared` model that serves one application of a `separate` one; of a mixture, that of its first network."""
    model = trained.model
    shared = LanguageModel(replace(model.config, form="shared"))
    number = application if model.config.form == "separate" else 0
    with torch.no_grad():
        shared.embedding.copy_(model.embedding)
        shared.bias.copy_(model.bias[model.bias_row(application)][None])
    shared.networks[0].load_state_dict(model.networks[number].state_dict())
    return replace(trained, model=shared)


def torch_predict(model: LanguageModel, rows: FloatArray) -> Callable[[npt.NDArray[np.int64]], FloatArray]:
    """What runs a model's hidden layers in torch, over embeddings (V, D): contexts (N, C) -> (N, D)."""
    table = torch.from_numpy(rows)

    @torch.inference_mode()
    def predict(contexts: npt.NDArray[np.int64]) -> FloatArray:
        found: FloatArray = model.predict(table[torch.from_numpy(contexts.T.copy())], 0).numpy()
        return found

    return predict


def scorer_maker(entry: Mapping[str, str], domain: str, folder: Path) -> MakeScorer:
    """What makes scorers of one domain's model of a row; its exported files go into `folder`.

    Raises:
        ValueError: a form that cannot be searched with.
    """
    path = Path(entry["model"])
    if is_ngram(path):
        ngram = NgramModel.open(path)
        return lambda _other, _share: NgramScorer(ngram)
    trained = Checkpoint.open(path).read()
    form, names = trained.model.config.form, trained.model.config.applications
    if form not in FORMS:
        raise ValueError(
            f"{path}: expected a model of the form {', '.join(FORMS)}, or the parts of another, not {form!r}"
        )
    application = names.index(domain) if trained.model.config.knows_applications else 0
    exported = trained if form == "shared" else for_application(trained, application)
    write_language_model(exported, folder)
    neural = OnnxLanguageModel(folder / GRAPH_FILE, folder / DATA_FILE)
    if form == "mixture":
        predict = torch_predict(trained.model, neural.model.rows(slice(None)))
        return lambda ngram, share: NeuralScorer(neural.model, predict, ngram=ngram, share=share)
    worn = None
    if "adapter" in entry:
        adapter = read_adapter(entry["adapter"], trained.model)
        write_runtime_adapter(adapter, neural.model.trunk, folder)
        worn = neural.load_adapter(folder / f"{adapter.config.name}.bin")
    return lambda ngram, share: neural.scorer(worn, ngram=ngram, share=share)


def tail_errors(references: Sequence[str], heard: Sequence[str], tail: frozenset[str]) -> tuple[int, int]:
    """How many words of the references that are in `tail` were not heard as themselves, and how many there are."""
    wrong = total = 0
    for reference, hypothesis in zip(references, heard, strict=True):
        for edit in align(normalize_text(reference).split(), normalize_text(hypothesis).split()):
            if edit.reference in tail:
                total += 1
                wrong += edit.reference != edit.hypothesis
    return wrong, total


class Beam:
    """The bundle's encoder, lexicon and settings; posteriors of the clips of each domain."""

    def __init__(self, bundle: Bundle, clips: Mapping[str, Sequence[Clip]]) -> None:
        """Run the encoder over all clips."""
        self.language, self._bundle = Language(bundle), bundle
        encoder = OnnxEncoder(bundle.file("encoder.onnx"))
        self._texts = {domain: [clip.text or "" for clip in group] for domain, group in clips.items()}
        self._posteriors = {
            domain: [encode(encoder, compute_features(read_audio(clip.path))) for clip in group]
            for domain, group in clips.items()
        }
        lexicon = self.language.lexicon
        first = TAIL_FROM + len(SPECIAL_WORDS)
        self._tail = frozenset(lexicon.word(number) for number in range(first, len(lexicon)))

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains there are clips of."""
        return tuple(self._texts)

    def share(self, domain: str) -> float:
        """Share of the neural model in the bundle's mixture for a domain."""
        manifest = self._bundle.manifest
        return manifest.domains[domain].neural_share if domain in manifest.domains else manifest.neural_share

    def measure(self, domain: str, make: Callable[[], Scorer]) -> dict[str, Any]:
        """Word errors of a domain's clips, and those of its tail."""
        known = domain if domain in self.language.domains else None
        lexicon, decoding, heard = self.language.lexicon, self.language.decoding(known), []
        for log_probs in self._posteriors[domain]:
            search = create_search(lexicon, make(), decoding)
            search.advance(log_probs)
            heard.append(" ".join(lexicon.word(word.word) for word in [*search.take_stable(), *search.finish()]))
        wrong, total = tail_errors(self._texts[domain], heard, self._tail)
        counts = score(self._texts[domain], heard, whisper_normalizer())
        return {**counts, "tail_errors": wrong, "tail_words": total}


def measure_row(row: Row, beam: Beam, ngram: Path | None, is_alone_wanted: bool = True) -> list[dict[str, Any]]:
    """Figures of a row, alone where that is wanted, and beside the bundle's n-gram; an n-gram has those alone only."""
    found: dict[str, dict[str, Any]] = {}
    for domain in beam.domains:
        entry = row.domains[domain]
        with tempfile.TemporaryDirectory() as folder:
            make = scorer_maker(entry, domain, Path(folder))
            is_mixed = ngram is not None and not is_ngram(entry["model"])
            if is_alone_wanted or not is_mixed:
                found.setdefault("alone", {})[domain] = beam.measure(domain, partial(make, None, 1.0))
            if is_mixed:
                mixed = partial(make, beam.language.ngram, beam.share(domain))
                found.setdefault("beside the n-gram", {})[domain] = beam.measure(domain, mixed)
    weight = row_bytes(row)
    return [
        {
            "name": row.name,
            "mode": mode,
            "bytes": weight + (ngram.stat().st_size if ngram is not None and mode != "alone" else 0),
            "wer": summary(domains),
            "counts": domains,
        }
        for mode, domains in found.items()
    ]


def summary(domains: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Per cent of wrong words, by domain, and of the last domain's tail."""
    rates = {domain: round(100 * counts["wer"], 2) for domain, counts in domains.items()}
    name, counts = list(domains.items())[-1]
    rates[f"{name}, tail"] = round(100 * counts["tail_errors"] / max(1, counts["tail_words"]), 2)
    return rates


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of the rows."""
    kinds = list(rows[0]["wer"])
    lines = [f"| model | {' | '.join(kinds)} | MB |", "|---" * (len(kinds) + 2) + "|"]
    for row in rows:
        rates = " | ".join(f"{row['wer'][kind]:.1f}" for kind in kinds)
        lines.append(f"| {row['name']}, {row['mode']} | {rates} | {row['bytes'] / 1e6:.2f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write JSON after every row, print the table, draw the plot."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser("python -m benchmarks.language_wer", description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, required=True, help="TOML file of models, as of benchmarks.language")
    parser.add_argument("--bundle", type=Path, help="the embedded one if not given")
    parser.add_argument(
        "--clips", nargs=5, action="append", required=True, metavar=("DOMAIN", "MANIFEST", "CORPUS", "SPLIT", "EVERY"),
        help="every so many clips of a corpus, for a domain; may be given several times",
    )  # fmt: skip
    parser.add_argument("--no-alone", action="store_true", help="only beside the n-gram, which halves the time")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lm-wer.json"))
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    clips: dict[str, list[Clip]] = {}
    for domain, manifest, corpus, split, every in args.clips:
        clips.setdefault(domain, []).extend(select(load_manifest(Path(manifest)), [corpus], split, int(every)))
    bundle = Bundle.open(args.bundle)
    ngram = bundle.file("ngram.bin") if "ngram.bin" in bundle.manifest.files else None
    beam = Beam(bundle, clips)
    result: dict[str, Any] = {
        "schema": 1,
        "kind": "lm-wer",
        **describe(words),
        "command": "python -m benchmarks.language_wer " + " ".join(words),
        "clips": {domain: len(group) for domain, group in clips.items()},
        "rows": [],
    }
    for row in read_rows(args.models):
        result["rows"] += measure_row(row, beam, ngram, not args.no_alone)
        print(f"{row.name}: {result['rows'][-1]['wer']}", file=sys.stderr, flush=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(markdown(result["rows"]))
    if args.plot:
        named = [{**row, "name": f"{row['name']}, {row['mode']}"} for row in result["rows"]]
        draw(named, args.plot, figure="wer", label="wrong words, %")


if __name__ == "__main__":
    main()

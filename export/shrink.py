"""A smaller bundle from a bundle: fewer words, a shorter n-gram, perhaps no neural model. Nothing is trained.

Words are numbered by frequency, so the most frequent ones are the first rows of every table.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.bundle import SMALL_ENCODER, Bundle, DomainInfo, default_bundle_path
from export.bundle import copy_bundle
from export.language_model import ADAPTER_FOLDER, is_neural, write_arrays
from export.restrict import owners, pronunciations
from export.variants import made_how
from lm.arrayfile import ArrayFile, open_array_file, write_array_file
from lm.backoff import BackoffTrigram, Doubles, first_word, last_word, normalized, pair_key
from lm.kneser_ney import Estimate
from lm.lexicon import Lexicon
from lm.lexicon_build import build_lexicon
from lm.neural import ADAPTER_KIND, DATA_FILE, NeuralModel
from lm.ngram import NgramModel
from lm.pack import BIGRAM_BYTES, TRIGRAM_BYTES, fixed_bytes, write_ngram
from lm.pieces import PIECES_FILE
from lm.prune import prune
from lm.train.recipe import LanguageModelConfig
from lm.train.settings import build_settings
from lm.vocabulary import END_ID, SPECIAL_WORDS, START_ID

_MARGINAL_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Shrinking:
    """What to keep of a bundle; recorded in the manifest of the smaller one."""

    words: int | None = None
    """The most frequent ones; all of them if not given."""
    ngram_bytes: int | None = None
    """Most that `ngram.bin` may have; what it has if not given."""
    neural: bool = True
    """Whether the neural language model stays."""
    neural_share: float | None = None
    """Of the neural language model in a word's probability, at least, where it stays: a short n-gram knows less."""
    encoder: Path | None = None
    """Another encoder, of fewer bits, that `asr-export quantize` has written; the bundle's if not given."""


def shrink(bundle: Bundle, out: Path, plan: Shrinking) -> Bundle:
    """Write a smaller bundle to `out`.

    Raises:
        ValueError: `plan` asks for more words than there are, or leaves no room for the n-gram's unigrams.
        VariantError: its encoder is not from `asr-export quantize`.
        FileExistsError, BundleError: as `write_bundle`.
    """
    manifest, lexicon = bundle.manifest, Lexicon.open(bundle.file("lexicon.bin"))
    words = len(lexicon) if plan.words is None else plan.words
    ngram_bytes = manifest.files["ngram.bin"].bytes if plan.ngram_bytes is None else plan.ngram_bytes
    if not len(SPECIAL_WORDS) < words <= len(lexicon):
        raise ValueError(f"words: expected {len(SPECIAL_WORDS) + 1} to {len(lexicon)}, found {words}")
    if plan.neural_share is not None and not 0 <= plan.neural_share <= 1:
        raise ValueError(f"neural_share: expected 0 to 1, found {plan.neural_share}")
    if ngram_bytes < fixed_bytes(words):
        raise ValueError(f"ngram_bytes: {words} words need {fixed_bytes(words)} at least")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.parts.") as temporary:
        folder = Path(temporary)
        if (plan.words, plan.ngram_bytes) != (None, None):
            _write_words(lexicon, NgramModel.open(bundle.file("ngram.bin")), words, ngram_bytes, folder)
        has_neural = plan.neural and DATA_FILE in manifest.files
        if has_neural and words < len(lexicon) and PIECES_FILE not in manifest.files:  # pieces spell any words
            _write_neural(bundle, words, folder)
        made = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        without = () if has_neural else tuple(filter(is_neural, manifest.files))
        quantization = {name: value for name, value in manifest.quantization.items() if name != "lm" or has_neural}
        if plan.encoder:
            made["encoder.onnx"] = plan.encoder
            quantization["encoder"] = made_how(plan.encoder)
        return copy_bundle(
            bundle,
            out,
            files=made,
            without=without,
            readme=_card(bundle, words, ngram_bytes, plan),
            name=f"{manifest.name}, {words} words",
            quantization=quantization,
            provenance={**manifest.provenance, "shrunk": f"{words} words, n-gram of {ngram_bytes} bytes"},
            neural_share=max(manifest.neural_share, plan.neural_share or 0.0) if has_neural else 0.0,
            domains=_domains(bundle, plan.neural_share or 0.0) if has_neural else {},
        )


def small_encoder(bundle: Bundle) -> Path | None:
    """The encoder of fewer bits that this package has for a bundle: for those with the English bundle's encoder."""
    english = default_bundle_path()
    path = english.parent.parent / SMALL_ENCODER
    encoders = [folder.manifest.files["encoder.onnx"] for folder in (bundle, Bundle.open(english))]
    return path if path.is_file() and encoders[0] == encoders[1] else None


def _domains(bundle: Bundle, least_share: float) -> dict[str, DomainInfo]:
    return {
        name: replace(
            info,
            adapter=f"{ADAPTER_FOLDER}/{Path(info.adapter).name}" if info.adapter else "",
            neural_share=max(info.neural_share, least_share),
        )
        for name, info in bundle.manifest.domains.items()
    }


def _card(bundle: Bundle, words: int, ngram_bytes: int, plan: Shrinking) -> str:
    text = bundle.file("README.md").read_text(encoding="utf-8")
    neural = "" if plan.neural else ", no neural language model"
    encoder = ", an encoder of fewer bits" if plan.encoder else ""
    note = (
        f"Smaller than the bundle that the rest of this card describes: the {words} most frequent words, an "
        f"n-gram of {ngram_bytes / 1e6:.1f} MB{neural}{encoder}. Word error rates below are those of the whole bundle."
    )
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{note}\n{rest}"


def _write_words(lexicon: Lexicon, ngram: NgramModel, words: int, ngram_bytes: int, folder: Path) -> None:
    spellings = [lexicon.word(word) for word in range(words)]
    spoken = pronunciations(lexicon, range(words))
    model = _first_words(ngram, words)
    build_lexicon(
        spellings,
        {spellings[word]: dict(variants) for word, variants in spoken.items()},
        model.unigram_log_prob,
        folder / "lexicon.bin",
    )
    pruned = prune(
        Estimate(model, *context_shares(model)),
        budget=ngram_bytes - fixed_bytes(words),
        bigram_cost=BIGRAM_BYTES,
        trigram_cost=TRIGRAM_BYTES,
    )
    write_ngram(folder / "ngram.bin", pruned.model, spellings)


def _first_words(ngram: NgramModel, n_words: int) -> BackoffTrigram:
    """The n-gram over the first words only, its back-offs computed anew."""
    arrays: dict[str, npt.NDArray[Any]] = dict(ngram.file.arrays)
    first, second = owners(arrays["bigram_first"]), arrays["bigram_word"].astype(np.int64)
    bigram = pair_key(first, second)
    context = owners(arrays["trigram_first"])
    third = arrays["trigram_word"].astype(np.int64)
    keeps_bigram = (first < n_words) & (second < n_words)
    keeps_trigram = keeps_bigram[context] & (third < n_words)
    return normalized(
        BackoffTrigram(
            unigram_log_prob=ngram.unigram_log_prob[:n_words].astype(np.float32),
            unigram_backoff=np.zeros(n_words, np.float32),
            bigram_key=bigram[keeps_bigram],
            bigram_log_prob=arrays["bigram_log_prob_table"][arrays["bigram_log_prob"]][keeps_bigram],
            bigram_backoff=np.zeros(int(keeps_bigram.sum()), np.float32),
            trigram_key=pair_key(bigram[context], third)[keeps_trigram],
            trigram_log_prob=arrays["trigram_log_prob_table"][arrays["trigram_log_prob"]][keeps_trigram],
        )
    )


def context_shares(model: BackoffTrigram) -> tuple[Doubles, Doubles]:
    """How often the words (W,) and the bigrams (B,) of a model come, of all words of endless text by its bigrams.

    Counts are not at hand any more, and Kneser-Ney's unigrams are no marginals; those of the bigrams are.
    """
    first, second = first_word(model.bigram_key), last_word(model.bigram_key)
    following = np.exp(model.bigram_log_prob.astype(np.float64))
    unigram = np.exp(model.unigram_log_prob.astype(np.float64))
    backoff = np.exp(model.unigram_backoff.astype(np.float64))
    share = unigram.copy()
    share[START_ID] = share[END_ID]
    for _ in range(_MARGINAL_ROUNDS):
        explicit = np.bincount(second, share[first] * following, share.size)
        backed_off = (share * backoff).sum() - np.bincount(second, (share * backoff)[first], share.size)
        share = explicit + unigram * np.maximum(backed_off, 0.0)
        share[START_ID] = share[END_ID]
        share /= share.sum() - share[START_ID]
    return share, share[first] * following


def _write_neural(bundle: Bundle, n_words: int, folder: Path) -> None:
    """The model's rows of the first words, and its adapters' biases."""
    model = NeuralModel.open(bundle.file(DATA_FILE))
    rows = min(n_words, len(model.bias))
    arrays = {
        name: array[:rows] if name in ("embedding", "embedding_scale", "bias") else array
        for name, array in model.file.arrays.items()
    }
    arrays["unknown_log_share"] = arrays["unknown_log_share"][: n_words - rows]
    config = build_settings(LanguageModelConfig, model.file.meta["model"], str(model.file.path))
    words = Lexicon.open(folder / "lexicon.bin").words_sha256
    trunk = write_arrays(arrays, replace(config, vocabulary_size=rows), words, folder)
    (folder / ADAPTER_FOLDER).mkdir()
    for info in bundle.manifest.domains.values():
        if info.adapter:
            _write_adapter(open_array_file(bundle.file(info.adapter), kind=ADAPTER_KIND), trunk, rows, folder)


def _write_adapter(adapter: ArrayFile, trunk: str, rows: int, folder: Path) -> None:
    target = folder / ADAPTER_FOLDER / adapter.path.name
    arrays = {**adapter.arrays, "bias": adapter.arrays["bias"][:rows]}
    write_array_file(target, kind=ADAPTER_KIND, arrays=arrays, meta={**adapter.meta, "trunk": trunk})
    weights = adapter.path.with_suffix(".onnx_adapter")
    target.with_suffix(".onnx_adapter").write_bytes(weights.read_bytes())

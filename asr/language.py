"""The language side of an engine: lexicon, n-gram and neural model, and what each domain makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from asr.bundle import Bundle, DomainInfo
from asr.config import DecodingConfig
from asr.errors import BundleFileError, OptionError
from lm.arrayfile import ArrayFileError
from lm.lexicon import Lexicon
from lm.neural import DATA_FILE, GRAPH_FILE
from lm.ngram import NgramModel, NgramScorer
from lm.onnx_lm import LanguageModelError, OnnxLanguageModel
from lm.piece_scorer import PieceScorer
from lm.pieces import PIECES_FILE, Pieces
from lm.pronouncer import Pronouncer
from lm.scorer import NullScorer, Scorer

if TYPE_CHECKING:
    from lm.neural import NeuralAdapter


@dataclass(frozen=True, slots=True)
class _Domain:
    """What one domain, or none, means for a stream."""

    adapter: NeuralAdapter | None
    neural_share: float
    decoding: DecodingConfig


class Language:
    """Everything about words that streams share; read-only but for the adapters given at the start."""

    def __init__(self, bundle: Bundle, adapters: Sequence[str | Path] = (), *, beam_size: int | None = None) -> None:
        """Open the language files of `bundle`, and adapters (`NAME.bin`) of the user's own.

        Raises:
            BundleFileError: a file of the bundle is damaged, or does not fit the others.
            OptionError: one of `adapters` cannot be used, or its name is taken; `beam_size`, which overrides the
                bundle's, is no whole number from 1 on.
        """
        manifest = bundle.manifest
        self._bundle = bundle
        decoding = manifest.decoding if beam_size is None else replace(manifest.decoding, beam_size=beam_size)
        try:
            self.lexicon = Lexicon.open(bundle.file("lexicon.bin"))
            self.ngram = NgramScorer(self._open_ngram(bundle)) if "ngram.bin" in manifest.files else None
            self.pieces = Pieces.open(bundle.file(PIECES_FILE)) if PIECES_FILE in manifest.files else None
            self.neural = self._open_neural(bundle) if "lm.bin" in manifest.files else None
            self._domains: dict[str | None, _Domain] = {
                None: _Domain(None, manifest.neural_share, decoding),
                **{name: self._bundled_domain(bundle, info, decoding) for name, info in manifest.domains.items()},
            }
        except (ArrayFileError, LanguageModelError) as error:
            raise BundleFileError(str(error)) from None
        for path in adapters:
            self._add_domain(Path(path))

    @cached_property
    def pronouncer(self) -> Pronouncer:
        """How any word is spoken; opened when a grammar or a phrase asks for it.

        Raises:
            BundleFileError: the bundle's letter-to-phoneme network is damaged.
        """
        if "g2p.onnx" not in self._bundle.manifest.files:
            return Pronouncer(self.lexicon, None)
        from lm.g2p import G2P

        try:
            return Pronouncer(self.lexicon, G2P.open(self._bundle.file("g2p.onnx")))
        except ValueError as error:
            raise BundleFileError(str(error)) from None

    @property
    def domains(self) -> tuple[str, ...]:
        """Names that `create_stream(domain=...)` takes."""
        return tuple(name for name in self._domains if name is not None)

    def decoding(self, domain: str | None) -> DecodingConfig:
        """Settings of the search for a domain.

        Raises:
            OptionError: there is no such domain.
        """
        return self._domain(domain).decoding

    def n_scored_words(self, lexicon: Lexicon) -> int:
        """Of a lexicon that goes on after the words of this one, how many the scorers know: where they spell, all."""
        return len(self.lexicon if self.pieces is None else lexicon)

    def scorer(self, domain: str | None, lexicon: Lexicon | None = None) -> Scorer:
        """A scorer for one stream.

        Args:
            domain: name of the domain, or None.
            lexicon: the words that it will be asked for, where they are more than those of `self.lexicon`.

        Raises:
            OptionError: there is no such domain.
        """
        chosen = self._domain(domain)
        if self.neural is None or not chosen.neural_share:
            return self.ngram or NullScorer()
        ngram = self.ngram if chosen.neural_share < 1 else None
        if self.pieces is not None:
            cut, spell, n_words = self.pieces.cut, (lexicon or self.lexicon).word, len(self.lexicon)
            return PieceScorer(
                self.neural.scorer(chosen.adapter), lambda word: cut(spell(word)),
                ngram=ngram, n_ngram_words=n_words, share=chosen.neural_share,
            )  # fmt: skip
        return self.neural.scorer(chosen.adapter, ngram=ngram, share=chosen.neural_share)

    def _domain(self, name: str | None) -> _Domain:
        if name not in self._domains:
            known = f"expected one of {', '.join(self.domains)}" if self.domains else "this bundle has none"
            raise OptionError(f"domain: {known}, found {name!r}")
        return self._domains[name]

    def _bundled_domain(self, bundle: Bundle, info: DomainInfo, decoding: DecodingConfig) -> _Domain:
        decoding = replace(decoding, lm_weight=info.lm_weight, word_score=info.word_score)
        adapter = None
        if info.adapter:
            assert self.neural is not None  # the manifest was checked
            adapter = self.neural.load_adapter(bundle.file(info.adapter))
        return _Domain(adapter, info.neural_share, decoding)

    def _add_domain(self, path: Path) -> None:
        if self.neural is None:
            raise OptionError(f"{path}: this bundle has no neural language model, so it takes no adapters")
        try:
            adapter = self.neural.load_adapter(path)
        except (ArrayFileError, LanguageModelError, OSError) as error:
            raise OptionError(f"adapters: {error}") from None
        if adapter.name in self._domains:
            raise OptionError(f"adapters: {path} is called {adapter.name!r}, a name that is taken")
        self._domains[adapter.name] = replace(self._domains[None], adapter=adapter)

    def _open_ngram(self, bundle: Bundle) -> NgramModel:
        ngram = NgramModel.open(bundle.file("ngram.bin"))
        self._check_words(bundle.file("ngram.bin"), ngram.words_sha256)
        return ngram

    def _open_neural(self, bundle: Bundle) -> OnnxLanguageModel:
        data = bundle.file(DATA_FILE)
        neural = OnnxLanguageModel(bundle.file(GRAPH_FILE), data)
        if self.pieces is not None:
            if neural.model.words_sha256 != self.pieces.sha256:
                raise BundleFileError(f"{data}: expected a model over the pieces of {PIECES_FILE}, found another")
            return neural
        self._check_words(data, neural.model.words_sha256)
        rows, unknown = len(neural.model.bias), len(neural.model.unknown_log_share)
        if rows + unknown != len(self.lexicon):
            raise BundleFileError(
                f"{data}: expected the {len(self.lexicon)} words of lexicon.bin, found {rows} with an embedding and "
                f"{unknown} without"
            )
        return neural

    def _check_words(self, path: Path, found: str) -> None:
        if found != self.lexicon.words_sha256:
            expected = self.lexicon.words_sha256
            raise BundleFileError(
                f"{path}: expected the word list of lexicon.bin ({expected}), found another ({found})"
            )

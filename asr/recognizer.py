"""The engine: one opened bundle, shared by any number of streams and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy.typing as npt

from asr.audio import open_audio
from asr.bundle import FEATURES, SAMPLE_RATE_HZ, Bundle
from asr.decoder import create_search
from asr.errors import BundleFileError, ChunkSizeError, OptionError
from asr.language import Language
from asr.memory import release_memory
from asr.stream import Stream, StreamSettings
from asr.types import Result, Seconds
from lm.vocabulary import SPECIAL_WORDS

if TYPE_CHECKING:
    from asr.biasing import Biased, Biasing
    from asr.constraint import Constraints
    from lm.grammar.grammar import Grammar
    from lm.phrases import Entry, Phrase

COMPETING_BEAM_SIZE = 64
Audio = str | Path | bytes | BinaryIO | tuple[npt.NDArray[Any], int]
Progress = Callable[[Seconds, Seconds | None], None]


class Recognizer:
    """Speech recogniser over one model bundle.

    Opening it reads the bundle once; after that nothing in it changes, so it may be used from several threads at the
    same time. Each `Stream` belongs to one thread.
    """

    def __init__(
        self,
        bundle: str | Path | None = None,
        *,
        chunk_ms: int | None = None,
        n_threads: int = 1,
        adapters: Sequence[str | Path] = (),
        beam_size: int | None = None,
    ) -> None:
        """Open a bundle.

        Args:
            bundle: folder of the bundle; None is the English one that comes with the package.
            chunk_ms: how much audio is encoded at once, one of the bundle's chunk sizes; smaller ones answer sooner,
                larger ones are more accurate. None is the bundle's default.
            n_threads: threads of the encoder.
            adapters: language-model adapters of your own, `NAME.bin` of `asr-lm adapt`; each adds a domain of its name.
            beam_size: readings that the search keeps side by side; fewer take less time and memory and miss some words.
                None is the bundle's number. A grammar that leaves no place open has widths of its own.

        Raises:
            BundleError: the bundle is missing or damaged; the subclass and the message say how.
            ChunkSizeError: the bundle does not offer `chunk_ms`.
            OptionError: `n_threads` or `beam_size` is not a positive whole number, or an adapter cannot be used.
        """
        from asr.onnx_encoder import OnnxEncoder  # onnxruntime is slow to import, and `import asr` must not be

        if type(n_threads) is not int or n_threads < 1:
            raise OptionError(f"n_threads: expected a whole number from 1 on, found {n_threads!r}")
        self.bundle = Bundle.open(bundle)
        self._chunk_ms = self._checked_chunk_ms(self.bundle.manifest.encoder.default_chunk_ms, chunk_ms)
        self._encoder = OnnxEncoder(self.bundle.file("encoder.onnx"), n_threads)
        self._check_encoder()
        self._language = Language(self.bundle, adapters, beam_size=beam_size)
        release_memory()  # unpacking the networks leaves more free memory behind than they take

    @property
    def n_words(self) -> int:
        """Number of words that the bundle can recognise."""
        return len(self._language.lexicon) - len(SPECIAL_WORDS)

    @property
    def domains(self) -> tuple[str, ...]:
        """Kinds of speech that a stream may be told to expect."""
        return self._language.domains

    def transcribe(
        self,
        audio: Audio,
        *,
        domain: str | None = None,
        grammar: Grammar | str | None = None,
        on_reject: str = "best",
        phrases: Iterable[Entry | Phrase] | None = None,
        chunk_ms: int | None = None,
        on_progress: Progress | None = None,
    ) -> Result:
        """Recognise a whole recording, block by block, so that memory does not grow with its length.

        Args:
            audio: path of an audio file, (samples, sample_rate), an open binary file, or the bytes of an audio file.
            domain: see `create_stream`.
            grammar: see `create_stream`.
            on_reject: see `create_stream`.
            phrases: see `create_stream`.
            chunk_ms: see `create_stream`.
            on_progress: called after every block with the seconds done and the seconds in all, None where the
                recording does not say.

        Raises:
            AudioError: the audio cannot be used; the subclass and the message say why.
            OptionError, ChunkSizeError: as `create_stream`.
        """
        stream = self.create_stream(
            domain=domain, grammar=grammar, on_reject=on_reject, phrases=phrases, chunk_ms=chunk_ms
        )
        source = open_audio(audio)
        n_done = 0
        for block in source.blocks():
            stream.feed(block, SAMPLE_RATE_HZ)
            n_done += len(block)
            if on_progress is not None:
                on_progress(n_done / SAMPLE_RATE_HZ, source.duration_s)
        return stream.finish()

    def create_stream(
        self,
        *,
        domain: str | None = None,
        grammar: Grammar | str | None = None,
        on_reject: str = "best",
        phrases: Iterable[Entry | Phrase] | None = None,
        chunk_ms: int | None = None,
    ) -> Stream:
        """Start a stream.

        Args:
            domain: kind of speech to expect, one of `domains`: "assistant" or "dictation" in the English bundle, or
                the name of an adapter of your own. None expects anything.
            grammar: what may be said, as `asr.Grammar` or as its pattern. The whole stream is then one utterance, its
                result is the text that the pattern writes, with `accepted` and `groups`.
            on_reject: text of speech that the grammar rejects: the "best" match, or "empty".
            phrases: what is likely to be said, up to 10,000: "Siobhan", with a weight ("Xolo", 2.0), with how it sounds
                ("Nguyen", "win"), or with both. `unspeakable` of the stream names those that cannot be spoken.
            chunk_ms: overrides the recogniser's chunk size for this stream.

        Raises:
            OptionError: an unknown domain or `on_reject`, a phrase of another form, or a grammar of which no word can
                be spoken.
            GrammarError: the pattern cannot be used; says where and why.
            ChunkSizeError: the bundle does not offer `chunk_ms`.
        """
        manifest, language = self.bundle.manifest, self._language
        settings = StreamSettings(
            chunk_frames=self._checked_chunk_ms(self._chunk_ms, chunk_ms) // int(FEATURES["frame_shift_ms"]),
            frame_ms=manifest.encoder.frame_ms,
            endpoint=manifest.endpoint,
            confidence=manifest.confidence,
        )
        lexicon, scorer = language.lexicon, language.scorer(domain)
        unspeakable: tuple[tuple[str, str], ...] = ()
        if phrases is not None:
            biased = self._biased(phrases, domain)
            lexicon, scorer, unspeakable = biased.lexicon, biased.scorer, biased.unspeakable
        decoding = language.decoding(domain)
        if grammar is not None:  # beside a grammar the free reading is there to compete, which needs no wide beam
            decoding = replace(decoding, beam_size=min(decoding.beam_size, COMPETING_BEAM_SIZE))
        search = create_search(lexicon, scorer, decoding)
        if grammar is None:
            return Stream(self._encoder, search, lexicon.word, settings, unspeakable)
        from asr.grammar_stream import GrammarStream
        from lm.grammar.grammar import Grammar

        compiled = grammar if isinstance(grammar, Grammar) else Grammar(grammar)
        constraint = self._constraints.prepare(compiled, domain, on_reject)
        return GrammarStream(self._encoder, search, lexicon.word, settings, constraint, unspeakable)

    def _biased(self, phrases: Iterable[Entry | Phrase], domain: str | None) -> Biased:
        from lm.phrases import PhraseError, parse_phrases

        try:
            return self._biasing.biased(parse_phrases(phrases), domain)
        except PhraseError as error:
            raise OptionError(f"phrases: {error}") from None

    @cached_property
    def _biasing(self) -> Biasing:
        from asr.biasing import Biasing

        return Biasing(self._language)

    @cached_property
    def _constraints(self) -> Constraints:
        from asr.constraint import Constraints  # most streams have no grammar, and its tables take a while to import

        return Constraints(self._language, self.bundle.manifest.rejection)

    def _checked_chunk_ms(self, default: int, asked: int | None) -> int:
        offered = self.bundle.manifest.encoder.chunk_ms
        if asked is not None and asked not in offered:
            raise ChunkSizeError(f"chunk_ms: the bundle offers {', '.join(map(str, offered))}, found {asked!r}")
        return default if asked is None else asked

    def _check_encoder(self) -> None:
        expected, path = self.bundle.manifest.encoder, self.bundle.file("encoder.onnx")
        if (found := self._encoder.state_spec) != expected.state:
            raise BundleFileError(f"{path}: expected the manifest's states {expected.state}, found {found}")
        if (left := self._encoder.metadata["left_context_len"]) != expected.left_context_frames:
            raise BundleFileError(
                f"{path}: expected the manifest's left context of {expected.left_context_frames} frames, found {left}"
            )
        if (ahead := self._encoder.look_ahead_frames * int(FEATURES["frame_shift_ms"])) != expected.look_ahead_ms:
            raise BundleFileError(
                f"{path}: expected the manifest's look-ahead of {expected.look_ahead_ms} ms, found {ahead}"
            )

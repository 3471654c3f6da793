"""A stream whose speech must match a grammar, while free decoding listens beside it and competes.

All searches read the same frames. What the grammar's search finds is written as the pattern wants it; how well it
explains the audio, alone and next to the free reading, tells whether that was said at all. If not, a more thorough
search may find a match that was. The whole stream is one utterance: a pause does not end it, it is only reported.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.confidence import word_confidence
from asr.config import DecodingConfig
from asr.decoder import PathWord, Reading, Search
from asr.grammar_search import GrammarSearch, LateSearch
from asr.rejection import Evidence, RejectionWeights, acceptance
from asr.stream import Stream, StreamSettings
from asr.types import Capture, FloatArray, GrammarMatch, Partial, Result, Seconds, Word
from lm.grammar.grammar import Grammar
from lm.grammar.writing import Writing

if TYPE_CHECKING:
    from asr.onnx_encoder import OnnxEncoder

ON_REJECT = ("best", "empty")
READINGS = 20
"""Best readings of the grammar's search that are written out and compared."""
READING_SCALE = 0.5
"""Factor of the readings' scores when they are weighed against each other: frames are not independent."""
TWO_ZEROS = frozenset(("zero", "oh"))
TWO_ZEROS_COST = 4.0
"""Of a reading in which the digit 0 is said in two ways, in nats: a letter O sounds like the second one."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """The grammar's side of a stream."""

    grammar: Grammar
    search: Search
    thorough: Search | None
    """One that gives up less, for speech in which the other finds no match that is accepted."""
    spell: Callable[[int], str]
    """Spelling of a word id of these searches."""
    weights: RejectionWeights
    decoding: DecodingConfig
    """What these searches weigh words with."""
    free_decoding: DecodingConfig
    """Settings of the free search."""
    on_reject: str = "best"
    """Text of speech that was rejected: the best match, or nothing."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a search of the grammar has found."""

    candidates: Sequence[_Candidate]
    evidence: Evidence
    confidence: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One written text, and the best reading that writes it."""

    writing: Writing
    reading: Reading
    share: float
    """Of all readings together."""


class GrammarStream(Stream):
    """One request in progress; made by `Recognizer.create_stream(grammar=...)`. For one thread at a time."""

    def __init__(
        self,
        encoder: OnnxEncoder,
        search: Search,
        spell: Callable[[int], str],
        settings: StreamSettings,
        constraint: Constraint,
        unspeakable: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(encoder, search, spell, settings, unspeakable)
        self._constraint = constraint
        self._quick = GrammarSearch(constraint.search)
        self._thorough = LateSearch(constraint.thorough) if constraint.thorough else None
        self.evidence: Evidence | None = None
        """What the acceptance was judged by, once the stream has been finished."""
        self._free_language = 0.0  # what the language model adds to the free search's score

    def _advance(self, log_probs: FloatArray) -> None:
        super()._advance(log_probs)
        self._quick.advance(log_probs)
        if self._thorough:
            self._thorough.advance(log_probs)

    def _is_endpoint(self) -> bool:
        return False

    def _partial(self) -> Partial:
        automaton, search = self._constraint.grammar.automaton, self._quick.search
        words = self._spoken([*self._quick.certain, *self._newest(search)])
        stable, _ = automaton.prefix(self._spoken(self._quick.certain))
        text = "".join(automaton.prefix(words))
        if not text.startswith(stable):
            return Partial(stable, "", joiner="")
        silence_s = search.trailing_silence() * self._settings.frame_ms / 1000
        is_over = bool(automaton.writings(words)) and silence_s >= self._settings.endpoint.min_silence_s
        return Partial(stable, text[len(stable) :], is_endpoint=bool(words) and is_over, joiner="")

    def _result(self, duration: Seconds) -> Result:
        free = self._search.finish_many(1)
        self._commit(free[0].words if free else [])
        free_text = self._words.text(0)
        free_score = (free[0].score - self._free_language) if free else 0.0
        threshold = self._constraint.weights.threshold
        found = self._judged(self._quick, free_score)
        if self._thorough and (found is None or found.confidence < threshold):
            found = self._judged(self._thorough, free_score) or found
        if found is None:
            return Result((), duration, GrammarMatch("", False, 0.0, {}, free_text))
        self.evidence, confidence, best = found.evidence, found.confidence, found.candidates[0]
        is_accepted = confidence >= threshold
        is_shown = is_accepted or self._constraint.on_reject == "best"
        words = self._timed(best.reading.words, duration)
        groups = self._groups(found.candidates, words, confidence) if is_shown else {}
        match = GrammarMatch(best.writing.text if is_shown else "", is_accepted, confidence, groups, free_text)
        return Result(words if is_shown else (), duration, match)

    def _commit(self, words: Iterable[PathWord]) -> None:
        words = list(words)
        self._free_language += _language_share(words, self._constraint.free_decoding)
        super()._commit(words)

    def _spoken(self, words: Sequence[PathWord]) -> list[str]:
        return [self._constraint.spell(word.word) for word in words]

    def _judged(self, search: GrammarSearch, free_score: float) -> _Judged | None:
        """What a search has found, and how probable it is that this was said; None if it has found nothing."""
        candidates = self._candidates(search.readings(READINGS))
        if not candidates:
            return None
        best = candidates[0].reading
        evidence = Evidence(
            score=best.score - _language_share(best.words, self._constraint.decoding),
            free_score=free_score,
            n_frames=best.words[-1].end_frame - best.words[0].start_frame if best.words else 0,
        )
        return _Judged(candidates, evidence, acceptance(self._constraint.weights, evidence))

    def _candidates(self, readings: Sequence[Reading]) -> list[_Candidate]:
        """Texts by the probability of all their readings, most probable first."""
        automaton = self._constraint.grammar.automaton
        by_text: defaultdict[str, list[tuple[Writing, Reading]]] = defaultdict(list)
        weights: defaultdict[str, float] = defaultdict(float)
        best = max((reading.score for reading in readings), default=0.0)
        for reading in readings:
            spoken = self._spoken(reading.words)
            behind = reading.score - best - (TWO_ZEROS_COST if TWO_ZEROS.issubset(spoken) else 0.0)
            for writing in automaton.writings(spoken)[:1]:
                by_text[writing.text].append((writing, reading))
                weights[writing.text] += math.exp(READING_SCALE * behind)
        if not by_text:
            return []
        total = sum(weights.values())
        candidates = [_Candidate(*by_text[text][0], weights[text] / total) for text in by_text]
        return sorted(candidates, key=lambda candidate: -candidate.share)

    def _timed(self, words: Sequence[PathWord], duration: Seconds) -> tuple[Word, ...]:
        frame_s = self._settings.frame_ms / 1000
        return tuple(
            Word(
                self._constraint.spell(word.word),
                min(word.start_frame * frame_s, duration),
                min(word.end_frame * frame_s, duration),
                word_confidence(
                    self._settings.confidence,
                    acoustic=word.acoustic, language=word.language, n_frames=word.end_frame - word.start_frame,
                ),
            )
            for word in words
        )  # fmt: skip

    def _groups(
        self, candidates: Sequence[_Candidate], words: Sequence[Word], confidence: float
    ) -> dict[str, Capture | list[Capture]]:
        """Named groups of the best text; as sure as the match, times the share of texts that agree on them."""
        grammar, writing = self._constraint.grammar, candidates[0].writing
        match = grammar.fullmatch(writing.text)
        assert match is not None  # the automaton wrote it
        others = [(candidate.share, _group_texts(grammar, candidate.writing.text)) for candidate in candidates]
        groups: dict[str, Capture | list[Capture]] = {}
        for name, spans in match.groups.items():
            texts = [writing.text[start:end] for start, end in spans]
            agreed = sum(share for share, found in others if found.get(name, []) == texts)
            captures = [
                Capture(text, *_times(writing, words, span), confidence * agreed)
                for text, span in zip(texts, spans, strict=True)
            ]
            if captures:
                groups[name] = captures[0] if len(captures) == 1 else captures
        return groups


def _language_share(words: Iterable[PathWord], decoding: DecodingConfig) -> float:
    """What the language model has added to the score of a reading."""
    return sum(decoding.lm_weight * word.language + decoding.word_score for word in words)


def _group_texts(grammar: Grammar, text: str) -> dict[str, list[str]]:
    match = grammar.fullmatch(text)
    return {name: [text[start:end] for start, end in spans] for name, spans in match.groups.items()} if match else {}


def _times(writing: Writing, words: Sequence[Word], span: tuple[int, int]) -> tuple[Seconds, Seconds]:
    """Start of the first and end of the last word that wrote a part of the characters `span`."""
    start, end = span
    within = [piece for piece in writing.pieces if piece.start < end and piece.end > start]
    if not within:  # an empty group: where it would be
        before = [piece.last_word for piece in writing.pieces if piece.end <= start]
        at = words[before[-1] - 1].end if before else 0.0
        return at, at
    return words[within[0].first_word].start, words[within[-1].last_word - 1].end

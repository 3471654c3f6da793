"""A grammar made ready for a stream: its words with their pronunciations, its scorer, its search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from asr.decoder import create_search
from asr.errors import OptionError
from asr.grammar_stream import ON_REJECT, Constraint
from asr.language import Language
from asr.rejection import RejectionWeights
from lm.grammar.addresses import OTHER_PRONUNCIATIONS, address_shares
from lm.grammar.grammar import Grammar
from lm.grammar.pronouncing import pronounce_words
from lm.grammar.scorer import ConstrainedScorer, GrammarScorer
from lm.lexicon import Lexicon
from lm.lexicon_build import assemble_lexicon, extend_lexicon
from lm.scorer import Scorer
from lm.vocabulary import SPECIAL_WORDS

_UNLISTED_LOG_PROB = -14.0
"""Look-ahead of a word that no list holds."""
_ADDRESS_LOG_PROB = -8.0
"""The same of another pronunciation in an address."""
OWN_SHARE = 0.5
"""Of the probability in open places that take no space, as in an e-mail address: for the grammar's own words."""

_CLOSED: Mapping[str, Any] = {"word_score": 0.0, "stable_after_frames": 1500}
_WIDTHS: Sequence[Mapping[str, Any]] = (
    {**_CLOSED, "beam_size": 100, "beam_threshold": 25.0, "token_threshold": 12.0},
    {**_CLOSED, "beam_size": 400, "beam_threshold": 50.0, "token_threshold": 30.0},
)
"""Settings of the quick and the thorough search of grammars that leave no place open."""


@dataclass(frozen=True, slots=True)
class _Words:
    """What a grammar's streams share."""

    lexicon: Lexicon
    constraint: GrammarScorer
    own_shares: Mapping[int, float]


class Constraints:
    """Grammars of one recogniser; what a grammar's words need is worked out once."""

    def __init__(self, language: Language, rejection: RejectionWeights) -> None:
        self._language, self._rejection = language, rejection
        self._known: WeakKeyDictionary[Grammar, _Words] = WeakKeyDictionary()

    def prepare(self, grammar: Grammar, domain: str | None, on_reject: str) -> Constraint:
        """The grammar's side of a new stream.

        Raises:
            OptionError: no word of the grammar can be spoken, or `on_reject` is unknown.
        """
        if on_reject not in ON_REJECT:
            raise OptionError(f"on_reject: expected one of {', '.join(ON_REJECT)}, found {on_reject!r}")
        words = self._known.get(grammar)
        if words is None:
            lexicon = self._lexicon(grammar)
            constraint = GrammarScorer(grammar.automaton, lexicon.word)
            words = self._known[grammar] = _Words(lexicon, constraint, _own_shares(grammar, lexicon))
        decoding = self._language.decoding(domain)
        settings = [decoding] if grammar.automaton.is_open else [replace(decoding, **width) for width in _WIDTHS]
        searches = [create_search(words.lexicon, self._scorer(grammar, words, domain), each) for each in settings]
        thorough = searches[1] if len(searches) > 1 else None
        return Constraint(
            grammar, searches[0], thorough, words.lexicon.word, self._rejection, settings[0], decoding, on_reject
        )

    def _lexicon(self, grammar: Grammar) -> Lexicon:
        """The grammar's own words; where any word may be said in places, those of the recogniser too."""
        words, listed = grammar.automaton.words(), self._language.lexicon
        if grammar.automaton.is_open:
            extra = self._language.pronouncer.pronounce(word for word in words if listed.find(word) is None)
            log_probs = [_UNLISTED_LOG_PROB] * len(extra)
            if _is_address(grammar):
                extra |= OTHER_PRONUNCIATIONS
                log_probs += [_ADDRESS_LOG_PROB] * len(OTHER_PRONUNCIATIONS)
            return extend_lexicon(listed, extra, np.array(log_probs)) if extra else listed
        pronounced = pronounce_words(grammar.automaton, self._language.pronouncer)
        spoken = {word: variants for word, variants in pronounced.items() if variants}
        if not spoken:
            raise OptionError(f"grammar: none of its words can be spoken: {grammar.pattern!r}")
        spellings = [*SPECIAL_WORDS, *sorted(spoken)]
        return assemble_lexicon(spellings, spoken, np.zeros(len(spellings)))

    def _scorer(self, grammar: Grammar, words: _Words, domain: str | None) -> Scorer:
        lexicon, constraint = words.lexicon, words.constraint
        if not grammar.automaton.is_open:
            return constraint
        ids = np.arange(len(lexicon))
        ids[self._language.n_scored_words(lexicon) :] = 0  # <unk>
        inner = self._language.scorer(domain, lexicon)
        return ConstrainedScorer(constraint, inner, ids, own_shares=words.own_shares)


def _own_shares(grammar: Grammar, lexicon: Lexicon) -> dict[int, float]:
    """What words are given whatever the language model says, by their ids; nothing where it is a sentence."""
    if grammar.automaton.has_open_spaces:
        return {}
    words = grammar.automaton.words()
    is_address = _is_address(grammar)
    shares = address_shares(words) if is_address else dict.fromkeys(words, OWN_SHARE / max(len(words), 1))
    found = zip(lexicon.find_many(list(shares)).tolist(), shares.values(), strict=True)
    return {word: share for word, share in found if word >= 0}


def _is_address(grammar: Grammar) -> bool:
    """Whether places that any word may enter are those of an e-mail address."""
    return not grammar.automaton.has_open_spaces and grammar.automaton.chars.allows("@")

"""A grammar made ready for a stream: its words with their pronunciations, its scorer, its search."""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np

from asr.config import DecodingConfig
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


class Constraints:
    """Grammars of one recogniser; what a grammar's words need is worked out once."""

    def __init__(self, language: Language, rejection: RejectionWeights) -> None:
        self._language, self._rejection = language, rejection
        self._lexicons: WeakKeyDictionary[Grammar, Lexicon] = WeakKeyDictionary()

    def prepare(self, grammar: Grammar, domain: str | None, on_reject: str) -> Constraint:
        """The grammar's side of a new stream.

        Raises:
            OptionError: no word of the grammar can be spoken, or `on_reject` is unknown.
        """
        if on_reject not in ON_REJECT:
            raise OptionError(f"on_reject: expected one of {', '.join(ON_REJECT)}, found {on_reject!r}")
        lexicon = self._lexicons.get(grammar)
        if lexicon is None:
            lexicon = self._lexicons[grammar] = self._lexicon(grammar)
        decoding = self._language.decoding(domain)
        constrained = self._decoding(grammar, decoding)
        search = create_search(lexicon, self._scorer(grammar, lexicon, domain), constrained)
        return Constraint(grammar, search, lexicon.word, self._rejection, constrained, decoding, on_reject)

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

    def _scorer(self, grammar: Grammar, lexicon: Lexicon, domain: str | None) -> Scorer:
        constraint = GrammarScorer(grammar.automaton, lexicon.word)
        if not grammar.automaton.is_open:
            return constraint
        ids = np.arange(len(lexicon))
        ids[self._language.n_scored_words(lexicon) :] = 0  # <unk>
        inner = self._language.scorer(domain, lexicon)
        return ConstrainedScorer(constraint, inner, ids, own_shares=_own_shares(grammar, lexicon))

    def _decoding(self, grammar: Grammar, free: DecodingConfig) -> DecodingConfig:
        if grammar.automaton.is_open:
            return free
        # What was said first may turn out wrong only much later, where nothing that the grammar allows goes on: so
        # little is given up early. In noise most words of a match are not what each frame's best labels say.
        return replace(
            free, word_score=0.0, beam_size=400, beam_threshold=50.0, token_threshold=30.0, stable_after_frames=1500
        )


def _own_shares(grammar: Grammar, lexicon: Lexicon) -> dict[int, float]:
    """What words are given whatever the language model says, by their ids; nothing where it is a sentence."""
    if grammar.automaton.has_open_spaces:
        return {}
    words = grammar.automaton.words()
    is_address = _is_address(grammar)
    shares = address_shares(words) if is_address else dict.fromkeys(words, OWN_SHARE / max(len(words), 1))
    found = ((lexicon.find(word), share) for word, share in shares.items())
    return {word: share for word, share in found if word is not None}


def _is_address(grammar: Grammar) -> bool:
    """Whether places that any word may enter are those of an e-mail address."""
    return not grammar.automaton.has_open_spaces and grammar.automaton.chars.allows("@")

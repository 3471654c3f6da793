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
from lm.grammar.grammar import Grammar
from lm.grammar.scorer import ConstrainedScorer, GrammarScorer
from lm.lexicon import Lexicon
from lm.lexicon_build import assemble_lexicon, extend_lexicon
from lm.scorer import Scorer
from lm.vocabulary import SPECIAL_WORDS

_UNLISTED_LOG_PROB = -14.0
"""Look-ahead of a word that no list holds."""
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
            return extend_lexicon(listed, extra, np.full(len(extra), _UNLISTED_LOG_PROB)) if extra else listed
        spoken = {word: variants for word, variants in self._language.pronouncer.pronounce(words).items() if variants}
        if not spoken:
            raise OptionError(f"grammar: none of its words can be spoken: {grammar.pattern!r}")
        spellings = [*SPECIAL_WORDS, *sorted(spoken)]
        return assemble_lexicon(spellings, spoken, np.zeros(len(spellings)))

    def _scorer(self, grammar: Grammar, lexicon: Lexicon, domain: str | None) -> Scorer:
        constraint = GrammarScorer(grammar.automaton, lexicon.word)
        if not grammar.automaton.is_open:
            return constraint
        ids = np.arange(len(lexicon))
        ids[len(self._language.lexicon) :] = 0  # <unk>
        own = [] if grammar.automaton.has_open_spaces else map(lexicon.find, grammar.automaton.words())
        own_words = [word for word in own if word is not None]
        inner = self._language.scorer(domain)
        return ConstrainedScorer(constraint, inner, ids, own_words=own_words, own_share=OWN_SHARE)

    def _decoding(self, grammar: Grammar, free: DecodingConfig) -> DecodingConfig:
        if grammar.automaton.is_open:
            return free
        # What was said first may turn out wrong only much later, where nothing that the grammar allows goes on: so
        # little is given up early.
        return replace(
            free, word_score=0.0, beam_size=200, beam_threshold=30.0, token_threshold=15.0, stable_after_frames=1500
        )

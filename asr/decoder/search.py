"""The search of one stream: its contract, and the choice between its two implementations."""

from __future__ import annotations

import os
from typing import Protocol

from asr.config import DecodingConfig
from asr.decoder import native
from asr.decoder.history import PathWord, Reading
from asr.decoder.lexicon_search import LexiconSearch
from asr.errors import OptionError
from asr.types import FloatArray
from lm.lexicon import Lexicon
from lm.scorer import Scorer

_VARIABLE = "SOTTOVOCE_SEARCH"


class Search(Protocol):
    """Turns log-probabilities into words, frame by frame; how they are cut into calls makes no difference."""

    def advance(self, log_probs: FloatArray) -> None:
        """Take in frames.

        Args:
            log_probs: (T, V) natural log-probabilities; any T.

        Raises:
            ValueError: wrong shape, NaN or plus infinity.
        """

    def take_stable(self) -> list[PathWord]:
        """Words on which all hypotheses agree; each is returned once."""

    def best(self) -> list[PathWord]:
        """The best hypothesis after the words that were taken; an unfinished word only where it could end now."""

    def preview(self, log_probs: FloatArray) -> list[PathWord]:
        """What `best` would be after these frames (T, V), which are a guess: they are not taken in, and leave no trace.

        Only the first `PREVIEW_BEAM` hypotheses are followed.
        """

    def trailing_silence(self) -> int:
        """Frames since the best hypothesis' last phoneme, or since the utterance's start if it has none."""

    def finish(self) -> list[PathWord]:
        """End the utterance and return the words that were not taken yet; then start anew, the frame count going on."""

    def finish_many(self, count: int) -> list[Reading]:
        """End the utterance in up to `count` ways, best first: none where no word sequence may end here.

        Then start anew, as `finish` does.
        """


def create_search(lexicon: Lexicon, scorer: Scorer, config: DecodingConfig) -> Search:
    """A search for one stream: the native one where it is built, else the one in NumPy.

    The environment variable SOTTOVOCE_SEARCH (`auto`, `native`, `numpy`) overrides that. Lexicon and scorer may be
    shared between streams; a search belongs to one thread at a time.

    Raises:
        OptionError: the variable asks for something unknown, or for the native search where that was not built.
    """
    wanted = os.environ.get(_VARIABLE, "auto")
    if wanted not in ("auto", "native", "numpy"):
        raise OptionError(f"{_VARIABLE} is {wanted!r}, expected 'auto', 'native' or 'numpy'")
    if wanted == "native" and not native.available():
        raise OptionError(f"{_VARIABLE} is 'native', but the native search was not built; install with a C++ compiler")
    if wanted == "numpy" or not native.available():
        return LexiconSearch(lexicon, scorer, config)
    return native.NativeSearch(lexicon, scorer, config)

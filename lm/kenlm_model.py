"""Any ARPA or KenLM binary model as a scorer, through the optional package `kenlm`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm.vocabulary import END, check_words

_LN10 = math.log(10.0)


class KenlmScorer:
    """`Scorer` over a KenLM model of any order.

    KenLM's states are interned: the n-th new one is the int n. The table grows with the contexts that are met, so keep
    one scorer for one session rather than for ever.
    """

    def __init__(self, path: str | Path, words: Sequence[str]) -> None:
        """Load the model at `path` for word ids of the list `words`.

        Raises:
            ImportError: the package is not installed.
            FileNotFoundError: there is no such file.
            ValueError: KenLM cannot read it, or `words` is no word list.
        """
        check_words(words, "words")
        kenlm = _import_kenlm()
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no language model at {path}")
        try:
            self._model = kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path}: KenLM cannot read it: {error}") from None
        self._new_state = kenlm.State
        self._words = words
        self._states: list[Any] = []
        self._numbers: dict[Any, int] = {}
        first = kenlm.State()
        self._model.BeginSentenceWrite(first)
        self._start = self._intern(first)

    def start(self) -> int:
        """State after `<s>`."""
        return self._start

    def step(self, state: int, word: int) -> tuple[int, float]:
        """Next state, and natural log-probability of word id `word` after `state`."""
        after = self._new_state()
        log10_prob = self._model.BaseScore(self._states[state], self._words[word], after)
        return self._intern(after), log10_prob * _LN10

    def finish(self, state: int) -> float:
        """Natural log-probability of `</s>` after `state`."""
        return float(self._model.BaseScore(self._states[state], END, self._new_state()) * _LN10)

    def _intern(self, state: Any) -> int:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
        return number


def _import_kenlm() -> Any:
    try:
        import kenlm
    except ImportError:
        raise ImportError("kenlm is needed for ARPA and KenLM models: pip install 'sottovoce[lm]'") from None
    return kenlm

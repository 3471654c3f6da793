"""Language side of the engine: words, lexicon, n-gram and scorers.

What is named here is loaded when it is asked for: a recogniser needs little of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm.arpa import ArpaError, ArpaModel
    from lm.kenlm_model import KenlmScorer
    from lm.ngram import NgramModel, NgramScorer
    from lm.normalize import normalize_for_wer, normalize_text
    from lm.scorer import NullScorer, Scorer
    from lm.vocabulary import WordListError, read_words

__all__ = [
    "ArpaError",
    "ArpaModel",
    "KenlmScorer",
    "NgramModel",
    "NgramScorer",
    "NullScorer",
    "Scorer",
    "WordListError",
    "normalize_for_wer",
    "normalize_text",
    "read_words",
]

_MODULES = {
    "ArpaError": "arpa", "ArpaModel": "arpa", "KenlmScorer": "kenlm_model", "NgramModel": "ngram",
    "NgramScorer": "ngram", "NullScorer": "scorer", "Scorer": "scorer", "WordListError": "vocabulary",
    "normalize_for_wer": "normalize", "normalize_text": "normalize", "read_words": "vocabulary",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"lm.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

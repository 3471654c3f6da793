"""Language side of the engine: words, lexicon, n-gram and scorers."""

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

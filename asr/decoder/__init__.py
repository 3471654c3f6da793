"""From log-probabilities to words: the search through the lexicon, and best-path phonemes."""

from asr.decoder.greedy import GreedyDecoder, PathPhoneme
from asr.decoder.history import PathWord, Reading
from asr.decoder.search import Search, create_search

__all__ = ["GreedyDecoder", "PathPhoneme", "PathWord", "Reading", "Search", "create_search"]

"""Written English to the words that are spoken: lower case, letters and apostrophes, nothing else.

Apostrophes belong to the word inside it (`don't`), at its start only in a few clipped words (`'tis`, `'em`), and at its
end only in `o'` and, when no single quote is open on the line, after `s` or `in` (`parents'`, `goin'`). All others are
quotes.
"""

from __future__ import annotations

import re
import unicodedata

from lm.verbalize import verbalize_numbers

_SAME_AS = (("'", "‘’‛ʼ´`′"), ('"', "“”„″«»"), ("-", "‐‑–—−"))
_PUNCTUATION = str.maketrans({other: plain for plain, others in _SAME_AS for other in others})
_PLAIN = re.compile(r"[A-Za-z\s.,;:!?'\"()-]*")  # most lines hold nothing else, and need no closer look
_MARKUP = re.compile(r"https?:|www\.|[_{}|\\<>~^]|\w@\w|\w/\w+/\w|``|==|\w\(\)|\w\.(?:html?|md|js|py|ya?ml|json|css)\b")
_SYMBOL = re.compile(r"[^\w\s.,;:!?'\"()%&$£€°-]")
_MOST_SYMBOLS = 0.08  # share of a line's characters; above it the line is a table, a formula or code
_CITATION = re.compile(r"\[[\d,\s]+\]")
_SIGNS = {
    "%": " percent ",
    "&": " and ",
    "°": " degrees ",
    "+": " plus ",
    "$": " dollars ",
    "£": " pounds ",
    "€": " euros ",
}
_SIGN_TABLE = str.maketrans(_SIGNS)
_DOMAIN = re.compile(r"\.(?<=\w\.)(?=(?:com|gov|org|net|io)\b)")
_TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
_ABBREVIATIONS = {
    "vs": "versus",
    "etc": "et cetera",
    "jr": "junior",
    "sr": "senior",
    "prof": "professor",
    "capt": "captain",
    "col": "colonel",
    "gen": "general",
    "lt": "lieutenant",
    "sgt": "sergeant",
    "rev": "reverend",
    "jan": "january",
    "feb": "february",
    "aug": "august",
    "sept": "september",
    "oct": "october",
    "nov": "november",
    "dec": "december",
}
_ABBREVIATION = re.compile(rf"\b({'|'.join(_ABBREVIATIONS)})\.")
# The dot comes first in these two, so that the search leaps from dot to dot: they see every line.
_ABBREVIATION_DOT = re.compile(r"\.(?:" + "|".join(rf"(?<=\b{short}\.)" for short in _ABBREVIATIONS) + ")")
_INNER_DOT = re.compile(r"\.\w")
_SPLIT_CLITIC = re.compile(r"(?<=[a-z])\s+(n't|'(?:s|d|ll|ve|re|m))(?![a-z'])")
_CLIPPED = frozenset({"'tis", "'twas", "'twere", "'twill", "'twould", "'em", "'til", "'cause", "'bout", "'neath"})
_WORD = re.compile(r"[a-z]+")
_WORD_OR_APOSTROPHE = re.compile(r"[a-z']+")


def normalize_text(line: str) -> list[str] | None:
    """The words of one line of language model text.

    Returns:
        Words over `a-z` and the apostrophe, or None where the line holds none, or is markup: addresses, code, tables,
        anything with many symbols.
    """
    text = _fold(line)
    if _PLAIN.fullmatch(text) and not _INNER_DOT.search(text):
        return _words(text.lower()) or None
    if _MARKUP.search(text):
        return None
    text = _CITATION.sub(" ", text)
    if len(_SYMBOL.findall(text)) > _MOST_SYMBOLS * len(text) + 1:
        return None
    return _words(_DOMAIN.sub(" dot ", verbalize_numbers(text.lower())).translate(_SIGN_TABLE)) or None


def normalize_for_wer(text: str) -> str:
    """`text` as word error rates see it: lower-case letters and apostrophes, single spaces, digits dropped."""
    words = _WORD_OR_APOSTROPHE.findall(_fold(text).lower())
    return " ".join(word for word in words if word.strip("'"))


def _fold(text: str) -> str:
    """ASCII quotes and dashes, no accents."""
    if text.isascii():
        return text
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text.translate(_PUNCTUATION)))
    return "".join(c for c in parts if not unicodedata.combining(c))


def _words(text: str) -> list[str]:
    if _ABBREVIATION_DOT.search(text):
        text = _ABBREVIATION.sub(lambda m: f" {_ABBREVIATIONS[m[1]]} ", text)
    words = _words_with_apostrophes(text) if "'" in text else _WORD.findall(text)
    return words if _TITLES.keys().isdisjoint(words) else [_TITLES.get(word, word) for word in words]


def _words_with_apostrophes(text: str) -> list[str]:
    text = _SPLIT_CLITIC.sub(r"\1", text.replace("''", '"'))
    words, quote_open = [], False
    for token in _WORD_OR_APOSTROPHE.findall(text):
        word = token
        if word.startswith("'") and word.rstrip("'") not in _CLIPPED:
            word, quote_open = word.lstrip("'"), True
        if word.endswith("'") and not (word == "o'" or (not quote_open and word.endswith(("s'", "in'")))):
            word, quote_open = word.rstrip("'"), False
        if word:
            words.append(word)
    return words

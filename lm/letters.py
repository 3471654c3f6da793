"""The names of the letters, and what is kept of the ways to say them that were learned from speech."""

from __future__ import annotations

from collections.abc import Mapping

from lm.phones import arpabet_to_ids

Pronunciation = tuple[int, ...]

_NAMES = (
    "EY,B IY,S IY,D IY,IY,EH F,JH IY,EY CH,AY,JH EY,K EY,EH L,EH M,EH N,OW,P IY,K Y UW,AA R,EH S,T IY,Y UW,V IY,"
    "D AH1 B AH0 L Y UW,EH K S,W AY,Z IY"
)
LETTER_NAMES: dict[str, Pronunciation] = {
    letter: arpabet_to_ids(name.split())[0]
    for letter, name in zip("abcdefghijklmnopqrstuvwxyz", _NAMES.split(","), strict=True)
}
_OWNERS = {name: letter for letter, name in LETTER_NAMES.items()}
_LEARNED_LOG_PROB = -1.0


def letter_variants(letter: str, learned: Mapping[Pronunciation, float]) -> dict[Pronunciation, float]:
    """The name of a letter, and less probable what a lexicon has learned of it.

    In running text most single letters are no names (initials, remains of clitics), so what was learned from there may
    be anything, another letter's name too. That is left out, and so is what is longer than the name: a stutter.
    """
    name = LETTER_NAMES[letter]
    kept = {
        phonemes: log_prob + _LEARNED_LOG_PROB
        for phonemes, log_prob in learned.items()
        if _OWNERS.get(phonemes, letter) == letter and len(phonemes) <= len(name)
    }
    return kept | {name: 0.0}

"""What the search in NumPy works on: its hypotheses, their continuations, and the ends of words and utterances.

Shape letters: K hypotheses, C candidates, E ends of words.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ScoreArray = npt.NDArray[np.float64]
HashArray = npt.NDArray[np.uint64]


class WordEnd(NamedTuple):
    """A word that may end at a node after a state of the scorer."""

    word: int
    state: int  # of the scorer, after the word
    language: float
    gain: float  # everything that the word adds to the score


class Beam(NamedTuple):
    """Hypotheses, best first; every array is (K,)."""

    node: IntArray
    emitted: BoolArray  # the last frame's label is the node's, so that emitting it again makes no new phoneme
    state: IntArray
    score: ScoreArray  # without look-ahead
    history: IntArray
    words: HashArray  # hash of all words of the utterance so far
    start: IntArray  # first frame of the word in progress
    end: IntArray  # frame after the last phoneme's last emission, of whichever word
    acoustic: ScoreArray  # of the word in progress, up to now
    acoustic_at_end: ScoreArray  # of the word in progress, up to `end`


class Candidates(NamedTuple):
    """Continuations of hypotheses by one frame; every array is (C,)."""

    parent: IntArray  # index into the beam
    node: IntArray
    emitted: BoolArray
    state: IntArray
    score: ScoreArray
    ended: IntArray  # index into the frame's word ends, -1 where no word ended


class Ends(NamedTuple):
    """Words that end in this frame; every array is (E,)."""

    parent: IntArray  # index into the beam
    state: IntArray
    score: ScoreArray  # of the hypothesis with the word
    words: list[WordEnd]


class Complete(NamedTuple):
    """A way in which the utterance may end, and all others with the same words."""

    hypothesis: int  # index of the best one in the beam
    end: WordEnd | None  # its last word, where that is still open
    words: int  # hash
    score: float  # of all together
    best: float  # of the best one

    def joined(self, other: Complete, plus: np.ufunc) -> Complete:
        """Both as one."""
        best = other if other.best > self.best else self
        return best._replace(score=float(plus(self.score, other.score)))

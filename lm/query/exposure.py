"""How far a secret stands out among its candidates (Carlini et al., 2019, The Secret Sharer).

exposure = log2(number of candidates) - log2(rank of the secret among them by the model's probability). A secret that
the model has never seen has more than e bits of it with probability 2^-e. The candidates are all texts of a bounded
pattern, counted and numbered, each said in the way that the secret is.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lm.grammar.automaton import DEAD, CharAutomaton
from lm.grammar.syntax import parse
from lm.normalize import normalize_text
from lm.query.query import QueryError
from lm.verbalize import digits

FloatArray64 = npt.NDArray[np.float64]
COUNTED = 10
"""Drawn candidates above the secret from which on its rank is counted; with fewer it is read off a fitted curve."""
_MOST_SKEW = 0.99
MAX_LENGTH = 200
Say = Callable[[str], tuple[str, ...]]
_TOKEN = re.compile(r"[a-z']+|.", re.DOTALL)
_SIGNS = {"@": "at", ".": "dot"}


class Candidates:
    """The texts of a pattern over printable ASCII; each has a number."""

    def __init__(self, pattern: str, lists: Mapping[str, Sequence[str]]) -> None:
        """Count the texts.

        Raises:
            GrammarError: the pattern cannot be used.
            QueryError: it has texts without end, or none.
        """
        self._chars = CharAutomaton(parse(pattern), lists, pattern)
        self._alphabet = [char for char in string.printable if self._chars.allows(char)]
        self._counts: dict[int, int] = {}
        self._pattern = pattern
        if self._chars.start == DEAD:
            raise QueryError(f"the pattern {pattern[:80]!r} has no texts")
        self._count(self._chars.start, 0)

    @property
    def size(self) -> int:
        """How many texts there are."""
        return self._counts[self._chars.start]

    def text(self, number: int) -> str:
        """Text number 0 to `size` - 1."""
        state, text = self._chars.start, ""
        while True:
            if self._chars.is_accepting(state):
                if number == 0:
                    return text
                number -= 1
            for char in self._alphabet:
                after = self._chars.step(state, char)
                count = self._counts[after] if after != DEAD else 0
                if number < count:
                    state, text = after, text + char
                    break
                number -= count

    def draw(self, count: int, rng: np.random.Generator) -> list[str]:
        """All texts where there are at most `count`, else so many, uniformly and independently."""
        if self.size <= count:
            return [self.text(number) for number in range(self.size)]
        digits = rng.integers(0, 2**30, (count, 8))
        numbers = (sum(int(digit) << (30 * place) for place, digit in enumerate(row)) for row in digits)
        return [self.text(number % self.size) for number in numbers]

    def _count(self, state: int, depth: int) -> int:
        known = self._counts.get(state)
        if known is not None:
            return known
        if depth > MAX_LENGTH:
            raise QueryError(
                f"the pattern {self._pattern[:80]!r} has texts of more than {MAX_LENGTH} characters: "
                "exposure needs a number of candidates, so write {m,n} instead of * or +"
            )
        following = [self._chars.step(state, char) for char in self._alphabet]
        count = sum(self._count(after, depth + 1) for after in following if after != DEAD)
        self._counts[state] = count + self._chars.is_accepting(state)
        return self._counts[state]


def spell_out(text: str, zero: str = "zero") -> tuple[str, ...]:
    """Digits one by one, `@` and `.` by their names, words as they are; other signs are not said."""
    names = {**dict(zip(string.digits, digits(string.digits).split(), strict=True)), "0": zero, **_SIGNS}
    words = (names.get(token, token) for token in _TOKEN.findall(text.lower()))
    return tuple(word for word in words if word[0].isalpha() or word[0] == "'")


def read_out(text: str) -> tuple[str, ...]:
    """As text for training is normalised."""
    return tuple(normalize_text(text) or ())


def find_style(text: str, words: Sequence[str]) -> Say:
    """The way of saying texts that makes these words of this one; digits one by one where none does."""
    styles: tuple[Say, ...] = (spell_out, lambda t: spell_out(t, "oh"), read_out)
    return next((say for say in styles if say(text) == tuple(words)), spell_out)


def exposure(secret: float, drawn: FloatArray64, size: int) -> float:
    """Exposure in bits, at most log2(`size`).

    Args:
        secret: log-probability of the secret.
        drawn: (n,) log-probabilities of all candidates, or of a uniform draw of them.
        size: number of candidates.
    """
    above = int((drawn >= secret).sum())
    if len(drawn) == size:
        return math.log2(size) - math.log2(max(1, above))
    if above >= COUNTED:
        return math.log2(len(drawn) / above)
    tail = max(upper_tail(secret, drawn), 1.0 / size)
    return min(-math.log2(tail), math.log2(size))


def upper_tail(value: float, drawn: FloatArray64) -> float:
    """Probability of at least `value` under the skew-normal distribution with the moments of `drawn`."""
    mean, deviation = float(drawn.mean()), float(drawn.std())
    if deviation < 1e-9:
        return 1.0 if value <= mean + 1e-9 else 0.0
    skewness = float(((drawn - mean) ** 3).mean()) / deviation**3
    location, scale, shape = _skew_normal(mean, deviation, skewness)
    start = (value - location) / scale
    z = np.linspace(start, max(start, 0.0) + 12.0, 4001)
    density = np.exp(-(z**2) / 2) * np.array([math.erfc(-shape * point / math.sqrt(2)) for point in z])
    density /= math.sqrt(2 * math.pi)
    step = (z[-1] - z[0]) / (len(z) - 1)
    return min(1.0, float((density.sum() - (density[0] + density[-1]) / 2) * step))


def _skew_normal(mean: float, deviation: float, skewness: float) -> tuple[float, float, float]:
    """Location, scale and shape with these moments; a skewness beyond what there is becomes the greatest there is."""
    skewness = max(-_MOST_SKEW, min(_MOST_SKEW, skewness))
    power = abs(skewness) ** (2 / 3)
    delta = math.copysign(math.sqrt(math.pi / 2 * power / (power + ((4 - math.pi) / 2) ** (2 / 3))), skewness)
    delta = max(-0.9999, min(0.9999, delta))
    scale = deviation / math.sqrt(1 - 2 * delta**2 / math.pi)
    return mean - scale * delta * math.sqrt(2 / math.pi), scale, delta / math.sqrt(1 - delta**2)

"""What may be said for what a pattern writes: characters and readings composed, one spoken word at a time.

A configuration is (character state, reading mode, words that may still be skipped). A state stands for a set of them,
so that it is one integer, equal sets have equal futures, and a beam forks it for free. States are made when they are
first reached. What was written is worked out afterwards, from the words alone (`SpokenAutomaton.writings`): of all
ways to write them the cheapest.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from functools import cached_property
from threading import Lock
from typing import NamedTuple, TypeVar

from lm.g2p import normalize_word
from lm.grammar.automaton import DEAD, CharAutomaton
from lm.grammar.errors import GrammarTooLargeError
from lm.grammar.readings import ANY_DIGIT, START, Mode, Reading, Readings, Shapes
from lm.grammar.vocabulary import Vocabulary
from lm.grammar.writing import Trail, Writing, writing_of

FILLERS = ("um", "uh", "er", "please", "okay", "well", "so")
"""Words that `edits` lets a speaker insert."""

_SILENT = {" ": 0.05, "-": 1.9, **dict.fromkeys("\t\n,;:()[]{}\"'?!/\xa0‐‑–—‘’“”«»…·¿¡", 2.0), ".": 2.1}
"""Characters that are written but not said, and what each costs."""
_MOST_SILENT = 3  # in a row
_MOST_STATES = 200_000
_MOST_KNOWN = 200_000  # entries of each table of what was worked out
_JOINED_WORDS, _JOINED_UNITS = 1.5, 0.1  # cost of no character between two plain words, or between one and a unit
_OTHER_ZEROS = ("oh", "o")
_TWO_ZEROS = 2.0  # cost of writing 0 for one of these where another 0 was said "zero": then it is the letter
_NOTHING, _PLAIN, _UNIT = range(3)  # what a configuration wrote last
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Configuration(NamedTuple):
    """One way to have got somewhere."""

    chars: int
    """State of the character automaton."""
    mode: Mode
    edits: int
    """Words that may still be skipped."""


class SpokenAutomaton:
    """Integer states over spoken words; see the module."""

    def __init__(
        self, chars: CharAutomaton, readings: Readings | None, vocabulary: Vocabulary, *, edits: int = 0
    ) -> None:
        """Compose.

        Args:
            chars: what may be written.
            readings: how things other than plain words are said; None where nothing but plain words is.
            vocabulary: the plain words that the pattern writes.
            edits: words of `FILLERS` that may be said besides.
        """
        self.chars, self.readings, self._edits = chars, readings, edits
        self._open, self._spelt = vocabulary.open_classes, vocabulary.spelt
        self.spellings: dict[str, list[str]] = {}
        self.unspeakable: list[str] = []
        for written in sorted(vocabulary.words):
            spoken = _spoken(written)
            if spoken is None:
                self.unspeakable.append(written)
            else:
                self.spellings.setdefault(spoken, []).append(written)
        self._ids: dict[frozenset[Configuration], int] = {}
        self._configs: list[frozenset[Configuration]] = []
        self._lock = Lock()
        self._after: dict[tuple[int, str], int] = {}
        self._final: dict[int, bool] = {}
        self._following: dict[int, tuple[str, ...]] = {}
        self._words: dict[Configuration, frozenset[str]] = {}
        self._units: dict[Mode, tuple[tuple[str, tuple[Reading, ...]], ...]] = {}
        self._useful: dict[tuple[int, Mode], bool] = {}
        self._fitting: dict[tuple[int, Shapes], bool] = {}
        self._digit_runs: dict[int, tuple[int, ...]] = {}
        self._plain_runs: dict[tuple[int, str], tuple[tuple[int, str], ...]] = {}
        self._silent_runs: dict[int, tuple[tuple[int, str, float], ...]] = {}
        self._any_letters: dict[int, int | None] = {}
        self._any_word: dict[int, int | None] = {}
        self._lettered: dict[str, bool] = {}
        self._has_open_letters = any(all(c in chars for c in string.ascii_lowercase) for chars in self._open)
        self.start = self._intern(self.closed([Configuration(chars.start, START, edits)]))

    @property
    def n_states(self) -> int:
        """States that have been reached so far."""
        return len(self._configs)

    @property
    def is_open(self) -> bool:
        """Whether words of any list may be said in places."""
        return bool(self._open)

    @property
    def has_open_spaces(self) -> bool:
        """Whether such words may be written apart, as in a sentence."""
        return any(" " in chars for chars in self._open)

    def words(self) -> frozenset[str]:
        """Every word that may be said, those of open places apart."""
        return frozenset(self.spellings) | self.reading_words() | frozenset(FILLERS if self._edits else ())

    def reading_words(self) -> frozenset[str]:
        """Those that are not, or not only, written as they are spoken."""
        if self.readings is None:
            return frozenset()
        return self.readings.vocabulary(self.chars.allows, lambda letter: letter.lower() in self._spelt)

    def takes_plain(self, word: str) -> bool:
        """Whether a word may be written as it is spoken, somewhere."""
        return word in self.spellings or self._is_open_word(word)

    def step(self, state: int, word: str) -> int:
        """The state after `word`; DEAD where it may not follow."""
        key = state, word
        following = self._after.get(key)
        return self._first_step(key) if following is None else following

    def _first_step(self, key: tuple[int, str]) -> int:
        with self._lock:  # streams of several threads may share a grammar, and numbers are given once
            state, word = key
            found = self._after_any_word(state) if self._is_ordinary(word) else None
            following = self._intern(self.closed(self._moved(self._configs[state], word))) if found is None else found
            _remember(self._after, key, following)
        return following

    def configurations(self, state: int) -> frozenset[Configuration]:
        """What a state stands for."""
        return self._configs[state]

    def after(self, config: Configuration, word: str) -> frozenset[Configuration]:
        """What one configuration becomes by a word; nothing where it may not follow."""
        return self.closed(self._moved([config], word))

    def is_end(self, config: Configuration) -> bool:
        """Whether what was said may end in this configuration."""
        return config.mode == START and self.chars.is_accepting(config.chars)

    def following(self, state: int) -> tuple[str, ...]:
        """Words of `words` that may follow, sorted."""
        known = self._following.get(state)
        if known is None:
            found = frozenset[str]().union(*map(self._words_after, self._configs[state]))
            known = tuple(sorted(found))
            _remember(self._following, state, known)
        return known

    def _words_after(self, config: Configuration) -> frozenset[str]:
        """Words of `words` that may follow one configuration: many states share it."""
        key = config._replace(edits=min(config.edits, 1))
        known = self._words.get(key)
        if known is None:
            units = self._unit_words(key.mode)
            found = {word for word, ways in units if any(self._read(key.chars, way) != DEAD for way in ways)}
            if key.mode == START:
                plain = self.words() if self._open else self.spellings
                found.update(word for word in plain if self._written_plain(key.chars, word))
                found.update(FILLERS if key.edits else ())
            known = frozenset(found)
            _remember(self._words, key, known)
        return known

    def _unit_words(self, mode: Mode) -> tuple[tuple[str, tuple[Reading, ...]], ...]:
        """Words that mean something in a mode, and what."""
        if self.readings is None:
            return ()
        known = self._units.get(mode)
        if known is None:
            ways = ((word, self.readings.after(mode, word)) for word in self._reading_words)
            known = tuple((word, found) for word, found in ways if found)
            _remember(self._units, mode, known)
        return known

    @cached_property
    def _reading_words(self) -> frozenset[str]:
        return self.reading_words()

    def is_final(self, state: int) -> bool:
        """Whether what was said may end here."""
        known = self._final.get(state)
        if known is None:
            known = self._final[state] = any(map(self.is_end, self._configs[state]))
        return known

    def writings(self, words: Sequence[str]) -> list[Writing]:
        """All ways to write the words that match, cheapest first; one for each text."""
        trails = self._trails(words)
        found: dict[str, Writing] = {}
        for (config, _), trail in sorted(trails.items(), key=lambda item: item[1].cost):
            if self.is_end(config):
                writing = writing_of(trail)
                found.setdefault(writing.text, writing)
        return list(found.values())

    def prefix(self, words: Sequence[str]) -> tuple[str, str]:
        """What is written for the beginning of a match: what all its ways share, and the rest of the cheapest one."""
        trails = sorted(self._trails(words).values(), key=lambda trail: trail.cost)
        texts = [writing_of(trail).text for trail in trails]
        if not texts:
            return "", ""
        shared = 0
        while all(len(text) > shared and text[shared] == texts[0][shared] for text in texts):
            shared += 1
        return texts[0][:shared], texts[0][shared:]

    def _intern(self, configs: frozenset[Configuration]) -> int:
        if not configs:
            return DEAD
        state = self._ids.get(configs)
        if state is None:
            if len(self._configs) >= _MOST_STATES:
                raise GrammarTooLargeError(
                    f"the grammar has more than {_MOST_STATES} states that speech can reach; make it simpler"
                )
            state = self._ids[configs] = len(self._configs)
            self._configs.append(configs)
        return state

    def _moved(self, configs: Iterable[Configuration], word: str) -> list[Configuration]:
        """Configurations right after `word`, before endings and silent characters."""
        moved: list[Configuration] = []
        for config in configs:
            if self.readings is not None:
                for reading in self.readings.after(config.mode, word):
                    chars = self._read(config.chars, reading)
                    if chars != DEAD:
                        moved.append(Configuration(chars, reading.mode, config.edits))
            if config.mode != START:
                continue
            moved += [Configuration(chars, START, config.edits) for chars in self._after_plain(config.chars, word)]
            if config.edits and word in FILLERS:
                moved.append(config._replace(edits=config.edits - 1))
        return moved

    def closed(self, configs: Iterable[Configuration]) -> frozenset[Configuration]:
        """The configurations, those that their modes may end in, and those after silent characters."""
        found = set(configs)
        if self.readings is not None:
            for config in list(found):
                for output, _ in self.readings.endings(config.mode) if config.mode != START else ():
                    chars = self.chars.run(config.chars, output)
                    if chars != DEAD:
                        found.add(Configuration(chars, START, config.edits))
        for config in list(found):
            if config.mode == START:
                found.update(config._replace(chars=chars) for chars, _, _ in self._after_silence(config.chars))
        return frozenset(found)

    def _read(self, chars: int, reading: Reading) -> int:
        """The character state after a reading; DEAD where what it began cannot be written any more."""
        after = self.chars.run(chars, reading.output)
        if after == DEAD or reading.mode == START:
            return after
        key = after, reading.mode
        is_useful = self._useful.get(key)
        if is_useful is None:
            assert self.readings is not None
            shapes = self.readings.shapes(reading.mode)
            is_useful = self._fits(after, shapes) or any(
                self._fits(silent, shapes) for silent, _, _ in self._after_silence(after)
            )
            _remember(self._useful, key, is_useful)
        return after if is_useful else DEAD

    def _fits(self, chars: int, shapes: Shapes) -> bool:
        """Whether something of one of the shapes may be written."""
        if shapes.is_end:
            return True
        key = chars, shapes
        fits = self._fitting.get(key)
        if fits is None:
            fits = any(
                self._fits(after, rest)
                for char, rest in shapes.following
                for after in (self._after_digits(chars) if char == ANY_DIGIT else (self.chars.step(chars, char),))
                if after != DEAD
            )
            _remember(self._fitting, key, fits)
        return fits

    def _after_digits(self, chars: int) -> tuple[int, ...]:
        """Character states that the ten digits lead to."""
        found = self._digit_runs.get(chars)
        if found is None:
            found = tuple({self.chars.step(chars, digit) for digit in string.digits})
            _remember(self._digit_runs, chars, found)
        return found

    def _is_open_word(self, word: str) -> bool:
        return any(all(c in chars or c.upper() in chars for c in word if c != "'") for chars in self._open)

    def _written_plain(self, chars: int, word: str) -> tuple[tuple[int, str], ...]:
        """Character states after a word that is written as it is spoken, and how it was: in the letters' cases."""
        key = chars, word
        found = self._plain_runs.get(key)
        if found is None:
            spellings = self.spellings.get(word, [])
            if word not in spellings and self._is_open_word(word):
                spellings = [*spellings, word]
            runs = [run for spelling in spellings for run in self._in_any_case(chars, spelling)]
            found = tuple(dict(runs).items())
            _remember(self._plain_runs, key, found)
        return found

    def _after_plain(self, chars: int, word: str) -> Iterable[int]:
        """Character states after a word that is written as it is spoken."""
        if self._is_lettered(word):
            after = self._after_any_letters(chars)
            if after is not None:
                return () if after == DEAD else (after,)
        return [after for after, _ in self._written_plain(chars, word)]

    def _is_lettered(self, word: str) -> bool:
        """Whether a word is letters a to z, and may be said wherever any such word may."""
        known = self._lettered.get(word)
        if known is None:
            known = self._has_open_letters and word.isascii() and word.isalpha() and word.islower()
            known = known and word not in self.spellings
            _remember(self._lettered, word, known)
        return known

    def _is_ordinary(self, word: str) -> bool:
        """Whether a lettered word means nothing else."""
        if self.readings is not None and word in self.readings.all_words or self._edits and word in FILLERS:
            return False
        return self._is_lettered(word)

    def _after_any_word(self, state: int) -> int | None:
        """The state after any ordinary word, where that is the same for all; None where letters matter."""
        if state not in self._any_word:
            starts = [config for config in self._configs[state] if config.mode == START]
            moved = [(self._after_any_letters(config.chars), config.edits) for config in starts]
            configs = [Configuration(chars, START, edits) for chars, edits in moved if chars not in (None, DEAD)]
            is_same = all(chars is not None for chars, _ in moved)
            _remember(self._any_word, state, self._intern(self.closed(configs)) if is_same else None)
        return self._any_word[state]

    def _after_any_letters(self, chars: int) -> int | None:
        """The character state after any letters a to z, one or more; DEAD; or None where they lead apart."""
        after = self._after_any_letter(chars)
        return after if after in (None, DEAD) or self._after_any_letter(after) == after else None

    def _after_any_letter(self, chars: int) -> int | None:
        """The character state after any letter a to z in any case that may follow; None where they lead apart."""
        if chars not in self._any_letters:
            ways = {
                frozenset({self.chars.step(chars, letter), self.chars.step(chars, letter.upper())} - {DEAD})
                for letter in string.ascii_lowercase
            }
            (way, *others) = ways
            after = next(iter(way), DEAD) if not others and len(way) < 2 else None
            _remember(self._any_letters, chars, after)
        return self._any_letters[chars]

    def _in_any_case(self, chars: int, spelling: str) -> list[tuple[int, str]]:
        runs = {chars: ""}
        for letter in spelling:
            following: dict[int, str] = {}
            cases = (letter,) if letter.upper() == letter else (letter, letter.upper())
            for state, text in runs.items():
                for written in cases:
                    after = self.chars.step(state, written) if len(written) == 1 else self.chars.run(state, written)
                    if after != DEAD:
                        following.setdefault(after, text + written)
            runs = following
        return list(runs.items())

    def _after_silence(self, chars: int) -> tuple[tuple[int, str, float], ...]:
        """Character states that silent characters lead to, the cheapest way to each, and its cost."""
        found = self._silent_runs.get(chars)
        if found is None:
            best: dict[int, tuple[str, float]] = {}
            border = {chars: ("", 0.0)}
            for _ in range(_MOST_SILENT):
                following: dict[int, tuple[str, float]] = {}
                for state, (text, cost) in border.items():
                    for char, price in _SILENT.items():
                        after = self.chars.step(state, char)
                        if after != DEAD and cost + price < best.get(after, ("", float("inf")))[1]:
                            best[after] = following[after] = text + char, cost + price
                border = following
            found = self._silent_runs[chars] = tuple((state, text, cost) for state, (text, cost) in best.items())
        return found

    def _trails(self, words: Sequence[str]) -> dict[tuple[Configuration, int], Trail]:
        """The cheapest way to each configuration, and to what it wrote last, after all the words."""
        origin, says_zero = Trail(0.0, None, -1, "", True), "zero" in words
        trails = self._silenced({(Configuration(self.chars.start, START, self._edits), _NOTHING): origin})
        for index, word in enumerate(words):
            following: dict[tuple[Configuration, int], Trail] = {}
            price = _TWO_ZEROS if says_zero and word in _OTHER_ZEROS else 0.0
            for (config, last), trail in trails.items():
                self._extend(following, config, last, trail, index, word, price)
            trails = self._silenced(self._ended(following))
        return trails

    def _extend(
        self,
        found: dict[tuple[Configuration, int], Trail],
        config: Configuration,
        last: int,
        trail: Trail,
        index: int,
        word: str,
        of_zero: float,
    ) -> None:
        joined = _JOINED_UNITS if last == _PLAIN else 0.0
        for reading in self.readings.after(config.mode, word) if self.readings is not None else ():
            chars = self._read(config.chars, reading)
            if chars != DEAD:
                cost = trail.cost + reading.cost + (joined if config.mode == START else 0.0)
                cost += of_zero if reading.output == "0" else 0.0
                after = Configuration(chars, reading.mode, config.edits)
                _keep(found, (after, _UNIT), Trail(cost, trail, index, reading.output, reading.mode == START))
        if config.mode != START:
            return
        joined = (0.0, _JOINED_WORDS, _JOINED_UNITS)[last]
        for chars, text in self._written_plain(config.chars, word):
            capitals = 0.01 * sum(c.isupper() for c in text)
            after = Configuration(chars, START, config.edits)
            _keep(found, (after, _PLAIN), Trail(trail.cost + joined + capitals, trail, index, text, True))
        if config.edits and word in FILLERS:
            after = config._replace(edits=config.edits - 1)
            _keep(found, (after, last), Trail(trail.cost + 1.0, trail, index, "", True))

    def _ended(self, trails: dict[tuple[Configuration, int], Trail]) -> dict[tuple[Configuration, int], Trail]:
        """And those in which a mode has ended without a word."""
        if self.readings is None:
            return trails
        found = dict(trails)
        for (config, last), trail in trails.items():
            for output, price in self.readings.endings(config.mode) if config.mode != START else ():
                chars = self.chars.run(config.chars, output)
                if chars != DEAD:
                    ended = Trail(trail.cost + price, trail, trail.word, output, True)
                    _keep(found, (Configuration(chars, START, config.edits), last), ended)
        return found

    def _silenced(self, trails: dict[tuple[Configuration, int], Trail]) -> dict[tuple[Configuration, int], Trail]:
        """And those after silent characters."""
        found = dict(trails)
        for (config, _), trail in trails.items():
            if config.mode == START:
                for chars, text, price in self._after_silence(config.chars):
                    after = Trail(trail.cost + price, trail, -1, text, True)
                    _keep(found, (config._replace(chars=chars), _NOTHING), after)
        return found


def _remember(known: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep what was worked out; a stream may go on for hours, so a table that is full starts anew."""
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known[key] = value


def _spoken(written: str) -> str | None:
    """The spoken word of a written one; None where it has letters that nobody can say."""
    try:
        return normalize_word(written)
    except ValueError:
        return None


def _keep(trails: dict[tuple[Configuration, int], Trail], key: tuple[Configuration, int], trail: Trail) -> None:
    known = trails.get(key)
    if known is None or trail.cost < known.cost:
        trails[key] = trail

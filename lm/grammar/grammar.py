"""A grammar: what may be written, as a regular expression, and everything that may be said for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lm.grammar.automaton import CharAutomaton
from lm.grammar.errors import GrammarError
from lm.grammar.matching import Match
from lm.grammar.readings import Readings, default_readings
from lm.grammar.spoken import SpokenAutomaton
from lm.grammar.syntax import parse
from lm.grammar.vocabulary import spoken_vocabulary
from lm.grammar.writing import Writing

FLAGS = re.IGNORECASE | re.DOTALL | re.ASCII
_RENEWED_FROM, _RENEWED_FROM_CHARS = 20_000, 50_000  # a fraction of what raises GrammarTooLargeError
_KIND, _VERSION = "sottovoce-grammar", 1
_KEYS = {"kind", "version", "pattern", "spoken", "lists", "edits", "flags", "readings"}


class Grammar:
    r"""A compiled pattern. It never changes, and any number of streams may share it.

    asr.Grammar(r"\d{3}-\d{4}")                                   # "five five five, one two three four"
    asr.Grammar(r"call {contact}", lists={"contact": names})
    asr.Grammar(r"remind me to (?P<what>.+) at (?P<time>\d{1,2}:\d\d)")
    """

    def __init__(
        self,
        pattern: str,
        *,
        spoken: bool = True,
        lists: Mapping[str, Sequence[str]] | None = None,
        edits: int = 0,
        flags: int = 0,
        readings: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Compile.

        Args:
            pattern: what may be written, in the syntax of Python's `re`; `{name}` stands for any entry of a list.
                Back-references, look-around, atomic groups and word borders are not regular, or not known here.
            spoken: digits, numbers, letters, symbols, times, dates and amounts may be said in any usual way; False
                takes plain words alone, as they are written.
            lists: entries by list name, each as it is to be written.
            edits: so many words like "um" and "please" may be said besides, anywhere.
            flags: `re.IGNORECASE`, `re.DOTALL`, `re.ASCII`.
            readings: ways of your own to say something, by what is written for it: `{"°C": ["celsius"]}`.

        Raises:
            GrammarError: the pattern, a list or an option cannot be used; says where and what to write instead.
            GrammarTooLargeError: it would need more time or memory than a grammar is given.
        """
        if not isinstance(pattern, str):
            raise GrammarError(f"pattern: expected a str, found {type(pattern).__name__}")
        if not isinstance(flags, int) or flags & ~int(FLAGS):
            raise GrammarError("flags: expected re.IGNORECASE, re.DOTALL and re.ASCII only", pattern)
        if type(edits) is not int or not 0 <= edits <= 5:
            raise GrammarError(f"edits: expected a whole number from 0 to 5, found {edits!r}", pattern)
        self.pattern, self.is_spoken, self.edits, self.flags = pattern, spoken, edits, int(flags)
        self.lists = {name: _strings(f"lists[{name!r}]", found) for name, found in _items("lists", lists)}
        self.readings = {written: _strings("readings", ways) for written, ways in _items("readings", readings)}
        self._node = parse(pattern, self.flags)
        self._chars = CharAutomaton(self._node, self.lists, pattern)
        self._vocabulary = spoken_vocabulary(self._node, self.lists)
        self._spoken = self._compose()

    @property
    def automaton(self) -> SpokenAutomaton:
        """States over spoken words, for the search; a new one where the last has grown large over many streams."""
        if self._spoken.n_states > _RENEWED_FROM or self._chars.n_states > _RENEWED_FROM_CHARS:
            self._chars = CharAutomaton(self._node, self.lists, self.pattern)
            self._spoken = self._compose()
        return self._spoken

    @property
    def unspeakable(self) -> tuple[str, ...]:
        """Words of the pattern and of the lists that nobody can say, as they have letters outside a to z."""
        return tuple(self._spoken.unspeakable)

    def fullmatch(self, text: str) -> Match | None:
        """Whether `text` may be written, and where its groups are."""
        return self.automaton.chars.fullmatch(text)

    def write(self, spoken: str) -> list[Writing]:
        """All that may be written for spoken words (lower case, separated by spaces), cheapest first."""
        return self.automaton.writings(spoken.split())

    def accepts(self, spoken: str) -> bool:
        """Whether a sequence of spoken words is one of a match."""
        automaton = self.automaton
        state = automaton.start
        for word in spoken.split():
            state = automaton.step(state, word)
            if state < 0:
                return False
        return automaton.is_final(state)

    def save(self, path: str | Path) -> None:
        """Write the grammar to a file (JSON): the pattern and its lists; it is compiled again when loaded."""
        content = {
            "kind": _KIND, "version": _VERSION, "pattern": self.pattern, "spoken": self.is_spoken,
            "lists": self.lists, "edits": self.edits, "flags": self.flags, "readings": self.readings,
        }  # fmt: skip
        Path(path).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Grammar:
        """Read what `save` wrote.

        Raises:
            GrammarError: not such a file, or one of another version.
            OSError: the file cannot be read.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError:
            raise GrammarError(f"{path}: not a grammar file, which is JSON") from None
        if not isinstance(content, dict) or content.get("kind") != _KIND or set(content) != _KEYS:
            raise GrammarError(f"{path}: not a grammar file: expected the keys {', '.join(sorted(_KEYS))}")
        if content["version"] != _VERSION:
            raise GrammarError(f"{path}: version {content['version']!r} of the format, expected {_VERSION}")
        options = {key: content[key] for key in ("spoken", "lists", "edits", "flags", "readings")}
        return cls(content["pattern"], **options)

    def _compose(self) -> SpokenAutomaton:
        return SpokenAutomaton(self._chars, self._all_readings(), self._vocabulary, edits=self.edits)

    def _all_readings(self) -> Readings | None:
        if not self.is_spoken:
            return None
        return default_readings().extended(self.readings) if self.readings else default_readings()


def _items(option: str, given: Mapping[str, Sequence[str]] | None) -> Iterable[tuple[str, Sequence[str]]]:
    if not isinstance(given or {}, Mapping) or not all(isinstance(name, str) for name in given or {}):
        raise GrammarError(f"{option}: expected lists of strings by a string, found {given!r}")
    return (given or {}).items()


def _strings(option: str, given: Sequence[str]) -> list[str]:
    found = [] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    if not found or not all(isinstance(entry, str) and entry for entry in found):
        raise GrammarError(f"{option}: expected a list of strings, none of them empty, and at least one")
    return found

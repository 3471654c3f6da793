"""The plain words that a pattern may write: its literals' and its lists', over all alternatives."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lm.grammar.charset import CharSet, fold
from lm.grammar.errors import GrammarTooLargeError
from lm.grammar.nodes import Alternation, Chars, Empty, Group, ListReference, Node, Repeat
from lm.grammar.nodes import Sequence as SequenceNode

MAX_WORDS = 200_000
MAX_WORD_LENGTH = 64
MAX_ALTERNATIVE_LETTERS = 8
MAX_CLOSED_REPEAT = 10
_MAX_WORK = 1_000_000
_MAX_JOINED_ITERATIONS = 20_000
_MAX_JOINED_OPEN_ITERATIONS = 500
_OPEN_ITERATIONS = 3
_ENOUGH_MEMBERS = 3_000  # more than there are characters with two cases

_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
_WORDS = re.compile(rf"(?:[^\W\d_]|[{_APOSTROPHES}\u0300-\u036f])+")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words that may be said as they are written."""

    words: frozenset[str]
    """Lower case; letters, with apostrophes inside."""
    open_classes: tuple[CharSet, ...]
    """Any word of the letters of one of these may be said too."""
    spelt: frozenset[str] = frozenset()
    """Letters a to z that are said by their names: those of classes with several letters."""


class _Fragments(NamedTuple):
    """The letters that texts of a node begin and end with, which the node's neighbours may go on with."""

    whole: frozenset[str]
    """Texts that are all letters; "" among them."""
    heads: frozenset[str] = frozenset()
    """Letters before the first other character, of texts that are not all letters."""
    tails: frozenset[str] = frozenset()
    """Letters after their last other character."""


_NOTHING = frozenset({""})
_EMPTY = _Fragments(_NOTHING)
_BREAK = _Fragments(frozenset(), _NOTHING, _NOTHING)


def spoken_vocabulary(node: Node, lists: Mapping[str, Sequence[str]]) -> Vocabulary:
    """Returns the words that texts of a pattern may hold.

    A class of up to 8 letters counts as alternatives; a bigger one breaks words. Inside a repeat without a maximum, or
    with one over 10, the bigger ones are the open classes, and so is a smaller one that is repeated by itself.

    Args:
        node: the pattern.
        lists: the entries of the lists that it names.

    Raises:
        GrammarTooLargeError: more than 200,000 words, or too many alternatives within words.
    """
    collector = _Collector(lists)
    fragments = collector.fragments(node, False)
    collector.add(fragments.whole | fragments.heads | fragments.tails)
    return Vocabulary(frozenset(collector.words), tuple(collector.open_classes), _spelt_letters(node))


def _spelt_letters(node: Node) -> frozenset[str]:
    """The letters of all classes that hold several, upper or lower case."""
    found: set[str] = set()
    pending: list[Node] = [node]
    while pending:
        part = pending.pop()
        match part:
            case Chars(chars):
                letters = {letter for letter in string.ascii_lowercase if letter in chars or letter.upper() in chars}
                found |= letters if len(letters) > 1 else set()
            case SequenceNode(parts) | Alternation(parts):
                pending += parts
            case Repeat(body) | Group(body):
                pending.append(body)
    return frozenset(found)


class _Collector:
    """Collects the words that are complete on both sides."""

    def __init__(self, lists: Mapping[str, Sequence[str]]) -> None:
        self.words: set[str] = set()
        self.open_classes: dict[CharSet, None] = {}
        self._lists = lists
        self._work = 0
        self._letters: dict[CharSet, tuple[frozenset[str], bool]] = {}
        self._listed: dict[str, _Fragments] = {}

    def add(self, words: Iterable[str]) -> None:
        self.words.update(word for word in (word.strip(_APOSTROPHES) for word in words) if word)
        if len(self.words) > MAX_WORDS:
            self._fail()

    def fragments(self, node: Node, is_open: bool) -> _Fragments:
        """The fragments of a node; `is_open`: inside a repeat of which any number of letters may come."""
        if isinstance(node, Chars):
            return self._char(node.chars, is_open)
        if isinstance(node, ListReference):
            return self._list(node.name)
        if isinstance(node, SequenceNode):
            found = _EMPTY
            for part in node.parts:
                found = self._joined(found, self.fragments(part, is_open))
            return found
        if isinstance(node, Alternation):
            return self._either([self.fragments(option, is_open) for option in node.options])
        if isinstance(node, Repeat):
            return self._repeat(node, is_open)
        return _EMPTY if isinstance(node, Empty) else self.fragments(node.body, is_open)

    def _char(self, chars: CharSet, is_open: bool) -> _Fragments:
        if chars not in self._letters:
            self._letters[chars] = _letters(chars)
        letters, has_others = self._letters[chars]
        if len(letters) > MAX_ALTERNATIVE_LETTERS:
            if is_open:
                self.open_classes[chars] = None
            return _BREAK
        return _Fragments(letters, *_BREAK[1:]) if has_others else _Fragments(letters)

    def _list(self, name: str) -> _Fragments:
        if name not in self._listed:
            self._work_on(len(self._lists[name]))
            self._listed[name] = self._read_list(self._lists[name])
        return self._listed[name]

    def _read_list(self, entries: Sequence[str]) -> _Fragments:
        whole, heads, tails = set(), set(), set()
        for entry in map(_lower, entries):
            words = _WORDS.findall(entry)
            if len(words) == 1 and len(words[0]) == len(entry):
                whole.add(entry)
                continue
            self.add(words)
            heads.add(words[0] if words and entry.startswith(words[0]) else "")
            tails.add(words[-1] if words and entry.endswith(words[-1]) else "")
        return _Fragments(frozenset(whole), frozenset(heads), frozenset(tails))

    def _either(self, options: list[_Fragments]) -> _Fragments:
        if not options:
            return _Fragments(frozenset())
        found = _Fragments(*(frozenset().union(*sets) for sets in zip(*options, strict=True)))
        self._work_on(sum(map(len, found)))
        return found

    def _repeat(self, node: Repeat, is_open: bool) -> _Fragments:
        if node.maximum == 0:
            return _EMPTY
        opens = node.maximum is None or node.maximum > MAX_CLOSED_REPEAT
        body = self.fragments(node.body, is_open or opens)
        if opens and isinstance(node.body, Chars) and len(body.whole) > 1:
            self.open_classes[node.body.chars] = None
        most = node.minimum + _OPEN_ITERATIONS if node.maximum is None else node.maximum
        last = min(most, max(_OPEN_ITERATIONS, min(node.minimum, MAX_CLOSED_REPEAT)) if opens else most)
        most_joined = _MAX_JOINED_OPEN_ITERATIONS if opens else _MAX_JOINED_ITERATIONS
        found, options = _EMPTY, [_EMPTY] if node.minimum == 0 else []
        for count in range(1, last + 1):
            if len(found.whole) * len(body.whole) > most_joined:
                options.append(found)
                self.add(body.whole | body.heads | body.tails)
                break
            found = self._joined(found, body)
            if count >= min(node.minimum, last):
                options.append(found)
        return self._either(options)

    def _joined(self, first: _Fragments, second: _Fragments) -> _Fragments:
        if first is _EMPTY:
            return second
        self.add(self._product(first.tails, second.heads))
        return _Fragments(
            self._product(first.whole, second.whole),
            first.heads | self._product(first.whole, second.heads),
            second.tails | self._product(first.tails, second.whole),
        )

    def _product(self, first: frozenset[str], second: frozenset[str]) -> frozenset[str]:
        if second == _NOTHING:
            return first
        self._work_on(len(first) * len(second))
        pairs = itertools.product(first, second)
        return frozenset(a + b if len(a) + len(b) <= MAX_WORD_LENGTH else "" for a, b in pairs)

    def _work_on(self, amount: int) -> None:
        self._work += amount
        if self._work > _MAX_WORK:
            self._fail()

    def _fail(self) -> None:
        raise GrammarTooLargeError(
            f"the pattern writes more than {MAX_WORDS} words, or words with too many alternatives inside; "
            "use shorter lists, and + instead of many optional letters"
        )


def _lower(text: str) -> str:
    """The text in lower case; letters of which that would be several characters stay, as they have to be written."""
    if text.isascii():
        return text.lower()
    return "".join(lower if len(lower := char.lower()) == 1 else char for char in text)


def _letters(chars: CharSet) -> tuple[frozenset[str], bool]:
    """The letters of a set in lower case (9 or more: not all of them), and whether it has other members."""
    if chars.negated:
        members: Iterable[str] = itertools.islice(chars.members(), _ENOUGH_MEMBERS)
    else:
        members = (chr(code) for low, high in chars.ranges for code in range(low, high + 1))
    letters: set[str] = set()
    has_others = False
    if not chars.negated and set(chars.categories) & set("wDS"):
        members = map(chr, range(ord("a"), ord("z") + 1))
    for char in members:
        if _WORDS.fullmatch(char):
            letters.add(_lower(fold(char) if chars.ignore_case else char))
        else:
            has_others = True
        if len(letters) > MAX_ALTERNATIVE_LETTERS:
            break
    return frozenset(letters), has_others or bool(chars.categories)

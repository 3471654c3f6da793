"""Reads a pattern: the regular part of Python's `re` syntax, and `{name}` for a list given at run time.

Anchors mean the ends of the whole text: `$` does not match before a trailing newline, which is the one difference from
`re.fullmatch`.
"""

from __future__ import annotations

import re
from typing import Literal, NoReturn

from lm.grammar.anchors import Anchor, resolve_anchors
from lm.grammar.charset import MAX_CODE, CharSet, charset
from lm.grammar.errors import GrammarError, GrammarTooLargeError
from lm.grammar.nodes import Chars, Group, ListReference, Node, Repeat, alternation, sequence

MAX_PATTERN_LENGTH = 100_000
MAX_NESTING = 50
MAX_REPEAT = 10_000

_FLAGS = {"i": re.IGNORECASE, "s": re.DOTALL, "a": re.ASCII, "u": re.UNICODE}
_KNOWN_FLAGS = re.IGNORECASE | re.DOTALL | re.ASCII | re.UNICODE
_LEADING_FLAGS = re.compile(r"\(\?([a-zA-Z]+)\)")
_SCOPED_FLAGS = re.compile(r"\(\?([a-zA-Z]*)(-[a-zA-Z]*)?:")
_GROUP_NAME = re.compile(r"\(\?P<([^>)]*)>")
_LIST = re.compile(r"\{([^\W\d]\w*)\}")
_COUNT = re.compile(r"\{([0-9]*)(?:(,)([0-9]*))?\}")
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_SPECIAL = frozenset("*+?{|)(^$.[\\")
_UNSUPPORTED_GROUPS = {
    "(?=": "look-ahead is not supported; write the alternatives that are allowed",
    "(?!": "look-ahead is not supported; write the alternatives that are allowed",
    "(?<": "look-behind is not supported; write the text before it as part of the pattern",
    "(?>": "an atomic group is not supported; write (?:...)",
    "(?(": "a conditional is not supported; write both cases as alternatives, (?:a|b)",
    "(?#": "a comment is not supported; leave it out",
    "(?P=": "a back-reference is not supported; write out what the group may match",
}


def parse(pattern: str, flags: int = 0) -> Node:
    """Returns the tree of a pattern.

    Args:
        pattern: a regular expression over the whole text; `{name}` is an entry of the list of that name.
        flags: of re.IGNORECASE, re.DOTALL and re.ASCII.

    Raises:
        GrammarError: the pattern is no regular expression, or uses what is not regular; the message shows where.
        GrammarTooLargeError: it is too long, too deeply nested, or repeats something too often.
    """
    if flags & ~_KNOWN_FLAGS:
        raise GrammarError(f"unknown flags {flags & ~_KNOWN_FLAGS:#x}: use re.IGNORECASE, re.DOTALL, re.ASCII")
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise GrammarTooLargeError(
            f"the pattern has {len(pattern)} characters, more than {MAX_PATTERN_LENGTH}; put names in a list: {{name}}"
        )
    parser = _Parser(pattern)
    node = parser.parse(flags)
    return resolve_anchors(node, pattern) if parser.has_anchors else node


class _Parser:
    """One pass over a pattern; `_at` is the next character."""

    def __init__(self, pattern: str) -> None:
        self.has_anchors = False
        self._pattern = pattern
        self._at = 0
        self._nesting = 0
        self._groups = 0
        self._names: set[str] = set()
        self._chars: dict[tuple[str, int], Chars] = {}  # long patterns have few distinct characters

    def parse(self, flags: int) -> Node:
        while match := _LEADING_FLAGS.match(self._pattern, self._at):
            flags = self._added(flags, match[1], match.start(1))
            self._at = match.end()
        node = self._alternation(flags)
        if self._at < len(self._pattern):
            self._fail("unbalanced parenthesis: it closes nothing; write \\) for the character", self._at)
        return node

    def _fail(self, message: str, column: int, error: type[GrammarError] = GrammarError) -> NoReturn:
        raise error(message, self._pattern, column)

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _alternation(self, flags: int) -> Node:
        options = [self._sequence(flags)]
        while self._peek() == "|":
            self._at += 1
            options.append(self._sequence(flags))
        return alternation(options)

    def _sequence(self, flags: int) -> Node:
        parts: list[Node] = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            parts.append(self._repeated(self._item(flags)))
        return sequence(parts)

    def _item(self, flags: int) -> Node:
        char, column = self._pattern[self._at], self._at
        if char not in _SPECIAL:
            self._at += 1
            return self._literal(char, flags)
        if char == "(":
            return self._group(flags)
        if char == "[":
            return self._class(flags)
        if char == "{":
            return self._list(flags)
        if char in "*+?":
            self._fail(f"nothing to repeat before {char}; write \\{char} for the character", column)
        self._at += 1
        if char == "\\":
            return self._escape(flags)
        if char == ".":
            return Chars(CharSet((), negated=True) if flags & re.DOTALL else charset([(10, 10)], negated=True))
        return self._anchor("start" if char == "^" else "end", column)

    def _anchor(self, kind: Literal["start", "end"], column: int) -> Anchor:
        self.has_anchors = True
        return Anchor(kind, column)

    def _literal(self, char: str, flags: int) -> Chars:
        node = self._chars.get((char, flags))
        if node is None:
            code = ord(char)
            node = self._chars[char, flags] = Chars(self._set([(code, code)], "", False, flags))
        return node

    def _set(self, ranges: list[tuple[int, int]], categories: str, negated: bool, flags: int) -> CharSet:
        ignore_case = bool(flags & re.IGNORECASE) and bool(ranges)
        ascii_only = bool(flags & re.ASCII) and (ignore_case or bool(categories))
        return charset(ranges, categories, negated=negated, ignore_case=ignore_case, ascii_only=ascii_only)

    def _repeated(self, item: Node) -> Node:
        column = self._at
        count = self._count()
        if count is None:
            return item
        if isinstance(item, Anchor):
            self._fail("nothing to repeat: an anchor cannot be repeated", column)
        lazy = self._peek() == "?"
        self._at += lazy
        if not lazy and self._peek() == "+":
            self._fail("a possessive repeat is not supported; leave the + out", self._at)
        if self._count() is not None:
            self._fail("multiple repeat; write (?:...) around what is to be repeated", column)
        return Repeat(item, *count, lazy)

    def _count(self) -> tuple[int, int | None] | None:
        """Reads * + ? {m,n}, if one is next."""
        char, column = self._peek(), self._at
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if char in simple:
            self._at += 1
            return simple[char]
        match = _COUNT.match(self._pattern, self._at) if char == "{" else None
        if match is None or match.end() - match.start() == 2:
            return None
        self._at = match.end()
        low, comma, high = match.groups()
        if len(low) > 9 or len(high or "") > 9 or max(int(low or 0), int(high or 0)) > MAX_REPEAT:
            self._fail(f"more than {MAX_REPEAT} repeats; leave the maximum out: {{m,}}", column, GrammarTooLargeError)
        minimum = int(low or 0)
        maximum = (int(high) if high else None) if comma else minimum
        if maximum is not None and maximum < minimum:
            self._fail("the minimum of the repeat is greater than its maximum; write {m,n} with m <= n", column)
        return minimum, maximum

    def _list(self, flags: int) -> ListReference:
        match = _LIST.match(self._pattern, self._at)
        if match is None:
            if _COUNT.match(self._pattern, self._at):
                self._fail("nothing to repeat before {; write \\{ for the character", self._at)
            self._fail("neither a list {name} nor a repeat {m,n}; write \\{ for the character", self._at)
        column, self._at = self._at, match.end()
        ignore_case = bool(flags & re.IGNORECASE)
        return ListReference(match[1], column, ignore_case, ignore_case and bool(flags & re.ASCII))

    def _added(self, flags: int, letters: str, column: int) -> int:
        for offset, letter in enumerate(letters):
            if letter not in _FLAGS:
                self._fail(f"unsupported flag {letter}: use i, s or a", column + offset)
            if letter == "u":
                flags &= ~re.ASCII
            else:
                flags |= _FLAGS[letter]
        return int(flags)

    def _group(self, flags: int) -> Node:
        column = self._at
        if self._nesting == MAX_NESTING:
            self._fail(f"groups nested more than {MAX_NESTING} deep", column, GrammarTooLargeError)
        name, index, flags = self._group_start(flags)
        self._nesting += 1
        body = self._alternation(flags)
        self._nesting -= 1
        if self._peek() != ")":
            self._fail("this parenthesis is never closed; write \\( for the character", column)
        self._at += 1
        return body if index is None else Group(body, name, index)

    def _group_start(self, flags: int) -> tuple[str | None, int | None, int]:
        """Reads an opening parenthesis: the group's name, its index (None where it does not capture), its flags."""
        column = self._at
        name = None
        if self._pattern.startswith("(?", column):
            match = _GROUP_NAME.match(self._pattern, column)
            if match is None:
                return None, None, self._scoped_flags(flags)
            name = match[1]
            if not name.isidentifier():
                self._fail(f"bad group name {name!r}: use letters, digits and _, no digit first", column + 4)
            if name in self._names:
                self._fail(f"there is a group {name!r} already; give this one another name", column + 4)
            self._names.add(name)
            self._at = match.end()
        else:
            self._at += 1
        self._groups += 1
        return name, self._groups, flags

    def _scoped_flags(self, flags: int) -> int:
        column = self._at
        match = _SCOPED_FLAGS.match(self._pattern, column)
        if match is None:
            for start, message in _UNSUPPORTED_GROUPS.items():
                if self._pattern.startswith(start, column):
                    self._fail(message, column)
            if _LEADING_FLAGS.match(self._pattern, column):
                self._fail("flags for the whole pattern stand at its start; write (?i:...) for a part", column)
            self._fail("unknown kind of group; write (...), (?:...) or (?P<name>...)", column)
        self._at = match.end()
        flags = self._added(flags, match[1], match.start(1))
        removed = (match[2] or "-")[1:]
        if match[2] == "-" or not set(removed) <= {"i", "s"} or set(removed) & set(match[1]):
            self._fail("after - stand the flags to be switched off, i or s", match.start(2))
        return flags & ~self._added(0, removed, match.start(2))

    def _escape(self, flags: int) -> Node:
        column = self._at - 1
        char = self._peek()
        if char == "A":
            self._at += 1
            return self._anchor("start", column)
        if char == "Z":
            self._at += 1
            return self._anchor("end", column)
        if char in ("b", "B"):
            self._fail(f"\\{char} is not supported; write the spaces or signs that stand there", column)
        if char and char in "123456789":
            self._fail("a back-reference is not supported; write out what the group may match", column)
        if char and char in "dDsSwW":
            self._at += 1
            return Chars(self._set([], char, False, flags))
        return self._literal(self._escaped_char(), flags)

    def _escaped_char(self) -> str:
        """Reads what follows a backslash, where it stands for one character."""
        column = self._at - 1
        char = self._peek()
        if not char:
            self._fail("a backslash at the end; write \\\\ for the character", column)
        self._at += 1
        if char in _HEX_DIGITS:
            return self._hex_char(_HEX_DIGITS[char])
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "0":
            self._fail("an octal escape is not supported; write \\x00", column)
        if char.isascii() and char.isalnum():
            self._fail(f"unknown escape \\{char}; write {char} for the character", column)
        return char

    def _hex_char(self, digits: int) -> str:
        column = self._at - 2
        text = self._pattern[self._at : self._at + digits]
        if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", text) or int(text, 16) > MAX_CODE:
            self._fail(f"incomplete escape: {digits} hexadecimal digits of a character are expected", column)
        self._at += digits
        return chr(int(text, 16))

    def _class(self, flags: int) -> Chars:
        column = self._at
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        ranges: list[tuple[int, int]] = []
        categories: set[str] = set()
        first = self._at
        while self._peek() != "]" or self._at == first:
            if not self._peek():
                self._fail("this bracket is never closed; write \\[ for the character", column)
            start = self._at
            low = self._class_item()
            high = low
            if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._class_item()
                if len(low) != 1 or len(high) != 1 or low > high:
                    self._fail("bad range: write the lower character first, and no class such as \\d", start)
            if len(low) == 1:
                ranges.append((ord(low), ord(high)))
            else:
                categories.add(low[1])
        self._at += 1
        return Chars(self._set(ranges, "".join(sorted(categories)), negated, flags))

    def _class_item(self) -> str:
        """Reads one character of a class, or a category, which is returned with its backslash."""
        char = self._peek()
        self._at += 1
        if char != "\\":
            return char
        escaped = self._peek()
        if escaped and escaped in "dDsSwW":
            self._at += 1
            return "\\" + escaped
        if escaped == "b":
            self._at += 1
            return "\b"
        return self._escaped_char()

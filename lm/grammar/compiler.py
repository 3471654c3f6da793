"""Compiles a tree into a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lm.grammar.charset import CharSet, fold_text
from lm.grammar.errors import GrammarError
from lm.grammar.nodes import Alternation, Chars, Empty, Group, ListReference, Node, Repeat
from lm.grammar.nodes import Sequence as SequenceNode
from lm.grammar.program import Accept, Enter, Entries, Instruction, Loop, Mark, Program, Read, ReadEntry, Split


def compile_program(node: Node, lists: Mapping[str, Sequence[str]], pattern: str) -> Program:
    """Returns the program of a tree.

    Args:
        node: the tree.
        lists: the entries of every list that the tree refers to; an empty list matches nothing.
        pattern: for error messages.

    Raises:
        GrammarError: a list is not known, or an entry is empty.
    """
    return _Compiler(lists, pattern).compile(node)


class _Compiler:
    """Writes a program from its end to its start."""

    def __init__(self, lists: Mapping[str, Sequence[str]], pattern: str) -> None:
        self._lists = lists
        self._pattern = pattern
        self._program = Program()
        self._minimums: tuple[int, ...] = ()
        self._charsets: dict[CharSet, int] = {}
        self._entries: dict[tuple[str, bool, bool], int] = {}
        self._matchable: dict[int, bool] = {}  # by id: trees are alive while they are compiled
        self._empty_sets: dict[CharSet, bool] = {}

    def compile(self, node: Node) -> Program:
        self._program.groups = list(_group_names(node))
        if self._can_match(node):
            self._program.start = self._code(node, self._add(Accept()))
        return self._program

    def _add(self, instruction: Instruction) -> int:
        self._program.instructions.append(instruction)
        self._program.minimums.append(self._minimums)
        return len(self._program.instructions) - 1

    def _can_match(self, node: Node) -> bool:
        """Whether there is a text that the node matches."""
        known = self._matchable.get(id(node))
        if known is None:
            known = self._matchable[id(node)] = self._find_match(node)
        return known

    def _find_match(self, node: Node) -> bool:
        if isinstance(node, Chars):
            if node.chars not in self._empty_sets:
                self._empty_sets[node.chars] = node.chars.is_empty()
            return not self._empty_sets[node.chars]
        if isinstance(node, ListReference):
            return bool(self._program.lists[self._list(node)].sorted)
        if isinstance(node, SequenceNode):
            matchable = [self._can_match(part) for part in node.parts]  # all of them: names are checked on the way
            return all(matchable)
        if isinstance(node, Alternation):
            matchable = [self._can_match(option) for option in node.options]
            return any(matchable)
        if isinstance(node, Repeat):
            return self._can_match(node.body) or node.minimum == 0
        return isinstance(node, Empty) or self._can_match(node.body)

    def _code(self, node: Node, after: int) -> int:
        """Writes a node that can match and returns its first instruction."""
        if isinstance(node, Chars):
            return self._add(Read(self._charset(node.chars), after))
        if isinstance(node, ListReference):
            return self._add(ReadEntry(self._list(node), after))
        if isinstance(node, SequenceNode):
            for part in reversed(node.parts):
                after = self._code(part, after)
            return after
        if isinstance(node, Alternation):
            options = [option for option in node.options if self._can_match(option)]
            targets = [self._code(option, after) for option in options]
            return targets[0] if len(targets) == 1 else self._add(Split(targets))
        if isinstance(node, Repeat):
            return self._repeat(node, after)
        if isinstance(node, Group):
            return self._group(node, after)
        return after

    def _group(self, node: Group, after: int) -> int:
        if node.name is None:
            return self._code(node.body, after)
        return self._add(Mark(node.name, True, self._code(node.body, self._add(Mark(node.name, False, after)))))

    def _repeat(self, node: Repeat, after: int) -> int:
        if node.maximum == 0 or not self._can_match(node.body):
            return after
        if node.maximum == 1 and (node.minimum == 1 or isinstance(node.body, Chars)):
            body = self._code(node.body, after)
            return body if node.minimum else self._add(Split([after, body] if node.lazy else [body, after]))
        loop = Loop(node.minimum, node.maximum, node.lazy, _nullable(node.body), after=after)
        outer = self._minimums
        self._minimums = (*outer, 0 if loop.nullable else loop.minimum)
        at = self._add(loop)
        loop.body = self._code(node.body, at)
        self._minimums = outer
        return self._add(Enter(at))

    def _charset(self, chars: CharSet) -> int:
        index = self._charsets.setdefault(chars, len(self._charsets))
        if index == len(self._program.charsets):
            self._program.charsets.append(chars)
        return index

    def _list(self, node: ListReference) -> int:
        key = node.name, node.ignore_case, node.ascii_only
        if key not in self._entries:
            self._entries[key] = len(self._program.lists)
            self._program.lists.append(self._read_list(node))
        return self._entries[key]

    def _read_list(self, node: ListReference) -> Entries:
        entries = self._lists.get(node.name)
        if entries is None:
            known = ", ".join(sorted(self._lists)) or "there are none"
            raise GrammarError(f"unknown list {node.name!r}; the known lists: {known}", self._pattern, node.column)
        if isinstance(entries, str) or not all(entries):
            raise GrammarError(
                f"list {node.name!r}: a sequence of texts is expected, none of them empty", self._pattern, node.column
            )
        if node.ignore_case:
            entries = [fold_text(entry, node.ascii_only) for entry in entries]
        unique = sorted(set(entries))
        return Entries(unique, node.ignore_case, node.ascii_only, frozenset("".join(unique)))


def _nullable(node: Node) -> bool:
    """Whether the node matches the empty text."""
    if isinstance(node, Chars | ListReference):
        return False
    if isinstance(node, SequenceNode):
        return all(_nullable(part) for part in node.parts)
    if isinstance(node, Alternation):
        return any(_nullable(option) for option in node.options)
    if isinstance(node, Repeat):
        return node.minimum == 0 or _nullable(node.body)
    return isinstance(node, Empty) or _nullable(node.body)


def _group_names(node: Node) -> list[str]:
    if isinstance(node, SequenceNode | Alternation):
        parts = node.parts if isinstance(node, SequenceNode) else node.options
        return [name for part in parts for name in _group_names(part)]
    if isinstance(node, Group):
        return ([node.name] if node.name is not None else []) + _group_names(node.body)
    return _group_names(node.body) if isinstance(node, Repeat) else []

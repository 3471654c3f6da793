"""Decides where a pattern is read whether its anchors hold, so that nothing after has to know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from lm.grammar.errors import GrammarError
from lm.grammar.nodes import NEVER, Alternation, Chars, Empty, Group, ListReference, Node, Repeat, Sequence

Text: TypeAlias = Literal["none", "some", "either"]
"""What stands on one side of a place: no character, one or more, or one cannot know."""


@dataclass(frozen=True, slots=True)
class Anchor(Empty):
    r"""^ and \A (start), $ and \Z (end); `column` is its place in the pattern."""

    kind: Literal["start", "end"]
    column: int


def resolve_anchors(node: Node, pattern: str) -> Node:
    """Returns the tree with every anchor replaced by `Empty` where it holds and by `NEVER` where it cannot.

    Args:
        node: the tree, with `Anchor` nodes.
        pattern: for error messages.

    Raises:
        GrammarError: whether an anchor holds depends on the text.
    """
    return _resolved(node, "none", "none", pattern)


def _text(node: Node) -> Text:
    """What a node matches."""
    if isinstance(node, Empty):
        return "none"
    if isinstance(node, Chars | ListReference):
        return "some"
    if isinstance(node, Group):
        return _text(node.body)
    if isinstance(node, Repeat):
        if node.maximum == 0:
            return "none"
        body = _text(node.body)
        return "either" if body == "some" and node.minimum == 0 else body
    if isinstance(node, Alternation):
        options = {_text(option) for option in node.options}
        return options.pop() if len(options) == 1 else "either"
    found: Text = "none"
    for part in node.parts:
        found = _joined(found, _text(part))
    return found


def _joined(first: Text, second: Text) -> Text:
    if "some" in (first, second):
        return "some"
    return "none" if first == second == "none" else "either"


def _resolved(node: Node, before: Text, after: Text, pattern: str) -> Node:
    if isinstance(node, Anchor):
        return _decided(node, before, after, pattern)
    if isinstance(node, Group):
        return Group(_resolved(node.body, before, after, pattern), node.name, node.index)
    if isinstance(node, Alternation):
        return Alternation(tuple(_resolved(option, before, after, pattern) for option in node.options))
    if isinstance(node, Sequence):
        return _resolved_sequence(node, before, after, pattern)
    if isinstance(node, Repeat):
        if node.maximum is None or node.maximum > 1:
            others: Text = "none" if _text(node.body) == "none" else "either"
            before, after = _joined(before, others), _joined(after, others)
        return Repeat(_resolved(node.body, before, after, pattern), node.minimum, node.maximum, node.lazy)
    return node


def _resolved_sequence(node: Sequence, before: Text, after: Text, pattern: str) -> Sequence:
    texts = [_text(part) for part in node.parts]
    afters = [after]
    for text in reversed(texts[1:]):
        afters.append(_joined(afters[-1], text))
    parts = []
    for part, text, follows in zip(node.parts, texts, reversed(afters), strict=True):
        parts.append(_resolved(part, before, follows, pattern))
        before = _joined(before, text)
    return Sequence(tuple(parts))


def _decided(anchor: Anchor, before: Text, after: Text, pattern: str) -> Node:
    beside, place = (before, "start") if anchor.kind == "start" else (after, "end")
    if beside == "either":
        message = f"whether this anchor holds depends on the text; write it only at the pattern's {place}"
        raise GrammarError(message, pattern, anchor.column)
    return Empty() if beside == "none" else NEVER

"""Lists of a grammar as the command line gives them: `NAME=FILE`, an entry a line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lm.grammar.errors import GrammarError


def read_lists(options: Iterable[str]) -> dict[str, list[str]]:
    """Entries by list name, without blank lines and without the spaces around them.

    Args:
        options: `NAME=FILE` each; the file is UTF-8.

    Raises:
        GrammarError: an option has another form or a name comes twice, or a file is not UTF-8 or empty.
        OSError: a file cannot be read.
    """
    lists: dict[str, list[str]] = {}
    for option in options:
        name, mark, path = option.partition("=")
        if not mark or not name.isidentifier():
            raise GrammarError(f"--list: expected NAME=FILE, found {option!r}")
        if name in lists:
            raise GrammarError(f"--list: the list {name!r} is given twice")
        lists[name] = _entries(Path(path))
    return lists


def _entries(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise GrammarError(f"--list: {path}: expected UTF-8 text, found {error.reason} at byte {error.start}") from None
    entries = [line.strip() for line in lines if line.strip()]
    if not entries:
        raise GrammarError(f"--list: {path}: expected an entry a line, found none")
    return entries

"""What can be wrong with a grammar."""

from __future__ import annotations

_SHOWN = 60


class GrammarError(ValueError):
    """A pattern that cannot be used: what is wrong with it, and where."""

    def __init__(self, message: str, pattern: str = "", column: int | None = None) -> None:
        """Take the message and the place.

        Args:
            message: what was wrong, what was expected, what to write instead.
            pattern: the whole pattern; shown around the place.
            column: index into `pattern` of the first character that is wrong; None where it is no single place.
        """
        self.pattern = pattern
        self.column = column
        if column is not None:
            first = max(0, column - _SHOWN)
            shown = pattern[first : column + _SHOWN].replace("\n", " ")
            message = f"{message} (column {column + 1})\n  {shown}\n  {' ' * (column - first)}^"
        super().__init__(message)


class GrammarTooLargeError(GrammarError):
    """A pattern or a list that would need more time or memory than a grammar is given."""

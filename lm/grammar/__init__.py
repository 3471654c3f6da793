"""Grammars: what may be said, as regular expressions over written text."""

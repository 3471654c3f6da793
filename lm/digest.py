"""SHA-256 without OpenSSL, which `hashlib` brings into every process that imports it: 3 MB, for a few checksums."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

_MODULES = ("_sha2", "_sha256", "hashlib")
"""The interpreter's own, from Python 3.12 on and before; an interpreter may be built without them."""


def sha256(data: bytes = b"") -> Any:
    """A digest of `data`: more goes in with `update(bytes)`, and `hexdigest()` says what it is."""
    module = next(name for name in _MODULES if find_spec(name))
    return import_module(module).sha256(data)

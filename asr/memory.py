"""Freed memory given back to the system: allocators keep it, and a process looks larger than what it needs."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from functools import cache
from typing import Any


def release_memory() -> None:
    """Give back what is free, where the C library is glibc; a fraction of a millisecond, and nothing elsewhere."""
    if (trim := _malloc_trim()) is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            return ctypes.CDLL(None).malloc_trim
    return None

import ctypes
import os
import sys
from pathlib import Path

import pytest

from asr.memory import release_memory


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def has_trim():
    return sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "malloc_trim")


@pytest.mark.skipif(not has_trim(), reason="the C library cannot be asked")
def test_free_memory_goes_back_to_the_system():
    blocks = [bytes(bytearray(100_000)) for _ in range(400)]
    full = resident_bytes()
    del blocks[:-1]  # what is left lies at the end of the heap
    release_memory()
    assert resident_bytes() < full - 25e6

"""Whether an audio file is whole, as far as its bytes tell: what libsndfile does not report, `asr/audio.py` asks here.

libsndfile takes a WAV or Ogg file whose end is missing for a shorter recording, and guesses the length of many MP3s.
"""

from __future__ import annotations

import io
import re
from typing import BinaryIO

_SIZE_MISMATCH = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_SIZES = (range(0x7FFF_F000, 0x8000_0000), range(0xFFFF_F000, 0x1_0000_0000))
_TOLERANCE_BYTES = 64
_OGG_PAGE_HEADER_BYTES = 27
_OGG_TAIL_BYTES = 1 << 17  # two of the longest pages
_ID3_HEADER_BYTES = 10


def missing_bytes(parse_log: str) -> int:
    """How many bytes of audio a header promises in vain; 0 for a whole file.

    Args:
        parse_log: what libsndfile wrote down while it read the header (WAV, AIFF, AU, RF64, W64). A size that stands
            for "unknown", as programs write that stream into a pipe, promises nothing.
    """
    sizes = ((int(promised), int(found)) for promised, found in _SIZE_MISMATCH.findall(parse_log))
    known = ((promised, found) for promised, found in sizes if not any(promised in span for span in _UNKNOWN_SIZES))
    missing = max((promised - found for promised, found in known), default=0)
    return missing if missing > _TOLERANCE_BYTES else 0  # some writers count their header wrongly


def is_cut_ogg(file: BinaryIO) -> bool:
    """Whether `file` is an Ogg file that ends inside a page. Moves the file's position."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return False
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _OGG_TAIL_BYTES))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < _OGG_PAGE_HEADER_BYTES:
        return True
    n_segments = page[_OGG_PAGE_HEADER_BYTES - 1]
    segment_bytes = page[_OGG_PAGE_HEADER_BYTES : _OGG_PAGE_HEADER_BYTES + n_segments]
    page_bytes = _OGG_PAGE_HEADER_BYTES + n_segments + sum(segment_bytes)
    return len(segment_bytes) < n_segments or len(page) < page_bytes


def mp3_states_length(file: BinaryIO) -> bool:
    """Whether the first frame of an MP3 file states how many there are. Moves the file's position."""
    file.seek(0)
    head = file.read(_ID3_HEADER_BYTES)
    tag_bytes = 0
    if len(head) == _ID3_HEADER_BYTES and head.startswith(b"ID3"):
        tag_bytes = _ID3_HEADER_BYTES + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(tag_bytes)
    first_frame = file.read(256)
    return any(mark in first_frame for mark in (b"Xing", b"Info", b"VBRI"))

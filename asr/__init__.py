"""Private, small, streaming speech recognition on your own device: audio in, text out.

import asr
recognizer = asr.Recognizer()
print(recognizer.transcribe("talk.flac").text)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asr.errors import (
    AsrError,
    AudioError,
    AudioFileNotFoundError,
    AudioFormatError,
    AudioValueError,
    BundleError,
    BundleFileError,
    BundleManifestError,
    BundleNotFoundError,
    BundleSchemaError,
    ChunkSizeError,
    MissingDependencyError,
    OptionError,
    StreamFinishedError,
)
from asr.recognizer import Recognizer
from asr.stream import Stream
from asr.types import Capture, GrammarMatch, Partial, Result, Word
from lm.grammar.errors import GrammarError, GrammarTooLargeError

if TYPE_CHECKING:
    from lm.grammar.grammar import Grammar

__version__ = "0.1.0"

__all__ = [
    "AsrError",
    "AudioError",
    "AudioFileNotFoundError",
    "AudioFormatError",
    "AudioValueError",
    "BundleError",
    "BundleFileError",
    "BundleManifestError",
    "BundleNotFoundError",
    "BundleSchemaError",
    "Capture",
    "ChunkSizeError",
    "Grammar",
    "GrammarError",
    "GrammarMatch",
    "GrammarTooLargeError",
    "MissingDependencyError",
    "OptionError",
    "Partial",
    "Recognizer",
    "Result",
    "Stream",
    "StreamFinishedError",
    "Word",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name != "Grammar":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lm.grammar.grammar import Grammar  # most recognisers are made without one

    return Grammar

"""What can go wrong, one class a cause.

    AsrError
    |-- AudioError (ValueError)             the audio cannot be used
    |   |-- AudioFileNotFoundError (FileNotFoundError)
    |   |-- AudioFormatError                not audio, truncated, a directory, unreadable
    |   `-- AudioValueError                 no samples, NaN, infinity, wrong dtype, shape or rate
    |-- BundleError (ValueError)            the model bundle cannot be used
    |   |-- BundleNotFoundError (FileNotFoundError)
    |   |-- BundleManifestError             unknown key, wrong type, path that climbs out
    |   |-- BundleSchemaError               made by a newer version
    |   `-- BundleFileError                 a file is missing, changed, or of the wrong shape
    |-- StreamFinishedError (RuntimeError)  a stream was used after finish()
    |-- ChunkSizeError (ValueError)         a chunk size that the model lacks
    |-- OptionError (ValueError)            an option the engine or the bundle does not have
    `-- MissingDependencyError (ImportError)  an optional package is needed; the message names the extra

Each is also a built-in kind, so that code that does not know the engine can catch it.
"""

from __future__ import annotations


class AsrError(Exception):
    """Base of every error that this package raises on purpose."""


class AudioError(AsrError, ValueError):
    """The audio cannot be used."""


class AudioFileNotFoundError(AudioError, FileNotFoundError):
    """There is no such audio file."""


class AudioFormatError(AudioError):
    """The file is not audio, is cut off, or has a format that cannot be read."""


class AudioValueError(AudioError):
    """The samples or their rate are not usable."""


class BundleError(AsrError, ValueError):
    """The model bundle cannot be used."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """There is no bundle at that path."""


class BundleManifestError(BundleError):
    """The manifest has an unknown or missing key, a wrong type, or a path outside the bundle."""


class BundleSchemaError(BundleError):
    """The bundle was written for a newer version of this package."""


class BundleFileError(BundleError):
    """A file of the bundle is missing, changed, or does not fit the manifest."""


class StreamFinishedError(AsrError, RuntimeError):
    """The stream has been finished and takes no more audio."""


class ChunkSizeError(AsrError, ValueError):
    """The model does not offer that chunk size."""


class OptionError(AsrError, ValueError):
    """An option is not known, or not offered by this bundle."""


class MissingDependencyError(AsrError, ImportError):
    """An optional package is needed; the message names the extra to install."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is needed here: pip install 'sottovoce[{extra}]'")

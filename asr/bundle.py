"""Open a model bundle: a folder with `manifest.json` and the files it lists. Nothing is taken on trust.

Every key of the manifest must be known and of the right type, every file must be listed, lie inside the folder and have
the stated size and sha256. Whatever differs is an error that names the file, what was expected and what was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NoReturn, get_type_hints

from asr.confidence import ConfidenceWeights
from asr.config import DecodingConfig
from asr.endpoint import EndpointConfig
from asr.errors import BundleFileError, BundleManifestError, BundleNotFoundError, BundleSchemaError
from asr.rejection import RejectionWeights
from lm.digest import sha256
from lm.neural import DATA_FILE, GRAPH_FILE
from lm.phones import PHONEMES, read_tokens

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
REQUIRED_FILES = ("encoder.onnx", "tokens.txt", "lexicon.bin", "README.md")
SAMPLE_RATE_HZ = 16000
FEATURES: Mapping[str, Any] = MappingProxyType({
    "kind": "log-mel", "n_mels": 80, "frame_length_ms": 25, "frame_shift_ms": 10, "window": "povey",
    "low_hz": 20, "high_hz": 7600, "preemphasis": 0.97, "dither": 0, "snip_edges": False,
})  # fmt: skip
"""The features that asr/features.py computes; a bundle made for others is refused."""
DEFAULT_BUNDLE = "data/english"
SMALL_ENCODER = "data/english-small.onnx"
"""The encoder of the English bundle once more, in fewer bits, for smaller bundles (`asr-export shrink`)."""
_HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One state of the encoder graph, as it is for one stream (batch axis 1)."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What the streaming encoder offers and needs."""

    chunk_ms: tuple[int, ...]
    default_chunk_ms: int
    frame_ms: int
    left_context_frames: int
    look_ahead_ms: int
    state: tuple[StateSpec, ...]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """Fingerprint of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Selftest:
    """A clip inside the bundle and the text that the engine must hear in it."""

    audio: str
    text: str


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """What a kind of speech changes: the search's weights, and what the neural language model wears."""

    adapter: str
    """`NAME.bin` in the bundle, `NAME.onnx_adapter` beside it; empty: the model as it is."""
    neural_share: float
    lm_weight: float
    word_score: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `manifest.json`."""

    schema_version: int
    name: str
    language: str
    sample_rate: int
    features: Mapping[str, Any]
    encoder: EncoderInfo
    decoding: DecodingConfig
    neural_share: float
    """Of the neural language model in a word's probability; the rest is the n-gram's."""
    domains: Mapping[str, DomainInfo]
    confidence: ConfidenceWeights
    rejection: RejectionWeights
    endpoint: EndpointConfig
    quantization: Mapping[str, Any]
    files: Mapping[str, FileInfo]
    selftest: Selftest
    provenance: Mapping[str, Any]
    license: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: its folder and its checked manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path | None = None) -> Bundle:
        """Open and check the bundle in folder `path`; None is the English one that comes with the package.

        Raises:
            BundleNotFoundError: no such folder, or no manifest in it.
            BundleSchemaError: made by a newer version of this package.
            BundleManifestError: the manifest has an unknown or missing key, a wrong type, or a path outside the folder.
            BundleFileError: a file is missing, not listed, changed, or does not fit this version.
        """
        root = default_bundle_path() if path is None else Path(path)
        if not root.is_dir():
            raise BundleNotFoundError(f"{root}: no such bundle folder")
        manifest = read_manifest(root)
        _check_files(root, manifest)
        _check_tokens(root / "tokens.txt")
        return cls(root, manifest)

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists."""
        return self.path / name

    @property
    def size_bytes(self) -> int:
        """All listed files together."""
        return sum(info.bytes for info in self.manifest.files.values())


def default_bundle_path() -> Path:
    """Folder of the English bundle inside the installed package.

    Raises:
        BundleNotFoundError: this installation has none.
    """
    root = Path(__file__).parent / DEFAULT_BUNDLE
    if not root.is_dir():
        raise BundleNotFoundError(
            f"this installation holds no default bundle (expected asr/{DEFAULT_BUNDLE} in the package): "
            "name a bundle folder, asr.Recognizer('path/to/bundle')"
        )
    return root


def read_manifest(root: Path) -> Manifest:
    """Parse and check `manifest.json` of the bundle in `root`, without looking at the other files.

    Raises:
        BundleNotFoundError, BundleSchemaError, BundleManifestError: as `Bundle.open`.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise BundleNotFoundError(f"{path}: no such file, so {root} is not a bundle")
    try:
        data = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleManifestError(f"{path}: not valid JSON: {error}") from None
    _check_schema_version(data, path)
    _check_shape(data, _SCHEMA, "", path)
    return _build_manifest(data, path)


# --- the manifest's shape -------------------------------------------------------------------------------------------
# A dict is an object with exactly these keys, a list of one element a list of such elements, _ANY_OBJECT a free object.


@dataclass(frozen=True)
class _MapOf:
    """An object from names of any kind to values of one shape."""

    values: Any


_ANY_OBJECT: Any = dict
_SCHEMA: dict[str, Any] = {
    "schema_version": int,
    "name": str,
    "language": str,
    "sample_rate": int,
    "features": {name: type(value) for name, value in FEATURES.items()},
    "encoder": {
        "chunk_ms": [int],
        "default_chunk_ms": int,
        "frame_ms": int,
        "left_context_frames": int,
        "look_ahead_ms": int,
        "state": [{"name": str, "shape": [int], "dtype": str}],
    },
    "decoding": get_type_hints(DecodingConfig),
    "neural_share": float,
    "domains": _MapOf(get_type_hints(DomainInfo)),
    "confidence": get_type_hints(ConfidenceWeights),
    "rejection": get_type_hints(RejectionWeights),
    "endpoint": get_type_hints(EndpointConfig),
    "quantization": _ANY_OBJECT,
    "files": _MapOf({"sha256": str, "bytes": int}),
    "selftest": {"audio": str, "text": str},
    "provenance": _ANY_OBJECT,
    "license": str,
}
_TYPE_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _check_schema_version(data: Any, path: Path) -> None:
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < SCHEMA_VERSION:
        raise BundleManifestError(
            f"{path}: schema_version: expected {SCHEMA_VERSION}, found {version!r}: "
            "a bundle of an older version must be written again with asr-export bundle"
        )
    if version > SCHEMA_VERSION:
        raise BundleSchemaError(
            f"{path}: schema_version: expected at most {SCHEMA_VERSION}, found {version}: "
            "the bundle was made by a newer version; upgrade with pip install -U sottovoce"
        )


def _check_shape(value: Any, schema: Any, where: str, path: Path) -> None:
    if isinstance(schema, _MapOf):
        _check_type(value, dict, where, path)
        for name, entry in value.items():
            _check_shape(entry, schema.values, f"{where}[{name!r}]", path)
    elif isinstance(schema, dict):
        _check_type(value, dict, where, path)
        _check_keys(value, schema, where, path)
        for key, entry in value.items():
            _check_shape(entry, schema[key], f"{where}.{key}".lstrip("."), path)
    elif isinstance(schema, list):
        if not isinstance(value, list):
            raise BundleManifestError(f"{path}: {where}: expected a list, found {value!r}")
        for index, entry in enumerate(value):
            _check_shape(entry, schema[0], f"{where}[{index}]", path)
    else:
        _check_type(value, schema, where, path)


def _check_keys(value: Mapping[str, Any], schema: Mapping[str, Any], where: str, path: Path) -> None:
    place = f"{where}: " if where else ""
    if unknown := sorted(value.keys() - schema.keys()):
        raise BundleManifestError(f"{path}: {place}unknown key {unknown[0]!r}, expected {', '.join(sorted(schema))}")
    if missing := sorted(schema.keys() - value.keys()):
        raise BundleManifestError(f"{path}: {place}key {missing[0]!r} is missing, found {', '.join(sorted(value))}")


def _check_type(value: Any, kind: type, where: str, path: Path) -> None:
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise BundleManifestError(f"{path}: {where or 'manifest'}: expected {_TYPE_NAMES[kind]}, found {value!r}")


def _build_manifest(data: dict[str, Any], path: Path) -> Manifest:
    encoder = data["encoder"]
    try:
        return Manifest(
            **{
                **data,
                "features": _as_expected(data["features"], FEATURES),
                "sample_rate": _as_expected(data["sample_rate"], SAMPLE_RATE_HZ),
                "encoder": EncoderInfo(
                    **{**encoder, "chunk_ms": _chunk_sizes(encoder), "state": tuple(map(_state_spec, encoder["state"]))}
                ),
                "decoding": DecodingConfig.from_dict(data["decoding"]),
                "neural_share": _checked_share(data["neural_share"], "neural_share"),
                "domains": {name: _domain_info(name, entry) for name, entry in data["domains"].items()},
                "confidence": ConfidenceWeights(**data["confidence"]),
                "rejection": RejectionWeights(**data["rejection"]),
                "endpoint": EndpointConfig(**data["endpoint"]),
                "files": {_safe_name(name): FileInfo(**info) for name, info in data["files"].items()},
                "selftest": Selftest(**data["selftest"]),
            }
        )
    except (ValueError, TypeError) as error:
        raise BundleManifestError(f"{path}: {error}") from None


def _as_expected(found: Any, expected: Any) -> Any:
    if found != expected:
        raise ValueError(f"this version computes {_plain(expected)}, the manifest asks for {_plain(found)}")
    return found


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _state_spec(entry: Mapping[str, Any]) -> StateSpec:
    return StateSpec(entry["name"], tuple(entry["shape"]), entry["dtype"])


def _checked_share(share: float, where: str) -> float:
    if not 0 <= share <= 1:
        raise ValueError(f"{where}: expected 0 to 1, found {share}")
    return float(share)


def _domain_info(name: str, entry: Mapping[str, Any]) -> DomainInfo:
    _checked_share(entry["neural_share"], f"domains[{name!r}].neural_share")
    DecodingConfig(lm_weight=entry["lm_weight"], word_score=entry["word_score"])  # raises where they are out of range
    return DomainInfo(**{**entry, "adapter": _safe_name(entry["adapter"]) if entry["adapter"] else ""})


def _chunk_sizes(encoder: Mapping[str, Any]) -> tuple[int, ...]:
    offered, frame_ms = encoder["chunk_ms"], encoder["frame_ms"]
    if frame_ms <= 0 or not offered or any(size <= 0 or size % frame_ms for size in offered):
        raise ValueError(f"encoder.chunk_ms: expected multiples of frame_ms, found {offered} and {frame_ms}")
    if encoder["default_chunk_ms"] not in offered:
        raise ValueError(f"encoder.default_chunk_ms: expected one of {offered}, found {encoder['default_chunk_ms']}")
    return tuple(offered)


def _safe_name(name: str) -> str:
    pure = PurePosixPath(name)
    if not name or "\\" in name or ":" in name or pure.is_absolute() or ".." in pure.parts or str(pure) != name:
        raise ValueError(f"files: {name!r} is not a plain path inside the bundle")
    return name


# --- the files ------------------------------------------------------------------------------------------------------


def _check_files(root: Path, manifest: Manifest) -> None:
    files = manifest.files
    for name in (*REQUIRED_FILES, manifest.selftest.audio, *_language_files(manifest)):
        if name not in files:
            raise BundleFileError(f"{root / MANIFEST}: files: expected an entry for {name}, found {', '.join(files)}")
    present = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}
    if extra := sorted(present - files.keys() - {MANIFEST}):
        raise BundleFileError(f"{root / extra[0]}: expected only files that {MANIFEST} lists, found this one too")
    for name, info in files.items():
        _check_file(root, name, info)


def _language_files(manifest: Manifest) -> list[str]:
    """The files that the shares of n-gram and neural model, and the domains' adapters, ask for."""
    shares = {manifest.neural_share, *(domain.neural_share for domain in manifest.domains.values())}
    adapters = [domain.adapter for domain in manifest.domains.values() if domain.adapter]
    names = ["ngram.bin"] if min(shares) < 1 else []
    names += (GRAPH_FILE, DATA_FILE) if max(shares) > 0 or adapters else ()
    return names + [name for path in adapters for name in (path, str(PurePosixPath(path).with_suffix(".onnx_adapter")))]


def _check_file(root: Path, name: str, info: FileInfo) -> None:
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise BundleManifestError(f"{path}: expected a file inside the bundle, found a link to {path.resolve()}")
    if not path.is_file():
        raise BundleFileError(f"{path}: expected a file of {info.bytes} bytes, found none")
    if (size := path.stat().st_size) != info.bytes:
        raise BundleFileError(f"{path}: expected {info.bytes} bytes, found {size}")
    if (found := sha256_of(path)) != info.sha256:
        raise BundleFileError(f"{path}: changed: expected sha256 {info.sha256}, found {found}")


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    digest = sha256()
    block = bytearray(_HASH_BLOCK_BYTES)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(memoryview(block)[:count])
    return str(digest.hexdigest())


def _check_tokens(path: Path) -> None:
    try:
        tokens = read_tokens(path)
    except ValueError as error:
        raise BundleFileError(str(error)) from None
    if tokens != PHONEMES:
        difference = next((pair for pair in zip(PHONEMES, tokens, strict=False) if pair[0] != pair[1]), None)
        detail = f"expected {difference[0]!r}, found {difference[1]!r}" if difference else "the list ends early or late"
        raise BundleFileError(
            f"{path}: expected this version's {len(PHONEMES)} phonemes, found {len(tokens)}: {detail}"
        )

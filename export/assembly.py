"""A bundle of parts: all of them, or some that take their places in a bundle that there is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr.bundle import Bundle, DomainInfo, Selftest
from asr.confidence import ConfidenceWeights
from asr.config import DecodingConfig
from asr.endpoint import EndpointConfig
from asr.errors import OptionError
from asr.rejection import RejectionWeights
from export.bundle import copy_bundle, write_bundle
from export.language_model import is_neural
from export.quantize import Int8Weights

NEEDED = ("encoder", "lexicon", "ngram", "settings", "card", "selftest", "selftest_text")
"""Parts of every bundle."""
Settings = dict[str, Any]
_LM_QUANTIZATION = {"embedding": "4 bits, a scale for 32", "weights": "int8 per row", "activations": "float32"}


@dataclass(frozen=True, slots=True)
class Parts:
    """Files that become a bundle's."""

    encoder: Path | None = None
    """Graph with int8 weights."""
    lexicon: Path | None = None
    ngram: Path | None = None
    g2p: Path | None = None
    lm: Path | None = None
    """Folder that `asr-export lm` wrote."""
    settings: Path | None = None
    """JSON: name, language, decoding, confidence, endpoint, rejection, domains, provenance, license."""
    card: Path | None = None
    selftest: Path | None = None
    selftest_text: str | None = None


def assemble(out: Path, parts: Parts, base: Bundle | None = None) -> Bundle:
    """Write a bundle to `out`; what `parts` lacks is as in `base`.

    Raises:
        OptionError: a part is missing that no base lends, or a clip comes without its text.
        FileExistsError, FileNotFoundError, BundleError: as `write_bundle`.
    """
    if base is None and (missing := [name for name in NEEDED if getattr(parts, name) is None]):
        raise OptionError(f"bundle: {', '.join(missing)} missing: give all of them, or a bundle to start from (--base)")
    if (parts.selftest is None) != (parts.selftest_text is None):
        raise OptionError("bundle: the self-test's clip and its text go together")
    files = dict(_files(parts))
    changes = _read_settings(parts.settings) if parts.settings else {}
    if parts.selftest and parts.selftest_text:
        changes["selftest"] = Selftest(_selftest_name(parts.selftest), parts.selftest_text)
    changes["quantization"] = _quantization(parts, base)
    readme = parts.card.read_text(encoding="utf-8") if parts.card else None
    if base is None:
        assert readme is not None
        return write_bundle(out, files=files, readme=readme, **changes)
    return copy_bundle(base, out, files=files, without=_replaced(parts, base), readme=readme, **changes)


def _files(parts: Parts) -> Iterator[tuple[str, Path]]:
    named = {
        "encoder.onnx": parts.encoder, "lexicon.bin": parts.lexicon, "ngram.bin": parts.ngram, "g2p.onnx": parts.g2p,
    }  # fmt: skip
    yield from ((name, path) for name, path in named.items() if path)
    if parts.selftest:
        yield _selftest_name(parts.selftest), parts.selftest
    if parts.lm:
        yield from ((path.relative_to(parts.lm).as_posix(), path) for path in parts.lm.rglob("*") if path.is_file())


def _selftest_name(clip: Path) -> str:
    return f"selftest{clip.suffix}"


def _replaced(parts: Parts, base: Bundle) -> set[str]:
    """Files of the base that others take the place of, under other names perhaps."""
    names = {base.manifest.selftest.audio} if parts.selftest else set()
    return names | set(filter(is_neural, base.manifest.files) if parts.lm else ())


def _quantization(parts: Parts, base: Bundle | None) -> Settings:
    found: Settings = dict(base.manifest.quantization) if base else {}
    if parts.encoder:
        found["encoder"] = {"weights": "int8 per column", "activations": "float32", **asdict(Int8Weights())}
    if parts.lm:
        found["lm"] = _LM_QUANTIZATION
    return found


def _read_settings(path: Path) -> Settings:
    settings: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {
        "name": settings["name"],
        "language": settings["language"],
        "decoding": DecodingConfig.from_dict(settings["decoding"]),
        "confidence": ConfidenceWeights(**settings["confidence"]),
        "endpoint": EndpointConfig(**settings["endpoint"]),
        "rejection": RejectionWeights(**settings.get("rejection", {})),
        "neural_share": settings.get("neural_share", 0.0),
        "domains": {name: DomainInfo(**entry) for name, entry in settings.get("domains", {}).items()},
        "provenance": settings["provenance"],
        "license": settings["license"],
    }

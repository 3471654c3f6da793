"""Variants of an encoder, written as text, and what it takes to make one: compress, export, quantise, bundle.

    float32  int8  int8-dynamic  int8-static  int8-static:entropy  int4  mixed:0.75
    low-rank:0.75+int8     prune:0.75+int8     heads:1+int8     blocks:1+int8     rounded:4+int4

The part after `+` is the quantisation, float32 where there is none. The number of `mixed` is a share of the bytes that
int8 weights take.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from asr.bundle import Bundle
from asr.nn.model import AcousticModel
from asr.types import FloatArray
from export import compress, quantize
from export.bundle import copy_bundle
from export.compress import CompressionConfig, LowRank, PruneUnits
from export.onnx_graph import export_encoder
from export.quantize import Float32, Int4Weights, Int8Dynamic, Int8Static, Int8Weights, QuantizationConfig
from export.ranges import METHODS, read_features
from export.rounding import RoundWeights, Track
from export.sensitivity import LayerSensitivity, choose_mixed, sensitivity
from export.structured import DropBlocks, PruneHeads

STANDARD = (
    "float32", "int8", "int8-dynamic", "int8-static", "int4", "mixed:0.75", "low-rank:0.75+int8", "prune:0.75+int8",
    "heads:1+int8", "blocks:1+int8", "rounded:4+int4",
)  # fmt: skip


MADE = "quantization"
"""Key of a graph's metadata: how it was made."""


class VariantError(ValueError):
    """A variant's text cannot be read, or what it needs is missing."""


@dataclass(frozen=True, slots=True)
class MixedShare:
    """A `Mixed` to be chosen by sensitivity: the layers' weights take this share of what int8 weights take.

    Raises:
        VariantError: a share outside (0, 4].
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 4:
            raise VariantError(f"mixed: share is {self.share}, expected more than 0, at most 4 (float32)")

    def budget_bytes(self, layers: Sequence[LayerSensitivity]) -> int:
        """Bytes for the weights of these layers together."""
        return int(self.share * sum(layer.n_bytes["int8"] for layer in layers))


@dataclass(frozen=True, slots=True)
class Variant:
    """How to make an encoder from a checkpoint."""

    name: str
    quantization: QuantizationConfig | MixedShare
    compression: CompressionConfig | None = None


def parse_variant(text: str, speech: Sequence[Path]) -> Variant:
    """The variant that a text stands for.

    Args:
        text: see the module.
        speech: audio files like those in training, for what is measured on speech.

    Raises:
        VariantError, QuantizationError, CompressionError: it is none, or it needs speech and there is no file of it.
    """
    parts = text.split("+")
    compression = _compression(parts[0])
    rest = parts[1:] if compression else parts
    if len(rest) > 1 or not parts[0]:
        raise VariantError(
            f"{text!r}: expected one quantisation, at most one compression before it: low-rank:0.75+int8"
        )
    needs_speech = compression is not None or rest[:1] and rest[0].partition(":")[0] in ("int8-static", "mixed")
    if needs_speech and not speech:
        raise VariantError(f"{text}: this is chosen by what speech does to the layers: give audio files of speech")
    return Variant(text, _quantization(rest[0], tuple(speech)) if rest else Float32(), compression)


def parse_compression(text: str) -> CompressionConfig:
    """The compression that a text like `low-rank:0.75` stands for.

    Raises:
        VariantError, CompressionError: it is none, or one that cannot be.
    """
    found = _compression(text)
    if found is None:
        raise VariantError(
            f"no compression {text!r}: expected low-rank:0.75, prune:0.75, heads:1, blocks:1 or rounded:4"
        )
    return found


def _compression(text: str) -> CompressionConfig | None:
    name, _, value = text.partition(":")
    shares: Mapping[str, type[LowRank | PruneUnits]] = {"low-rank": LowRank, "prune": PruneUnits}
    counts: Mapping[str, type[PruneHeads | DropBlocks | RoundWeights]] = {
        "heads": PruneHeads, "blocks": DropBlocks, "rounded": RoundWeights,
    }  # fmt: skip
    if name in shares:
        return shares[name](_number(text, value))
    return counts[name](_count(text, value)) if name in counts else None


def _quantization(text: str, speech: tuple[Path, ...]) -> QuantizationConfig | MixedShare:
    name, _, value = text.partition(":")
    if name == "mixed":
        return MixedShare(_number(text, value))
    if name == "int8-static":
        return Int8Static(speech, value or METHODS[1])
    plain: Mapping[str, QuantizationConfig] = {
        "float32": Float32(), "int8": Int8Weights(), "int8-dynamic": Int8Dynamic(), "int4": Int4Weights(),
    }  # fmt: skip
    if text not in plain:
        raise VariantError(f"no variant {text!r}: expected one like {', '.join(STANDARD)}")
    return plain[text]


def _count(text: str, value: str) -> int:
    if not value.isdecimal():
        raise VariantError(f"{text!r}: expected a number, as in {text.partition(':')[0]}:1")
    return int(value)


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise VariantError(f"{text!r}: expected a share, as in {text.partition(':')[0]}:0.75") from None


def build_variant(
    model: AcousticModel,
    variant: Variant,
    speech: Sequence[Path],
    target: Path,
    plain: Path | None = None,
    track: Track = iter,
) -> dict[str, Any]:
    """Write the variant's graph to `target`.

    Args:
        model: float32.
        variant: what to make of it.
        speech: audio files that a variant may measure on.
        target: file to write.
        plain: float32 graph of the model, where there is one already.
        track: for a progress bar; see `export.rounding.round_weights`.

    Returns:
        What a manifest records as `quantization["encoder"]`.

    Raises:
        AudioError: a file of speech cannot be read.
    """
    entry: dict[str, Any] = {}
    features: list[FloatArray] = []
    if variant.compression or isinstance(variant.quantization, MixedShare):
        features = [read_features(path) for path in speech]
    if variant.compression:
        model, plain = compress.compress(model, variant.compression, features, track), None
        entry["compression"] = compress.describe(variant.compression)
    with tempfile.TemporaryDirectory() as folder:
        if plain is None:
            plain = Path(folder) / "encoder.onnx"
            export_encoder(model.eval(), plain)
        config = _resolved(variant.quantization, plain, features)
        quantize.quantize_encoder(plain, target, config)
    made = {**quantize.describe(config), **entry}
    _stamp(target, made)
    return made


def _stamp(path: Path, made: Mapping[str, Any]) -> None:
    model = onnx.load(path)
    model.metadata_props.add(key=MADE, value=json.dumps(made))
    onnx.save(model, path)


def made_how(path: Path) -> dict[str, Any]:
    """What `build_variant` has returned for a graph that it wrote.

    Raises:
        VariantError: another graph.
        FileNotFoundError: no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        found = {item.key: item.value for item in onnx.load(path).metadata_props}
        made: dict[str, Any] = json.loads(found[MADE])
    except Exception:  # protobuf has errors of its own
        raise VariantError(f"{path}: expected an encoder that `asr-export quantize` has written") from None
    return made


def _resolved(
    config: QuantizationConfig | MixedShare, plain: Path, features: Sequence[FloatArray]
) -> QuantizationConfig:
    if not isinstance(config, MixedShare):
        return config
    layers = sensitivity(plain, features)
    return choose_mixed(layers, config.budget_bytes(layers))


def with_encoder(bundle: Bundle, encoder: Path, quantization: Mapping[str, Any], target: Path) -> Bundle:
    """Write a bundle that is like another one but for its encoder.

    Args:
        bundle: what everything else comes from.
        encoder: graph.
        quantization: recorded as the encoder's.
        target: folder to make.

    Raises:
        BundleError: the bundle does not work with this encoder.
        FileExistsError: `target` is there and is not a bundle.
    """
    quantized = {**bundle.manifest.quantization, "encoder": dict(quantization)}
    return copy_bundle(bundle, target, files={"encoder.onnx": encoder}, quantization=quantized)

"""Quantise the encoder's graph: a frozen config says how, one call does it, `describe` is what a manifest records.

| config | weights | activations | runs on |
|---|---|---|---|
| `Float32` | float32 | float32 | any runtime |
| `Int8Weights` | int8, a scale an output channel | float32 | any runtime |
| `Int8Dynamic` | int8, a scale an output channel | uint8, ranges measured as it runs | any, rounding differs |
| `Int8Static` | int8, a scale an output channel | uint8, ranges measured on speech | any, rounding differs |
| `Int4Weights` | 4 bits, a scale a block | float32 | onnxruntime (MatMulNBits) |
| `Mixed` | one of these for each layer | | as its layers |

A layer is a product with a constant matrix, or a full convolution. The front end, the first of them, stays float32, and
so do depthwise convolutions and norms. Full convolutions have int8 weights in every config: they have no kernels for
the rest.

`Int8Weights` makes its weights float again in the graph (Cast, Mul), which onnxruntime does once, when it loads the
model. DequantizeLinear would say the same, but onnxruntime fuses it into products that quantise activations after all,
and then the best phoneme hangs on the last bit of a feature and on the version of onnxruntime.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from asr.nn.rounding import BLOCK_SIZE, fit_blocks
from asr.types import FloatArray
from export.ranges import METHODS, Ranges, activation_ranges

Scheme = Literal["float32", "int8", "int8-dynamic", "int8-static", "int4"]
MIXABLE: tuple[Scheme, ...] = ("float32", "int8", "int8-dynamic", "int4")
CONTRIB = "com.microsoft"


class QuantizationError(ValueError):
    """A config that cannot be, or does not fit the graph."""


@dataclass(frozen=True, slots=True)
class Float32:
    """Nothing is quantised."""


@dataclass(frozen=True, slots=True)
class Int8Weights:
    """Symmetric signed int8 weights, one scale an output channel; float32 arithmetic."""

    float_frontend: bool = True
    """Leave the first product of the graph, the front end, in float32."""


@dataclass(frozen=True, slots=True)
class Int8Dynamic:
    """Integer products: int8 weights as in `Int8Weights`, each input quantised by its own range as it comes."""


@dataclass(frozen=True, slots=True)
class Int8Static:
    """Integer products with input ranges fixed beforehand, from speech.

    Raises:
        QuantizationError: no audio, an unknown method, or a percentile outside (50, 100].
    """

    audio: tuple[Path, ...]
    """Files of speech like that in training, half a minute or more; all their activations are in memory at once."""
    method: str = "percentile"
    """`minmax`; `percentile` of the values on each side; `entropy`: the clipping that changes the histogram least."""
    percentile: float = 99.99

    def __post_init__(self) -> None:
        if not self.audio:
            raise QuantizationError("static int8 measures ranges on speech: name at least one audio file")
        if self.method not in METHODS:
            raise QuantizationError(f"method is {self.method!r}, expected one of {', '.join(METHODS)}")
        if not 50 < self.percentile <= 100:
            raise QuantizationError(f"percentile is {self.percentile}, expected more than 50, at most 100")


@dataclass(frozen=True, slots=True)
class Int4Weights:
    """Symmetric 4-bit weights, one float16 scale for each block of inputs of an output channel; float32 arithmetic.

    A network that was trained to have such weights (`weight_bits` of a recipe) is exactly what it was in training.

    Raises:
        QuantizationError: a block size that MatMulNBits does not have.
    """

    block_size: int = BLOCK_SIZE

    def __post_init__(self) -> None:
        if self.block_size not in (16, 32, 64, 128, 256):
            raise QuantizationError(f"block_size is {self.block_size}, expected 16, 32, 64, 128 or 256")


@dataclass(frozen=True, slots=True)
class Mixed:
    """Each layer by its name in a way of its own; layers that are not named stay float32.

    Raises:
        QuantizationError: a scheme that is not one of `MIXABLE`.
    """

    layers: Mapping[str, Scheme]

    def __post_init__(self) -> None:
        for name, scheme in self.layers.items():
            if scheme not in MIXABLE:
                raise QuantizationError(f"layer {name}: scheme is {scheme!r}, expected one of {', '.join(MIXABLE)}")


QuantizationConfig = Float32 | Int8Weights | Int8Dynamic | Int8Static | Int4Weights | Mixed
_DESCRIPTIONS: Mapping[type, Mapping[str, str]] = {
    Float32: {"scheme": "float32", "weights": "float32", "activations": "float32"},
    Int8Weights: {"scheme": "int8", "weights": "int8 per column", "activations": "float32"},
    Int8Dynamic: {"scheme": "int8-dynamic", "weights": "int8 per column", "activations": "uint8, dynamic"},
    Int8Static: {"scheme": "int8-static", "weights": "int8 per column", "activations": "uint8, static"},
    Int4Weights: {"scheme": "int4", "weights": "4 bits, a scale for a block", "activations": "float32"},
    Mixed: {"scheme": "mixed", "weights": "by layer", "activations": "by layer"},
}


def describe(config: QuantizationConfig) -> dict[str, Any]:
    """What a bundle's manifest records: scheme, weights, activations and the config's values; audio by file name."""
    values = asdict(config)
    if isinstance(config, Int8Static):
        values["audio"] = [path.name for path in config.audio]
    return {**_DESCRIPTIONS[type(config)], **values}


@dataclass(frozen=True, slots=True)
class Layer:
    """One product or full convolution with constant weights."""

    name: str
    """As in torch, `blocks.0.first.expand`; where the graph does not tell, the node's name."""
    node: str
    weight: str
    shape: tuple[int, ...]
    axis: int
    """Of the weight's output channels."""

    def weight_bytes(self, scheme: Scheme, block_size: int = BLOCK_SIZE) -> int:
        """Bytes of the weights and their scales."""
        size, n_outputs = prod(self.shape), self.shape[self.axis]
        if scheme == "float32":
            return 4 * size
        if scheme == "int4" and not self.is_convolution:
            n_blocks = n_outputs * ceil(self.shape[0] / block_size)
            return n_blocks * (block_size // 2 + 2)
        return size + 4 * n_outputs

    @property
    def is_convolution(self) -> bool:
        """Whether the weight is a kernel (out, in, taps); otherwise it is a matrix (in, out)."""
        return len(self.shape) > 2


def find_layers(model: ModelProto) -> list[Layer]:
    """All layers of a float32 graph, in the order of the graph, the front end first."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    users = {name: node for node in model.graph.node for name in node.input}
    layers = []
    for node in model.graph.node:
        axis = _output_axis(node, weights)
        if axis is not None:
            name = _layer_name(node, users.get(node.output[0]), weights)
            layers.append(Layer(name, node.name, node.input[1], tuple(weights[node.input[1]].dims), axis))
    return layers


def _output_axis(node: NodeProto, weights: Mapping[str, TensorProto]) -> int | None:
    """Which axis of the node's constant weight its output channels are; None where it has no weight to quantise."""
    if node.op_type == "MatMul" and node.input[1] in weights and len(weights[node.input[1]].dims) == 2:
        return 1
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    if node.op_type == "Conv" and node.input[1] in weights and groups == 1:
        return 0
    return None


def _layer_name(node: NodeProto, user: NodeProto | None, weights: Mapping[str, TensorProto]) -> str:
    """The exporter keeps the names of biases; those of transposed weights are lost."""
    biases = [node.input[2]] if len(node.input) > 2 else []
    if user is not None and user.op_type == "Add":
        biases += [name for name in user.input if name in weights]
    return biases[0].removeprefix("model.").removesuffix(".bias") if biases else node.name


def quantize_encoder(source: str | Path, target: str | Path, config: QuantizationConfig) -> None:
    """Quantise the float32 graph at `source` into `target`; everything else in it is kept.

    Raises:
        QuantizationError: `source` has no float32 layers, or `config` names one that it does not have.
    """
    model = onnx.load(str(source))
    layers = find_layers(model)
    if not layers:
        raise QuantizationError(
            f"{source}: no float32 layers to quantise: expected what `asr-export encoder --float` writes"
        )
    plan = _plan(layers, config)
    for scheme, apply in _PASSES.items():
        chosen = [layer for layer in layers if plan[layer.name] == scheme]
        if chosen:
            model = apply(model, chosen, config)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))


def _plan(layers: Sequence[Layer], config: QuantizationConfig) -> dict[str, Scheme]:
    """The scheme of each layer."""
    if isinstance(config, Mixed):
        plan = {layer.name: config.layers.get(layer.name, "float32") for layer in layers}
        if unknown := sorted(config.layers.keys() - plan.keys()):
            raise QuantizationError(f"no layer {unknown[0]!r}; there are {', '.join(plan)}")
    else:
        plan = {layer.name: _DESCRIPTIONS[type(config)]["scheme"] for layer in layers}  # type: ignore[misc]
        if not (isinstance(config, Int8Weights) and not config.float_frontend):
            plan[layers[0].name] = "float32"
    for layer in layers:
        if layer.is_convolution and plan[layer.name] != "float32":
            plan[layer.name] = "int8"
    return plan


def _int8_weights(model: ModelProto, layers: Sequence[Layer], _: QuantizationConfig) -> ModelProto:
    """Store weights as int8; the graph makes them float again."""
    graph, by_node = model.graph, {layer.node: layer for layer in layers}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.name in by_node:
            layer = by_node[node.name]
            graph.initializer.remove(weights[layer.weight])
            graph.initializer.extend(quantize_channels(weights[layer.weight], layer.axis))
            nodes.extend(_floated(layer.weight))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def quantize_channels(tensor: TensorProto, axis: int) -> list[TensorProto]:
    """A tensor as int8 `<name>.int8` and float32 `<name>.scale`, one along `axis`; the error is at most half a step."""
    values = numpy_helper.to_array(tensor)
    others = tuple(other for other in range(values.ndim) if other != axis)
    scale = np.abs(values).max(axis=others, keepdims=True) / 127
    scale[scale == 0] = 1
    steps = np.clip(np.round(values / scale), -127, 127).astype(np.int8)
    return [
        numpy_helper.from_array(steps, f"{tensor.name}.int8"),
        numpy_helper.from_array(scale.astype(np.float32), f"{tensor.name}.scale"),
    ]


def _floated(name: str) -> list[NodeProto]:
    return [
        helper.make_node("Cast", [f"{name}.int8"], [f"{name}.steps"], name=f"cast_{name}", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.steps", f"{name}.scale"], [name], name=f"scale_{name}"),
    ]


def _int8_dynamic(model: ModelProto, layers: Sequence[Layer], _: QuantizationConfig) -> ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "encoder.onnx"
        nodes = [layer.node for layer in layers]
        quantize_dynamic(
            model, path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
        )  # fmt: skip
        made = onnx.load(str(path))
    helper.set_model_props(made, {prop.key: prop.value for prop in model.metadata_props})
    return made


def _int8_static(model: ModelProto, layers: Sequence[Layer], config: QuantizationConfig) -> ModelProto:
    """A pair of QuantizeLinear and DequantizeLinear before each product, which onnxruntime makes integer products."""
    assert isinstance(config, Int8Static)
    inputs = {node.name: node.input[0] for node in model.graph.node}
    tensors = sorted({inputs[layer.node] for layer in layers})
    ranges = activation_ranges(model, tensors, config.audio, config.method, config.percentile)
    by_node, weights = {layer.node: layer for layer in layers}, {t.name: t for t in model.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.name in by_node:
            layer = by_node[node.name]
            model.graph.initializer.extend(_static_tensors(node, weights[layer.weight], layer.axis, ranges))
            model.graph.initializer.remove(weights[layer.weight])
            nodes.extend(_static_nodes(node, layer.axis))
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _static_tensors(node: NodeProto, weight: TensorProto, axis: int, ranges: Ranges) -> list[TensorProto]:
    low, high = ranges[node.input[0]]
    step = (high - low) / 255
    steps, scale = quantize_channels(weight, axis)
    flat = numpy_helper.from_array(numpy_helper.to_array(scale).ravel(), scale.name)
    return [
        steps,
        flat,
        numpy_helper.from_array(np.array(step, np.float32), f"{node.name}.scale"),
        numpy_helper.from_array(np.array(round(-low / step), np.uint8), f"{node.name}.zero"),
    ]


def _static_nodes(node: NodeProto, axis: int) -> list[NodeProto]:
    """The nodes before a product, which is changed to take what they put out."""
    source, weight, name = node.input[0], node.input[1], node.name
    node.input[0] = f"{name}.input"
    parameters = [f"{name}.scale", f"{name}.zero"]
    return [
        helper.make_node("QuantizeLinear", [source, *parameters], [f"{name}.steps"], name=f"quantize_{name}"),
        helper.make_node("DequantizeLinear", [f"{name}.steps", *parameters], [node.input[0]], name=f"float_{name}"),
        helper.make_node(
            "DequantizeLinear", [f"{weight}.int8", f"{weight}.scale"], [weight], name=f"scale_{weight}", axis=axis
        ),
    ]


def _int4_weights(model: ModelProto, layers: Sequence[Layer], config: QuantizationConfig) -> ModelProto:
    """Products become MatMulNBits, which takes its weights in four bits and computes with float32."""
    block_size = config.block_size if isinstance(config, Int4Weights) else BLOCK_SIZE
    graph, by_node = model.graph, {layer.node: layer for layer in layers}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if layer := by_node.get(node.name):
            name = layer.weight
            graph.initializer.extend(quantize_blocks(weights[name], block_size))
            graph.initializer.remove(weights[name])
            nodes.append(
                helper.make_node("Cast", [f"{name}.scale16"], [f"{name}.scale"], f"cast_{name}", to=TensorProto.FLOAT)
            )
            n_inputs, n_outputs = layer.shape
            node = helper.make_node(  # noqa: PLW2901 - takes the product's place
                "MatMulNBits", [node.input[0], f"{name}.int4", f"{name}.scale"], list(node.output), node.name,
                domain=CONTRIB, K=n_inputs, N=n_outputs, bits=4, block_size=block_size,
                accuracy_level=1,  # float32 arithmetic; integers depend on the version of onnxruntime
            )  # fmt: skip
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    if all(entry.domain != CONTRIB for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return model


def quantize_blocks(tensor: TensorProto, block_size: int = BLOCK_SIZE) -> list[TensorProto]:
    """A matrix (in, out) as MatMulNBits takes it: `<name>.int4` and `<name>.scale16`.

    The numbers are those of `asr.nn.rounding.fit_blocks`, plus 8, two in a byte, the first one in its low half:
    (out, blocks, block_size / 2). Scales are float16, (out * blocks).
    """
    weights = torch.from_numpy(numpy_helper.to_array(tensor).T.copy())
    steps, scale = (part.numpy() for part in fit_blocks(weights, 4, block_size))
    numbers = (steps + 8).astype(np.uint8)
    return [
        numpy_helper.from_array(numbers[..., 0::2] | numbers[..., 1::2] << 4, f"{tensor.name}.int4"),
        numpy_helper.from_array(scale.astype(np.float16).ravel(), f"{tensor.name}.scale16"),
    ]


def unpack_blocks(packed: npt.NDArray[np.uint8], scale: npt.NDArray[np.float16], n_inputs: int) -> FloatArray:
    """The matrix (in, out) that the tensors of `quantize_blocks` stand for."""
    numbers = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:2], -1).astype(np.float32) - 8
    values: FloatArray = numbers * scale.astype(np.float32).reshape(*packed.shape[:2], 1)
    return np.ascontiguousarray(values.reshape(len(packed), -1)[:, :n_inputs].T)


_Pass = Callable[[ModelProto, Sequence[Layer], QuantizationConfig], ModelProto]
_PASSES: Mapping[Scheme, _Pass] = {  # the library's own come first, as they want float32 graphs
    "int8-dynamic": _int8_dynamic,
    "int8-static": _int8_static,
    "int4": _int4_weights,
    "int8": _int8_weights,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence advice to prepare a graph that needs none."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

"""int8 weights per channel: the encoder shrinks to a third and computes as before.

Each weight matrix of a product, and each kernel of a full convolution, is stored as signed bytes with one scale an
output channel, and the graph makes it float again
(Cast, Mul), which onnxruntime does once, when it loads the model; activations stay float32. Quantising them too, at
run time, was no worse in words and a little faster, but its rounding made the best phoneme hang on the last bit of a
feature and on the version of onnxruntime. DequantizeLinear would say the same as Cast and Mul, but onnxruntime fuses
it into products that quantise activations after all. The graph's first product, depthwise convolutions and norms stay
float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


@dataclass(frozen=True, slots=True)
class Int8Weights:
    """Symmetric signed int8 weights, one scale an output channel; float32 arithmetic."""

    float_frontend: bool = True
    """Leave the first product of the graph, the front end, in float32."""


def quantize_encoder(source: str | Path, target: str | Path, config: Int8Weights) -> None:
    """Quantise the weights of the graph at `source` into `target`; everything else is kept."""
    model = onnx.load(str(source))
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    products = [(node.name, axis) for node in graph.node if (axis := output_axis(node, weights)) is not None]
    axes = dict(products[1:] if config.float_frontend else products)
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.name in axes:
            tensor = weights[node.input[1]]
            graph.initializer.remove(tensor)
            graph.initializer.extend(quantize_channels(tensor, axes[node.name]))
            nodes.extend(_dequantize(tensor.name))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))


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


def output_axis(node: NodeProto, weights: Mapping[str, TensorProto]) -> int | None:
    """Which axis of the node's constant weight its output channels are; None where it has no weight to quantise."""
    if node.op_type == "MatMul" and node.input[1] in weights and len(weights[node.input[1]].dims) == 2:
        return 1
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    if node.op_type == "Conv" and node.input[1] in weights and groups == 1:
        return 0
    return None


def _dequantize(name: str) -> list[NodeProto]:
    return [
        helper.make_node("Cast", [f"{name}.int8"], [f"{name}.steps"], name=f"cast_{name}", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.steps", f"{name}.scale"], [name], name=f"scale_{name}"),
    ]

"""int8 weights per channel: the encoder shrinks to a third and computes as before.

Each weight matrix of a product is stored as signed bytes with one scale a column, and the graph makes it float again
(Cast, Mul), which onnxruntime does once, when it loads the model; activations stay float32. Quantising them too, at
run time, was no worse in words and a little faster, but its rounding made the best phoneme hang on the last bit of a
feature and on the version of onnxruntime. DequantizeLinear would say the same as Cast and Mul, but onnxruntime fuses
it into products that quantise activations after all. Front end, depthwise convolutions and norms stay float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


@dataclass(frozen=True, slots=True)
class Int8Weights:
    """Symmetric signed int8 weights, one scale a column; float32 arithmetic."""

    float_frontend: bool = True
    """Leave the first product of the graph, the front end, in float32."""


def quantize_encoder(source: str | Path, target: str | Path, config: Int8Weights) -> None:
    """Quantise the weights of the graph at `source` into `target`; everything else is kept."""
    model = onnx.load(str(source))
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if _has_weight_matrix(node, weights)]
    chosen = {node.name for node in (products[1:] if config.float_frontend else products)}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.name in chosen:
            tensor = weights[node.input[1]]
            graph.initializer.remove(tensor)
            graph.initializer.extend(quantize_columns(tensor))
            nodes.extend(_dequantize(tensor.name))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))


def quantize_columns(tensor: TensorProto) -> list[TensorProto]:
    """A matrix as int8 `<name>.int8` and float32 `<name>.scale`, one a column; the error is at most half a step."""
    matrix = numpy_helper.to_array(tensor)
    scale = np.abs(matrix).max(axis=0) / 127
    scale[scale == 0] = 1
    steps = np.clip(np.round(matrix / scale), -127, 127).astype(np.int8)
    return [
        numpy_helper.from_array(steps, f"{tensor.name}.int8"),
        numpy_helper.from_array(scale.astype(np.float32), f"{tensor.name}.scale"),
    ]


def _has_weight_matrix(node: NodeProto, weights: dict[str, TensorProto]) -> bool:
    return node.op_type == "MatMul" and node.input[1] in weights and len(weights[node.input[1]].dims) == 2


def _dequantize(name: str) -> list[NodeProto]:
    return [
        helper.make_node("Cast", [f"{name}.int8"], [f"{name}.steps"], name=f"cast_{name}", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.steps", f"{name}.scale"], [name], name=f"scale_{name}"),
    ]

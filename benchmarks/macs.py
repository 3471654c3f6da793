"""How many multiplications a graph makes, counted from the shapes that its products and convolutions really have.

The graph is run once with the operands of every such node as extra outputs; quantised products count as the float ones
that they stand for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import MissingDependencyError
from asr.onnx_encoder import OnnxEncoder

PRODUCTS = ("MatMul", "MatMulInteger", "MatMulNBits", "Gemm")
CONVOLUTIONS = ("Conv", "ConvInteger")


def encoder_macs(path: Path, chunk_ms: int) -> int:
    """Multiply-accumulates of the encoder graph for one second of audio, the look-ahead's included.

    Args:
        path: `encoder.onnx` of a bundle.
        chunk_ms: length of a chunk.

    Raises:
        MissingDependencyError: onnx is not installed.
        BundleFileError: not an encoder graph.
    """
    encoder = OnnxEncoder(path)
    n_frames = chunk_ms // 10 + encoder.look_ahead_frames
    feed = {"x": np.zeros((1, n_frames, 80), np.float32)}
    feed |= {spec.name: np.zeros(spec.shape, spec.dtype) for spec in encoder.state_spec}
    return round(graph_macs(path, feed) * 1000 / chunk_ms)


def graph_macs(path: Path, feed: dict[str, Any]) -> int:
    """Multiply-accumulates of one run of an ONNX graph; `feed` has its inputs by name.

    Raises:
        MissingDependencyError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("onnx", "export") from error
    model = onnx.load(str(path))
    nodes = [node for node in model.graph.node if node.op_type in (*PRODUCTS, *CONVOLUTIONS)]
    shapes = {name: value.shape for name, value in _values(model, nodes, feed).items()}
    return sum(_node_macs(node, [shapes[name] for name in (*node.input[:2], node.output[0])]) for node in nodes)


def _values(model: Any, nodes: Sequence[Any], feed: dict[str, Any]) -> dict[str, Any]:
    """Operands and results of the nodes in one run."""
    import onnx
    import onnxruntime as ort

    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    wanted = dict.fromkeys(name for node in nodes for name in (*node.input[:2], node.output[0]))
    asked = [name for name in wanted if name not in constants and name not in feed]
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked if name not in known)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    found = dict(zip(asked, session.run(asked, feed), strict=True))
    return {name: constants[name] if name in constants else feed.get(name, found.get(name)) for name in wanted}


def _node_macs(node: Any, shapes: Sequence[tuple[int, ...]]) -> int:
    """One multiplication for each number put out and each number summed over."""
    left, right, out = shapes
    if node.op_type in CONVOLUTIONS:
        return math.prod(out) * math.prod(right[1:])  # weight (out channels, in channels / groups, kernel...)
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(out) * left[0 if transposed else -1]

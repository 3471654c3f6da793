"""int8 weights per channel, activations quantised on the fly: the matrix products of the encoder shrink fourfold.

Only MatMul is touched (onnxruntime's dynamic quantisation): front end, depthwise convolutions, norms and attention
products stay float32. They are small, and the front end is the layer that suffers most from eight bits.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx


@dataclass(frozen=True, slots=True)
class Int8Dynamic:
    """Signed int8 weights, one scale a column; unsigned int8 activations, one scale a tensor, found at run time."""

    per_channel: bool = True
    float_frontend: bool = True
    """Leave the first product of the graph, the front end, in float32."""


def quantize_encoder(source: str | Path, target: str | Path, config: Int8Dynamic) -> None:
    """Quantise the graph at `source` into `target`, metadata kept."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = onnx.load(str(source))
    props = {p.key: p.value for p in graph.metadata_props}
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        kept = _nodes_to_keep(onnx.load(str(prepared)), config)
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it recommends the pre-processing that has just been done
        try:
            quantize_dynamic(
                str(prepared), str(target), op_types_to_quantize=["MatMul"], per_channel=config.per_channel,
                weight_type=QuantType.QInt8, nodes_to_exclude=kept, extra_options={"MatMulConstBOnly": True},
            )  # fmt: skip
        finally:
            logging.getLogger().setLevel(level)
    quantized = onnx.load(str(target))
    onnx.helper.set_model_props(quantized, props)
    onnx.save(quantized, str(target))


def _nodes_to_keep(graph: onnx.ModelProto, config: Int8Dynamic) -> list[str]:
    products = [node.name for node in graph.graph.node if node.op_type in ("MatMul", "Gemm")]
    return products[:1] if config.float_frontend else []

"""The encoder of a bundle as a torch network: its weights are read back from `encoder.onnx`.

So every target is made from the bundle itself, and from the very numbers that it runs with: weights of 8 and 4 bits
become the floats that they stand for. An encoder whose activations are integers too has no such network and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import ModelProto, NodeProto, helper, numpy_helper

from asr.bundle import Bundle
from asr.errors import BundleFileError
from asr.nn.model import AcousticModel, EncoderConfig
from asr.onnx_encoder import OnnxEncoder
from asr.types import FloatArray
from export.onnx_graph import CONFIG_KEY
from export.quantize import Layer, find_layers, unpack_blocks

MAX_DIFFERENCE = 1e-3
"""Largest difference of a log-probability above `VISIBLE` between the graph and the network read from it."""
VISIBLE = -10.0
_N_CHUNKS = 3
_PREFIX = "model."
_N_HEADS = (4, 2, 1, 6, 8, 12, 3, 16)
Tensors = dict[str, npt.NDArray[np.float32]]


def encoder_model(bundle: Bundle) -> AcousticModel:
    """The network of the bundle's encoder, for inference, checked against the graph on random features.

    Raises:
        BundleFileError: the graph is not one that `asr-export` writes, or its activations are quantised.
    """
    path = bundle.file("encoder.onnx")
    encoder = OnnxEncoder(path)
    graph = onnx.load(str(path))
    tensors = read_tensors(graph)
    chunk_frames = bundle.manifest.encoder.default_chunk_ms // 10
    found: list[float] = []
    for config in _configs(graph, tensors, encoder):
        model = _filled(config, tensors, path)
        found.append(difference(model, encoder, chunk_frames))
        if found[-1] <= MAX_DIFFERENCE:
            return model
    raise BundleFileError(
        f"{path}: the network read from it differs by {min(found, default=float('inf')):.2g} nat from the graph, "
        f"expected at most {MAX_DIFFERENCE}: other formats are made from float32 encoders or such with int8 or int4 "
        "weights and float32 activations"
    )


def difference(model: AcousticModel, encoder: OnnxEncoder, chunk_frames: int) -> float:
    """Largest difference of visible log-probabilities on random features, over a few chunks with the state carried."""
    ahead = 2 * model.config.look_ahead
    features = np.random.default_rng(0).normal(-7, 4, (_N_CHUNKS * chunk_frames + ahead, model.config.n_mels))
    state, ours, worst = encoder.initial_state(), model.initial_state(), 0.0
    with torch.inference_mode():
        for start in range(0, _N_CHUNKS * chunk_frames, chunk_frames):
            window = features[start : start + chunk_frames + ahead].astype(np.float32)
            expected, state = encoder.step(window, state)
            found, ours = model.step(torch.from_numpy(window)[None], ours)
            worst = max(worst, _difference(expected, found[0].numpy()))
    return worst


def _difference(expected: FloatArray, found: FloatArray) -> float:
    if expected.shape != found.shape:
        return float("inf")
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf")
    visible = np.maximum(expected, found) > VISIBLE
    return float(np.abs(expected - found)[visible].max())


def read_tensors(graph: ModelProto) -> Tensors:
    """The floats of the graph by their names in torch; weights of layers as torch has them, (out, in)."""
    graph = _unquantized(graph)
    floats = {
        tensor.name: np.asarray(numpy_helper.to_array(tensor))
        for tensor in graph.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    named = {name.removeprefix(_PREFIX): values for name, values in floats.items() if name.startswith(_PREFIX)}
    layers = find_layers(graph)
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        values = floats[layer.weight]
        named[f"{_torch_name(layer, following)}.weight"] = values if layer.is_convolution else values.T
    return named


def _torch_name(layer: Layer, following: Layer | None) -> str:
    """A first factor has no bias to be named after: the second one, right behind it, ends in `.1`."""
    is_factor = layer.name == layer.node and following is not None and following.name.endswith(".1")
    return f"{following.name[:-2]}.0" if is_factor and following else layer.name


def _unquantized(source: ModelProto) -> ModelProto:
    """The graph with float weights where it has a Mul of a Cast of int8 weights and their scales, or a MatMulNBits."""
    graph = ModelProto()
    graph.CopyFrom(source)
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    casts = {n.output[0]: n for n in graph.graph.node if n.op_type == "Cast" and n.input[0] in constants}
    nodes: list[NodeProto] = []
    for node in graph.graph.node:
        kept = node
        if node.op_type == "Mul" and node.input[0] in casts and node.input[1] in constants:
            steps = numpy_helper.to_array(constants[casts[node.input[0]].input[0]])
            scales = numpy_helper.to_array(constants[node.input[1]])
            values = (steps.astype(np.float32) * scales).astype(np.float32)
            graph.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            continue
        if node.op_type == "MatMulNBits" and node.input[2] in casts:
            name = node.input[1].removesuffix(".int4")
            packed = numpy_helper.to_array(constants[node.input[1]])
            scales = numpy_helper.to_array(constants[casts[node.input[2]].input[0]])
            n_inputs = next(attribute.i for attribute in node.attribute if attribute.name == "K")
            values = unpack_blocks(packed, scales, n_inputs)
            graph.graph.initializer.append(numpy_helper.from_array(values, name))
            kept = helper.make_node("MatMul", [node.input[0], name], list(node.output), node.name)
        nodes.append(kept)
    used = {name for node in nodes for name in node.input} | {output.name for output in graph.graph.output}
    del graph.graph.node[:]
    graph.graph.node.extend(n for n in nodes if n.output[0] not in casts or n.output[0] in used)
    return graph


def _configs(graph: ModelProto, tensors: Tensors, encoder: OnnxEncoder) -> Iterator[EncoderConfig]:
    """What the metadata say; those of earlier versions say nothing, but all except the heads is in the shapes."""
    stored = {prop.key: prop.value for prop in graph.metadata_props}.get(CONFIG_KEY)
    try:
        if stored is not None:
            known = {field.name for field in fields(EncoderConfig)}
            yield EncoderConfig(**{key: value for key, value in json.loads(stored).items() if key in known})
            return
        blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
        d_model = tensors["frontend.linear.bias"].shape[0]
        for n_heads in (n for n in _N_HEADS if d_model % n == 0):
            yield EncoderConfig(
                n_mels=tensors["frontend.feature_mean"].shape[0],
                d_model=d_model,
                n_heads=n_heads,
                n_layers=len(blocks),
                d_ff=tensors["blocks.0.first.expand.bias"].shape[0],
                kernel=tensors["blocks.0.convolution.depthwise.weight"].shape[-1],
                left_context=encoder.metadata["left_context_len"],
                look_ahead=encoder.look_ahead_frames // 2,
                vocab_size=tensors["head.bias"].shape[0],
            )
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise BundleFileError(f"encoder.onnx: expected a network that `asr-export` wrote: {error}") from None


def _filled(config: EncoderConfig, tensors: Tensors, path: Path) -> AcousticModel:
    model = AcousticModel(config).eval()
    state = {}
    for name, expected in model.state_dict().items():
        values = tensors.get(name, _twin(name, tensors))
        if values is None or values.size != expected.numel():
            found = "nothing" if values is None else f"{values.shape}"
            raise BundleFileError(
                f"{path}: {name}: expected numbers of shape {tuple(expected.shape)}, found {found}: other formats are "
                "made from float32 encoders or such with int8 or int4 weights and float32 activations"
            )
        state[name] = torch.tensor(values).reshape(expected.shape)
    model.load_state_dict(state)
    return model


def _twin(name: str, tensors: Tensors) -> npt.NDArray[np.float32] | None:
    """The exporter stores equal tensors, as those of untrained norms are, once, by the name of the first."""
    suffix = "." + ".".join(name.split(".")[-2:])
    return next((values for other, values in tensors.items() if other.endswith(suffix)), None)

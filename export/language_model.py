"""A trained language model as two files: `lm.bin` with all weights, 4 and 8 bits, and `lm.onnx`, the graph over them.

The graph reads its weights from `lm.bin`, where the search finds the embeddings, so that nothing is stored twice. It
computes in float32 from those weights, like the encoder (export/quantize.py), and has two empty inputs a layer,
`down.I` and `up.I`, which adapters override.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from lm.arrayfile import ArrayFile, open_array_file, write_array_file
from lm.neural import DATA_FILE, GRAPH_FILE, KIND, FloatArray
from lm.pieces import PIECES_FILE
from lm.train.checkpoint import TrainedModel
from lm.train.fofe import layer_sizes
from lm.train.recipe import LanguageModelConfig
from lm.train.rounding import fit_groups, group_size

OPSET = 17
IR_VERSION = 9
ADAPTER_FOLDER = "adapters"
EMBEDDING_BITS = 4
_ONNX_TYPES = {
    "|i1": TensorProto.INT8, "|u1": TensorProto.UINT8, "<f2": TensorProto.FLOAT16, "<f4": TensorProto.FLOAT,
}  # fmt: skip
Arrays = Mapping[str, npt.NDArray[Any]]


def is_neural(name: str) -> bool:
    """Whether a bundle's file of this name belongs to its neural language model."""
    return name in (DATA_FILE, GRAPH_FILE, PIECES_FILE) or name.startswith(f"{ADAPTER_FOLDER}/")


def write_language_model(trained: TrainedModel, folder: Path) -> None:
    """Write `lm.onnx` and `lm.bin` of a model of the form `shared` into an existing folder.

    Raises:
        ValueError: another form, or weights that are not finite.
    """
    config = trained.model.config
    if config.dim % 2:
        raise ValueError(f"only embeddings of even size can be exported, this model's are {config.dim}")
    if config.form != "shared":
        raise ValueError(f"only a model of the form 'shared' can be exported, this one is {config.form!r}")
    broken = [name for name, value in trained.model.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"the model's weights are not finite ({', '.join(broken)}); the run has diverged")
    write_arrays(_arrays(trained), config, trained.words_sha256, folder)


def write_arrays(arrays: Arrays, config: LanguageModelConfig, words_sha256: str, folder: Path) -> str:
    """Write `lm.bin` and `lm.onnx` of a model's packed arrays (docs/architecture.md); returns their digest."""
    trunk = _digest(arrays)
    meta = {"trunk": trunk, "words_sha256": words_sha256, "context": config.context, "model": asdict(config)}
    write_array_file(folder / DATA_FILE, kind=KIND, arrays=arrays, meta=meta)
    onnx.save(_graph(config, folder / DATA_FILE, trunk), str(folder / GRAPH_FILE))
    return trunk


def _arrays(trained: TrainedModel) -> dict[str, npt.NDArray[Any]]:
    model = trained.model
    rows, scale = pack_embedding(model.embedding.detach().cpu().numpy())
    arrays: dict[str, npt.NDArray[Any]] = {
        "embedding": rows,
        "embedding_scale": scale,
        "bias": model.bias[0].detach().cpu().numpy().astype(np.float16),
        "unknown_log_share": trained.unknown_log_share.astype(np.float16),
    }
    for number, layer in enumerate(model.networks[0].layers):  # type: ignore[arg-type]
        steps, step = int8_rows(layer.weight.detach().cpu().numpy())
        arrays[f"weight.{number}"] = np.ascontiguousarray(steps.T)  # (I, O)
        arrays[f"weight_scale.{number}"] = step
        arrays[f"layer_bias.{number}"] = layer.bias.detach().cpu().numpy()
    return arrays


def pack_embedding(values: FloatArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """Embeddings (V, D), D even, as 4-bit numbers and scales; the layout is that of `NeuralModel`."""
    n_words, dim = values.shape
    groups = torch.from_numpy(values).reshape(n_words, dim // group_size(dim), -1)
    steps, scale = (found.numpy() for found in fit_groups(groups, EMBEDDING_BITS))
    numbers = (steps.reshape(n_words, dim) + 8).astype(np.uint8)
    packed = numbers[:, : dim // 2] + np.uint8(16) * numbers[:, dim // 2 :]
    return packed, scale[:, :, 0].astype(np.float16)


def int8_rows(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Signed bytes (O, I) and one scale a row (O,)."""
    scale = np.abs(values).max(1) / 127
    scale[scale == 0] = 1
    return np.round(values / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def _graph(config: LanguageModelConfig, data: Path, trunk: str) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("contexts", TensorProto.INT64, ["n", config.context])]
    output = helper.make_tensor_value_info("predicted", TensorProto.FLOAT, ["n", config.dim])
    file = open_array_file(data, kind=KIND)
    nodes, constants = _codes(config, file.arrays["embedding_scale"].shape[1])
    for number, (n_inputs, n_outputs) in enumerate(layer_sizes(config)):
        nodes += _layer(config, number)
        for name, shape in ((f"down.{number}", [n_inputs, "rank"]), (f"up.{number}", ["rank", n_outputs])):
            inputs.append(_adapter_input(name, shape))
            empty = np.zeros((0, n_outputs) if name.startswith("up") else (n_inputs, 0), np.float16)
            constants.append(numpy_helper.from_array(empty, name))
    used = {name for node in nodes for name in node.input}
    entries = [_external(file, name) for name in file.arrays if name in used]
    graph = helper.make_graph(nodes, "lm", inputs, [output], [*constants, *entries])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, {"trunk": trunk})
    return model


def _adapter_input(name: str, shape: list[Any]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape)


def _external(file: ArrayFile, name: str) -> TensorProto:
    """An array of `lm.bin` as a tensor of the graph that is stored there."""
    array = file.arrays[name]
    tensor = TensorProto(name=name, data_type=_ONNX_TYPES[array.dtype.str], dims=array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    place = {"location": file.path.name, "offset": file.offsets[name], "length": array.nbytes}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _codes(config: LanguageModelConfig, n_scales: int) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes from `contexts` to the FOFE codes, `x.0`: unpack and scale the embeddings, then add them up."""
    age = np.arange(config.context - 1, -1, -1)  # of each word; the newest has 0
    rows = [(config.factors[0], shift) for shift in range(config.window)] + [(a, 0) for a in config.factors[1:]]
    fofe = np.array([[factor ** (a - shift) if a >= shift else 0.0 for a in age] for factor, shift in rows])
    nodes = [
        helper.make_node("Gather", ["embedding", "contexts"], ["bytes"]),  # (N, C, D / 2)
        helper.make_node("Cast", ["bytes"], ["pairs"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pairs", "sixteenth"], ["shifted_pairs"]),
        helper.make_node("Floor", ["shifted_pairs"], ["high"]),
        helper.make_node("Mul", ["high", "sixteen"], ["high_part"]),
        helper.make_node("Sub", ["pairs", "high_part"], ["low"]),
        helper.make_node("Concat", ["low", "high"], ["raised"], axis=2),
        helper.make_node("Sub", ["raised", "eight"], ["steps"]),
        helper.make_node("Reshape", ["steps", "grouped"], ["groups"]),  # (N, C, G, D / G)
        helper.make_node("Gather", ["embedding_scale", "contexts"], ["scales"]),
        helper.make_node("Cast", ["scales"], ["float_scales"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["float_scales", "last"], ["columns"]),
        helper.make_node("Mul", ["groups", "columns"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "rows"], ["embedded"]),  # (N, C, D)
        helper.make_node("MatMul", ["fofe", "embedded"], ["codes"]),
        helper.make_node("Reshape", ["codes", "flat"], ["x.0"]),
    ]
    constants = [
        numpy_helper.from_array(fofe.astype(np.float32), "fofe"),
        *(
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in (("sixteenth", 1 / 16), ("sixteen", 16.0), ("eight", 8.0))
        ),
        numpy_helper.from_array(np.array([-1], np.int64), "last"),
        numpy_helper.from_array(np.array([-1, config.context, n_scales, config.dim // n_scales]), "grouped"),
        numpy_helper.from_array(np.array([-1, config.context, config.dim]), "rows"),
        numpy_helper.from_array(np.array([-1, len(rows) * config.dim], np.int64), "flat"),
    ]
    return nodes, constants


def _layer(config: LanguageModelConfig, number: int) -> list[NodeProto]:
    """Nodes of a layer, from `x.I` to `x.I+1`; those of the last give `predicted`."""
    n, last = number, number == config.layers
    x, out = f"x.{n}", "predicted" if last else f"x.{n + 1}"
    is_residual = 0 < n < config.layers
    activated = f"activated.{n}" if is_residual else out
    nodes = [
        helper.make_node("Cast", [f"weight.{n}"], [f"weight_steps.{n}"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"weight_steps.{n}", f"weight_scale.{n}"], [f"matrix.{n}"]),
        helper.make_node("MatMul", [x, f"matrix.{n}"], [f"product.{n}"]),
        helper.make_node("Cast", [f"down.{n}"], [f"down_float.{n}"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [f"up.{n}"], [f"up_float.{n}"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", [x, f"down_float.{n}"], [f"narrow.{n}"]),
        helper.make_node("MatMul", [f"narrow.{n}", f"up_float.{n}"], [f"change.{n}"]),
        helper.make_node("Add", [f"product.{n}", f"layer_bias.{n}"], [f"shifted.{n}"]),
        helper.make_node("Add", [f"shifted.{n}", f"change.{n}"], [out if last else f"sum.{n}"]),
    ]
    if last:
        return nodes
    if config.activation == "relu":
        nodes.append(helper.make_node("Relu", [f"sum.{n}"], [activated]))
    else:
        nodes += _gelu(f"sum.{n}", activated)
    return [*nodes, helper.make_node("Add", [x, activated], [out])] if is_residual else nodes


def _gelu(x: str, out: str) -> list[NodeProto]:
    """GELU(x) = x * (1 + erf(x / sqrt 2)) / 2, as operators that every runtime has."""
    constant = {name: numpy_helper.from_array(np.array(value, np.float32), name) for name, value in
                (("half", 0.5), ("one", 1.0), ("root", 2**-0.5))}  # fmt: skip
    named = {name: f"{x}.{name}" for name in constant}
    return [
        *(helper.make_node("Constant", [], [named[name]], value=tensor) for name, tensor in constant.items()),
        helper.make_node("Mul", [x, named["root"]], [f"{x}.scaled"]),
        helper.make_node("Erf", [f"{x}.scaled"], [f"{x}.erf"]),
        helper.make_node("Add", [f"{x}.erf", named["one"]], [f"{x}.shifted"]),
        helper.make_node("Mul", [x, f"{x}.shifted"], [f"{x}.product"]),
        helper.make_node("Mul", [f"{x}.product", named["half"]], [out]),
    ]

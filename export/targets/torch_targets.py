"""Targets that torch programs are lowered to: executorch, LiteRT, Core ML. Fixed shapes; weights float32, or int8."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from asr.bundle import Bundle
from export.onnx_graph import PackedStep, initial_states, state_names
from export.targets.base import Target, need
from export.targets.description import PHONEME_LOOP, contract, describe_target
from export.targets.weights import encoder_model

_EXECUTORCH_RUNTIME = """import torch
from executorch.runtime import Runtime

method = Runtime.get().load_program("encoder.pte").load_method("forward")


def run(arrays):
    outputs = method.execute([torch.from_numpy(np.ascontiguousarray(array)) for array in arrays])
    return [output.numpy().copy() for output in outputs]"""
_LITERT_RUNTIME = """from ai_edge_litert.interpreter import Interpreter

call = Interpreter("encoder.tflite").get_signature_runner()


def run(arrays):
    outputs = call(**{f"args_{place}": array for place, array in enumerate(arrays)})
    return [outputs[f"output_{place}"] for place in range(len(outputs))]"""
_COREML_RUNTIME = """import coremltools

model = coremltools.models.MLModel("encoder.mlpackage")  # runs on macOS


def run(arrays):
    names = [entry["name"] for entry in (about["window"], *about["states"])]
    outputs = model.predict(dict(zip(names, arrays)))
    return [outputs[name] for name in ("log_probs", *(f"new_{name}" for name in names[1:]))]"""
_EXECUTORCH_NOTE = (
    "On Android and iOS the same file is loaded with `Module` (`Module.load(path)`, `forward(...)`), inputs and "
    "outputs in this order. Products and convolutions run in XNNPACK, the rest in the portable kernels."
)
_LITERT_NOTE = (
    "On Android the same signature, `serving_default`, is called with `Interpreter.runSignature`: inputs `args_0` (the "
    "window), `args_1` ..., outputs `output_0` (log-probabilities), `output_1` ... The last state is int32 here."
)
_EXECUTORCH_INT8_NOTE = (
    "The weights of its products are int8, and so are the products: each row of numbers that goes in is rounded to "
    "int8 with a scale of its own. A few phonemes come out otherwise than from the bundle."
)
_LITERT_INT8_NOTE = (
    "The weights of its products are int8 in the file, and floats when it runs. They were rounded anew after LiteRT "
    "had folded the gains of the norms into them, so a few phonemes come out otherwise than from the bundle."
)
_COREML_NOTES = (
    "The last state, the number of frames so far, is int32 here, as Core ML takes no int64. States that the "
    "network does not use are left out.",
    "The package was converted and its structure checked. It has not been run: that takes a Mac or an iPhone.",
)


_UNUSED = ("cached_key_", "cached_nonlin_attn_")
_UNUSED_WITHOUT_CONVOLUTIONS = ("cached_conv1_", "cached_conv2_")


class NarrowStep(nn.Module):
    """`PackedStep` whose frame counter is int32, for runtimes that take no int64: enough for a stream of 16 months.

    States named in `unused` are neither inputs nor outputs: some runtimes cannot give an input back as an output.
    """

    def __init__(self, step: PackedStep, unused: Sequence[str] = ()) -> None:
        super().__init__()
        self.step = step
        names = state_names(step.model.config)
        self.kept = [place for place, name in enumerate(names) if name not in unused]

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """As `PackedStep.forward`."""
        before = initial_states(self.step.model.config)
        for place, state in zip(self.kept, states, strict=True):
            before[place] = state.to(before[place].dtype)
        log_probs, *after = self.step(x, *before)
        *others, n_frames = (after[place] for place in self.kept)
        return (log_probs, *others, n_frames.to(torch.int32))


def fixed_step(bundle: Bundle, chunk_ms: int) -> tuple[PackedStep, tuple[Tensor, ...]]:
    """The step of one stream, and inputs to try it with: a window of silence and the first states.

    Raises:
        BundleFileError: the bundle's encoder cannot be read back as a network.
    """
    network = encoder_model(bundle)
    window = torch.zeros(contract(bundle, chunk_ms).window.shape)
    return PackedStep(network).eval(), (window, *initial_states(network.config))


def write_executorch(bundle: Bundle, out: Path, chunk_ms: int, *, int8: bool = False) -> None:
    """Fill the folder `out` with `encoder.pte`, its products and convolutions for XNNPACK; `int8`: products in int8."""
    exir = need("executorch.exir", "executorch")
    xnnpack = need("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
    step, example = fixed_step(bundle, chunk_ms)
    partitioners = [xnnpack.XnnpackPartitioner()]
    with _quiet(), torch.no_grad():
        program = torch.export.export(step, example)
        if int8:
            kinds = need(
                "executorch.backends.xnnpack.partition.config.xnnpack_config", "executorch"
            ).ConfigPrecisionType
            dynamic = xnnpack.XnnpackPartitioner(config_precisions=kinds.DYNAMIC_QUANT, per_op_mode=True)
            partitioners.insert(0, dynamic)
            program = torch.export.export(_int8_products(program, example), example)
        lowered = exir.to_edge_transform_and_lower(program, partitioner=partitioners)
        (out / "encoder.pte").write_bytes(lowered.to_executorch().buffer)
    code, shapes = PHONEME_LOOP.replace("{runtime}", _EXECUTORCH_RUNTIME), contract(bundle, chunk_ms)
    notes = [_EXECUTORCH_NOTE, *([_EXECUTORCH_INT8_NOTE] if int8 else [])]
    describe_target(
        bundle, out, shapes, target="executorch", model="encoder.pte", code=code, notes=notes, weights=_weights(int8)
    )


def _int8_products(program: torch.export.ExportedProgram, example: tuple[Tensor, ...]) -> nn.Module:
    """The program with the weights of its linear layers in int8, by column, and their inputs rounded row by row."""
    quantizing = need("executorch.backends.xnnpack.quantizer.xnnpack_quantizer", "executorch")
    pt2e = need("torchao.quantization.pt2e.quantize_pt2e", "executorch")
    quantizer = quantizing.XNNPACKQuantizer()
    # It would make the numbers that integers are added to floats, and with them the frame counter.
    quantizer.transform_for_annotation = lambda model: model
    config = quantizing.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    quantizer.set_module_type(nn.Linear, config)
    prepared = pt2e.prepare_pt2e(program.module(), quantizer)
    prepared(*example)
    converted: nn.Module = pt2e.convert_pt2e(prepared)
    return converted


def write_litert(bundle: Bundle, out: Path, chunk_ms: int, *, int8: bool = False) -> None:
    """Fill the folder `out` with `encoder.tflite`; `int8`: the weights of its products in int8."""
    tool = need("litert_torch", "litert")
    step, (window, *states, n_frames) = fixed_step(bundle, chunk_ms)
    path = out / "encoder.tflite"
    with _quiet(), torch.no_grad():
        example = (window, *states, n_frames.to(torch.int32))
        tool.convert(NarrowStep(step).eval(), example).export(str(path))
        if int8:
            quantizer = need("ai_edge_quantizer.quantizer", "litert").Quantizer(str(path))
            quantizer.load_quantization_recipe(need("ai_edge_quantizer.recipe", "litert").weight_only_wi8_afp32())
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                path.write_bytes(bytes(quantizer.quantize().quantized_model))
    code, shapes = PHONEME_LOOP.replace("{runtime}", _LITERT_RUNTIME), contract(bundle, chunk_ms, counter="int32")
    notes = [_LITERT_NOTE, *([_LITERT_INT8_NOTE] if int8 else [])]
    describe_target(
        bundle, out, shapes, target="litert", model="encoder.tflite", code=code, notes=notes, weights=_weights(int8)
    )


def _weights(int8: bool) -> str:
    return "int8" if int8 else "float32"


def write_coreml(bundle: Bundle, out: Path, chunk_ms: int) -> None:
    """Fill the folder `out` with `encoder.mlpackage`; only a Mac or a phone can run it, so its structure is checked."""
    tool = need("coremltools", "coreml")
    step, (window, *states, n_frames) = fixed_step(bundle, chunk_ms)
    kinds = _UNUSED if step.has_convolutions else _UNUSED + _UNUSED_WITHOUT_CONVOLUTIONS
    all_names = state_names(step.model.config)
    unused = [name for name in all_names if name.startswith(kinds)]
    shapes = contract(bundle, chunk_ms, counter="int32", unused=unused)
    names = [tensor.name for tensor in shapes.states]
    narrow = NarrowStep(step, unused).eval()
    kept = [state for name, state in zip(all_names, states, strict=False) if name in names]
    with _quiet(), torch.no_grad():
        program = torch.export.export(narrow, (window, *kept, n_frames.to(torch.int32)))
        model = tool.convert(
            program.run_decompositions({}),
            outputs=[tool.TensorType(name=name) for name in ("log_probs", *(f"new_{name}" for name in names))],
            minimum_deployment_target=tool.target.iOS17,
            compute_precision=tool.precision.FLOAT32,
            skip_model_load=True,
        )
        spec = model.get_spec()
        for entry, name in zip(list(spec.description.input), ("x", *names), strict=True):
            tool.utils.rename_feature(spec, entry.name, name)
        path = str(out / "encoder.mlpackage")
        tool.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True).save(path)
    code = PHONEME_LOOP.replace("{runtime}", _COREML_RUNTIME)
    describe_target(bundle, out, shapes, target="coreml", model="encoder.mlpackage", code=code, notes=_COREML_NOTES)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tools' notes on versions and missing accelerators."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


EXECUTORCH = Target("executorch", "executorch with XNNPACK, for Android and iOS", write_executorch)
LITERT = Target("litert", "LiteRT (TensorFlow Lite), for Android", write_litert)
COREML = Target("coreml", "Core ML, for iOS and macOS (converted here, not run)", write_coreml)

"""Exports to other runtimes: they hear what the bundle hears, and of a bad bundle nothing is written."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from small_encoder import make_features, plain_graph, small_model  # noqa: E402

from asr.audio import open_audio  # noqa: E402
from asr.bundle import Bundle, FileInfo, sha256_of  # noqa: E402
from asr.errors import BundleError, BundleFileError, ChunkSizeError, MissingDependencyError, OptionError  # noqa: E402
from asr.onnx_encoder import OnnxEncoder  # noqa: E402
from asr.train.deepen import deepened  # noqa: E402
from export.cli import main  # noqa: E402
from export.onnx_graph import CONFIG_KEY, export_encoder  # noqa: E402
from export.quantize import Int8Dynamic, Int8Weights, quantize_encoder  # noqa: E402
from export.ranges import read_features  # noqa: E402
from export.targets.base import MARKER  # noqa: E402
from export.targets.parity import measure_parity  # noqa: E402
from export.targets.registry import TARGETS, write_target  # noqa: E402
from export.targets.runners import TargetFolder, greedy_phonemes  # noqa: E402
from export.targets.weights import _difference, difference, encoder_model  # noqa: E402
from lm.phones import PHONEMES  # noqa: E402

TOOLS = {"executorch": "executorch.exir", "litert": "litert_torch", "coreml": "coremltools"}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def english():
    return Bundle.open()


@pytest.fixture(scope="module")
def clip(english):
    return english.file(english.manifest.selftest.audio)


@pytest.fixture
def opened(english):
    """A bundle like the embedded one whose encoder is another file."""

    def open_with(path):
        files = {**english.manifest.files, "encoder.onnx": FileInfo(sha256_of(path), path.stat().st_size)}
        return OtherEncoder(english.path, replace(english.manifest, files=files), path)

    return open_with


class OtherEncoder(Bundle):
    __slots__ = ("encoder",)

    def __init__(self, path, manifest, encoder):
        super().__init__(path, manifest)
        object.__setattr__(self, "encoder", encoder)

    def file(self, name):
        return self.encoder if name == "encoder.onnx" else super().file(name)


def stamped(path, target, **metadata):
    """Copy of a graph with metadata changed; None removes a key."""
    graph = onnx.load(str(path))
    kept = {prop.key: prop.value for prop in graph.metadata_props} | metadata
    onnx.helper.set_model_props(graph, {key: value for key, value in kept.items() if value is not None})
    onnx.save(graph, str(target))
    return target


# --- weights --------------------------------------------------------------------------------------------------------


def test_float_weights_come_back_as_they_were(opened):
    model, expected = encoder_model(opened(plain_graph())), small_model()
    assert model.config == expected.config
    for name, values in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], values), name


def test_a_deepened_network_comes_back(opened, tmp_path):
    deep = deepened(small_model(), [0, 1]).eval()
    with torch.no_grad():
        for parameter in deep.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    export_encoder(deep, tmp_path / "deep.onnx")
    model = encoder_model(opened(tmp_path / "deep.onnx"))
    assert model.config == deep.config
    for name, values in deep.state_dict().items():
        assert torch.equal(model.state_dict()[name], values), name


def test_int8_weights_come_back_as_the_floats_that_they_stand_for(opened, tmp_path):
    quantize_encoder(plain_graph(), tmp_path / "int8.onnx", Int8Weights())
    model = encoder_model(opened(tmp_path / "int8.onnx"))
    assert difference(model, OnnxEncoder(tmp_path / "int8.onnx"), 32) < 1e-4
    assert difference(model, OnnxEncoder(plain_graph()), 32) > 1e-3


def test_a_graph_of_an_earlier_version_is_read_from_its_shapes(opened, tmp_path):
    model = encoder_model(opened(stamped(plain_graph(), tmp_path / "old.onnx", **{CONFIG_KEY: None})))
    assert model.config == small_model().config


def test_the_embedded_encoder_comes_back(english):
    encoder = OnnxEncoder(english.file("encoder.onnx"))
    assert difference(encoder_model(english), encoder, 64) < 1e-4


def test_integer_activations_are_refused(opened, tmp_path):
    quantize_encoder(plain_graph(), tmp_path / "dynamic.onnx", Int8Dynamic())
    with pytest.raises(BundleFileError, match="float32 activations"):
        encoder_model(opened(tmp_path / "dynamic.onnx"))


def test_a_graph_that_computes_something_else_is_refused(opened, tmp_path):
    graph = onnx.load(str(plain_graph()))
    first = next(node for node in graph.graph.node if node.op_type == "Sigmoid")
    first.op_type = "Tanh"
    del first.attribute[:]
    onnx.save(graph, str(tmp_path / "other.onnx"))
    with pytest.raises(BundleFileError, match="differs by"):
        encoder_model(opened(tmp_path / "other.onnx"))


def test_a_foreign_network_is_refused(tiny_bundle):
    with pytest.raises(BundleFileError, match="asr-export"):
        encoder_model(Bundle.open(tiny_bundle))


# --- exports that run here ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["onnx", "ort", "sherpa-onnx"])
def exported(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / request.param
    assert main([request.param, str(out), "--chunk-ms", "320"]) == 0
    return out


def test_an_export_hears_the_same_phonemes(exported, english, clip, tmp_path):
    assert measure_parity(exported, english, [clip]).n_identical == 1
    assert main(["parity", str(exported), "--audio", str(clip), "--out", str(tmp_path / "parity.json")]) == 0
    figures = json.loads((tmp_path / "parity.json").read_text())
    assert figures["clips"][0]["max_abs"] < 1e-3
    assert figures["clips"][0]["n_phonemes"] > 20


def test_the_description_says_what_goes_in_and_out(exported):
    about = json.loads((exported / MARKER).read_text())
    assert about["target"] == exported.name
    session = OnnxEncoder(exported / about["model"])
    assert [(s["name"], tuple(s["shape"]), s["dtype"]) for s in about["states"]] == [
        (s.name, s.shape, s.dtype) for s in session.state_spec
    ]
    assert about["window"]["shape"] == [1, 32 + session.look_ahead_frames, 80]
    log_probs, _ = session.step(np.zeros(about["window"]["shape"][1:], np.float32), session.initial_state())
    assert list(log_probs.shape) == about["log_probs"]["shape"][1:]
    if exported.name != "onnx":
        assert session.metadata["decode_chunk_len"] == (32 if exported.name == "sherpa-onnx" else 64)


def test_the_code_of_the_readme_works(exported, clip, tmp_path):
    """The last block of code prints what the export hears."""
    folder = shutil.copytree(exported, tmp_path / "copy")
    samples = np.concatenate(list(open_audio(clip).blocks()))
    soundfile.write(folder / "speech.wav", samples, 16_000)
    if exported.name == "sherpa-onnx":
        pytest.importorskip("sherpa_onnx")
    code = (folder / "README.md").read_text().split("```python")[-1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    heard = [PHONEMES[label] for label in greedy_phonemes(TargetFolder(exported).log_probs(read_features(clip)))]
    assert done.stdout.split() == heard or "".join(done.stdout.split()).startswith("".join(heard[:-2]))


def test_the_ort_folder_lists_its_operators_and_keeps_int8(tmp_path, english):
    write_target(TARGETS["ort"], None, tmp_path / "ort")
    text = (tmp_path / "ort" / "required_operators.config").read_text()
    assert "LogSoftmax" in text
    assert "float" in text
    assert str(tmp_path) not in text
    assert (tmp_path / "ort" / "encoder.ort").stat().st_size < 1.3 * english.file("encoder.onnx").stat().st_size


def test_sherpa_onnx_hears_words(tmp_path, clip, english):
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    said = english.manifest.selftest.text.lower().split()
    (tmp_path / "words.txt").write_text("\n".join(sorted(set(said))))
    out = tmp_path / "out"
    assert main(["sherpa-onnx", str(out), "--words", str(tmp_path / "words.txt"), "--top", "50"]) == 0
    samples = np.concatenate(list(open_audio(clip).blocks()))
    soundfile.write(out / "speech.wav", samples, 16_000)
    assert sherpa_onnx.__version__
    code = (out / "README.md").read_text().split("```python")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split()) & set(said)) >= 0.7 * len(set(said))


# --- exports with tools of their own --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_lowered_exports_hear_the_same(name, english, tmp_path):
    pytest.importorskip(TOOLS[name])
    write_target(TARGETS[name], None, tmp_path / name)
    if name == "coreml":
        import coremltools

        package = str(tmp_path / name / "encoder.mlpackage")
        about = json.loads((tmp_path / name / MARKER).read_text())
        found = coremltools.models.MLModel(package, skip_model_load=True).get_spec().description
        states = [(state["name"], state["shape"]) for state in about["states"]]
        inputs = [(entry.name, list(entry.type.multiArrayType.shape)) for entry in found.input]
        assert inputs == [("x", about["window"]["shape"]), *states]
        assert [entry.name for entry in found.output] == ["log_probs", *(f"new_{state}" for state, _ in states)]
        return
    clip = english.file(english.manifest.selftest.audio)
    assert measure_parity(tmp_path / name, english, [clip]).n_identical == 1


@pytest.mark.parametrize("name", ["executorch", "litert"])
def test_int8_exports_are_a_third_as_large_and_hear_nearly_the_same(name, english, tmp_path):
    pytest.importorskip(TOOLS[name])
    assert main([name, str(tmp_path / name), "--int8"]) == 0
    assert json.loads((tmp_path / name / MARKER).read_text())["weights"] == "int8"
    clip = english.file(english.manifest.selftest.audio)
    found = measure_parity(tmp_path / name, english, [clip])
    assert found.model_bytes < 2_600_000
    assert found.clips[0].same_label > 0.98


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_a_missing_tool_is_named_with_its_extra(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, TOOLS[name], None)
    monkeypatch.setitem(sys.modules, TOOLS[name].partition(".")[0], None)
    with pytest.raises(MissingDependencyError, match=rf"sottovoce\[{name}\]"):
        write_target(TARGETS[name], None, tmp_path / "out")
    assert main([name, str(tmp_path / "out")]) == 2
    assert f"sottovoce[{name}]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# --- bad bundles ----------------------------------------------------------------------------------------------------


def _change_manifest(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def _replace_encoder(folder, write):
    write(folder / "encoder.onnx")
    info = {"sha256": sha256_of(folder / "encoder.onnx"), "bytes": (folder / "encoder.onnx").stat().st_size}
    _change_manifest(folder, lambda manifest: manifest["files"].update({"encoder.onnx": info}))


def damaged(folder):
    data = (folder / "encoder.onnx").read_bytes()
    (folder / "encoder.onnx").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def newer(folder):
    _change_manifest(folder, lambda manifest: manifest.update(schema_version=99))


def no_graph(folder):
    _replace_encoder(folder, lambda path: path.write_bytes(b"no graph"))


def of_another_bundle(folder):
    _replace_encoder(folder, lambda path: shutil.copyfile(plain_graph(), path))


def without_metadata(folder):
    _replace_encoder(folder, lambda path: stamped(path, path, decode_chunk_len=None))


@pytest.mark.parametrize("name", sorted(TARGETS))
@pytest.mark.parametrize("harm", [damaged, newer, no_graph, of_another_bundle, without_metadata])
def test_a_bad_bundle_gives_an_error_and_no_output(name, harm, tiny_bundle, tmp_path):
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    harm(folder)
    with pytest.raises(BundleError):
        write_target(TARGETS[name], folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_chunk_that_the_bundle_lacks_is_refused(name, tmp_path):
    with pytest.raises(ChunkSizeError, match="320, 640, 1280"):
        write_target(TARGETS[name], None, tmp_path / "out", 500)
    assert not list(tmp_path.iterdir())


def test_a_foreign_folder_is_not_replaced_and_an_earlier_export_is(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an earlier export"):
        write_target(TARGETS["ort"], None, out)
    (out / "thesis.txt").unlink()
    write_target(TARGETS["ort"], None, out, 320)
    write_target(TARGETS["ort"], None, out, 640)
    assert json.loads((out / MARKER).read_text())["chunk_ms"] == 640


def test_parity_wants_an_export_of_the_same_bundle(tmp_path, clip, english, opened):
    with pytest.raises(OptionError, match="is not what"):
        measure_parity(tmp_path, english, [clip])
    write_target(TARGETS["ort"], None, tmp_path / "ort")
    with pytest.raises(OptionError, match="made from an encoder"):
        measure_parity(tmp_path / "ort", opened(plain_graph()), [clip])
    with pytest.raises(OptionError, match="no audio"):
        measure_parity(tmp_path / "ort", english, [])


def test_nan_is_no_small_difference():
    expected, found = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    found[1, 2] = np.nan
    assert _difference(expected, found) == float("inf")


def test_parity_notices_another_model(tmp_path, clip, english):
    """The runner must not be lenient: a model that is a little off is found."""
    write_target(TARGETS["sherpa-onnx"], None, tmp_path / "out")
    path = tmp_path / "out" / "encoder.onnx"
    graph = onnx.load(str(path))
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name == "model.head.bias")
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] += 3
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(graph, str(path))
    parity = measure_parity(tmp_path / "out", english, [clip])
    assert parity.n_identical == 0
    assert clip.name in str(parity)


def test_a_runner_carries_the_state(tmp_path, english):
    """Windows one by one give what our encoder gives for the stream, the last one filled with silence."""
    write_target(TARGETS["ort"], None, tmp_path / "ort")
    features = make_features(150)
    found = TargetFolder(tmp_path / "ort").log_probs(features)
    assert found.shape == (96, len(PHONEMES))

"""Opening and writing bundles: what is whole is read back, and everything that was tampered with is named."""

import hashlib
import json
import os
import shutil

import numpy as np
import onnx
import pytest

import asr
from asr.bundle import Bundle, Selftest, StateSpec, default_bundle_path
from asr.config import DecodingConfig
from asr.onnx_encoder import OnnxEncoder
from lm.arrayfile import open_array_file, write_array_file


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    """A copy of the tiny bundle to spoil."""
    return shutil.copytree(tiny_bundle, tmp_path / "copy")


def refresh(folder, name, edit_manifest):
    """Make the manifest true again after a file was replaced."""
    content = (folder / name).read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit_manifest(folder, lambda manifest: manifest["files"].__setitem__(name, entry))


def test_what_was_written_is_read_back(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    manifest = bundle.manifest
    assert (manifest.name, manifest.language, manifest.license) == ("tiny", "en", "Apache-2.0")
    assert manifest.encoder.chunk_ms == (320, 640, 1280)
    assert manifest.encoder.default_chunk_ms == 640
    assert manifest.encoder.left_context_frames == 4
    assert manifest.encoder.state[0] == StateSpec("cached_key_0", (4, 1, 1), "float32")
    assert manifest.encoder.state[-1] == StateSpec("processed_lens", (1,), "int64")
    assert manifest.decoding == DecodingConfig()
    assert manifest.selftest == Selftest("selftest.flac", "stop spot it's pin")
    listed = set(manifest.files) | {"manifest.json"}
    assert listed == {path.name for path in tiny_bundle.iterdir()}
    assert bundle.size_bytes == sum(
        path.stat().st_size for path in tiny_bundle.iterdir() if path.name in manifest.files
    )


def test_its_selftest_passes(tiny_bundle):
    recognizer = asr.Recognizer(tiny_bundle)
    selftest = recognizer.bundle.manifest.selftest
    assert recognizer.transcribe(recognizer.bundle.file(selftest.audio)).text == selftest.text
    assert recognizer.n_words == 6


def test_no_such_bundle(tmp_path):
    with pytest.raises(asr.BundleNotFoundError, match="nowhere"):
        asr.Recognizer(tmp_path / "nowhere")
    with pytest.raises(asr.BundleNotFoundError, match=r"manifest\.json"):
        asr.Recognizer(tmp_path)


def test_a_missing_default_bundle_is_said_to_be_missing(monkeypatch):
    monkeypatch.setattr("asr.bundle.DEFAULT_BUNDLE", "data/klingon")
    with pytest.raises(asr.BundleNotFoundError, match="no default bundle.*name a bundle folder"):
        default_bundle_path()


# --- the manifest ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff\xfe", '{"schema_version": NaN}', "[" * 100_000])
def test_manifests_that_are_none(copy, text):
    (copy / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(asr.BundleManifestError, match=r"manifest\.json"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    "place", [(), ("encoder",), ("encoder", "state", 2), ("endpoint",), ("selftest",), ("decoding",)]
)
def test_an_unknown_key(copy, edit_manifest, place):
    def add(manifest):
        for step in place:
            manifest = manifest[step]
        manifest["surprise"] = 1

    edit_manifest(copy, add)
    with pytest.raises(asr.BundleManifestError, match="unknown key 'surprise', expected"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    "place",
    [("license",), ("encoder", "frame_ms"), ("confidence", "bias"), ("decoding", "lm_weight"), ("features", "window")],
)
def test_a_missing_key(copy, edit_manifest, place):
    def remove(manifest):
        for step in place[:-1]:
            manifest = manifest[step]
        del manifest[place[-1]]

    edit_manifest(copy, remove)
    with pytest.raises(asr.BundleManifestError, match=f"{place[-1]!r} is missing"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("name",), 3, "name: expected text, found 3"),
        (("sample_rate",), "16000", "sample_rate: expected a whole number, found '16000'"),
        (("sample_rate",), True, "sample_rate: expected a whole number, found True"),
        (("sample_rate",), 8000, "8000"),
        (("provenance",), [], "provenance: expected an object"),
        (("encoder", "chunk_ms"), 640, "encoder.chunk_ms: expected a list"),
        (("encoder", "chunk_ms"), [], "encoder.chunk_ms"),
        (("encoder", "chunk_ms"), [320, 0], "encoder.chunk_ms"),
        (("encoder", "chunk_ms"), [330], "multiples of frame_ms"),
        (("encoder", "default_chunk_ms"), 500, "default_chunk_ms: expected one of"),
        (("encoder", "state", 0, "shape"), [1.5], r"state\[0\]\.shape\[0\]: expected a whole number, found 1.5"),
        (("features", "window"), "hann", "computes .*povey.* asks for .*hann"),
        (("endpoint", "min_silence_s"), -1, "min_silence_s"),
        (("decoding", "beam_size"), 0, "beam_size"),
        (("decoding", "beam_size"), "many", "decoding.beam_size: expected a whole number"),
        (("files", "tokens.txt", "bytes"), "1", "bytes: expected a whole number"),
        (("schema_version",), 1, "schema_version: expected 3, found 1.*written again"),
        (("schema_version",), "1", "schema_version: expected 3, found '1'"),
        (("schema_version",), True, "schema_version: expected 3, found True"),
    ],
)
def test_wrong_values(copy, edit_manifest, place, value, message):
    def change(manifest):
        for step in place[:-1]:
            manifest = manifest[step]
        manifest[place[-1]] = value

    edit_manifest(copy, change)
    with pytest.raises(asr.BundleManifestError, match=message):
        Bundle.open(copy)


def test_a_newer_schema_is_told_before_anything_else(copy):
    (copy / "manifest.json").write_text(json.dumps({"schema_version": 4, "novelty": {}}))
    with pytest.raises(asr.BundleSchemaError, match="expected at most 3, found 4.*upgrade"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "sub/../../secret", "..", "C:\\x", "a\\b", "./tokens.txt", ""]
)
def test_paths_that_climb_out(copy, edit_manifest, name):
    (copy.parent / "secret").write_text("x")
    entry = {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}
    edit_manifest(copy, lambda manifest: manifest["files"].__setitem__(name, entry))
    with pytest.raises(asr.BundleManifestError, match="not a plain path inside the bundle"):
        Bundle.open(copy)


def test_links_that_lead_out(copy):
    shutil.move(copy / "ngram.bin", copy.parent / "ngram.bin")
    os.symlink(copy.parent / "ngram.bin", copy / "ngram.bin")
    with pytest.raises(asr.BundleManifestError, match=r"ngram\.bin: expected a file inside the bundle, found a link"):
        Bundle.open(copy)


# --- the files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["encoder.onnx", "tokens.txt", "lexicon.bin", "ngram.bin", "selftest.flac", "README.md"]
)
def test_a_missing_file(copy, name):
    (copy / name).unlink()
    with pytest.raises(asr.BundleFileError, match=f"{name}: expected a file of .* bytes, found none"):
        asr.Recognizer(copy)


@pytest.mark.parametrize("name", ["encoder.onnx", "lexicon.bin", "README.md", "selftest.flac"])
def test_a_file_that_the_manifest_lacks(copy, edit_manifest, name):
    edit_manifest(copy, lambda manifest: manifest["files"].pop(name))
    with pytest.raises(asr.BundleFileError, match=f"expected an entry for {name}"):
        Bundle.open(copy)


@pytest.mark.parametrize("name", ["notes.txt", "more/notes.txt"])
def test_a_file_that_is_not_listed(copy, name):
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("x")
    with pytest.raises(asr.BundleFileError, match=f"{name}: expected only files that manifest.json lists"):
        Bundle.open(copy)


@pytest.mark.parametrize(
    "name", ["encoder.onnx", "tokens.txt", "lexicon.bin", "ngram.bin", "selftest.flac", "README.md"]
)
def test_a_changed_byte(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(asr.BundleFileError, match=f"{name}: changed: expected sha256 .*, found "):
        asr.Recognizer(copy)


def test_a_cut_file(copy):
    content = (copy / "encoder.onnx").read_bytes()
    (copy / "encoder.onnx").write_bytes(content[:-1])
    with pytest.raises(
        asr.BundleFileError, match=f"encoder.onnx: expected {len(content)} bytes, found {len(content) - 1}"
    ):
        Bundle.open(copy)


def test_other_phonemes(copy, edit_manifest):
    path = copy / "tokens.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("æ", "a"), encoding="utf-8")
    refresh(copy, "tokens.txt", edit_manifest)
    with pytest.raises(asr.BundleFileError, match=r"tokens\.txt: expected .* phonemes.*'æ', found 'a'"):
        Bundle.open(copy)


@pytest.mark.parametrize("name", ["encoder.onnx", "lexicon.bin", "ngram.bin"])
def test_a_listed_file_that_is_rubbish(copy, edit_manifest, name):
    (copy / name).write_bytes(b"rubbish" * 100)
    refresh(copy, name, edit_manifest)
    with pytest.raises(asr.BundleFileError, match=name):
        asr.Recognizer(copy)


def test_an_ngram_over_other_words(copy, edit_manifest):
    file = open_array_file(copy / "ngram.bin", kind="ngram")
    arrays = {name: array.copy() for name, array in file.arrays.items()}
    write_array_file(copy / "ngram.bin", kind="ngram", arrays=arrays, meta={**file.meta, "words_sha256": "0" * 64})
    refresh(copy, "ngram.bin", edit_manifest)
    with pytest.raises(asr.BundleFileError, match=r"ngram\.bin: expected the word list of lexicon\.bin"):
        asr.Recognizer(copy)


# --- the encoder's contract -----------------------------------------------------------------------------------------


def spoilt_encoder(tiny_bundle, path, spoil):
    model = onnx.load(tiny_bundle / "encoder.onnx")
    spoil(model)
    onnx.save(model, path)
    return path


def set_metadata(key, value):
    def spoil(model):
        next(entry for entry in model.metadata_props if entry.key == key).value = value

    return spoil


def drop_last_state(model):
    del model.graph.output[-1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            set_metadata("left_context_len", "5"),
            "cached_key_0: expected float32 .5, None, 1., found float32 .4, None, 1.",
        ),
        (set_metadata("cnn_module_kernels", "6"), "cached_conv1_0"),
        (set_metadata("value_head_dims", "nine"), "metadata 'value_head_dims': expected a whole number, found 'nine'"),
        (set_metadata("num_encoder_layers", "0"), "num_encoder_layers: expected 1 to 64, found 0"),
        (set_metadata("num_encoder_layers", "2"), "inputs: expected 15, found 9"),
        (lambda model: model.metadata_props.pop(), "metadata 'decode_chunk_len'"),
        (drop_last_state, "outputs: expected 9, found 8"),
    ],
)
def test_graphs_that_break_the_contract(tiny_bundle, tmp_path, spoil, message):
    with pytest.raises(asr.BundleFileError, match=message):
        OnnxEncoder(spoilt_encoder(tiny_bundle, tmp_path / "spoilt.onnx", spoil))


def test_an_encoder_that_is_not_the_manifests(copy, edit_manifest):
    edit_manifest(copy, lambda manifest: manifest["encoder"]["state"][0].__setitem__("shape", [9, 1, 1]))
    with pytest.raises(asr.BundleFileError, match=r"encoder\.onnx: expected the manifest's states"):
        asr.Recognizer(copy)
    edit_manifest(copy, lambda manifest: manifest["encoder"]["state"][0].__setitem__("shape", [4, 1, 1]))
    edit_manifest(copy, lambda manifest: manifest["encoder"].__setitem__("left_context_frames", 9))
    with pytest.raises(asr.BundleFileError, match="left context of 9 frames, found 4"):
        asr.Recognizer(copy)


def test_one_step_equals_two_half_steps(tiny_bundle, rng):
    encoder = OnnxEncoder(tiny_bundle / "encoder.onnx")
    features = rng.standard_normal((64, 80)).astype("f")
    whole, after = encoder.step(features, encoder.initial_state())
    first, state = encoder.step(features[:32], encoder.initial_state())
    second, state = encoder.step(features[32:], state)
    assert whole.shape == (32, 42)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-5)
    assert all((a == b).all() for a, b in zip(after, state, strict=True))
    assert all((array == 0).all() for array in encoder.initial_state())


# --- writing --------------------------------------------------------------------------------------------------------


def test_writing_replaces_a_bundle_but_nothing_else(make_bundle, tmp_path):
    folder = make_bundle()
    assert Bundle.open(make_bundle(name="newer")).manifest.name == "newer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "parts"]
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "precious.txt").write_text("x")
    with pytest.raises(FileExistsError, match="not a bundle"):
        make_bundle()
    assert (folder / "precious.txt").read_text() == "x"


def test_a_bundle_that_would_not_open_is_not_written(make_bundle, tmp_path):
    with pytest.raises(asr.BundleManifestError, match="default_chunk_ms"):
        make_bundle(default_chunk_ms=500)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts"]
    make_bundle(name="good")
    with pytest.raises(asr.BundleFileError, match=r"other\.flac"):
        make_bundle(selftest=Selftest("other.flac", ""))
    assert Bundle.open(tmp_path / "made").manifest.name == "good"

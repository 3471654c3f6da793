"""The web target's JavaScript and WebAssembly against the Python and native code they stand for, run in node."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import export.targets.web as web
from asr.audio import open_audio
from asr.bundle import Bundle
from asr.decoder import create_search
from asr.decoder.inputs import PREVIEW_BEAM
from asr.features import compute_features
from asr.language import Language
from asr.onnx_encoder import OnnxEncoder
from lm.arrayfile import open_array_file, write_array_file
from lm.scorer import NullScorer

SOURCES = Path(web.__file__).parent / "web"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def run_node(script, **values):
    """Run an ES module in node, with `given` as its input and what it passes to `give` as the result."""
    prelude = """
        import { readFileSync } from "node:fs";
        const given = JSON.parse(readFileSync(0, "utf-8"));
        const give = (value) => process.stdout.write(JSON.stringify(value));
        const bytes = (path) => Uint8Array.from(readFileSync(path)).buffer;
        const floats = (path) => new Float32Array(bytes(path));
    """
    command = ["node", "--input-type=module", "-e", prelude + script]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def bundle():
    return Bundle.open()


@pytest.fixture(scope="module")
def model(bundle, tmp_path_factory):
    """Adapters as the page has them."""
    folder = tmp_path_factory.mktemp("model")
    for domain in bundle.manifest.domains.values():
        web._write_adapter(bundle.file(domain.adapter), folder / web._adapter_file(domain.adapter))
    shutil.copyfile(bundle.file("lexicon.bin"), folder / "lexicon.bin")
    return folder


@pytest.fixture(scope="module")
def speech(bundle):
    return np.concatenate(list(open_audio(bundle.file("selftest.flac")).blocks()))


@pytest.fixture(scope="module")
def log_probs(bundle, speech):
    encoder = OnnxEncoder(bundle.file("encoder.onnx"))
    features, state, rows = compute_features(speech), encoder.initial_state(), []
    for start in range(0, len(features) - 104, 64):
        found, state = encoder.step(features[start : start + 104], state)
        rows.append(found)
    return np.concatenate(rows)


FEATURES = """
    const { FeatureStream } = await import(given.module);
    const samples = floats(given.samples);
    give(given.cuts.map((cut) => given.lengths.map((length) => {
        const stream = new FeatureStream();
        const found = [];
        const part = samples.slice(0, length);
        for (let at = 0; at < length; at += cut) found.push(...stream.accept(part.slice(at, at + cut)));
        return [...found, ...stream.finish()];
    })));
"""


@needs_node
def test_features_are_those_of_python(speech, tmp_path):
    lengths = [0, 79, 80, 279, 280, 281, 5000, len(speech)]
    speech.tofile(tmp_path / "samples")
    module = (SOURCES / "features.js").as_uri()
    by_cut = run_node(FEATURES, module=module, samples=str(tmp_path / "samples"), cuts=[1600, 77777], lengths=lengths)
    for found in by_cut:
        for length, values in zip(lengths, found, strict=True):
            expected = compute_features(speech[:length])
            assert len(values) == expected.size
            assert np.abs(np.array(values).reshape(expected.shape) - expected).max(initial=0) < 1e-3


DECODER = """
    const { Decoder } = await import(given.module);
    const files = Object.fromEntries(Object.entries(given.files).map(([kind, path]) => [kind, bytes(path)]));
    const adapters = given.adapter ? { worn: bytes(given.adapter) } : {};
    const decoder = await Decoder.create(bytes(given.code), files, adapters);
    const worn = given.adapter ? "worn" : null;
"""
SEARCH = """
    const search = decoder.createSearch(given.decoding, given.share, worn);
    const rows = floats(given.log_probs);
    const calls = [];
    for (let at = 0; at < rows.length; at += 32 * 42) {
        const part = rows.slice(at, at + 32 * 42);
        search.advance(part, part.length / 42);
        const guess = rows.slice(at + 32 * 42, at + 50 * 42);
        const preview = search.preview(guess, guess.length / 42, given.beam_size);
        calls.push([preview, search.takeStable(), search.best(), search.trailingSilence()]);
    }
    const rest = search.finish();
    give({ calls, rest, spelt: rest.map(({ word }) => decoder.spell(word)) });
"""


def decoder_of(bundle, share, kinds=("lexicon", "ngram", "lm")):
    return {
        "module": (SOURCES / "decoder.js").as_uri(), "code": str(SOURCES / "search.wasm"), "share": share,
        "files": {kind: str(bundle.path / f"{kind}.bin") for kind in kinds},
    }  # fmt: skip


def as_path_words(found):
    return [(w["word"], w["startFrame"], w["endFrame"]) for w in found], [(w["acoustic"], w["language"]) for w in found]


def assert_same(found, expected):
    words, scores = as_path_words(found)
    assert words == [(w.word, w.start_frame, w.end_frame) for w in expected]
    np.testing.assert_allclose(scores, [(w.acoustic, w.language) for w in expected], atol=1e-3)


@needs_node
@pytest.mark.parametrize(
    ("kinds", "share", "domain"),
    [
        (["lexicon"], 0, None), (["lexicon", "ngram"], 0.6, None), (["lexicon", "ngram", "lm"], 0.6, None),
        (["lexicon", "lm"], 1, None), (["lexicon", "ngram", "lm"], 0.9, "assistant"),
    ],
    ids=["none", "n-gram", "mixed", "neural", "adapter"],
)  # fmt: skip
def test_search_is_the_native_one(bundle, model, log_probs, tmp_path, kinds, share, domain):
    language = Language(bundle)
    ngram = language.ngram if "ngram" in kinds else None
    adapter = language.neural.load_adapter(bundle.file(f"adapters/{domain}.bin")) if domain else None
    scorer = language.neural.scorer(adapter, ngram=ngram, share=share) if "lm" in kinds else ngram or NullScorer()
    decoding = bundle.manifest.decoding
    search = create_search(language.lexicon, scorer, decoding)
    log_probs.tofile(tmp_path / "log_probs")
    given = {
        **decoder_of(bundle, share, kinds),
        "adapter": domain and str(model / f"adapter-{domain}.bin"),
        "decoding": decoding.to_dict(),
        "beam_size": PREVIEW_BEAM,
        "log_probs": str(tmp_path / "log_probs"),
    }
    found = run_node(DECODER + SEARCH, **given)
    for start, (preview, stable, best, silence) in zip(range(0, len(log_probs), 32), found["calls"], strict=True):
        search.advance(log_probs[start : start + 32])
        assert_same(preview, search.preview(log_probs[start + 32 : start + 50]))
        assert_same(stable, search.take_stable())
        assert_same(best, search.best())
        assert silence == search.trailing_silence()
    rest = search.finish()
    assert rest
    assert_same(found["rest"], rest)
    assert found["spelt"] == [language.lexicon.word(word.word) for word in rest]


@needs_node
@pytest.mark.parametrize("domain", [None, "assistant", "dictation"])
def test_hidden_layers_are_those_of_the_graph(bundle, model, rng, domain):
    neural = Language(bundle).neural
    adapter = neural.load_adapter(bundle.file(f"adapters/{domain}.bin")) if domain else None
    contexts = rng.integers(0, len(neural.model.embedding), (7, neural.model.context))
    expected = neural.scorer(adapter).predict(contexts)
    if domain:
        assert np.abs(expected - neural.scorer().predict(contexts)).max() > 0.01
    script = DECODER + (
        "const ids = Uint32Array.from(given.contexts.flat());"
        "give([...decoder.predict(ids, given.count, given.dim, worn)]);"
    )
    given = {
        "contexts": contexts.tolist(), "count": len(contexts), "dim": expected.shape[1],
        "adapter": domain and str(model / f"adapter-{domain}.bin"),
    }  # fmt: skip
    found = run_node(script, **decoder_of(bundle, 1.0), **given)
    np.testing.assert_allclose(np.reshape(found, expected.shape), expected, atol=1e-4)


FAILURE = """
    const files = Object.fromEntries(Object.entries(given.files).map(([kind, path]) => [kind, bytes(path)]));
    const { Decoder } = await import(given.module);
    const adapters = given.adapter ? { worn: bytes(given.adapter) } : {};
    const search = (decoder) => decoder.createSearch(given.decoding, given.share, given.asked);
    const created = Decoder.create(bytes(given.code), files, adapters);
    give(await created.then(search).catch((error) => error.message));
"""


def changed(name, change):
    """A function that changes one file of a bundle."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


@needs_node
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (changed("lexicon.bin", lambda data: data[:100_000]), "lexicon: cut off in"),
        (changed("lexicon.bin", lambda data: b"<html>not found</html>"), "lexicon: not an array file"),
        (lambda folder: shutil.copy(folder / "lexicon.bin", folder / "ngram.bin"), "expected ngram version 1"),
        (changed("lm.bin", lambda data: data.replace(b'"words_sha256": "6', b'"words_sha256": "x')), "different words"),
        (changed("lm.bin", lambda data: data.replace(b'"context": 8', b'"context":99')), "context is too long"),
    ],
    ids=["cut off", "no array file", "another file", "other words", "from C++"],
)
def test_unusable_files_are_refused(bundle, tmp_path, damage, message):
    for name in ("lexicon.bin", "ngram.bin", "lm.bin"):
        shutil.copyfile(bundle.file(name), tmp_path / name)
    damage(tmp_path)
    given = decoder_of(bundle, 0.6) | {"asked": None}
    given["files"] = {kind: str(tmp_path / f"{kind}.bin") for kind in given["files"]}
    assert message in run_node(FAILURE, **given, decoding=bundle.manifest.decoding.to_dict())


def words_of(change):
    """A function that writes an adapter whose arrays and description are changed."""

    def damage(source, out):
        file = open_array_file(source, kind="lm-adapter")
        arrays = {name: array.copy() for name, array in file.arrays.items()}
        meta = dict(file.meta)
        change(arrays, meta)
        write_array_file(out, kind="lm-adapter", arrays=arrays, meta=meta)

    return damage


@needs_node
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (words_of(lambda arrays, meta: meta.update(trunk="another")), "made for another language model"),
        (words_of(lambda arrays, meta: arrays.pop("up.2")), "does not fit the language model's layers"),
        (words_of(lambda arrays, meta: arrays.update({"down.1": arrays["down.1"][:-1]})), "language model's layers"),
        (words_of(lambda arrays, meta: arrays.update(bias=arrays["bias"][:-1])), "language model's words"),
        (lambda source, out: shutil.copyfile(source.parent / "lexicon.bin", out), "expected lm-adapter version 1"),
    ],
    ids=["trunk", "layer", "shape", "words", "kind"],
)
def test_unusable_adapters_are_refused(bundle, model, tmp_path, damage, message):
    damage(model / "adapter-assistant.bin", tmp_path / "adapter.bin")
    given = decoder_of(bundle, 0.6) | {"adapter": str(tmp_path / "adapter.bin"), "asked": "worn"}
    assert message in run_node(FAILURE, **given, decoding=bundle.manifest.decoding.to_dict())


@needs_node
def test_an_adapter_that_is_not_there_is_refused(bundle):
    given = decoder_of(bundle, 0.6) | {"asked": "medical"}
    decoding = bundle.manifest.decoding.to_dict()
    assert run_node(FAILURE, **given, decoding=decoding) == "there is no adapter medical"


RESAMPLER = """
    const { Resampler } = await import(given.module);
    const samples = floats(given.samples);
    give(given.cuts.map((cut) => {
        const resampler = new Resampler(given.rate);
        const found = [];
        for (let at = 0; at < samples.length; at += cut) found.push(...resampler.process(samples.slice(at, at + cut)));
        return found;
    }));
"""


@needs_node
@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_resampler_keeps_what_16_khz_can_hold(tmp_path, rate):
    times = np.arange(rate) / rate
    low, high = np.sin(2 * np.pi * 1234.5 * times), np.sin(2 * np.pi * 9000 * times) if rate > 18000 else 0
    (low + high).astype(np.float32).tofile(tmp_path / "samples")
    given = {"module": (SOURCES / "resampler.js").as_uri(), "samples": str(tmp_path / "samples"), "rate": rate}
    whole, sliced = run_node(RESAMPLER, cuts=[rate, 777], **given)
    assert whole == sliced
    assert 15600 < len(whole) <= 16000
    expected = np.sin(2 * np.pi * 1234.5 * np.arange(len(whole)) / 16000)
    assert np.abs(np.array(whole) - expected)[500:].max() < 2e-3

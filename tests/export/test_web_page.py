"""The page that the web target writes: its files, and with the tools at hand, itself in node and in Chromium.

The tools are named by environment variables: SOTTOVOCE_ONNXRUNTIME_WEB, what `npm pack onnxruntime-web` wrote;
SOTTOVOCE_PLAYWRIGHT, `index.mjs` of an installed playwright-core; SOTTOVOCE_CHROMIUM, if it is not on the path.
"""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from asr import Recognizer
from asr.bundle import Bundle
from asr.errors import ChunkSizeError, OptionError
from export.cli import main
from export.targets.web import RUNTIME_FILES, write_web

DRIVER = Path(__file__).parents[2] / "benchmarks" / "web_page.mjs"
PACKAGE, PLAYWRIGHT = os.environ.get("SOTTOVOCE_ONNXRUNTIME_WEB"), os.environ.get("SOTTOVOCE_PLAYWRIGHT")
CHROMIUM = os.environ.get("SOTTOVOCE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
needs_package = pytest.mark.skipif(
    not (PACKAGE and shutil.which("node")), reason="needs node, and SOTTOVOCE_ONNXRUNTIME_WEB set"
)
needs_chromium = pytest.mark.skipif(
    not (PACKAGE and PLAYWRIGHT and CHROMIUM), reason="needs Chromium, SOTTOVOCE_ONNXRUNTIME_WEB, SOTTOVOCE_PLAYWRIGHT"
)


def write_package(path, name="onnxruntime-web", files=RUNTIME_FILES):
    with tarfile.open(path, "w:gz") as archive:
        about = json.dumps({"name": name, "version": "9.8.7"}).encode()
        for member, content in [("package.json", about), *((f"dist/{file}", file.encode()) for file in files)]:
            info = tarfile.TarInfo(f"package/{member}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def package(tmp_path):
    return write_package(tmp_path / "onnxruntime-web.tgz")


def test_the_page_is_complete(tiny_bundle, package, tmp_path):
    out = tmp_path / "page"
    assert main(["web", str(tiny_bundle), str(out), "--chunk-ms", "320", "--onnxruntime-web", str(package)]) == 0
    settings = json.loads((out / "model/model.json").read_text())
    assert settings["chunk_ms"] == 320
    assert settings["files"].keys() == {"encoder.onnx", "lexicon.bin", "ngram.bin", "search.wasm"}
    assert settings["domains"] == {}
    assert settings["files"] == {name: (out / "model" / name).stat().st_size for name in settings["files"]}
    assert json.loads((out / "target.json").read_text())["onnxruntime_web"] == "9.8.7"
    sources = [*out.glob("*.js"), out / "index.html"]
    named = {m for path in sources for m in re.findall(r'"([./\w-]+\.(?:m?js|css))"', path.read_text())}
    assert {"page.js", "worker.js", "capture.js", "./ort/ort.wasm.min.mjs"} <= named
    assert all((out / name).is_file() for name in named)
    assert not any("http" in path.read_text().replace("https:", "") for path in sources), "nothing from elsewhere"


def test_without_onnxruntime_web_the_error_says_how_to_get_it(tiny_bundle, tmp_path, capsys):
    assert main(["web", str(tiny_bundle), str(tmp_path / "page")]) == 2
    assert "npm pack onnxruntime-web@" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b"<html>"), "not the npm package"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "not the npm package"),
        (lambda path: write_package(path, name="onnxruntime-node"), "found onnxruntime-node"),
        (lambda path: write_package(path, files=RUNTIME_FILES[:1]), "not the npm package"),
    ],
)
def test_another_package_is_refused(tiny_bundle, package, tmp_path, change, message):
    change(package)
    (tmp_path / "page").mkdir()
    with pytest.raises(OptionError, match=message):
        write_web(Bundle.open(tiny_bundle), tmp_path / "page", 640, onnxruntime_web=package)


def test_a_chunk_size_that_the_bundle_lacks(tiny_bundle, package, tmp_path):
    with pytest.raises(ChunkSizeError, match="500 ms"):
        write_web(Bundle.open(tiny_bundle), tmp_path, 500, onnxruntime_web=package)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("page")
    write_web(Bundle.open(), out, 640, onnxruntime_web=Path(PACKAGE))
    return out


NODE = """
    import { readFileSync } from "node:fs";
    const [folder, samples, domain] = process.argv.slice(1);
    const { Recognizer } = await import(`file://${folder}/recognizer.js`);
    const bytes = (path) => Uint8Array.from(readFileSync(path)).buffer;
    const recognizer = await Recognizer.load(async (name) => bytes(`${folder}/model/${name}`));
    const results = [];
    for (const cut of [1600, 50000]) {
        const stream = recognizer.createStream({ domain: domain || null });
        const whole = new Float32Array(bytes(samples));
        for (let at = 0; at < whole.length; at += cut) stream.accept(whole.slice(at, at + cut));
        results.push(await stream.finish());
    }
    process.stdout.write(JSON.stringify(results));
"""


@pytest.mark.slow
@needs_package
@pytest.mark.parametrize("domain", [None, "dictation"])
def test_recognizer_in_node_is_that_of_python(page, tmp_path, domain):
    samples, rate = soundfile.read(Bundle.open().file("selftest.flac"), dtype="float32")
    samples = np.concatenate([samples, np.zeros(2 * rate, np.float32), samples])  # two utterances
    samples.tofile(tmp_path / "samples")
    command = ["node", "--input-type=module", "-e", NODE, str(page), str(tmp_path / "samples"), domain or ""]
    found, sliced = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found == sliced
    expected = Recognizer().transcribe((samples, rate), domain=domain)
    assert found["text"] == expected.text
    assert found["duration"] == pytest.approx(expected.duration)
    for word, other in zip(found["words"], expected.words, strict=True):
        assert (word["text"], word["start"], word["end"]) == (other.text, other.start, other.end)
        assert word["confidence"] == pytest.approx(other.confidence, abs=1e-3)


@pytest.mark.slow
@needs_chromium
def test_page_in_chromium_hears_a_recording_and_the_microphone(page, tmp_path):
    selftest = Bundle.open().file("selftest.flac")
    samples, rate = soundfile.read(selftest, dtype="float32")
    spoken = np.concatenate([np.zeros(rate // 2), samples, np.zeros(3 * rate)])
    soundfile.write(tmp_path / "spoken.wav", soxr.resample(spoken, rate, 48000), 48000, subtype="PCM_16")
    task = {
        "folder": str(page), "playwright": PLAYWRIGHT, "chromium": CHROMIUM, "files": [str(selftest)],
        "microphone": str(tmp_path / "spoken.wav"), "seconds": len(samples) / rate + 2, "domain": "dictation",
    }  # fmt: skip
    done = subprocess.run(["node", str(DRIVER)], input=json.dumps(task), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    text = Bundle.open().manifest.selftest.text
    assert (seen["error"], seen["log"], seen["elsewhere"]) == ("", [], [])
    assert [recording["text"] for recording in seen["recordings"]] == [text]
    assert seen["live"]["text"] == text
    assert len(seen["live"]["partials"]) > 3

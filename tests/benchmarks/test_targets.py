"""Words from exported encoders: folders in their runtimes, through our search."""

import json

import pytest
import soundfile

from asr.bundle import Bundle
from benchmarks import targets
from export.cli import main as export

pytest.importorskip("torch")
pytest.importorskip("onnx")


@pytest.fixture
def manifest(tmp_path):
    bundle = Bundle.open()
    samples, rate = soundfile.read(bundle.file("selftest.flac"))
    soundfile.write(tmp_path / "clip.flac", samples, rate)
    about = {"text": bundle.manifest.selftest.text, "seconds": len(samples) / rate, "corpus": "c", "split": "dev"}
    clip = {"audio": "clip.flac", **about}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(clip) + "\n")
    return tmp_path / "manifest.jsonl"


def test_folders_are_measured_beside_the_bundle_and_rows_are_kept(tmp_path, manifest, capsys):
    assert export(["ort", str(tmp_path / "ort")]) == 0
    out = tmp_path / "targets.json"
    options = ["--manifest", str(manifest), "--corpus", "c", "--every", "1", "--out", str(out)]
    targets.main([*options, "--folder", str(tmp_path / "ort")])
    rows = json.loads(out.read_text())["rows"]
    assert [row["target"] for row in rows] == ["onnxruntime", "ort"]
    assert rows[0]["wer"] == rows[1]["wer"]
    assert rows[1]["model_bytes"] == (tmp_path / "ort" / "encoder.ort").stat().st_size
    targets.main(options)
    assert [row["target"] for row in json.loads(out.read_text())["rows"]] == ["ort", "onnxruntime"]
    assert "of words wrong" in capsys.readouterr().out

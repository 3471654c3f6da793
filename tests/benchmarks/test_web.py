"""The benchmark of the web page, without a browser: what it makes of what one saw."""

import gzip
import shutil

import pytest

from benchmarks.web import Browser, BrowserError, measure_bytes, summary


def test_every_file_of_a_page_is_counted_once(tmp_path):
    files = {
        "index.html": 10, "page.js": 20, "model/model.json": 5, "model/encoder.onnx": 1000, "model/search.wasm": 300,
        "ort/ort.wasm.min.mjs": 7,
    }  # fmt: skip
    for name, size in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"a" * size)
    found = measure_bytes(tmp_path)
    assert found["bytes"] == {"page": 30, "search.wasm": 300, "model": 1005, "onnxruntime-web": 7}
    assert found["bytes_gzip"]["search.wasm"] == len(gzip.compress(b"a" * 300, 6))


def test_the_best_round_of_each_clip_counts():
    rows = [
        {"identical": True, "real_time_factor": [0.2, 0.1]},
        {"identical": False, "real_time_factor": [0.3, 0.4]},
        {"identical": True, "real_time_factor": [0.2, 0.3]},
    ]
    run = {"recordings": [{"memory": "60 MB"}, {"memory": "74 MB"}], "elsewhere": [], "browser": "156"}
    found = summary(rows, [{**run, "load_s": 2.04}, {**run, "load_s": 1.0, "elsewhere": ["https://other"]}])
    assert (found["clips"], found["identical"], found["memory_mb"], found["load_s"]) == (3, 2, 74, 1.0)
    assert found["real_time_factor"] == {"median": 0.2, "lowest": 0.1, "highest": 0.3}
    assert found["requests_elsewhere"] == 1


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_a_browser_that_is_not_there(tmp_path):
    with pytest.raises(BrowserError, match=r"web_page.mjs failed:\n(.|\n)*missing"):
        Browser(tmp_path, tmp_path / "missing.mjs", "chromium").run(files=[])

import json

import pytest

from benchmarks import report
from benchmarks.cli import main

HEADER = {
    "schema": 1, "date": "2026-01-02T03:04:05Z", "command": "asr-bench wer --every 2",
    "machine": {"cpu": "Test CPU", "cores": 2, "python": "3.11.1"}, "commit": "abc",
}  # fmt: skip


def system(rtf, errors, words):
    counts = {
        "wer": errors / words,
        "interval_95": [0.05, 0.25],
        "substitutions": errors,
        "insertions": 0,
        "deletions": 0,
    }
    return {
        "mode": "streamed", "rtf": rtf, "peak_rss_bytes": 150_000_000, "model_bytes": 20_000_000,
        "corpora": {"books": {"whisper": {**counts, "words": words}}},
    }  # fmt: skip


@pytest.fixture
def results(tmp_path):
    phonemes = {key: value for key, value in system(0.04, 0, 1).items() if key != "corpora"}
    systems = {"sottovoce": system(0.05, 10, 100), "other": system(0.2, 20, 100), "sherpa-onnx": phonemes}
    wer = {**HEADER, "kind": "wer", "systems": systems}
    memory = {**HEADER, "kind": "memory", "figures": {"start": {"import_s": 0.25}, "bundle": {"bytes": 20}}}
    for name, value in (("wer", wer), ("memory", memory)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    return tmp_path


def test_page_holds_rates_with_intervals_ratios_and_figures(results, capsys):
    assert main(["report", str(results / "wer.json"), str(results / "memory.json")]) == 0
    page = capsys.readouterr().out
    assert "| sottovoce | 10.0 (5.0 to 25.0) | 0.050 | 1.00 | 150 | 20 | streamed |" in page
    assert "| other | 20.0 (5.0 to 25.0) | 0.200 | 4.00 | 150 | 20 | streamed |" in page
    assert "| sherpa-onnx | - | 0.040 | 0.80 | 150 | 20 | streamed |" in page
    assert "| start.import_s | 0.25 |" in page
    assert "`asr-bench wer --every 2` (2026-01-02, Test CPU, Python 3.11.1, commit abc)" in page


def test_points_leave_out_systems_without_word_errors(results):
    wer = report.load(results / "wer.json")
    assert report.points([wer], "rtf") == {"sottovoce": (0.05, 10.0), "other": (0.2, 20.0)}
    assert report.points([wer], "size")["other"] == (20.0, 20.0)


def test_the_first_file_counts_and_a_beam_of_its_own_is_another_system(results):
    wer = report.load(results / "wer.json")
    narrow = {"systems": {"sottovoce": wer["systems"]["sottovoce"] | {"rtf": 0.02, "options": {"beam_size": 8}}}}
    slow = {"systems": {"sottovoce": wer["systems"]["sottovoce"] | {"rtf": 9.0}}}
    found = report.points([wer, narrow, slow], "rtf")
    assert found == {"sottovoce": (0.05, 10.0), "sottovoce, beam 8": (0.02, 10.0), "other": (0.2, 20.0)}


def test_plot_is_a_png(results):
    pytest.importorskip("matplotlib")
    plot, page = results / "plot.png", results / "page.md"
    assert main(["report", str(results / "wer.json"), "--plot", str(plot), "--markdown", str(page)]) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert page.read_text().startswith("### wer")


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_file_that_is_no_result_is_named(tmp_path, capsys, content):
    path = tmp_path / "odd.json"
    path.write_text(content)
    assert main(["report", str(path)]) == 1
    assert "odd.json" in capsys.readouterr().err


def test_a_plot_without_rates_is_an_error(results, capsys):
    arguments = ["report", str(results / "memory.json"), "--markdown", str(results / "p.md")]
    assert main([*arguments, "--plot", str(results / "p.png")]) == 1
    assert "word error rates" in capsys.readouterr().err


def test_rows_are_a_table(tmp_path, capsys):
    rows = [{"name": "small", "perplexity": {"a": 1.5}}, {"name": "large", "perplexity": {"a": 1.25}}]
    (tmp_path / "lm.json").write_text(json.dumps({**HEADER, "kind": "lm", "rows": rows}))
    assert main(["report", str(tmp_path / "lm.json")]) == 0
    page = capsys.readouterr().out
    assert "| name | perplexity.a |" in page
    assert "| large | 1.25 |" in page

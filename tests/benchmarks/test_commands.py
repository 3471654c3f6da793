import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import commands, process, runner
from benchmarks.cli import build_parser, main
from benchmarks.corpus import Clip, write_wav
from benchmarks.memory import growth_per_hour


@pytest.fixture
def fake_worker(monkeypatch):
    """Every clip is heard as its file name; keeps the jobs."""
    jobs = []

    def events(job):
        jobs.append(job)
        yield {"load_s": 1.0, "load_cpu_s": 0.5, "mode": "streamed", "model_bytes": 7}
        for path in job["paths"]:
            yield {"text": Path(path).stem, "seconds": 2.0, "cpu_s": 0.5, "wall_s": 0.6}
        yield {"peak_rss_bytes": 9}

    monkeypatch.setattr(runner, "events", events)
    return jobs


@pytest.fixture
def manifest(tmp_path):
    lines = [
        {"audio": f"{name}.wav", "text": text, "seconds": 2.0, "corpus": "words", "split": "dev"}
        for name, text in (("yes", "YES"), ("no", "NOT"))
    ]
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_wer_writes_figures_of_each_system(fake_worker, manifest, tmp_path, capsys):
    pytest.importorskip("whisper_normalizer")
    out, texts = tmp_path / "out" / "wer.json", tmp_path / "texts.jsonl"
    arguments = ["--manifest", str(manifest), "--systems", "sottovoce,sherpa-onnx", "--chunk-ms", "640"]
    assert main(["wer", *arguments, "--out", str(out), "--texts", str(texts)]) == 0
    result = json.loads(out.read_text())
    ours = result["systems"]["sottovoce"]
    assert ours["corpora"]["words"]["plain"]["wer"] == 0.5
    assert (ours["rtf"], ours["peak_rss_bytes"], ours["options"]) == (0.25, 9, {"chunk_ms": 640})
    assert "corpora" not in result["systems"]["sherpa-onnx"]
    assert str(tmp_path) not in out.read_text()
    assert json.loads(texts.read_text().splitlines()[1])["sottovoce"] == "no"
    assert "| sottovoce | 50.0" in capsys.readouterr().out
    assert [job["system"] for job in fake_worker] == ["sottovoce", "sherpa-onnx"]


def test_cut_compares_whole_and_cut_clips(fake_worker, manifest, tmp_path):
    pytest.importorskip("whisper_normalizer")
    assert main(["cut", "--manifest", str(manifest), "--out", str(tmp_path / "cut.json")]) == 0
    figures = json.loads((tmp_path / "cut.json").read_text())["figures"]["sottovoce"]
    assert [job["cut_end"] for job in fake_worker] == [False, True]
    assert figures["cut"]["last_word_error_rate"] == 0.5
    assert figures["whole"]["corpora"]["words"]["plain"]["words"] == 2


def test_noise_counts_words_a_minute_by_kind(fake_worker, tmp_path):
    for name in ("esc10_rain_1-17367-A", "esc10_rain_1-2-B", "dude_miaowing"):
        write_wav(tmp_path / f"{name}.wav", np.zeros(32000, np.float32))
    assert main(["noise", "--noise-dir", str(tmp_path), "--out", str(tmp_path / "noise.json")]) == 0
    figures = json.loads((tmp_path / "noise.json").read_text())["figures"]["sottovoce"]
    assert set(figures) == {"all noise", "digital silence", "dude_miaowing", "esc10_rain"}
    assert figures["dude_miaowing"] == {"words": 2, "audio_s": 2.0, "per_minute": 60.0}  # heard as "dude miaowing"
    assert figures["digital silence"]["per_minute"] == 0.5  # heard as "silence", two minutes


def test_an_empty_noise_folder_is_an_error(tmp_path, capsys):
    (tmp_path / "esc10_rain_1-2-A.wav").touch()
    assert main(["noise", "--noise-dir", str(tmp_path), "--match", "*_5-*"]) == 1
    assert "named *_5-*" in capsys.readouterr().err
    (tmp_path / "esc10_rain_1-2-A.wav").unlink()
    assert main(["noise", "--noise-dir", str(tmp_path)]) == 1
    assert "no sound file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--systems", "siri"], ["--every", "0"], ["--chunk-ms", "100"]])
def test_wrong_options_end_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["wer", "--manifest", "m.jsonl", *arguments])
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--help"])
    assert "asr-bench report" in capsys.readouterr().out


def test_a_failing_process_is_reported_with_what_it_printed(capfd):
    job = {"task": "transcribe", "system": "no such system", "options": {}, "paths": []}
    with pytest.raises(runner.WorkerError, match="KeyError"):
        list(runner.events(job))


def test_the_worker_reports_its_peak_memory_even_when_its_library_prints(tmp_path):
    path = tmp_path / "clip.wav"
    write_wav(path, np.zeros(16000, np.float32))
    clip = Clip(path, None, "silence", "", 1.0)
    pytest.importorskip("pocketsphinx")
    result, texts = runner.run_system("pocketsphinx", [clip], {})
    assert len(texts) == 1
    assert result["peak_rss_bytes"] > result["model_bytes"] > 10_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_grows_with_what_is_held():
    before = process.peak_rss_bytes()
    held = np.ones(50_000_000, np.uint8)
    grown = process.peak_rss_bytes()
    assert held.sum() == 50_000_000
    assert grown >= process.rss_bytes() - 1_000_000
    assert grown - before >= 0


def test_growth_is_the_slope_after_the_warm_up():
    warm_up = [10_000, 1, 50_000, 7, 7, 7, 7, 7, 7, 7]
    assert growth_per_hour([*warm_up, 100, 110, 120, 130]) == 600
    assert growth_per_hour([*warm_up, 100, 100]) is None


def test_noise_kind_is_the_name_before_the_number():
    names = ("esc10_baby_cry_1-187207-A.opus", "white_noise.wav", "rain-2.wav", "7.wav")
    assert [commands._noise_kind(Path(name)) for name in names] == ["esc10_baby_cry", "white_noise", "rain", "7"]

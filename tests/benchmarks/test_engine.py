"""The measurements on the real engine, in worker processes, with the tone bundle."""

import json

import pytest

from benchmarks import memory
from benchmarks.cli import main
from benchmarks.corpus import read_audio, write_wav
from benchmarks.latency import listen
from benchmarks.systems import open_recognizer

SENTENCES = ("stop cat", "pin it's tack spot")


@pytest.fixture
def manifest(tmp_path, speak):
    lines = []
    for number, text in enumerate(SENTENCES):
        speech = speak(text)
        write_wav(tmp_path / f"{number}.wav", speech.samples)
        lines.append({"audio": f"{number}.wav", "text": text.upper(), "seconds": len(speech.samples) / 16000})
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def measure(tmp_path, tiny_bundle, manifest, *arguments):
    out = tmp_path / "result.json"
    assert main([*arguments, "--manifest", str(manifest), "--bundle", str(tiny_bundle), "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_streamed_word_error_rate(tmp_path, tiny_bundle, manifest):
    pytest.importorskip("whisper_normalizer")
    lines = manifest.read_text().replace("SPOT", "SPOT TODAY")  # one word that nobody said
    manifest.write_text(lines)
    ours = measure(tmp_path, tiny_bundle, manifest, "wer")["systems"]["sottovoce"]
    scores = ours["corpora"]["clips"]["plain"]
    assert (scores["deletions"], scores["substitutions"], scores["insertions"], scores["words"]) == (1, 0, 0, 7)
    assert ours["model_bytes"] == sum(path.stat().st_size for path in tiny_bundle.iterdir())
    assert ours["cpu_s"] > 0


def test_latency_of_every_right_word_is_measured(tmp_path, tiny_bundle, manifest):
    figures = measure(tmp_path, tiny_bundle, manifest, "latency", "--chunk-ms", "320")["figures"]
    assert figures["stable"]["n"] == 6
    assert figures["unsettled_words"] == figures["early_endpoints"] == figures["clips_without_endpoint"] == 0
    assert 0 < figures["shown"]["p50_ms"] <= figures["stable"]["p50_ms"]
    assert figures["endpoint"]["n"] == figures["finish"]["n"] == 2


def test_every_word_is_shown_before_it_is_final(tiny_bundle, manifest):
    stream = open_recognizer({"bundle": str(tiny_bundle)}).create_stream()
    timeline, result = listen(stream, read_audio(manifest.parent / "1.wav"))
    assert timeline.shown[-1][1] == result.text.split() == SENTENCES[1].split()
    assert all(
        shown[: len(stable)] == stable for (_, shown), (_, stable) in zip(timeline.shown, timeline.stable, strict=True)
    )


def test_memory_figures(tmp_path, tiny_bundle, manifest, monkeypatch):
    monkeypatch.setattr(memory, "START_RUNS", 1)
    monkeypatch.setattr(memory, "FILE_S", 5.0)
    figures = measure(tmp_path, tiny_bundle, manifest, "memory", "--hours", "0.05")["figures"]
    assert figures["bundle"]["bytes"] == sum(figures["bundle"]["files"].values())
    assert figures["start"]["runs"] == 1
    assert figures["ten_minute_file"]["status"] == 0
    assert figures["ten_minute_file"]["peak_rss_bytes"] > 10_000_000
    assert figures["long_stream"]["audio_s"] == 180
    assert figures["long_stream"]["words"] > 100


def test_cut_end_changes_nothing_where_the_words_are_heard_out(tmp_path, tiny_bundle, manifest):
    pytest.importorskip("whisper_normalizer")
    figures = measure(tmp_path, tiny_bundle, manifest, "cut")["figures"]["sottovoce"]
    assert figures["cut"]["audio_s"] < figures["whole"]["audio_s"]
    assert figures["cut"]["corpora"]["clips"]["plain"]["wer"] == 0
    assert figures["cut"]["last_word_error_rate"] == figures["whole"]["last_word_error_rate"] == 0

"""The command `asr`: what it prints, its exit codes, and that no bad input leaves a traceback or half a file."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

import asr
from asr.cli import main
from asr.recognizer import Recognizer

ROOT = Path(__file__).parent.parent.parent
RATE_HZ = 16000


@pytest.fixture(scope="module")
def speech(speak):
    return speak("stop cat it's | pin")


@pytest.fixture
def folder(tmp_path, speech, monkeypatch):
    """Working folder with the recording `a.wav`."""
    soundfile.write(tmp_path / "a.wav", speech.samples, RATE_HZ)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(tiny_bundle, capsys):
    """Function that runs a command over the tiny bundle: exit code, stdout, stderr."""

    def run_command(command, *arguments):
        bundle = [str(tiny_bundle)] if command == "info" else ["--bundle", str(tiny_bundle)]
        code = main([command, *bundle, *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def make_bad_audio(folder, speech):
    """Every kind of file that cannot be used, by name."""
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("not audio\n" * 100)
    soundfile.write(folder / "cut.flac", speech.samples, RATE_HZ)
    (folder / "cut.flac").write_bytes((folder / "cut.flac").read_bytes()[:20000])
    soundfile.write(folder / "none.wav", np.zeros(0), RATE_HZ)
    for name, value in (("nan.wav", np.nan), ("infinite.wav", np.inf)):
        samples = speech.samples.copy()
        samples[30000] = value
        soundfile.write(folder / name, samples, RATE_HZ, subtype="FLOAT")
    (folder / "folder.wav").mkdir()
    return ["missing.wav", "empty.wav", "text.wav", "cut.flac", "none.wav", "nan.wav", "infinite.wav", "folder.wav"]


# --- transcribe -----------------------------------------------------------------------------------------------------


def test_one_file_is_its_text(run, folder, speech):
    assert run("transcribe", "a.wav") == (0, f"{speech.text}\n", "")


def test_several_files_are_named(run, folder, speech):
    shutil.copy("a.wav", "b.wav")
    assert run("transcribe", "a.wav", "b.wav") == (0, f"a.wav: {speech.text}\nb.wav: {speech.text}\n", "")


def test_json_is_one_object_a_line(run, folder, speech):
    code, out, err = run("transcribe", "a.wav", "a.wav", "--format", "json", "--chunk-ms", 320)
    assert (code, err) == (0, "")
    for line in out.splitlines():
        record = json.loads(line)
        assert (record["file"], record["text"]) == ("a.wav", speech.text)
        assert [word["text"] for word in record["words"]] == speech.text.split()
        assert set(record["words"][0]) == {"text", "start", "end", "confidence"}


def test_a_file_name_that_is_not_text(run, folder, monkeypatch):
    name = "caf\udce9.wav"  # as the system hands over bytes that are not UTF-8
    monkeypatch.setattr(Recognizer, "transcribe", lambda *_, **__: asr.Result((), 1.0))
    assert json.loads(run("transcribe", name, "--format", "json")[1])["file"] == name
    assert run("transcribe", name, name)[1] == "caf\\udce9.wav: \n" * 2
    assert run("transcribe", name, "--format", "json", "--output", "out") == (0, "", "")
    assert json.loads(Path("out", "caf\udce9.json").read_text(encoding="utf-8"))["file"] == name


def test_subtitles(run, folder):
    assert run("transcribe", "a.wav", "--format", "srt")[1].startswith("1\n00:00:00,3")
    assert run("transcribe", "a.wav", "--format", "vtt")[1].startswith("WEBVTT\n\n00:00:00.3")


def test_output_files(run, folder, speech):
    shutil.copy("a.wav", "b.wav")
    assert run("transcribe", "a.wav", "b.wav", "--format", "srt", "--output", "subtitles") == (0, "", "")
    assert sorted(path.name for path in Path("subtitles").iterdir()) == ["a.srt", "b.srt"]
    assert Path("subtitles/a.srt").read_text().startswith("1\n")


def test_two_files_may_not_have_one_output(run, folder):
    Path("sub").mkdir()
    shutil.copy("a.wav", "sub/a.wav")
    code, out, err = run("transcribe", "a.wav", "sub/a.wav", "--output", "texts")
    assert (code, out) == (2, "")
    assert "would both be written to" in err
    assert not Path("texts").exists()


def test_several_subtitles_need_a_folder(folder, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["transcribe", "a.wav", "a.wav", "--format", "vtt"])
    assert exit_info.value.code == 2
    assert "--output DIR" in capsys.readouterr().err


def test_bad_files_are_one_line_each_and_the_others_are_done(run, folder, speech):
    names = make_bad_audio(folder, speech)
    code, out, err = run("transcribe", *names[:4], "a.wav", *names[4:])
    assert code == 2
    assert out == f"a.wav: {speech.text}\n"
    lines = err.splitlines()
    assert len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        assert line.startswith("asr: ")
        assert name in line


def test_a_bad_file_leaves_no_half_output(run, folder, speech):
    names = make_bad_audio(folder, speech)
    code, out, _ = run("transcribe", *names, "a.wav", "--format", "json", "--output", "out")
    assert (code, out) == (2, "")
    assert [path.name for path in Path("out").iterdir()] == ["a.json"]


def test_unusual_audio_works(run, folder, speech):
    soundfile.write("eight.wav", np.repeat(speech.samples[:, np.newaxis], 8, axis=1), RATE_HZ)
    soundfile.write("high.wav", soxr.resample(speech.samples, RATE_HZ, 192000), 192000)
    soundfile.write("short.wav", np.zeros(800), RATE_HZ)
    code, out, err = run("transcribe", "eight.wav", "high.wav", "short.wav")
    assert (code, err) == (0, "")
    assert out == f"eight.wav: {speech.text}\nhigh.wav: {speech.text}\nshort.wav: \n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--domain", "medical"], "this bundle has none"),
        (["--grammar", "xolo"], "none of its words can be spoken"),
        (["--grammar", "{who}", "--list", "who"], "--list: expected NAME=FILE, found 'who'"),
        (["--list", "who=phrases.txt"], "--list: expected with --grammar"),
        (["--grammar", "{who}", "--list", "who=a.wav"], "a.wav: expected UTF-8"),
        (["--grammar", "{who}", "--list", "who=empty.txt"], "empty.txt: expected an entry a line"),
        (["--grammar", "{who}", "--list", "who=phrases.txt", "--list", "who=phrases.txt"], "given twice"),
        (["--phrases", "phrases.txt"], "phrases.txt:1"),
        (["--phrases", "nowhere.txt"], "nowhere.txt"),
        (["--phrases", "a.wav"], "a.wav: expected UTF-8"),
        (["--chunk-ms", "500"], "320, 640, 1280"),
        (["--bundle", "nowhere"], "nowhere"),
        (["--output", "a.wav"], "a.wav"),
    ],
)
def test_bad_options_are_one_line(run, folder, arguments, message):
    Path("phrases.txt").write_text("stop\tstop\theavy\n")
    Path("empty.txt").write_text("\n \n")
    code, out, err = run("transcribe", "a.wav", "a.wav", *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


def test_a_wrong_pattern_is_shown_with_its_place(run, folder):
    code, out, err = run("transcribe", "a.wav", "--grammar", "cat(?=s)")
    assert (code, out) == (2, "")
    assert err.splitlines()[1:] == ["  cat(?=s)", "     ^"]


def test_grammar_and_phrases(run, folder, speak):
    soundfile.write("order.wav", speak("stop tack").samples, RATE_HZ)
    Path("what.txt").write_text("Tack \n\nCat\n", encoding="utf-8-sig")  # as some editors save it
    Path("likely.txt").write_text("tack\npin\tpin\t2.0\n")
    options = ["--grammar", "Stop (?P<what>{what})", "--list", "what=what.txt", "--phrases", "likely.txt"]
    assert run("transcribe", "order.wav", *options) == (0, "Stop Tack\n", "")
    code, out, _ = run("transcribe", "order.wav", *options, "--format", "json")
    match = json.loads(out)["match"]
    assert code == 0
    assert match["accepted"]
    assert match["spoken"] == "stop tack"
    assert match["groups"]["what"]["text"] == "Tack"
    code, out, err = run("transcribe", "order.wav", "--grammar", "pin pin pin", "--on-reject", "empty")
    assert (code, out) == (0, "\n")
    assert "no match of the grammar; heard: stop tack" in err


def break_manifest(text):
    return text.replace('"license"', '"licence"')


def raise_schema(text):
    return text.replace('"schema_version": 3', '"schema_version": 99')


def climb_out(text):
    return text.replace('"README.md"', '"../README.md"')


@pytest.mark.parametrize("change", [break_manifest, raise_schema, climb_out, None, "remove"])
def test_bad_bundles_are_one_line(folder, tiny_bundle, capsys, change):
    copy = shutil.copytree(tiny_bundle, folder / "copy")
    if change is None:
        content = (copy / "encoder.onnx").read_bytes()
        (copy / "encoder.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif change == "remove":
        (copy / "lexicon.bin").unlink()
    else:
        manifest = copy / "manifest.json"
        manifest.write_text(change(manifest.read_text(encoding="utf-8")), encoding="utf-8")
    for command in (["transcribe", "--bundle", "copy", "a.wav"], ["info", "copy"]):
        assert main(command) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("asr: copy/")


@pytest.mark.parametrize(("seconds", "has_bar"), [(40, True), (20, False)])
def test_the_bar_is_for_long_recordings(run, folder, monkeypatch, seconds, has_bar):
    soundfile.write("long.wav", np.zeros(seconds * RATE_HZ), RATE_HZ)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, out, err = run("transcribe", "long.wav")
    assert (code, out) == (0, "\n")
    assert ("long.wav [" in err) == has_bar
    assert ("100%" in err) == has_bar
    assert not has_bar or err.endswith("\r\x1b[K")


def test_no_bar_where_nobody_looks(run, folder):
    soundfile.write("long.wav", np.zeros(40 * RATE_HZ), RATE_HZ)
    assert run("transcribe", "long.wav") == (0, "\n", "")


def test_interrupt(run, folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Recognizer, "transcribe", interrupt)
    assert run("transcribe", "a.wav") == (130, "", "")


def start(*arguments, **options):
    command = [sys.executable, "-m", "asr", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_raw_pcm_on_stdin(tiny_bundle, speak):
    speech = speak("tack spot", rate=48000)
    pcm = (speech.samples * 32767).astype("<i2").tobytes()
    process = start("transcribe", "--bundle", tiny_bundle, "-", "--rate", 48000, stdin=subprocess.PIPE)
    assert process.communicate(pcm) == (b"tack spot\n", b"")
    assert process.returncode == 0


def test_odd_pcm_on_stdin(tiny_bundle):
    process = start("transcribe", "--bundle", tiny_bundle, "-", stdin=subprocess.PIPE)
    out, err = process.communicate(b"\0\0\0")
    assert (process.returncode, out) == (2, b"")
    assert err.startswith(b"asr: ")
    assert err.count(b"\n") == 1


def test_a_reader_that_goes_away(tiny_bundle, folder):
    process = start("transcribe", "--bundle", tiny_bundle, folder / "a.wav", "--format", "json")
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


# --- listen ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def microphone(monkeypatch, speech):
    """A microphone that hears the speech and is then interrupted."""

    def blocks():
        yield from np.split(speech.samples, range(1600, len(speech.samples), 1600))
        yield np.zeros(RATE_HZ // 2, np.float32)
        raise KeyboardInterrupt

    monkeypatch.setattr("asr.cli.microphone_blocks", blocks)


def test_listen_into_a_pipe_prints_whole_utterances(run, microphone):
    code, out, err = run("listen", "--chunk-ms", 320)
    assert (code, out) == (130, "stop cat it's\npin\n")
    assert "Ctrl-C" in err


def test_listen_on_a_terminal_rewrites_the_line(run, microphone, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, out, _ = run("listen", "--chunk-ms", 320)
    assert code == 130
    shown = out.split("\r\x1b[K")
    assert "stop" in shown
    assert [text for text in shown if text.endswith("\n")] == ["stop cat it's\n", "pin\n"]


def test_listen_for_a_grammar_begins_anew_after_each_match(run, speak, monkeypatch):
    pause = np.zeros(2 * RATE_HZ, np.float32)
    samples = np.concatenate([speak("stop tack").samples, pause, speak("spot cat").samples, pause])

    def blocks():
        yield from np.array_split(samples, 60)
        raise KeyboardInterrupt

    monkeypatch.setattr("asr.cli.microphone_blocks", blocks)
    code, out, err = run("listen", "--chunk-ms", 320, "--grammar", "(Stop|Spot) (cat|tack)")
    assert (code, out) == (130, "Stop tack\nSpot cat\n")
    assert "no match" not in err


def test_listen_without_a_microphone(run, monkeypatch):
    def blocks():
        raise asr.MissingDependencyError("sounddevice", "mic")
        yield

    monkeypatch.setattr("asr.cli.microphone_blocks", blocks)
    code, out, err = run("listen")
    assert (code, out) == (2, "")
    assert "sottovoce[mic]" in err


# --- info -----------------------------------------------------------------------------------------------------------


def test_info_tells_what_is_in_it(run):
    code, out, err = run("info")
    assert (code, err) == (0, "")
    rows = dict(line.split(None, 1) for line in out.splitlines())
    assert rows["name"] == "tiny (en)"
    assert rows["words"] == "6"
    assert rows["licence"] == "Apache-2.0"
    assert rows["chunks"] == "320, 640*, 1280 ms (* default)"
    assert rows["self-test"] == "ok"
    assert {"encoder.onnx", "lexicon.bin", "size"} <= set(rows)


def test_info_as_json(run, tiny_bundle):
    code, out, _ = run("info", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["selftest"] == {"ok": True, "expected": "stop spot it's pin", "heard": "stop spot it's pin"}
    assert facts["chunk_ms"] == [320, 640, 1280]
    assert facts["files"]["encoder.onnx"] == (tiny_bundle / "encoder.onnx").stat().st_size
    assert facts["provenance"] == {"data": "none"}


def test_info_of_a_bundle_that_hears_wrongly(make_bundle, capsys):
    folder = make_bundle(selftest=asr.bundle.Selftest("selftest.flac", "something else"))
    assert main(["info", str(folder)]) == 1
    assert "failed: expected 'something else', heard" in capsys.readouterr().out


# --- help -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["transcribe", "--help"], ["listen", "--help"], ["info", "--help"]])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 0
    assert capsys.readouterr().out.startswith("usage: asr")


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"asr {asr.__version__}\n"

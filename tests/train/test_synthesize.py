import importlib
import json
import lzma
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from asr.audio import SAMPLE_RATE
from asr.train import cli, espeak
from asr.train.kokoro import MODEL_FILE, KokoroError
from asr.train.manifest import read_manifest
from asr.train.prepare import read_samples
from asr.train.synthesis_plan import HELD_OUT_VOICES, FileText, GeneratedText, Planner, SynthesisError, parse_generated
from asr.train.synthesize import Report, finish_clip, synthesize
from asr.train.utterances import Names
from lm.corpus import Source
from lm.normalize import normalize_text

VOICES = ["af_one", "am_two", "bf_three"]
LINES = ["Turn the lights on at 7:30 a.m., please!", "what's the time", "...", " ".join(["word"] * 30), "It's $3.50"]


def planner(seed=1, voices=VOICES):
    return Planner([FileText("lines", 2.0, LINES), GeneratedText("code", 1.0, Names())], voices, seed)


def tone(plan):
    """A voice: half a second that tells clips apart."""
    time = np.arange(12_000) / 24_000
    return np.float32(0.1) * np.sin(2 * np.pi * (200 + plan.number % 50) * time).astype(np.float32)


def make_tone():
    return tone


def audio_names(out):
    return [clip.audio for clip in read_manifest(out / "manifest.jsonl")]


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("waited for 30 s")


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not (status.is_file() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


class TestPlan:
    def test_depends_on_seed_and_number_only(self):
        forwards = [planner().plan(number) for number in range(50)]
        assert forwards == [planner().plan(number) for number in reversed(range(50))][::-1]
        assert forwards != [planner(seed=2).plan(number) for number in range(50)]

    def test_ranges_and_shares(self):
        plans = [planner().plan(number) for number in range(2000)]
        assert Counter(plan.source for plan in plans)["lines"] / 2000 == pytest.approx(2 / 3, abs=0.05)
        assert {voice for plan in plans for voice in plan.voices} == set(VOICES)
        mixed = [plan for plan in plans if len(plan.voices) == 2]
        assert len(mixed) / 2000 == pytest.approx(0.3 * 2 / 3, abs=0.04)  # a third of the pairs is one voice twice
        assert all(0.5 <= plan.share <= 1 for plan in mixed)
        assert all(plan.share == 1 for plan in plans if len(plan.voices) == 1)
        assert all(0.85 <= plan.speed <= 1.25 and -30 <= plan.level_db <= -12 for plan in plans)
        leads = [plan.lead_s for plan in plans]
        assert all(lead == 0 or 0.1 <= lead <= 0.4 for lead in leads)
        assert np.mean(np.array(leads) > 0) == pytest.approx(0.5, abs=0.05)

    def test_text_is_the_normalised_words_and_the_voice_says_the_same(self):
        plans = [planner().plan(number) for number in range(300)]
        texts = {plan.text for plan in plans if plan.source == "lines"}
        assert texts == {
            "turn the lights on at seven thirty a m please",
            "what's the time",
            "it's three dollars and fifty cents",
        }
        assert all(plan.spoken[:-1].lower() == plan.text for plan in plans)
        assert all(normalize_text(plan.text) == plan.text.split() for plan in plans)
        spoken = {plan.spoken for plan in plans}
        assert "turn the lights on at seven thirty A M please." in spoken

    @pytest.mark.parametrize(
        ("line", "mark"), [("is it late", "?"), ("It is late?", "?"), ("It is late", "."), ("so what", ".")]
    )
    def test_questions_sound_like_questions(self, line, mark):
        text, spoken = FileText("x", 1.0, [line]).draw(np.random.default_rng(1))
        assert spoken == text + mark

    def test_long_lines_are_cut_and_longer_ones_skipped(self):
        lines = [" ".join(["yes"] * 20), " ".join(["no"] * 26)]
        drawn = {FileText("x", 1.0, lines).draw(np.random.default_rng(n))[0] for n in range(20)}
        assert drawn == {" ".join(["yes"] * 18)}

    def test_a_file_of_nothing_useful(self):
        with pytest.raises(SynthesisError, match="junk: found no line"):
            FileText("junk", 1.0, ["...", "{}"]).draw(np.random.default_rng(1))

    def test_reads_plain_and_xz(self, tmp_path):
        (tmp_path / "a.txt").write_text("one\ntwo\n")
        with lzma.open(tmp_path / "b.txt.xz", "wt") as file:
            file.write("three\n")
        texts = [FileText.read(Source("", tmp_path / name, 2.0)) for name in ("a.txt", "b.txt.xz")]
        assert [(text.name, list(text.lines)) for text in texts] == [("a", ["one", "two"]), ("b", ["three"])]

    def test_damaged_and_empty_files(self, tmp_path):
        (tmp_path / "bad.xz").write_bytes(b"no archive")
        (tmp_path / "empty.txt").write_text("")
        for name in ("bad.xz", "empty.txt"):
            with pytest.raises(SynthesisError, match=name.replace(".", r"\.")):
                FileText.read(Source("", tmp_path / name, 1.0))

    @pytest.mark.parametrize("option", ["tune=1", "phone=x", "phone=0", "phone=-1", "phone=inf"])
    def test_bad_generated(self, option):
        with pytest.raises(SynthesisError, match="expected KIND=WEIGHT"):
            parse_generated(option, Names())

    def test_generated_weight(self):
        assert parse_generated("phone", Names()).weight == 1
        assert parse_generated("phone=2.5", Names()).weight == 2.5


class TestClip:
    @pytest.fixture
    def plan(self):
        return next(plan for plan in map(planner().plan, range(100)) if plan.lead_s and plan.tail_s)

    def test_level_silence_and_rate(self, plan):
        clip = finish_clip(tone(plan), plan)
        lead, tail = round(plan.lead_s * SAMPLE_RATE), round(plan.tail_s * SAMPLE_RATE)
        assert len(clip) == lead + 8000 + tail
        assert not clip[:lead].any()
        assert not clip[-tail:].any()
        power = np.mean(np.square(clip[lead:-tail], dtype=np.float64))
        assert 10 * np.log10(power) == pytest.approx(plan.level_db, abs=0.01)

    def test_does_not_clip(self, plan):
        peaky = np.zeros(24_000, np.float32)
        peaky[::4000] = 1
        assert np.abs(finish_clip(peaky, plan)).max() <= 0.951

    @pytest.mark.parametrize("speech", [np.zeros(0), np.zeros(100), np.full(100, np.nan)])
    def test_a_voice_that_says_nothing(self, speech, plan):
        with pytest.raises(ValueError, match="the voice gave"):
            finish_clip(speech.astype(np.float32), plan)


class TestRun:
    def test_writes_what_the_manifest_says(self, tmp_path):
        report = synthesize(planner(), make_tone, tmp_path, 5)
        clips = read_manifest(tmp_path / "manifest.jsonl")
        assert report.n_clips == len(clips)
        assert report.seconds == pytest.approx(sum(clip.seconds for clip in clips), abs=0.1)
        assert sum(clip.seconds for clip in clips[:-1]) < 5 <= report.seconds
        for number, clip in enumerate(clips):
            plan = planner().plan(number)
            assert (clip.text, clip.corpus, clip.split) == (plan.text, "synthetic", "train")
            samples = read_samples(tmp_path / clip.audio)
            assert len(samples) / SAMPLE_RATE == pytest.approx(clip.seconds, abs=0.001)
            heard = samples[round(plan.lead_s * SAMPLE_RATE) :][:8000]
            spectrum = np.abs(np.fft.rfft(heard))
            assert spectrum.argmax() * 2 == pytest.approx(200 + number, abs=3)

    def test_goes_on_after_a_kill_without_doing_clips_again(self, tmp_path):
        whole, cut = tmp_path / "whole", tmp_path / "cut"
        synthesize(planner(), make_tone, whole, 6)
        synthesize(planner(), make_tone, cut, 3)
        n_done = len(audio_names(cut))
        with (cut / "manifest.jsonl").open("a") as manifest:
            manifest.write('{"audio": "0000/00000')  # killed while it wrote a line
        (cut / f"0000/{n_done:07d}.part").write_bytes(b"Ogg")  # and while it wrote a clip
        asked = []

        def make():
            return lambda plan: asked.append(plan.number) or tone(plan)

        synthesize(planner(), make, cut, 6)
        assert asked == list(range(n_done, len(audio_names(whole))))
        assert (cut / "manifest.jsonl").read_bytes() == (whole / "manifest.jsonl").read_bytes()
        for name in audio_names(whole):
            np.testing.assert_array_equal(read_samples(cut / name), read_samples(whole / name))
        assert not list(cut.rglob("*.part"))

    def test_a_full_folder_is_left_alone(self, tmp_path):
        synthesize(planner(), make_tone, tmp_path, 2)
        told = []
        before = (tmp_path / "manifest.jsonl").read_bytes()
        synthesize(planner(), pytest.fail, tmp_path, 2, on_clip=lambda report: told.append(report.n_clips))
        assert (tmp_path / "manifest.jsonl").read_bytes() == before
        assert told == [len(audio_names(tmp_path))]

    @pytest.mark.parametrize(("other", "named"), [(planner(seed=2), "seed"), (planner(voices=VOICES[:2]), "voices")])
    def test_other_settings_need_another_folder(self, other, named, tmp_path):
        synthesize(planner(), make_tone, tmp_path, 1)
        with pytest.raises(SynthesisError, match=rf"other settings \({named}; see synthesis.json\)"):
            synthesize(other, make_tone, tmp_path, 2)

    def test_a_clip_that_fails_is_left_out(self, tmp_path):
        def make():
            return lambda plan: tone(plan) if plan.number % 3 else np.zeros(9, np.float32)

        report = synthesize(planner(), make, tmp_path, 5)
        numbers = [int(Path(name).stem) for name in audio_names(tmp_path)]
        assert numbers == [n for n in range(numbers[-1] + 1) if n % 3]
        assert report.n_failed == len(range(0, numbers[-1] + 1, 3))

    def test_ten_failures_in_a_row_end_the_run(self, tmp_path):
        def make():
            def speak(plan):
                raise KokoroError("no breath")

            return speak

        with pytest.raises(SynthesisError, match=r"10 clips in a row failed; the last: clip 9 .*no breath"):
            synthesize(planner(), make, tmp_path, 5)


class TestWorkers:
    @pytest.fixture
    def voice(self, tmp_path, monkeypatch):
        """A voice in a module that worker processes can import; it dies or fails at chosen clips."""
        (tmp_path / "a_voice_for_tests.py").write_text(
            "import os\nimport numpy as np\n"
            "def speak(plan):\n"
            "    if os.environ.get('DIE_AT') == str(plan.number):\n        os._exit(3)\n"
            "    if plan.number == 1:\n        raise ValueError('cannot say this')\n"
            "    return np.sin(np.arange(12000) * (0.05 + plan.number / 1000)).astype(np.float32)\n"
            "def make():\n    return speak\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        return importlib.import_module("a_voice_for_tests").make

    def test_make_the_same_clips_in_the_same_order(self, voice, tmp_path):
        reports = [synthesize(planner(), voice, tmp_path / str(n), 4, workers=n) for n in (1, 2)]
        assert reports[0] == reports[1] == Report(reports[0].n_clips, reports[0].seconds, 1)
        one, two = ((tmp_path / str(n) / "manifest.jsonl").read_bytes() for n in (1, 2))
        assert one == two
        assert 1 not in [int(Path(name).stem) for name in audio_names(tmp_path / "1")]

    def test_one_that_dies_is_told_of_and_its_clip_made_next_time(self, voice, tmp_path, monkeypatch):
        monkeypatch.setenv("DIE_AT", "9")
        with pytest.raises(SynthesisError, match="a worker died"):
            synthesize(planner(), voice, tmp_path / "out", 8, workers=2)
        monkeypatch.delenv("DIE_AT")
        synthesize(planner(), voice, tmp_path / "out", 8, workers=2)
        numbers = [int(Path(name).stem) for name in audio_names(tmp_path / "out")]
        assert numbers == [n for n in range(numbers[-1] + 1) if n != 1]

    def test_end_when_the_run_is_killed(self, tmp_path):
        """The voice tells its process; then it is busy until the parent has been killed."""
        (tmp_path / "a_slow_voice.py").write_text(
            "import os, pathlib, sys, time\nimport numpy as np\n"
            "from asr.train.synthesis_plan import GeneratedText, Planner\n"
            "from asr.train.synthesize import synthesize\nfrom asr.train.utterances import Names\n"
            "HERE = pathlib.Path(__file__).parent\n"
            "def speak(plan):\n    (HERE / f'{os.getpid()}.pid').touch()\n    time.sleep(60)\n"
            "def make():\n    return speak\n"
            "def main():\n"
            "    synthesize(Planner([GeneratedText('pin', 1.0, Names())], ['a']), make, HERE / 'out', 9, workers=2)\n"
        )
        command = [sys.executable, "-c", "import a_slow_voice; a_slow_voice.main()"]
        path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
        with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path) as run:
            wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
            run.kill()
        workers = [int(file.stem) for file in tmp_path.glob("*.pid")]
        wait_for(lambda: not any(is_alive(worker) for worker in workers))


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path):
        """Looks like a model folder, as far as its names go."""
        (tmp_path / "kokoro" / "voices").mkdir(parents=True)
        (tmp_path / "kokoro" / MODEL_FILE).write_bytes(b"no network")
        for voice in (*HELD_OUT_VOICES, "af_other"):
            (tmp_path / "kokoro" / "voices" / f"{voice}.bin").write_bytes(b"")
        (tmp_path / "lines.txt").write_text("hello\n")
        return tmp_path

    def run(self, folder, capsys, *options):
        code = cli.main(["synthesize", "--hours", "1", "--out", str(folder / "out"), *map(str, options)])
        message = capsys.readouterr().err
        assert message.count("\n") == 1, message
        return code, message

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--kokoro", "missing", "--generated", "phone"], "missing: expected kokoro-v1.0.int8.onnx"),
            (["--kokoro", "kokoro"], "give --text, --generated or both"),
            (["--kokoro", "kokoro", "--text", "missing.txt=2"], "there is no text file"),
            (["--kokoro", "kokoro", "--generated", "tune"], "kinds are phone, pin"),
            (["--kokoro", "kokoro", "--generated", "phone", "--voices", "af_none"], "--voices: kokoro has af_nova"),
            (["--kokoro", "kokoro", "--generated", "phone", "--workers", "0"], "expected more than 0"),
        ],
    )
    def test_mistakes_are_one_line(self, options, message, folder, capsys, monkeypatch):
        monkeypatch.chdir(folder)
        code, said = self.run(folder, capsys, *options)
        assert code == 2
        assert message in said

    def test_espeak_is_asked_for_first(self, folder, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "espeakng_loader", None)
        espeak._espeak.cache_clear()
        code, said = self.run(folder, capsys, "--kokoro", folder / "kokoro", "--generated", "phone")
        assert code == 2
        assert "pip install 'sottovoce[synth]'" in said

    def test_the_held_out_voices_are_told(self, folder, capsys, monkeypatch):
        pytest.importorskip("espeakng_loader")
        espeak._espeak.cache_clear()
        from asr.train import synthesize as module

        monkeypatch.setattr(module, "KokoroSpeaker", lambda path: tone)
        out = folder / "out"
        options = ["--kokoro", folder / "kokoro", "--text", f"{folder / 'lines.txt'}=2", "--hours", "0.001"]
        assert cli.main(["synthesize", "--out", str(out), *map(str, options)]) == 0
        assert f"voices not used: {', '.join(sorted(HELD_OUT_VOICES))}" in capsys.readouterr().out
        rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
        assert {(row["text"], row["voice"], row["source"]) for row in rows} == {("hello", "af_other", "lines")}


def test_planning_loads_neither_torch_nor_onnxruntime():
    code = "import asr.train.synthesize, asr.train.cli, sys; print(*{'torch', 'onnxruntime'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""

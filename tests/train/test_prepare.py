import json

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from asr.features import compute_features  # noqa: E402
from asr.nn.model import AcousticModel, EncoderConfig  # noqa: E402
from asr.train.checkpoint import open_checkpoint, write_model  # noqa: E402
from asr.train.cli import main  # noqa: E402
from asr.train.manifest import Clip  # noqa: E402
from asr.train.prepare import change_speed, fit_rows, prepare, read_samples  # noqa: E402
from asr.train.rooms import Room, simulate_rooms  # noqa: E402
from asr.train.store import FeatureStore  # noqa: E402
from lm.phones import PHONEMES  # noqa: E402

RATE_HZ = 16000
VIEWS = ["clean", "room", "slow", "fast"]
CLIPS = [Clip("a.wav", "hello", 1.0, "toy", "train"), Clip("b.wav", None, 0.81, "toy", "train"),
         Clip("c.wav", "bye", 0.5, "toy", "dev")]  # fmt: skip
ECHO = np.zeros(400, np.float32)
ECHO[[8, 200]] = 0.8, 0.6


def tone(seconds, hz=440.0):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


@pytest.fixture
def audio_dir(tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    for clip in CLIPS:
        noise = np.random.default_rng(0).normal(0, 0.01, round(clip.seconds * RATE_HZ))
        soundfile.write(folder / clip.audio, tone(clip.seconds) + noise, RATE_HZ, subtype="PCM_16")
    return folder


class Recorder:
    """A `Track` that remembers which views were made."""

    def __init__(self):
        self.labels = []

    def __call__(self, items, label, total):
        self.labels.append(label)
        assert total == len(CLIPS)
        return items


def test_every_view_has_its_frames(tmp_path, audio_dir):
    pytest.importorskip("torchaudio")
    track = Recorder()
    prepare(CLIPS, audio_dir, tmp_path / "store", VIEWS, None, [Room(ECHO)], track)
    assert track.labels == VIEWS
    store = FeatureStore.open(tmp_path / "store", n_phonemes=len(PHONEMES))
    assert [stored.clip for stored in store.clips] == CLIPS
    assert not store.teacher
    seen = {view: [store.frames(index, view) for index in range(len(CLIPS))] for view in VIEWS}
    assert {view: [len(frames) for frames in rows] for view, rows in seen.items()} == {
        "clean": [100, 80, 50],  # 81 frames, cut to an even number
        "room": [100, 80, 0],  # dev clips stay as they are
        "slow": [110, 90, 0],  # 100 / 0.9 and 81 / 0.9 frames
        "fast": [90, 74, 0],  # 100 / 1.1 and 81 / 1.1 frames
    }
    for index, clip in enumerate(CLIPS):
        expected = compute_features(read_samples(audio_dir / clip.audio))
        assert np.allclose(seen["clean"][index], expected[: len(expected) // 2 * 2], atol=0.01)
    bins = {view: int(rows[0].astype(np.float32).mean(0).argmax()) for view, rows in seen.items()}
    assert bins["slow"] < bins["clean"] == bins["room"] < bins["fast"]  # 396, 440, 440, 484 Hz


def test_nothing_is_made_twice(tmp_path, audio_dir):
    pytest.importorskip("torchaudio")
    out = tmp_path / "store"
    prepare(CLIPS, audio_dir, out, ["clean", "fast"], None, [], Recorder())
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "fast.spans.json").unlink()  # as if stopped in the middle of that view
    track = Recorder()
    prepare(CLIPS, audio_dir, out, ["clean", "fast"], None, [], track)
    assert track.labels == ["fast"]
    for clip in CLIPS:
        (audio_dir / clip.audio).unlink()
    track = Recorder()
    prepare(CLIPS, audio_dir, out, ["clean", "fast"], None, [], track)
    assert track.labels == []
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_teacher_hears_the_dry_sound_of_clean_and_room(tmp_path, audio_dir):
    pytest.importorskip("torchaudio")
    heard = []

    def teacher(samples):
        heard.append(samples)
        rows = np.full((len(samples) // 320 + 1, len(PHONEMES)), -1.0, np.float32)
        rows[:, 0] = -np.arange(len(rows))
        return rows

    out = tmp_path / "store"
    prepare(CLIPS, audio_dir, out, ["clean", "room", "fast"], teacher, [Room(ECHO)], Recorder())
    store = FeatureStore.open(out, n_phonemes=len(PHONEMES))
    assert set(store.teacher) == {"clean", "room"}
    for index in (0, 1):
        dry, wet = store.posteriors(index, "clean"), store.posteriors(index, "room")
        assert len(dry) == len(store.frames(index, "clean")) // 2
        assert np.array_equal(dry[:, 0], -np.arange(len(dry)))
        assert np.array_equal(dry, wet)
    assert [len(samples) for samples in heard] == [16000, 12960, 8000, 16000, 12960, 0]


@pytest.mark.parametrize(("n_rows", "expected"), [(0, []), (2, [0, 1]), (3, [0, 1, 2]), (5, [0, 1, 2, 2, 2])])
def test_rows_are_fitted(n_rows, expected):
    assert fit_rows(np.arange(3, dtype=np.float32)[:, None], n_rows)[:, 0].tolist() == expected


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_speed_changes_length_and_pitch(speed):
    pytest.importorskip("torchaudio")
    changed = change_speed(tone(2.0), speed)
    assert changed.dtype == np.float32
    assert abs(len(changed) - 2 * RATE_HZ / speed) <= 1
    peak_hz = np.abs(np.fft.rfft(changed, RATE_HZ)).argmax()
    assert peak_hz == pytest.approx(440 * speed, abs=1)


def test_simulated_rooms_keep_time_and_do_not_clip(rng):
    pytest.importorskip("torchaudio")
    pytest.importorskip("pyroomacoustics")
    rooms = simulate_rooms(3, seed=4)
    loud = np.sign(rng.normal(size=RATE_HZ)).astype(np.float32)
    for room in rooms:
        assert np.sum(room.response.astype(np.float64) ** 2) == pytest.approx(1, abs=1e-4)
        assert np.abs(room.response).argmax() <= 8  # the direct sound comes first: frames stay where they are
        wet = room.apply(loud)
        assert wet.shape == loud.shape
        assert wet.dtype == np.float32
        assert np.abs(wet).max() <= 0.99 + 1e-4
        assert np.allclose(room.apply(0.01 * loud), 0.01 * np.convolve(loud, room.response)[: len(loud)], atol=1e-5)
    again = simulate_rooms(3, seed=4)
    assert all(np.array_equal(a.response, b.response) for a, b in zip(rooms, again, strict=True))
    assert not np.array_equal(rooms[0].response[:1000], rooms[1].response[:1000])


@pytest.fixture
def project(tmp_path, audio_dir):
    """Manifest, recipe, targets and a starting checkpoint for the commands."""
    rows = [
        {"audio": c.audio, "text": c.text, "seconds": c.seconds, "corpus": c.corpus, "split": c.split} for c in CLIPS
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.toml").write_text(
        "distill_weight = 0\nchunks = [8]\nchunk_weights = [1]\nbatch_s = 1\n[optim]\nsteps = 2\nwarmup_steps = 1\n"
    )
    (tmp_path / "targets.json").write_text(json.dumps({"a.wav": [2, 1, 3], "b.wav": [4]}))
    torch.manual_seed(0)
    (tmp_path / "init").mkdir()
    config = EncoderConfig(d_model=16, n_heads=2, n_layers=1, d_ff=24, kernel=3, left_context=16, look_ahead=2)
    write_model(tmp_path / "init", AcousticModel(config), 0)
    return tmp_path


def prepare_command(project):
    names = {"--manifest": "manifest.jsonl", "--audio-dir": "audio", "--out": "store"}
    return ["prepare", *(word for option, name in names.items() for word in (option, str(project / name)))]


def run_command(project):
    names = {
        "--recipe": "recipe.toml",
        "--store": "store",
        "--targets": "targets.json",
        "--init": "init",
        "--run": "run",
    }
    return ["run", *(word for option, name in names.items() for word in (option, str(project / name)))]


def test_prepare_then_run(project, capsys):
    pytest.importorskip("matplotlib")
    assert main(prepare_command(project)) == 0
    assert "3 clips" in capsys.readouterr().out
    assert main(run_command(project)) == 0
    run = project / "run"
    assert str(run / "final") in capsys.readouterr().out
    assert (run / "curves.png").stat().st_size > 5000
    steps = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if "ctc" in row] == [1, 2]
    first, last = (open_checkpoint(project / name).model().state_dict() for name in ("init", "run/final"))
    assert not torch.equal(first["head.weight"], last["head.weight"])
    assert main(run_command(project)) == 0  # a finished run has nothing left to do
    assert len((run / "log.jsonl").read_text().splitlines()) == len(steps)


def spoil_recipe(project):
    (project / "recipe.toml").write_text("sed = 1")


def spoil_init(project):
    (project / "init" / "model.pt").unlink()


def spoil_manifest(project):
    (project / "manifest.jsonl").write_text("{}\n")


def spoil_audio(project):
    (project / "audio" / "a.wav").unlink()


@pytest.mark.parametrize(
    ("command", "spoil", "message"),
    [
        (run_command, spoil_recipe, "unknown key 'sed'"),
        (run_command, spoil_init, "neither a checkpoint"),
        (prepare_command, spoil_manifest, "manifest.jsonl:1"),
        (prepare_command, spoil_audio, "a.wav"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(project, capsys, command, spoil, message):
    if command is run_command:
        assert main(prepare_command(project)) == 0
    capsys.readouterr()
    spoil(project)
    assert main(command(project)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "clip/s" not in line and "/?" not in line]
    assert len([line for line in lines if line.startswith("asr-train: ")]) == 1
    assert message in lines[-1]


def test_store_that_is_not_there(project, capsys):
    assert main(run_command(project)) == 2
    message = capsys.readouterr().err
    assert "asr-train prepare" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["trian"], ["prepare"], ["run", "--minutes", "soon"]])
def test_wrong_arguments_give_status_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "asr-train" in capsys.readouterr().err

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from small_encoder import plain_graph, small_model  # noqa: E402

from asr.bundle import Bundle  # noqa: E402
from asr.errors import AsrError  # noqa: E402
from asr.train.checkpoint import write_model  # noqa: E402
from asr.train.manifest import Clip  # noqa: E402
from export import sweep as sweeping  # noqa: E402
from export.cli import main  # noqa: E402
from export.compress import CompressionError, LowRank, PruneUnits  # noqa: E402
from export.quantize import Float32, Int4Weights, Int8Dynamic, Int8Static, Int8Weights, QuantizationError  # noqa: E402
from export.sweep import SpokenClip, Sweep, SweepError, phoneme_differences, run_sweep  # noqa: E402
from export.sweep_cli import choose_clips, choose_speech  # noqa: E402
from export.sweep_plot import markdown, pareto, plot  # noqa: E402
from export.variants import STANDARD, MixedShare, Variant, VariantError, parse_variant, with_encoder  # noqa: E402

SPEECH = (Path("a.wav"),)


@pytest.fixture
def place(tmp_path, speak, monkeypatch):
    """A checkpoint, four clips, and a manifest of them; the float32 graph is a copy."""

    def copy_graph(model, path, *, chunk_ms=640):
        assert model.config == small_model().config
        shutil.copyfile(plain_graph(), path)

    monkeypatch.setattr("export.sweep.export_encoder", copy_graph)
    monkeypatch.setattr("export.variants.export_encoder", copy_graph)
    (tmp_path / "checkpoint").mkdir()
    write_model(tmp_path / "checkpoint", small_model(), 1)
    lines = []
    for number, text in enumerate(["stop spot", "cat tack", "pin it's pin", "stop cat"]):
        samples = speak(text).samples
        soundfile.write(tmp_path / f"{number}.wav", samples, 16_000)
        split = "train" if number == 3 else "dev"
        entry = {"audio": f"{number}.wav", "text": text, "seconds": len(samples) / 16_000, "corpus": "tones"}
        lines.append(json.dumps({**entry, "split": split}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def small_sweep(place, tiny_bundle):
    clips = [SpokenClip(place / f"{number}.wav", text) for number, text in enumerate(["stop spot", "cat tack"])]
    variants = [Variant("float32", Float32()), Variant("int8", Int8Weights())]
    return Sweep(place / "checkpoint", tiny_bundle, clips, [place / "3.wav"], variants, place / "out", timed_s=1.0)


@pytest.mark.parametrize(
    ("text", "quantization", "compression"),
    [
        ("float32", Float32(), None),
        ("int8", Int8Weights(), None),
        ("int8-dynamic", Int8Dynamic(), None),
        ("int8-static", Int8Static(SPEECH, "percentile"), None),
        ("int8-static:entropy", Int8Static(SPEECH, "entropy"), None),
        ("int4", Int4Weights(), None),
        ("mixed:0.75", MixedShare(0.75), None),
        ("low-rank:0.5", Float32(), LowRank(0.5)),
        ("low-rank:0.5+int8", Int8Weights(), LowRank(0.5)),
        ("prune:0.9+mixed:0.6", MixedShare(0.6), PruneUnits(0.9)),
    ],
)
def test_variants_are_read(text, quantization, compression):
    assert parse_variant(text, SPEECH) == Variant(text, quantization, compression)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("int3", VariantError, "int8-dynamic"),
        ("", VariantError, "expected one quantisation"),
        ("int8+int4", VariantError, "expected one quantisation"),
        ("int8+low-rank:0.5", VariantError, "expected one quantisation"),
        ("mixed", VariantError, "mixed:0.75"),
        ("mixed:0", VariantError, "share"),
        ("mixed:nan", VariantError, "share"),
        ("low-rank:half", VariantError, "low-rank:0.75"),
        ("prune:2", CompressionError, "share"),
        ("int8-static:mean", QuantizationError, "entropy"),
    ],
)
def test_texts_that_are_no_variant_are_refused(text, error, message):
    with pytest.raises(error, match=message):
        parse_variant(text, SPEECH)


@pytest.mark.parametrize("text", ["int8-static", "mixed:0.75", "low-rank:0.5", "prune:0.5+int8"])
def test_variants_that_measure_need_speech(text):
    with pytest.raises(VariantError, match="audio files"):
        parse_variant(text, ())


def test_standard_variants_can_be_read():
    assert len({parse_variant(text, SPEECH) for text in STANDARD if text != "mixed:0.75"}) == len(STANDARD) - 1


def test_sweep_measures_once_and_goes_on(small_sweep, monkeypatch):
    steps = []
    result = run_sweep(small_sweep, steps.append)
    assert steps == ["float32"] * 2 + ["int8"] * 2
    plain, int8 = result["rows"]
    assert (plain["kl_nats"], plain["phoneme_edits"]) == (0, 0)
    assert 0 < int8["kl_nats"] < 0.01
    assert int8["bytes"] < plain["bytes"]
    assert 0 <= plain["bytes"] - plain_graph().stat().st_size < 300  # how it was made is in it
    assert plain["words"] == 4
    assert all(row["rtf"] > 0 and row["time_ratio"] > 0 for row in result["rows"])
    assert result["variants"]["int8"]["scheme"] == "int8"
    assert json.loads((small_sweep.out / "sweep.json").read_text()) == result

    monkeypatch.setattr(sweeping, "OnnxEncoder", None)  # nothing may be measured any more
    assert run_sweep(small_sweep, steps.append)["rows"] == result["rows"]
    assert steps[4:] == steps[:4]


def test_a_folder_holds_one_sweep(small_sweep):
    run_sweep(small_sweep, lambda _: None)
    other = Sweep(
        small_sweep.checkpoint, small_sweep.bundle, small_sweep.clips[:1], small_sweep.speech, small_sweep.variants,
        small_sweep.out,
    )  # fmt: skip
    with pytest.raises(SweepError, match="another clips"):
        run_sweep(other, lambda _: None)


def test_sweeps_that_cannot_be_are_refused(place):
    clip = SpokenClip(place / "0.wav", "stop")
    variants = [Variant("int8", Int8Weights())]
    with pytest.raises(SweepError, match="no clips"):
        Sweep(place, place, [], [], variants, place)
    with pytest.raises(SweepError, match="no variants"):
        Sweep(place, place, [clip], [], [], place)
    with pytest.raises(SweepError, match=r"0\.wav.*calibrated"):
        Sweep(place, place, [clip], [clip.path], variants, place)


def test_sweep_command(place, tiny_bundle, capsys):
    out = place / "swept"
    command = ["sweep", "--checkpoint", str(place / "checkpoint"), "--bundle", str(tiny_bundle), "--clips", "2"]
    command += ["--manifest", str(place / "manifest.jsonl"), "--out", str(out), "--variant", "int8", "int4"]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in table.splitlines()] == ["variant", "---", "int8", "int4"]
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "setup.json").read_text())["speech"] == ["3.wav"]


def test_quantize_command_writes_a_graph_or_a_bundle(place, tiny_bundle, capsys):
    command = ["quantize", "--checkpoint", str(place / "checkpoint"), "--variant", "int8-static:minmax"]
    command += ["--speech", str(place / "3.wav"), "--out"]
    assert main([*command, str(place / "encoder.onnx")]) == 0
    assert "int8-static" in capsys.readouterr().out
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(str(place / "encoder.onnx")).graph.node)
    assert main([*command, str(place / "bundle"), "--bundle", str(tiny_bundle)]) == 0
    entry = Bundle.open(place / "bundle").manifest.quantization["encoder"]
    assert entry["scheme"] == "int8-static"
    assert entry["audio"] == ["3.wav"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--variant": "int3"}, "int3"),
        ({"--manifest": "nothing.jsonl"}, "nothing.jsonl"),
        ({"--checkpoint": "nothing"}, "nothing"),
        ({"--bundle": "nothing"}, "nothing"),
        ({"--corpus": "other"}, "there are: tones"),
        ({"--clips": "0"}, "at least 1"),
    ],
)
def test_bad_arguments_are_one_line(place, tiny_bundle, capsys, changes, message):
    arguments = {
        "--checkpoint": place / "checkpoint", "--bundle": tiny_bundle, "--manifest": place / "manifest.jsonl",
        "--out": place / "out", "--variant": "int8", **changes,
    }  # fmt: skip
    assert main(["sweep", *(str(part) for pair in arguments.items() for part in pair)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("asr-export: ")
    assert message in error


def test_a_damaged_clip_is_named(small_sweep, place):
    (place / "1.wav").write_bytes(b"no audio")
    with pytest.raises(AsrError, match=r"1\.wav"):
        run_sweep(small_sweep, lambda _: None)


def test_bundle_with_another_encoder_keeps_the_rest(tiny_bundle, tmp_path):
    before = Bundle.open(tiny_bundle)
    after = with_encoder(before, plain_graph(), {"scheme": "float32"}, tmp_path / "made")
    kept = before.manifest.files.keys() - {"encoder.onnx"}
    assert all(after.manifest.files[name] == before.manifest.files[name] for name in kept)
    assert after.manifest.quantization == {"encoder": {"scheme": "float32"}}
    assert after.manifest.decoding == before.manifest.decoding
    assert after.manifest.encoder.left_context_frames == small_model().config.left_context


def test_clips_are_spread_over_the_chosen_corpora():
    clips = [Clip(f"{corpus}{n}", "x" if n else None, 2.0, corpus, "dev") for corpus in "ab" for n in range(11)]
    clips += [Clip(f"t{n}", "x", 2.0, "a", "train") for n in range(100)]
    assert [clip.audio for clip in choose_clips(clips, (), 4)] == ["a1", "a6", "b1", "b6"]
    assert len(choose_clips(clips, ["a"], None)) == 10
    assert len(choose_clips(clips, ["a"], 99)) == 10
    speech = choose_speech(clips, 20.0)
    assert len(speech) == 10
    assert [clip.audio for clip in speech[:2]] == ["t0", "t10"]
    assert choose_speech([clip for clip in clips if clip.split == "dev"], 20.0) == []


def test_phoneme_differences_count_edits_of_collapsed_labels():
    def log_probs(labels):
        return np.log(np.eye(5)[labels] * 0.9 + 0.02).astype(np.float32)

    expected = [log_probs([2, 2, 0, 3]), log_probs([4, 0, 4])]
    found = [log_probs([2, 0, 3, 3]), log_probs([4, 4, 4])]
    assert phoneme_differences(expected, found) == {"phoneme_edits": 1, "phonemes": 4, "clips_changed": 1}


def rows(*pairs):
    figures = {"rtf": 0.01, "time_ratio": 1.0, "kl_nats": 0.0, "phoneme_edits": 1, "phonemes": 200, "clips_changed": 1}
    return [{"variant": name, "bytes": size, "wer": wer, **figures} for name, size, wer in pairs]


def test_pareto_holds_what_nothing_beats(tmp_path):
    found = rows(("a", 100, 0.2), ("b", 200, 0.1), ("worse", 250, 0.1), ("c", 300, 0.05), ("bad", 150, 0.3))
    assert [row["variant"] for row in pareto(found)] == ["a", "b", "c"]
    plot(found, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 5000
    assert "| b | 0.00 | 0.0100 | 1.00 | 0 | 0.50 | 1 | 10.00 |" in markdown(found).splitlines()

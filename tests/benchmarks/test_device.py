import json
import os
import sys
import time

import numpy as np
import pytest

from asr.bundle import Bundle
from asr.onnx_encoder import OnnxEncoder
from asr.stream import Stream
from benchmarks import device, device_check, device_report, engine, footprint, process
from benchmarks.cli import main
from benchmarks.corpus import Clip, write_wav
from benchmarks.macs import encoder_macs, graph_macs
from benchmarks.report import ResultError

HEADER = {
    "kind": "device", "date": "2030-01-01T00:00:00Z", "command": "asr-bench device", "commit": None,
    "machine": {"cpu": "a processor", "cores": 4, "allowed_cores": 2, "system": "Linux", "kernel": "6.1",
                "python": "3.11.0", "memory_bytes": 2**33},
    "versions": {"numpy": "2.0"}, "selection": {"clips": 2, "audio_s": 12.5},
}  # fmt: skip


@pytest.fixture(scope="module")
def selftest():
    bundle = Bundle.open()
    return bundle.file(bundle.manifest.selftest.audio)


def emission_rows(chunk_ms, p50, p90):
    parts = {"waiting": 160.0, "later": -5.0, "look_ahead": 400.0, "buffering": 20.0, "compute": 9.0}
    row = {"chunk_ms": chunk_ms, "n": 9, "p50_ms": p50, "p90_ms": p90, "p99_ms": 2 * p90, "mean_ms": parts}
    return [row | {"moment": moment} for moment in ("first", "lasting", "stable")]


def sheet(**bundle):
    chunks = [
        {"chunk_ms": chunk_ms, "rtf": 0.03, "encoder_rtf": 0.01, "encoder_macs_per_s": 2_000_000, "joules_per_s": None,
         "chunk": {"n": 5, "p50_ms": 9.0, "p99_ms": 20.0, "p99.9_ms": 21.0, "max_ms": 21.0},
         "finish": {"n": 2, "p50_ms": 30.0, "p90_ms": 151.0, "max_ms": 160.0}}
        for chunk_ms in (320, 640)
    ]  # fmt: skip
    memory = {"steady_rss_bytes": 120_000_000, "empty_rss_bytes": 25_000_000, "steady_above_empty_bytes": 95_000_000}
    figures = {
        "encoder_weights": "int8", "default_chunk_ms": 640,
        "bytes": {"encoder": 2_000_000, "other": 1_000_000, "total": 3_000_000},
        "start": {"import_s": 0.1, "recognizer_s": 0.2, "cpu_s": 0.3}, "memory": memory, "chunks": chunks,
        "two_threads": None, "emission": {"rows": emission_rows(320, 480.0, 900.0)},
        "ratios": {"time.engine/calibration": 2.0, "memory.steady_anonymous_bytes": 100.0, "bytes.bundle": 1000.0},
    }  # fmt: skip
    system = {"mode": "streamed", "rtf": 0.03, "clip": {"n": 2, "p50_ms": 5.0, "p90_ms": 6.0, "max_ms": 6.0},
              "load_s": 0.2, "load_cpu_s": 0.1, "model_bytes": 20_000_000, "peak_rss_bytes": 120_000_000}  # fmt: skip
    systems = {
        "sottovoce": system | {"rtf": 0.05},
        "sottovoce, beam 8": system,
        "slow": system | {"rtf": 0.3},
        "next": system | {"rtf": 0.1},
    }
    return {**HEADER, "bundles": {"english": figures | bundle}, "systems": systems}


def test_parts_of_a_bundle_add_up_to_its_files():
    bundle = Bundle.open()
    parts = device.part_bytes(bundle.manifest)
    assert parts["total"] == sum(parts.values()) - parts["total"] == bundle.size_bytes
    assert parts["encoder"] == bundle.file("encoder.onnx").stat().st_size
    assert parts["LM"] == sum(bundle.file(name).stat().st_size for name in ("lm.bin", "lm.onnx"))
    assert parts["adapters"] > 0


def test_a_sheet_has_all_figures_and_tells_each_step(selftest, monkeypatch):
    """The measurements themselves are replaced; what is asked of them, and what is made of their events, is not."""
    transcribed = []

    def events(job):
        assert job["options"].get("n_threads", 1) == 1 or job["one_core"] is False
        if job["task"] == "transcribe":
            transcribed.append(job["options"])
            yield {"mode": "streamed", "load_s": 0.1, "load_cpu_s": 0.1, "model_bytes": 5}
        for number, _ in enumerate(job["paths"], 1):
            yield {
                "text": "", "seconds": 2.0, "cpu_s": 0.1 * number, "wall_s": 0.4, "joules": 1.0, "finish_s": 0.05,
                "chunks_s": [0.01] * 4,
            }  # fmt: skip
        yield {"peak_rss_bytes": 9}

    monkeypatch.setattr(device, "events", events)
    monkeypatch.setattr(device, "measure_start", lambda options: {"import_s": 0.1})
    monkeypatch.setattr(device, "measure_footprint", lambda paths, bundle: {"steady_rss_bytes": 1})
    monkeypatch.setattr(device, "allowed_cores", lambda: 2)
    monkeypatch.setattr(device.emission, "run", lambda paths, texts, *rest: {"paths": paths})
    monkeypatch.setattr(
        device.device_check, "measure_ratios", lambda bundle, peers, tick: [tick(f"ratio {n}") for n in range(4)]
    )
    steps = []
    clips = [Clip(selftest, "a", "c", "", 2.0), Clip(selftest, None, "c", "", 2.0)]
    figures = device.measure(clips, [None], ["pocketsphinx"], steps.append)
    assert len(steps) == device.n_steps([None], ["pocketsphinx"])
    bundle = figures["bundles"]["english"]
    assert [row["chunk_ms"] for row in bundle["chunks"]] == [320, 640, 1280]
    row = bundle["chunks"][0]
    assert (row["rtf"], row["joules_per_s"]) == (pytest.approx(0.075), 0.5)
    assert row["chunk"] == {"n": 8, "p50_ms": 10.0, "p99_ms": 10.0, "p99.9_ms": 10.0, "max_ms": 10.0}
    assert row["finish"]["p90_ms"] == 50.0
    assert bundle["two_threads"]["wall_rtf"] == pytest.approx(0.2)
    assert set(figures["systems"]) == {"sottovoce", "sottovoce, beam 8", "pocketsphinx"}
    assert [options.get("beam_size") for options in transcribed] == [None, 8, None]
    assert figures["systems"]["pocketsphinx"]["clip"]["max_ms"] == 200.0


def test_bundles_of_one_name_are_refused(tmp_path, capsys):
    folder = Bundle.open().path
    (tmp_path / "english").symlink_to(folder)
    arguments = ["--bundle", str(folder), "--bundle", str(tmp_path / "english"), "--no-peers", "--out", str(tmp_path)]
    assert main(["device", *arguments]) == 1
    assert "different names, found english, english" in capsys.readouterr().err


def test_without_a_second_core_nothing_is_said_about_two_threads(monkeypatch):
    monkeypatch.setattr(device, "allowed_cores", lambda: 1)
    assert device.measure_two_threads([], {}, 640) is None


def test_the_selftest_clip_stands_in_for_speech(selftest):
    clips = device.selftest_clips(None)
    assert {clip.path for clip in clips} == {selftest}
    assert sum(clip.seconds for clip in clips) == pytest.approx(60, abs=6)


@pytest.mark.parametrize("chunk_ms", [320, 640, 1280])
def test_each_chunk_is_timed_once(chunk_ms, tmp_path, monkeypatch):
    encoded, before_finish = [], []
    step, finish = OnnxEncoder.step, Stream.finish
    monkeypatch.setattr(OnnxEncoder, "step", lambda *arguments: encoded.append(1) or step(*arguments))
    monkeypatch.setattr(Stream, "finish", lambda stream: before_finish.append(len(encoded)) or finish(stream))
    path = tmp_path / "noise.wav"  # of whole chunks, loud to its end
    write_wav(path, np.random.default_rng(0).uniform(-0.1, 0.1, 4 * chunk_ms * 16).astype(np.float32))
    happened = []
    engine.measure_chunks({"options": {"chunk_ms": chunk_ms}, "paths": [str(path)]}, happened.append)
    (clip,) = happened
    assert clip["seconds"] == 4 * chunk_ms / 1000
    assert before_finish == [len(clip["chunks_s"])]
    assert all(seconds > 0 for seconds in clip["chunks_s"])
    assert 0 < sum(clip["chunks_s"]) + clip["finish_s"] <= clip["cpu_s"]


def test_windows_overlap_by_the_look_ahead():
    samples = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    first, second, *_ = engine.feature_windows(samples, 20, 10)
    assert first.shape == (30, 80)
    np.testing.assert_array_equal(first[20:], second[:10])


def test_the_encoder_alone_hears_whole_windows(selftest):
    happened = []
    engine.measure_encoder({"options": {"chunk_ms": 640}, "paths": [str(selftest)]}, happened.append)
    assert happened[0]["seconds"] == pytest.approx(0.64 * round(happened[0]["seconds"] / 0.64))
    assert happened[0]["cpu_s"] > 0


def save_graph(onnx, path, nodes, inputs, constants):
    make = onnx.helper
    graph = make.make_graph(
        nodes, "g",
        [make.make_tensor_value_info(name, 1, [None] * value.ndim) for name, value in inputs.items()],
        [make.make_tensor_value_info(nodes[-1].output[0], 1, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9), path)
    return graph_macs(path, inputs)


def test_multiplications_of_products_are_counted(tmp_path):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node
    left, right = np.zeros((3, 5, 7), np.float32), np.zeros((7, 11), np.float32)
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    assert save_graph(onnx, tmp_path / "m.onnx", nodes, {"x": left}, {"w": right}) == 3 * 5 * 7 * 11
    nodes = [node("Gemm", ["x", "w"], ["y"], transA=1, transB=1), node("Relu", ["y"], ["z"])]
    inputs, constants = {"x": np.zeros((5, 2), np.float32)}, {"w": np.zeros((4, 5), np.float32)}
    assert save_graph(onnx, tmp_path / "g.onnx", nodes, inputs, constants) == 2 * 5 * 4


def test_products_with_packed_4_bit_weights_are_counted(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, arrays = onnx.helper, onnx.numpy_helper
    sizes = {"K": 64, "N": 5, "bits": 4, "block_size": 32}
    node = helper.make_node("MatMulNBits", ["x", "packed", "scales"], ["y"], domain="com.microsoft", **sizes)
    constants = [
        arrays.from_array(np.zeros((5, 2, 16), np.uint8), "packed"),
        arrays.from_array(np.ones(10, np.float32), "scales"),
    ]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "graph", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(tmp_path / "graph.onnx"))
    assert graph_macs(tmp_path / "graph.onnx", {"x": np.zeros((3, 64), np.float32)}) == 3 * 64 * 5


def test_multiplications_of_convolutions_are_those_of_a_loop(tmp_path):
    onnx = pytest.importorskip("onnx")
    batch, channels, out_channels, groups, taps, length, stride = 2, 6, 4, 2, 3, 10, 2
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["y"], group=groups, strides=[stride])]
    inputs = {"x": np.zeros((batch, channels, length), np.float32)}
    constants = {"w": np.zeros((out_channels, channels // groups, taps), np.float32)}
    by_hand = 0
    for _ in range(batch * out_channels):
        for _ in range(0, length - taps + 1, stride):
            by_hand += taps * channels // groups
    assert save_graph(onnx, tmp_path / "c.onnx", nodes, inputs, constants) == by_hand


def test_the_encoder_multiplies_more_for_short_chunks():
    pytest.importorskip("onnx")
    encoder = Bundle.open().file("encoder.onnx")
    short, long = encoder_macs(encoder, 320), encoder_macs(encoder, 1280)
    n_outputs = 50  # in a second
    assert long > n_outputs * 1_500_000  # every weight of the 2.1 million but the first layer's, at least
    assert 1.3 < short / long < (720 / 320) / (1680 / 1280) + 0.01  # both compute the look-ahead anew


def test_energy_is_that_of_whole_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "POWERCAP", tmp_path)
    assert process.energy_joules() is None
    for zone, energy in (("intel-rapl:0", 3_000_000), ("intel-rapl:1", 500_000), ("intel-rapl:0:0", 999)):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(f"{energy}\n")
    assert process.energy_joules() == pytest.approx(3.5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_other_processes_is_seen():
    empty = footprint._run("pass", [])
    held = footprint._run("import sys; kept = bytearray(int(sys.argv[1])); del sys", ["50000000"])
    assert 49e6 < held["rss"] - empty["rss"] < 52e6
    assert 49e6 < held["anonymous"] - empty["anonymous"] < 52e6
    gone = footprint._run("bytearray(50000000)", [])
    assert gone["peak"] - gone["rss"] > 40e6
    assert process.rss_bytes(os.getpid()) == pytest.approx(process.rss_bytes(), rel=0.1)


def test_a_program_that_fails_is_an_error():
    with pytest.raises(footprint.WorkerError, match="status 1"):
        footprint._run("import sys; sys.stderr = None; sys.exit(1)", [])


def test_calibration_rounds_are_taken_in_turn(selftest):
    happened = []
    device_check.measure_calibrated({"options": {}, "path": str(selftest), "rounds": 1}, happened.append)
    assert len(happened) == 2  # and one to warm up
    assert all(0 < event["finish"] < event["engine"] for event in happened)
    assert all(event["encoder"] < event["engine"] for event in happened)


def test_only_what_exceeds_its_tolerance_is_worse():
    committed = {"time.a/b": 2.0, "memory.c": 100.0, "bytes.d": 1000.0, "time.engine/pocketsphinx": 1.0}
    now = {"time.a/b": 2.9, "memory.c": 121.0, "bytes.d": 900.0, "time.engine/new": 1.0}
    found = {c.name: c.is_worse for c in device_check.compare(committed, now)}
    assert found == {"time.a/b": False, "memory.c": True, "bytes.d": False}


def test_a_sheet_with_other_ratios_is_refused():
    with pytest.raises(ResultError, match=r"were not measured now: memory\.old; write it again"):
        device_check.compare({"memory.old": 1.0, "time.engine/pocketsphinx": 1.0}, {"memory.new": 1.0})


@pytest.mark.parametrize(("factor", "status"), [(1.05, 0), (1.3, 1), (2.0, 1)])
def test_check_says_what_got_worse(factor, status, tmp_path, monkeypatch, capsys):
    path = tmp_path / "device.json"
    path.write_text(json.dumps(sheet()))
    now = {name: factor * value for name, value in sheet()["bundles"]["english"]["ratios"].items()}
    monkeypatch.setattr(device_check, "measure_ratios", lambda bundle, peers, tick: now)
    assert main(["check", "--sheet", str(path), "--no-peers"]) == status
    said = capsys.readouterr()
    assert ("bytes.bundle got worse" in said.err) == (factor > 1.1)
    assert ("time.engine/calibration got worse" in said.err) == (factor > 1.5)
    assert "| time.engine/calibration | 2 |" in said.out


def test_a_sheet_of_another_kind_is_refused(tmp_path, capsys):
    path = tmp_path / "device.json"
    path.write_text(json.dumps({**HEADER, "kind": "wer"}))
    assert main(["check", "--sheet", str(path)]) == 1
    assert "expected a sheet of asr-bench device" in capsys.readouterr().err
    path.write_text(json.dumps({**HEADER, "bundles": {"french": {}}}))
    assert main(["check", "--sheet", str(path)]) == 1
    assert "holds the bundles french, not english" in capsys.readouterr().err


def test_targets_are_judged():
    verdicts = [target.verdict for target in device_report.targets(sheet())]
    assert verdicts == ["yes", "no", "no", "no", "yes"]  # 480, 900 ms; 151 ms; 95 MB; 0.3
    assert device_report.targets(sheet(emission=None))[0].verdict == "not measured"


def test_the_page_names_every_figure():
    page = device_report.markdown(sheet(), "device.png")
    assert "| next | streamed | 0.100 | 0.50 |" in page
    assert "| english | 320 | 0.0300 | 0.0100 | 9.0 / 20.0 / 21.0 (5) | 30.0 / 151.0 | 2 | - |" in page
    assert "They are not joules." in page
    assert "| english | 320 | first | 9 | 480 / 900 / 1800 | 160 | -5 | 400 | 20 | 9 |" in page
    assert "pocketsphinx is not installed" in device_report.markdown(sheet(emission=None))


def test_the_plot_is_a_picture_even_where_little_was_measured(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "device.png"
    device_report.plot(sheet(emission=None), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_the_sheet(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    measured = {name: sheet()[name] for name in ("bundles", "systems")}
    monkeypatch.setattr(device, "measure", lambda clips, bundles, peers, tick: measured)
    assert main(["device", "--no-peers", "--out", str(tmp_path / "sheet")]) == 0
    written = json.loads((tmp_path / "sheet" / "device.json").read_text())
    assert written["kind"] == "device"
    assert (tmp_path / "sheet" / "device.png").read_bytes().startswith(b"\x89PNG")
    assert written["machine"]["allowed_cores"] == device.allowed_cores()
    page = (tmp_path / "sheet" / "device.md").read_text()
    assert page.strip() in capsys.readouterr().out
    assert str(tmp_path) not in page + json.dumps(written)


def test_the_calibration_takes_time():
    begin = time.process_time()
    seconds = device_check.Calibration().run()
    assert 0 < seconds <= time.process_time() - begin

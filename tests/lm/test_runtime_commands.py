"""From a checkpoint to the files of a bundle, an adapter for that bundle, and the table of models: the commands."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from benchmarks import language as bench  # noqa: E402
from export.cli import main as export_main  # noqa: E402
from export.parity import compare_language_models  # noqa: E402
from lm.cli import parse_args, run  # noqa: E402
from lm.lexicon_build import build_lexicon  # noqa: E402
from lm.onnx_lm import OnnxLanguageModel  # noqa: E402
from lm.train.checkpoint import TrainedModel, read_adapter, write_adapter, write_checkpoint  # noqa: E402
from lm.train.fofe import Adapter, AdapterConfig, LanguageModel  # noqa: E402
from lm.train.runtime import read_runtime_model  # noqa: E402
from tests.lm.toy_language import MODEL, ROOMS, VERBS, WORDS, V  # noqa: E402


@pytest.fixture
def checkpoint(tmp_path):
    """A model that knows nothing yet."""
    torch.manual_seed(0)
    model = LanguageModel(MODEL)
    model.set_unigrams(torch.ones(V))
    folder = tmp_path / "run"
    folder.mkdir()
    write_checkpoint(folder, TrainedModel(model, tuple(WORDS), np.full(len(WORDS) - V, -1.0, np.float32)), 7)
    return folder


@pytest.fixture
def adapter(tmp_path):
    """An adapter that changes something."""
    adapter = Adapter(AdapterConfig("hall", 2, (0, 1, 2)), MODEL)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0.0, 0.1)
    folder = tmp_path / "hall"
    folder.mkdir()
    write_adapter(folder, adapter, {})
    return folder


def test_export_adapt_and_wear(tmp_path, checkpoint, adapter, capsys):
    out = tmp_path / "bundle"
    options = ["--model", str(checkpoint), "--adapter", str(adapter), "--out", str(out)]
    assert export_main(["lm", *options]) == 0
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names == {"lm.onnx", "lm.bin", "adapters/hall.bin", "adapters/hall.onnx_adapter"}
    assert "against torch" in capsys.readouterr().out
    build_lexicon(WORDS, {word: {(2,): 0.0} for word in WORDS[3:]}, np.zeros(len(WORDS)), out / "lexicon.bin")

    rng = np.random.default_rng(0)
    lines = [f"please {rng.choice(VERBS)} the {rng.choice(ROOMS)} {rng.choice(ROOMS)}" for _ in range(200)]
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    adapted = ["--trunk", str(out), "--text", str(tmp_path / "mine.txt"), "--name", "mine", "--steps", "60"]
    run(parse_args(["adapt", *adapted, "--out", str(tmp_path / "mine")]))
    assert "asr transcribe --adapter" in capsys.readouterr().err

    model = OnnxLanguageModel(out / "lm.onnx", out / "lm.bin")
    scorer = model.scorer(model.load_adapter(tmp_path / "mine" / "mine.bin"))
    stored, _ = read_runtime_model(out)
    trained = read_adapter(tmp_path / "mine", stored.model)
    contexts = rng.integers(0, V, (30, MODEL.context))
    assert compare_language_models(stored.model, trained, scorer, contexts) < 0.02
    assert compare_language_models(stored.model, None, scorer, contexts) > 0.2


def test_a_folder_that_is_no_bundle(tmp_path):
    (tmp_path / "lm.bin").write_bytes(b"nothing")
    (tmp_path / "mine.txt").write_text("\n".join(f"open the {room}" for room in ROOMS * 9))
    options = ["--trunk", str(tmp_path), "--text", str(tmp_path / "mine.txt"), "--name", "mine"]
    with pytest.raises(ValueError, match="no language model of a bundle"):
        run(parse_args(["adapt", *options, "--out", str(tmp_path / "out")]))
    assert not (tmp_path / "out").exists()


def test_the_table_of_models(tmp_path, checkpoint, adapter, capsys):
    (tmp_path / "held.txt").write_text("open the hall\nwe saw a cellar\n" * 5)
    (tmp_path / "words.txt").write_text("".join(f"{word}\n" for word in WORDS))
    (tmp_path / "models.toml").write_text(
        f'[[model]]\nname = "plain"\nassistant = {{model = "{checkpoint}"}}\ndictation = {{model = "{checkpoint}"}}\n'
        f'[[model]]\nname = "worn"\nassistant = {{model = "{checkpoint}", adapter = "{adapter}"}}\n'
        f'dictation = {{model = "{checkpoint}"}}\n'
    )
    out, plot = tmp_path / "lm.json", tmp_path / "lm.png"
    texts = [f"{domain}={tmp_path / 'held.txt'}" for domain in ("assistant", "dictation")]
    options = ["--models", str(tmp_path / "models.toml"), "--words", str(tmp_path / "words.txt")]
    bench.main([*options, "--text", *texts, "--out", str(out), "--plot", str(plot)])
    plain, worn = json.loads(out.read_text())["rows"]
    assert plain["perplexity"]["assistant"] == plain["perplexity"]["dictation"] == worn["perplexity"]["dictation"]
    assert worn["perplexity"]["assistant"] != plain["perplexity"]["assistant"]
    assert worn["bytes"] > plain["bytes"] > 0
    assert plain["steps"] == [7]
    assert "| worn |" in capsys.readouterr().out
    assert plot.stat().st_size > 1000

"""The benchmark of `asr-lm adapt`: it runs the command and reads what it prints."""

import json
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks import adapt  # noqa: E402
from lm.train.checkpoint import TrainedModel, write_checkpoint  # noqa: E402
from lm.train.fofe import LanguageModel  # noqa: E402
from lm.train.recipe import LanguageModelConfig  # noqa: E402
from lm.vocabulary import SPECIAL_WORDS  # noqa: E402

WORDS = (*SPECIAL_WORDS, *(f"{a}{b}" for a in "bdgkm" for b in "aeiou"))
CONFIG = LanguageModelConfig(vocabulary_size=len(WORDS), context=4, window=2, dim=8, hidden=16, layers=2)


def test_the_command_is_run_and_read(tmp_path, capsys):
    torch.manual_seed(0)
    (tmp_path / "model").mkdir()
    write_checkpoint(tmp_path / "model", TrainedModel(LanguageModel(CONFIG), WORDS, np.zeros(0, np.float32)), 1)
    rng = random.Random(0)
    sentences = [" ".join([rng.choice(WORDS[3:]), "ba", "de", rng.choice(WORDS[3:8])]) for _ in range(300)]
    (tmp_path / "mine.txt").write_text("\n".join(sentences))
    (tmp_path / "other.txt").write_text("ba de\nda de\n")
    options = ["--trunk", str(tmp_path / "model"), "--text", str(tmp_path / "mine.txt")]
    (tmp_path / "more.txt").write_text("da ba\nde ba\n")
    others = ["--other", str(tmp_path / "other.txt"), "--other", str(tmp_path / "more.txt")]
    assert adapt.main([*options, *others, "--threads", "1", "--out", str(tmp_path / "out.json")]) == 0
    row = json.loads((tmp_path / "out.json").read_text())["rows"]["made-up"]
    assert set(row["perplexity"]) >= {"own", "other.txt", "more.txt"}
    assert 0 < row["perplexity"]["own"]["after"] < row["perplexity"]["own"]["before"]
    assert row["seconds"] > 0
    assert row["cpu_seconds"] > 0
    assert "own: " in capsys.readouterr().out


def test_what_went_wrong_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"asr-lm adapt failed:\n.*missing"):
        adapt.measure(["--trunk", str(tmp_path / "missing"), "--text", str(tmp_path / "none.txt")], 1)
    with pytest.raises(ValueError, match="printed no table, but: 'nothing'"):
        adapt.read_table("nothing")

"""Full fine-tuning against an adapter, on a toy model."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks import adapt_gap  # noqa: E402
from lm.train.adapt import AdaptConfig, read_own_text  # noqa: E402
from lm.train.checkpoint import TrainedModel, write_checkpoint  # noqa: E402
from lm.train.fofe import LanguageModel  # noqa: E402
from lm.train.recipe import LanguageModelConfig  # noqa: E402
from lm.vocabulary import SPECIAL_WORDS  # noqa: E402

WORDS = (*SPECIAL_WORDS, *(f"{a}{b}{c}" for a in "bdgkm" for b in "aei" for c in "nst"))
CONFIG = LanguageModelConfig(vocabulary_size=len(WORDS), context=4, window=2, dim=16, hidden=16, layers=2)


def make_trained():
    torch.manual_seed(0)
    return TrainedModel(LanguageModel(CONFIG), WORDS, np.zeros(0, np.float32))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "trunk").mkdir()
    write_checkpoint(tmp_path / "trunk", make_trained(), step=5)
    rng = np.random.default_rng(0)
    lines = [" ".join(WORDS[3 + (start + n) % 20] for n in range(4)) for start in rng.integers(0, 20, 300)]
    lines = [f"{line} {WORDS[25 + n % 20]}" for n, line in enumerate(lines)]
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    return tmp_path


def test_fine_tuning_learns_the_text_and_leaves_the_model_alone(folder):
    trained = make_trained()
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    config = AdaptConfig(replay=0.0, steps=40, check_every=10, samples=40, batch_tokens=200)
    text = read_own_text(folder / "mine.txt", trained.words, config)
    assert adapt_gap.fine_tuned(trained, text, config, 0.1) < 0.8 * adapt_gap.perplexity(trained, text.held_out)
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())


def test_the_result_says_what_share_of_the_gap_is_closed(folder, monkeypatch):
    monkeypatch.setattr(adapt_gap, "FULL_RATES", ((1e-3, 0.1),))
    monkeypatch.setattr(adapt_gap, "ADAPTER_RATES", (5e-3,))
    monkeypatch.setattr(adapt_gap, "STEPS", 40)
    out = folder / "gap.json"
    options = [
        "--trunk",
        str(folder / "trunk"),
        "--text",
        str(folder / "mine.txt"),
        "--threads",
        "1",
        "--out",
        str(out),
    ]
    adapt_gap.main(options)
    result = json.loads(out.read_text())
    (full,), (adapted,) = result["fine_tuned"].values(), result["adapted"].values()
    assert full < result["before"]
    assert result["closed"] == pytest.approx((result["before"] - adapted) / (result["before"] - full), abs=1e-3)

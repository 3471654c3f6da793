"""Models of every form in the beam: what is exported says what the network says; words of the tail; the command."""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("whisper_normalizer")

from asr.bundle import Bundle, default_bundle_path  # noqa: E402
from benchmarks import language_wer  # noqa: E402
from lm.lexicon import Lexicon  # noqa: E402
from lm.train.checkpoint import TrainedModel, write_adapter, write_checkpoint  # noqa: E402
from lm.train.fofe import Adapter, AdapterConfig, LanguageModel  # noqa: E402
from lm.train.recipe import LanguageModelConfig  # noqa: E402

MODEL = LanguageModelConfig(vocabulary_size=30, context=4, window=2, dim=8, hidden=16, layers=2, experts=2)
WORDS = ("<unk>", "<s>", "</s>", *(f"w{i}" for i in range(27)))


def some_model(config, words, folder):
    torch.manual_seed(0)
    model = LanguageModel(config)
    with torch.no_grad():
        model.bias.normal_()
    folder.mkdir()
    write_checkpoint(folder, TrainedModel(model, words, np.zeros(len(words) - config.vocabulary_size, np.float32)), 1)
    return model


@pytest.mark.parametrize("form", ["shared", "separate", "mixture"])
@pytest.mark.parametrize("domain", ["assistant", "dictation"])
def test_scorers_say_what_the_network_says(tmp_path, form, domain):
    model = some_model(replace(MODEL, form=form), WORDS, tmp_path / "model")
    entry, adapter = {"model": str(tmp_path / "model")}, None
    if form == "shared":
        adapter = Adapter(AdapterConfig("own", 2, (0, 1, 2)), model.config)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.normal_(0, 0.3)
        (tmp_path / "own").mkdir()
        write_adapter(tmp_path / "own", adapter, {})
        entry["adapter"] = str(tmp_path / "own")
    (tmp_path / "out").mkdir()
    scorer = language_wer.scorer_maker(entry, domain, tmp_path / "out")(None, 1.0)
    context = [7, 3, 9]
    state = scorer.start()
    for word in context:
        state, _ = scorer.step(state, word)
    logits = model(torch.tensor([[1], [7], [3], [9]]), ("assistant", "dictation").index(domain), adapter)[0]
    found = [scorer.step(state, word)[1] for word in range(3, 30)]
    np.testing.assert_allclose(found, logits.detach().numpy()[3:], atol=0.35)  # embeddings of four bits
    assert np.corrcoef(found, logits.detach().numpy()[3:])[0, 1] > 0.98


@pytest.mark.parametrize("form", ["adapted", "lstm"])
def test_forms_that_cannot_be_searched_with(tmp_path, form):
    some_model(replace(MODEL, form=form), WORDS, tmp_path / "model")
    with pytest.raises(ValueError, match="the parts of another"):
        language_wer.scorer_maker({"model": str(tmp_path / "model")}, "assistant", tmp_path)


def test_tail_errors_are_those_of_its_words():
    tail = frozenset({"quay", "zephyr"})
    references, heard = ["The quay, a zephyr!", "a quay"], ["the key a zephyr", "quay"]
    assert language_wer.tail_errors(references, heard, tail) == (1, 3)
    assert language_wer.tail_errors(["zephyr"], [""], tail) == (1, 1)


def test_command_measures_rows_alone_and_beside_the_ngram(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    bundle = Bundle.open()
    lexicon = Lexicon.open(bundle.file("lexicon.bin"))
    words = tuple(lexicon.word(number) for number in range(len(lexicon)))
    some_model(replace(MODEL, vocabulary_size=60_000), words, tmp_path / "model")
    (tmp_path / "models.toml").write_text(
        f'[[model]]\nname = "n-gram"\nspoken = {{model = "{bundle.file("ngram.bin")}"}}\n'
        f'[[model]]\nname = "noise"\nspoken = {{model = "{tmp_path / "model"}"}}\n'
    )
    text = bundle.manifest.selftest.text
    audio = str(default_bundle_path() / "selftest.flac")
    clip = {"audio": audio, "text": text, "seconds": 4, "corpus": "c", "split": "s"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(clip))
    out, plot = tmp_path / "lm-wer.json", tmp_path / "lm-wer.png"
    clips = ["--clips", "spoken", str(tmp_path / "manifest.jsonl"), "c", "s", "1"]
    models = ["--models", str(tmp_path / "models.toml")]
    language_wer.main([*models, *clips, "--out", str(out), "--plot", str(plot)])
    found = {(row["name"], row["mode"]): row for row in json.loads(out.read_text())["rows"]}
    assert set(found) == {("n-gram", "alone"), ("noise", "alone"), ("noise", "beside the n-gram")}
    assert found["n-gram", "alone"]["wer"]["spoken"] == 0
    assert found["noise", "alone"]["wer"]["spoken"] > 0
    ngram_bytes = bundle.file("ngram.bin").stat().st_size
    assert found["noise", "beside the n-gram"]["bytes"] == found["noise", "alone"]["bytes"] + ngram_bytes
    assert plot.stat().st_size > 1000
    assert "| noise, alone |" in capsys.readouterr().out

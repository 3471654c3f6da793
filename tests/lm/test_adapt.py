"""Adapters from one's own text, and the commands from text to adapter, on a toy language."""

import lzma
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_language import MODEL, ROOMS, VERBS, WORDS, V, some_trained, train  # noqa: E402

from lm import cli  # noqa: E402
from lm.train.adapt import (  # noqa: E402
    AdaptConfig,
    AdaptError,
    adapt,
    read_own_text,
    with_general_text,
    with_made_up_text,
)
from lm.train.checkpoint import read_adapter, write_adapter  # noqa: E402
from lm.train.evaluate import evaluate  # noqa: E402
from lm.train.fofe import LanguageModel  # noqa: E402
from lm.train.folders import CheckpointError  # noqa: E402
from lm.vocabulary import SPECIAL_WORDS, read_words  # noqa: E402


@pytest.fixture
def own_text(tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / "mine.txt"
    path.write_text(
        "\n".join(f"clean {rng.choice(VERBS)} a {rng.choice(ROOMS)} {rng.choice(VERBS)}" for _ in range(150))
    )
    return path


CONFIG = AdaptConfig(steps=60, batch_tokens=100, samples=V, learning_rate=0.01, rise=np.inf)


def test_adapting_lowers_ones_own_perplexity(tmp_path, store, own_text):
    trained = train(tmp_path / "run", store).trained
    trunk = {name: value.clone() for name, value in trained.model.state_dict().items()}
    text = with_general_text(read_own_text(own_text, WORDS, CONFIG), store, CONFIG)
    adapted = adapt(trained, "clinic", text, CONFIG)
    assert adapted.after["own"] < 0.6 * adapted.before["own"]
    assert adapted.after["assistant"] < 2 * adapted.before["assistant"]
    assert all(torch.equal(value, trunk[name]) for name, value in trained.model.state_dict().items())

    assert adapted.strength == 1
    alone = adapt(trained, "clinic", replace(text, replay=(), general=()), CONFIG)
    assert alone.after["assistant"] > adapted.after["assistant"]

    (tmp_path / "adapter").mkdir()
    write_adapter(tmp_path / "adapter", adapted.adapter, {})
    again = read_adapter(tmp_path / "adapter", trained.model)
    found = evaluate(trained.model, text.held_out, trained.unknown_log_share, adapter=again)
    assert found.perplexity.value == pytest.approx(adapted.after["own"])
    with pytest.raises(CheckpointError, match="no adapter for this model"):
        read_adapter(tmp_path / "adapter", LanguageModel(replace(MODEL, hidden=17)))


def test_general_text_suffers_no_more_than_it_may(tmp_path, store, own_text):
    trained = train(tmp_path / "run", store).trained
    text = with_made_up_text(read_own_text(own_text, WORDS, CONFIG), trained, CONFIG)
    assert text.replay
    text = replace(text, others={"general": text.general})
    loose, tight = (adapt(trained, "clinic", text, replace(CONFIG, rise=rise)) for rise in (np.inf, 0.02))
    assert loose.after["general"] > 1.02 * loose.before["general"]
    assert tight.after["general"] <= 1.02 * tight.before["general"]
    assert 0 < tight.strength < loose.strength
    assert loose.after["own"] < tight.after["own"] < tight.before["own"]


def test_held_out_text_is_not_learned_from(own_text):
    text = read_own_text(own_text, WORDS, CONFIG)
    learned = {u.tobytes() for u in text.own.take(0, 10_000)}
    assert text.held_out
    assert not learned & {u.tobytes() for u in text.held_out}


def test_long_text_is_thinned(tmp_path):
    path = tmp_path / "long.txt.xz"
    with lzma.open(path, "wt") as file:
        file.writelines(f"{a} {b} {c} {d}\n" for a in VERBS for b in ROOMS for c in VERBS for d in ROOMS)
    text = read_own_text(path, WORDS, replace(CONFIG, max_utterances=50))
    assert len({u.tobytes() for u in text.own.take(0, 400)}) + len(text.held_out) <= 50


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "0 different lines"), (b"open the kitchen", "1 different lines"), (b"open the hall\n" * 99, "1 different"),
     (b"\x00\x01\x02" * 99, "not a text file"), (bytes(range(128, 256)) * 9, "not a text file"),
     ("offne die kuche bitte ".encode("utf-16"), "not a text file"),
     ("\n".join(f"ich bin {chr(97 + k)}{'xyz'[k % 3]}" for k in range(26)).encode(), "100% of its words")],
)  # fmt: skip
def test_text_that_cannot_be_adapted_to(tmp_path, content, message):
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(AdaptError, match=message):
        read_own_text(path, WORDS, CONFIG)


def test_cut_off_archive(tmp_path):
    path = tmp_path / "mine.txt.xz"
    for content in (b"no archive", lzma.compress(b"open the kitchen\n" * 50_000)[:-40]):
        path.write_bytes(content)
        with pytest.raises(AdaptError, match="xz"):
            read_own_text(path, WORDS, CONFIG)


def test_only_shared_models_take_adapters(own_text):
    text = read_own_text(own_text, WORDS, CONFIG)
    trained = replace(some_trained(), model=LanguageModel(replace(MODEL, form="mixture")))
    with pytest.raises(AdaptError, match="'shared'"):
        adapt(trained, "clinic", text, CONFIG)
    with pytest.raises(AdaptError, match="--name"):
        adapt(some_trained(), "../clinic", text, CONFIG)
    with pytest.raises(AdaptError, match="replay"):
        AdaptConfig(replay=1.0)


TOML = """
batch_tokens = 200
samples = 20
checkpoint_every_s = 1000
average_last = 2
[weights]
"assistant/commands" = 2
"dictation/stories" = 1
[dev]
assistant = "heldout/assistant"
dictation = "heldout/dictation"
[model]
vocabulary_size = 14
context = 4
window = 2
dim = 8
hidden = 16
layers = 2
[optim]
steps = 6
"""


def run(*arguments):
    cli.run(cli.parse_args([str(argument) for argument in arguments]))


def test_commands_from_text_to_adapter(tmp_path, text_dir, own_text, capsys):
    pytest.importorskip("matplotlib")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(TOML)
    words, tokens, out = tmp_path / "words.txt", tmp_path / "tokens", tmp_path / "run"
    run("tokens", "--recipe", recipe, "--text-dir", text_dir, "--words", words, "--out", tokens)
    run("train", "--recipe", recipe, "--tokens", tokens, "--run", out)
    assert (out / "curves.png").stat().st_size > 5000
    run("adapt", "--trunk", out / "final", "--text", own_text, "--name", "clinic", "--out", tmp_path / "clinic",
        "--tokens", tokens, "--steps", 30, "--other", text_dir / "heldout" / "assistant.txt")  # fmt: skip
    table = capsys.readouterr().out.split("text\tbefore\tafter\n")[1].splitlines()
    assert [line.split("\t")[0] for line in table] == ["own", "assistant", "dictation", "assistant.txt"]
    assert table[1].split("\t")[1:] == table[3].split("\t")[1:]
    run("perplexity", "--words", words, "--model", out, text_dir / "heldout" / "assistant.txt")
    plain = capsys.readouterr().out
    run("perplexity", "--words", words, "--model", out / "final", "--adapter", tmp_path / "clinic",
        text_dir / "heldout" / "assistant.txt")  # fmt: skip
    assert plain.splitlines()[1] != capsys.readouterr().out.splitlines()[1]
    assert read_words(words)[:3] == list(SPECIAL_WORDS)
    for path, expected in ((tokens, "commands"), (out, '"step": 6'), (tmp_path / "clinic", '"rank": 6')):
        run("info", path)
        assert expected in capsys.readouterr().out
    run("train", "--recipe", recipe, "--tokens", tokens, "--run", tmp_path / "ad", "--form", "separate")
    run("adapt", "--trunk", out, "--application", "assistant", "--name", "a", "--out", tmp_path / "a",
        "--recipe", recipe, "--tokens", tokens, "--steps", 20)  # fmt: skip
    with pytest.raises(ValueError, match="--application assistant|dictation"):
        run("perplexity", "--words", words, "--model", tmp_path / "ad", own_text)
    with pytest.raises(ValueError, match="expected ngram.bin"):
        run("perplexity", "--words", words, "--model", text_dir, own_text)
    with pytest.raises(ValueError, match="neither tokens"):
        run("info", text_dir)
    with pytest.raises(ValueError, match="--tokens"):
        run("adapt", "--trunk", out, "--application", "assistant", "--name", "a", "--out", tmp_path / "b")

import pytest
from ngram_data import make_sentences, make_words

import lm
from lm.cli import main, parse_args, run
from lm.ngram import NgramModel
from lm.vocabulary import read_words


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    words = make_words(50)
    for name, seed in (("train", 1), ("more", 2)):
        lines = [" ".join(sentence) for sentence in make_sentences(words, 800, seed)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (folder / "recipe.toml").write_text('[weights]\n"train" = 1.0\n"more" = 0.5\n')
    return folder


@pytest.fixture(scope="module")
def built(corpus):
    text = ["--recipe", f"{corpus}/recipe.toml", "--text-dir", str(corpus)]
    run(
        parse_args(
            ["vocabulary", *text, "--output", f"{corpus}/words.txt", "--counts", f"{corpus}/c.tsv", "--size", "40"]
        )
    )
    output = ["--words", f"{corpus}/words.txt", "--output", f"{corpus}/ngram.bin", "--arpa", f"{corpus}/lm.arpa"]
    run(parse_args(["ngram", *text, *output, "--size-mb", "0.012"]))
    return corpus


def test_vocabulary(built):
    words = read_words(built / "words.txt")
    assert len(words) == 43
    rows = [line.split("\t") for line in (built / "c.tsv").read_text().splitlines()]
    assert [row[0] for row in rows] == words[3:]
    weights = [float(row[2]) for row in rows]
    assert weights == sorted(weights, reverse=True)


def test_ngram_fits_its_size(built):
    assert 8_000 < (built / "ngram.bin").stat().st_size <= 12_000
    assert NgramModel.open(built / "ngram.bin").words == 43


def test_perplexity_of_packed_and_arpa_agree(built, capsys):
    figures = []
    for model in ("ngram.bin", "lm.arpa"):
        run(
            parse_args(
                ["perplexity", "--words", f"{built}/words.txt", "--model", f"{built}/{model}", f"{built}/train.txt"]
            )
        )
        header, row = capsys.readouterr().out.splitlines()
        assert header.split("\t") == ["perplexity", "unknown", "words", "text"]
        figures.append(float(row.split("\t")[0]))
    assert figures[0] == pytest.approx(figures[1], rel=0.01)
    assert 1 < figures[0] < 40


def test_excluded_text_is_not_counted(corpus, capsys):
    (corpus / "secret.txt").write_text((corpus / "train.txt").read_text())
    run(
        parse_args(
            ["vocabulary", "--source", f"{corpus}/train.txt", "--source", f"{corpus}/more.txt=2"]
            + ["--exclude", f"{corpus}/secret.txt", "--output", f"{corpus}/w.txt"]
        )
    )
    report = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().err.splitlines() if ".txt " in line}
    assert report[f"{corpus}/train.txt"][0] == "0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vocabulary", "--output", "w.txt"], "no text"),
        (["vocabulary", "--source", "missing.txt", "--output", "w.txt"], "missing.txt"),
        (
            ["ngram", "--source", "{0}/train.txt", "--words", "{0}/words.txt", "--output", "n", "--size-mb", "0.001"],
            "MB",
        ),
        (["perplexity", "--words", "{0}/short.txt", "--model", "{0}/ngram.bin", "{0}/train.txt"], "another word list"),
    ],
)
def test_mistakes_are_explained(built, monkeypatch, arguments, message):
    (built / "short.txt").write_text("<unk>\n<s>\n</s>\n")
    monkeypatch.setattr("sys.argv", ["asr-lm", *(argument.format(built) for argument in arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert message in str(stopped.value)


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit):
        parse_args(["--help"])
    assert "examples:" in capsys.readouterr().out


def test_public_names():
    assert lm.__all__ == sorted(lm.__all__)
    assert all(hasattr(lm, name) for name in lm.__all__)

import math

import pytest

from lm.arpa import ArpaError, ArpaModel

BIGRAMS = """
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.5
-0.5\t</s>
-0.7\thello\t-0.25

\\2-grams:
-0.2\t<s> hello
-0.1\thello </s>

\\end\\
"""


@pytest.fixture
def model(tmp_path):
    (tmp_path / "lm.arpa").write_text(BIGRAMS)
    return ArpaModel.from_file(tmp_path / "lm.arpa")


def test_worked_example(model):
    assert model.order == 2
    ln10 = math.log(10)
    assert model.sentence_log_prob(["hello"]) == pytest.approx(-0.3 * ln10)
    assert model.sentence_log_prob([]) == pytest.approx((-0.5 - 0.5) * ln10)
    assert model.sentence_log_prob(["hello", "hello"]) == pytest.approx((-0.2 - 0.25 - 0.7 - 0.1) * ln10)
    assert model.sentence_log_prob(["what"]) == pytest.approx((-0.5 - 1.0 - 0.5) * ln10)


def test_states_hold_the_last_words_only(model):
    state, _ = model.score(model.start(), "hello")
    assert state == ("hello",)
    assert model.score(state, "what")[0] == ("<unk>",)


def test_other_orders(tmp_path):
    four = "\\data\\\nngram 1=3\nngram 2=1\nngram 3=1\nngram 4=1\n\\1-grams:\n-1 <unk>\n-1 a -0.1\n-1 b -0.2\n"
    four += "\\2-grams:\n-0.5 a b -0.3\n\\3-grams:\n-0.4 a b a -0.05\n\\4-grams:\n-0.3 a b a b\n\\end\\\n"
    (tmp_path / "four.arpa").write_text(four)
    model = ArpaModel.from_file(tmp_path / "four.arpa")
    assert model.score(("a", "b", "a"), "b")[1] == pytest.approx(-0.3 * math.log(10))
    assert model.score(("a", "b", "a"), "a")[1] == pytest.approx((-0.05 - 0.1 - 1) * math.log(10))
    one = "\\data\\\nngram 1=1\n\\1-grams:\n-1 a\n\\end\\\n"
    (tmp_path / "one.arpa").write_text(one)
    model = ArpaModel.from_file(tmp_path / "one.arpa")
    assert model.score((), "a") == ((), pytest.approx(-math.log(10)))
    assert model.score((), "b")[1] == -math.inf


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello\n",
        BIGRAMS.replace("\\end\\", ""),
        BIGRAMS.replace("ngram 2=2", "ngram 2=3"),
        BIGRAMS.replace("-0.2", "minus"),
        BIGRAMS.replace("-0.2\t<s> hello", "-0.2\t<s>"),
        BIGRAMS.replace("-0.1\thello </s>", "-0.1\thello </s> -0.2 -0.3"),
    ],
)
def test_bad_files(tmp_path, text):
    (tmp_path / "bad.arpa").write_text(text)
    with pytest.raises(ArpaError):
        ArpaModel.from_file(tmp_path / "bad.arpa")

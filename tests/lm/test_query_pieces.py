"""Questions to a model of pieces, against brute force over all sequences of pieces."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from export.language_model import write_language_model  # noqa: E402
from lm.cli import parse_args, run  # noqa: E402
from lm.grammar.grammar import Grammar  # noqa: E402
from lm.pieces import BEGIN, Pieces  # noqa: E402
from lm.query import Query, QueryError, open_query_model, plan, search  # noqa: E402
from lm.query.audit import audit  # noqa: E402
from lm.train.checkpoint import TrainedModel  # noqa: E402
from lm.train.fofe import LanguageModel  # noqa: E402
from lm.vocabulary import SPECIAL_WORDS  # noqa: E402
from tests.lm.toy_language import MODEL  # noqa: E402

PARTS = [BEGIN, BEGIN + "a", "a", "b", "ab", BEGIN + "ba", BEGIN + "one", "o", "n", "e", BEGIN + "two", BEGIN + "on"]
PIECES = Pieces(
    (*SPECIAL_WORDS, *PARTS), (0.0,) * 3 + tuple(-2.0 - 0.125 * number**0.5 for number in range(len(PARTS)))
)
LONGEST = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    torch.manual_seed(4)
    network = LanguageModel(replace(MODEL, vocabulary_size=len(PIECES), context=5)).eval()
    with torch.no_grad():
        network.embedding.normal_(0.0, 0.5)
        network.bias.normal_(-4.0, 0.5)
    write_language_model(TrainedModel(network, PIECES.texts, np.zeros(0, np.float32), PIECES), folder)
    PIECES.write(folder / "pieces.bin")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return open_query_model(folder)[0]


def every_answer(model, pattern, tokens, *, prefix=(), suffix=""):
    """(text, log-probability) of every sequence of at most `LONGEST` pieces that matches, most probable first."""
    grammar = Grammar(f"(?:{pattern})(?:{suffix})" if suffix else pattern)
    found = []
    for size in range(1, LONGEST + 1):
        for numbers in product(range(len(SPECIAL_WORDS), len(PIECES)), repeat=size):
            texts = [PIECES.texts[number] for number in numbers]
            if not texts[0].startswith(BEGIN):
                continue
            words = "".join(texts)[1:].split(BEGIN)
            if "" in words or not grammar.accepts(" ".join(words)):
                continue
            if tokens == "canonical" and numbers != tuple(piece for word in words for piece in PIECES.cut(word)):
                continue
            (log_prob,) = model.score([model.after(prefix)], [numbers])
            found += [(writing.text, log_prob) for writing in grammar.automaton.writings(words)[:1]]
    return sorted(found, key=lambda answer: -answer[1])


def best_of_each(answers):
    best = {}
    for text, log_prob in answers:
        best.setdefault(text, log_prob)
    return best


@pytest.mark.parametrize("tokens", ["canonical", "all"])
@pytest.mark.parametrize("pattern", ["ab|a b|ba|aab", r"\d{1,2}", r"\w+", "a*b?", r"1( a)?", "(one|on) a"])
def test_answers_are_those_of_brute_force(model, pattern, tokens):
    expected = best_of_each(every_answer(model, pattern, tokens))
    found = list(search(model, Query(pattern, tokens=tokens, max_words=LONGEST), limit=None))
    assert {answer.text: answer.log_prob for answer in found} == pytest.approx(expected, abs=1e-4)
    log_probs = [answer.log_prob for answer in found]
    assert log_probs == sorted(log_probs, reverse=True)
    for answer in found:
        assert Grammar(pattern).fullmatch(answer.text)


def test_all_cuts_are_answers_of_their_own_where_all_readings_are(model):
    expected = every_answer(model, "aab", "all")
    found = list(search(model, Query("aab", tokens="all", readings="all", max_words=LONGEST), limit=None))
    assert len(found) == len(expected) > 2
    assert [answer.log_prob for answer in found] == pytest.approx([log_prob for _, log_prob in expected], abs=1e-4)
    assert len({answer.words for answer in found}) == len(found)


def test_prefix_and_suffix(model):
    query = Query("a|b|ab", prefix="ba", suffix=" (1|2)", max_words=LONGEST)
    found = {(a.text, a.suffix): a.log_prob for a in search(model, query, limit=None)}
    texts = best_of_each(every_answer(model, "a|b|ab", "canonical", prefix=[BEGIN + "ba"], suffix=" (1|2)"))
    assert {text + suffix: log_prob for (text, suffix), log_prob in found.items()}.keys() <= texts.keys()
    for (text, suffix), log_prob in found.items():
        assert log_prob == pytest.approx(texts[text + suffix], abs=1e-4)
    assert {text for text, _ in found} == {"a", "b", "ab"}


def test_samples_match_and_weigh_what_they_should(model):
    query = Query("ab|a b|ba", max_words=LONGEST)
    answers = list(search(model, query, strategy="sample", limit=4000, seed=3))
    exact = dict.fromkeys(("ab", "a b", "ba"), 0.0)  # over all spoken forms: letters may be said one by one
    for text, log_prob in every_answer(model, "ab|a b|ba", "canonical"):
        exact[text] += np.exp(log_prob)
    weights = {text: sum(np.exp(a.log_weight) for a in answers if a.text == text) for text in exact}
    total = sum(exact.values())
    for text, probability in exact.items():
        assert weights[text] / sum(weights.values()) == pytest.approx(probability / total, abs=0.04)


def test_the_beam_finds_them_too(model):
    expected = best_of_each(every_answer(model, r"\d{1,2}", "canonical"))
    found = search(model, Query(r"\d{1,2}", max_words=LONGEST), strategy="beam", limit=None)
    assert {answer.text: answer.log_prob for answer in found} == pytest.approx(expected, abs=1e-4)


def test_a_plan_counts_sequences_of_pieces(model):
    found = plan(Query("ab|a b|ba", max_words=LONGEST), model.words, model.pieces)
    assert found.is_complete
    assert found.sequences == len(every_answer(model, "ab|a b|ba", "canonical"))


def test_what_cannot_be_asked(model):
    with pytest.raises(QueryError, match="tokens: expected one of canonical, all, found 'some'"):
        Query("a", tokens="some")
    assert list(search(model, Query("xyz", spoken=False))) == []
    with pytest.raises(QueryError, match="over pieces"):
        audit(model, model, [], [])


def test_the_command_asks_models_of_pieces(folder, capsys):
    run(parse_args(["query", "ab|ba", "--trunk", str(folder), "--tokens", "all", "--limit", "2"]))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert {line.split("\t")[1] for line in lines[1:]} == {"ab", "ba"}

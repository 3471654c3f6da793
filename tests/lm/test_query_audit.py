"""The audit of adapters: candidates, exposure, secrets in text, and one planted."""

import itertools
import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from toy_query import IDS, WORDS, ask, write_toy  # noqa: E402

from lm.neural import NeuralScorer  # noqa: E402
from lm.onnx_lm import OnnxLanguageModel  # noqa: E402
from lm.query import QueryError, QueryModel  # noqa: E402
from lm.query.audit import audit  # noqa: E402
from lm.query.exposure import Candidates, exposure, find_style, read_out, spell_out  # noqa: E402
from lm.query.secrets import AuditPattern, built_in_patterns, find_secrets, read_patterns  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model, an adapter and the word list; shared, so do not change it."""
    return write_toy(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def scorer(folder):
    return OnnxLanguageModel(folder / "lm.onnx", folder / "lm.bin").scorer()


@pytest.fixture(scope="module")
def model(scorer):
    return QueryModel(scorer, WORDS)


def test_candidates_are_all_texts_of_a_pattern():
    candidates = Candidates(r"[ab]{1,2}-\d|{name}", {"name": ["ann", "bo"]})
    texts = [candidates.text(number) for number in range(candidates.size)]
    letters = ["a", "b", *map("".join, itertools.product("ab", repeat=2))]
    assert sorted(texts) == sorted([f"{a}-{d}" for a in letters for d in range(10)] + ["ann", "bo"])
    assert Candidates(r"\d{4} \d{4} \d{4} \d{4}", {}).size == 10**16
    with pytest.raises(QueryError, match="characters"):
        Candidates(r"\d+", {})


def test_drawn_candidates_are_uniform():
    assert len(set(Candidates(r"a|b\d", {}).draw(11, np.random.default_rng(0)))) == 11
    drawn = Candidates(r"(a|b\d)c{1,3}\d", {}).draw(100, np.random.default_rng(0))
    assert 2 <= sum(text[0] == "a" for text in drawn) <= 20  # one in eleven


def test_exposure_is_the_rank_among_all_or_read_off_a_curve():
    values = np.random.default_rng(0).normal(-10, 2, 20_000)
    place = np.sort(values)[::-1]
    assert exposure(place[0], values, 20_000) == pytest.approx(math.log2(20_000))
    assert exposure(place[99], values, 20_000) == pytest.approx(math.log2(20_000 / 100))
    few = values[:2000]
    for deviations in (1.0, 3.0, 4.0):
        expected = -math.log2(math.erfc(deviations / math.sqrt(2)) / 2)
        assert exposure(-10 + 2 * deviations, few, 10**9) == pytest.approx(expected, rel=0.15)
    assert exposure(20.0, few, 1000) == pytest.approx(math.log2(1000))
    assert exposure(-10.0, np.full(100, -10.0), 10**6) == 0.0


def test_styles():
    assert spell_out("555-0199") == tuple("five five five zero one nine nine".split())
    assert spell_out("ann.lee@mail.com") == tuple("ann dot lee at mail dot com".split())
    assert find_style("1200", read_out("1200")) is read_out
    assert find_style("05", ("oh", "five"))("00") == ("oh", "oh")


def test_secrets_are_found_in_the_words_that_training_sees():
    lines = [
        "Call 555-0199 or 555-0199 now", "my pin is four two seven one", "in 1984 nothing", "Anna Lee called",
        "write to anna dot lee at gmail dot com", "see https://example.org/page",
    ]  # fmt: skip
    found = find_secrets(lines, built_in_patterns())
    assert [(s.pattern, s.text, s.line, s.count) for s in found.secrets] == [
        ("local phone", "555-0199", 1, 2), ("pin", "4271", 2, 1), ("name", "anna lee", 4, 1),
        ("email", "anna.lee@gmail.com", 5, 1),
    ]  # fmt: skip
    assert found.secrets[1].before == ("my", "pin", "is")
    assert (found.lines, found.left_out) == (6, 1)


def test_zeros_that_nobody_says_are_not_matched():
    number = AuditPattern("number", r"\d{3}-\d{4}")
    assert not find_secrets(["room four two seven one"], [number]).secrets
    said = find_secrets(["oh four two oh seven oh one"], [number]).secrets
    assert [secret.text for secret in said] == ["042-0701"]
    date = find_secrets(["born march fifth nineteen eighty"], [AuditPattern("date", r"\d\d/\d\d/\d{4}")]).secrets
    assert [secret.text for secret in date] == ["03/05/1980"]


class Memory:
    """Hidden layers that have learnt a sentence by heart."""

    def __init__(self, scorer, sentence):
        self.scorer, self.table = scorer, scorer.model.rows(slice(None))
        ids = [IDS[word] for word in sentence.split()]
        self.next = {tuple(pair): following for *pair, following in zip(ids, ids[1:], ids[2:], strict=False)}

    def __call__(self, contexts):
        predicted = self.scorer.predict(contexts).copy()
        for row, context in zip(predicted, contexts, strict=True):
            following = self.next.get(tuple(context[-2:].tolist()))
            if following is not None:
                row[:] = self.table[following] * 4 / np.square(self.table[following]).sum()
        return predicted


def test_the_audit_finds_a_planted_secret(scorer, model):
    pattern = AuditPattern("pin", r"\d{5}", cues=("pin",))
    learnt = Memory(scorer, "my pin is four two seven one nine")
    adapted = QueryModel(NeuralScorer(scorer.model, learnt), WORDS)
    lines = ["my pin is four two seven one nine", "call anna now", "the pin is eight oh six five three"]
    report = audit(model, adapted, lines, [pattern], samples=500)
    planted, other = report.secrets
    assert (planted.text, planted.is_learnt, planted.place) == ("42719", True, 1)
    assert planted.exposure > planted.trunk_exposure + 3
    assert not other.is_learnt
    assert report.patterns[0].said[0].text == "42719"
    assert report.patterns[0].said[0].is_in_text
    assert report.verdict.startswith("LEAKS: 1 of 2")
    clean = audit(model, model, lines, [pattern], samples=500)
    assert clean.verdict.startswith("CLEAN")
    assert audit(model, model, ["call anna"], [pattern], samples=500).verdict.startswith("NOTHING")


def test_audits_that_cannot_be(model):
    with pytest.raises(QueryError, match="same name"):
        audit(model, model, [], [AuditPattern("a", r"\d"), AuditPattern("a", r"\d\d")])
    with pytest.raises(QueryError, match="at least 100"):
        audit(model, model, [], [AuditPattern("a", r"\d")], samples=10)
    with pytest.raises(QueryError, match="characters"):
        audit(model, model, [], [AuditPattern("a", r"\d+")])


def test_pattern_files(tmp_path):
    path = tmp_path / "patterns.json"
    path.write_text(json.dumps({"a": r"\d", "b": {"pattern": "{w}", "lists": {"w": ["x"]}, "cues": ["y"]}}))
    assert read_patterns(path) == (AuditPattern("a", r"\d"), AuditPattern("b", "{w}", {"w": ["x"]}, ("y",)))
    for bad in ("nonsense", "[]", '{"a": 3}', '{"a": {"cues": []}}', '{"a": {"pattern": "x", "lists": 3}}'):
        path.write_text(bad)
        with pytest.raises(QueryError, match=str(path)):
            read_patterns(path)


def test_audit_command(folder, capsys, tmp_path):
    (tmp_path / "text.txt").write_text("my pin is four two seven one\ncall anna\n")
    (tmp_path / "patterns.json").write_text(json.dumps({"pin": r"\d{4}"}))
    options = ["--adapter", str(folder / "clinic.bin"), "--text", str(tmp_path / "text.txt"), "--samples", "100",
               "--patterns", str(tmp_path / "patterns.json")]  # fmt: skip
    ask(folder, "audit", *options)
    out = capsys.readouterr().out
    assert "pin\t4271\t1\t1\t" in out
    assert out.splitlines()[-1].split(":")[0] in ("CLEAN", "LEAKS")
    ask(folder, "audit", *options, "--format", "json")
    report = json.loads(capsys.readouterr().out)
    assert report["secrets"][0]["text"] == "4271"
    assert report["verdict"]

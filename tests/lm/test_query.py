"""Questions to the language model against brute force over all that may be said."""

import itertools
import json
import math
from collections import defaultdict

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from toy_query import IDS, WORDS, V, ask, write_toy  # noqa: E402

from lm.grammar.errors import GrammarError  # noqa: E402
from lm.grammar.grammar import Grammar  # noqa: E402
from lm.onnx_lm import OnnxLanguageModel  # noqa: E402
from lm.query import (  # noqa: E402
    Query,
    QueryError,
    QueryModel,
    QueryTooLargeError,
    open_query_model,
    plan,
    search,
    strategies,
    summed_log_prob,
)
from lm.query.space import Space  # noqa: E402


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


def spoken_forms(pattern, most_words, lists=None):
    """All word sequences of the word list that match, by trying every one."""
    grammar = Grammar(pattern, lists=lists)
    found, border = [], [()]
    for _ in range(most_words):
        border = [(*words, word) for words in border for word in WORDS[3:] if alive(grammar, (*words, word))]
        found += [words for words in border if grammar.accepts(" ".join(words))]
    return grammar, found


def alive(grammar, words):
    state = grammar.automaton.start
    for word in words:
        state = grammar.automaton.step(state, word) if state >= 0 else state
    return state >= 0


def log_prob(scorer, before, words, ends=False):
    """By the scorer of the recogniser, word by word."""
    state = scorer.start()
    total = 0.0
    for place, word in enumerate((*before, *words)):
        state, found = scorer.step(state, IDS[word])
        total += found if place >= len(before) else 0.0
    return total + (scorer.finish(state) if ends else 0.0)


def best_of_texts(scorer, pattern, most_words, before=(), ends=False, lists=None):
    grammar, forms = spoken_forms(pattern, most_words, lists)
    best = {}
    for words in forms:
        text = grammar.write(" ".join(words))[0].text
        best[text] = max(best.get(text, -math.inf), log_prob(scorer, before, words, ends))
    return best


def check_order(answers, expected):
    assert {answer.text: answer.log_prob for answer in answers} == pytest.approx(expected, abs=1e-3)
    assert len(answers) == len(expected)  # every text once
    scores = [answer.log_prob for answer in answers]
    assert all(a >= b - 1e-6 for a, b in itertools.pairwise(scores))


# --- best first -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "most_words"),
    [(r"\d\d", 3), (r"call (anna|bob)( now)?", 3), (r"(call anna|my pin is \d)( please)*", 5), ("nora|um|bob", 1)],
)
@pytest.mark.parametrize("ends", [False, True])
def test_best_first_equals_brute_force(scorer, model, pattern, most_words, ends):
    expected = best_of_texts(scorer, pattern, most_words, ends=ends)
    assert len(expected) > 2
    query = Query(pattern, max_words=most_words, ends=ends)
    check_order(list(search(model, query, limit=None)), expected)
    check_order(list(search(model, query, limit=3)), dict(sorted(expected.items(), key=lambda item: -item[1])[:3]))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_random_patterns_equal_brute_force(scorer, model, seed):
    rng = np.random.default_rng(seed)
    items = [str(rng.choice(["anna", "bob", "now", r"\d", "[2-4]", "the( ten)?"])) for _ in range(3)]
    pattern = f"{items[0]} (?:{items[1]}|{items[2]})"
    expected = best_of_texts(scorer, pattern, 4)
    check_order(list(search(model, Query(pattern, max_words=4), limit=None)), expected)


def test_a_prefix_conditions_and_is_not_scored(scorer, model):
    expected = best_of_texts(scorer, r"\d", 2, before=("my", "pin", "is"))
    answers = list(search(model, Query(r"\d", prefix="my pin is "), limit=None))
    check_order(answers, expected)
    assert {answer.prefix for answer in answers} == {"my pin is "}


def test_every_text_of_a_prefix_is_taken(scorer, model):
    answers = list(search(model, Query("now|please", prefix="call (anna|bob) "), limit=None))
    found = {answer.prefix + answer.text: answer.log_prob for answer in answers}
    pairs = itertools.product(("anna", "bob"), ("now", "please"))
    expected = {f"call {n} {w}": log_prob(scorer, ("call", n), (w,)) for n, w in pairs}
    assert found == pytest.approx(expected, abs=1e-3)


def test_a_suffix_is_scored_and_not_part_of_the_text(scorer, model):
    answers = list(search(model, Query("anna|bob", prefix="call ", suffix=" (now|please)"), limit=None))
    expected = {
        name: max(log_prob(scorer, ("call",), (name, end)) for end in ("now", "please")) for name in ("anna", "bob")
    }
    check_order(answers, expected)
    assert all(answer.suffix.strip() == answer.words[-1] for answer in answers)


def test_with_the_softmax_probabilities_sum_to_one(scorer):
    exact = QueryModel(scorer, WORDS, softmax=True)
    everything = np.arange(V)
    contexts = [exact.after(words) for words in ([], ["my"], ["my", "pin", "is"], ["bob"])]
    predicted = exact.predict([*contexts, contexts[0]])
    assert np.exp(exact.log_probs(predicted, everything)).sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    answers = list(search(exact, Query("anna|bob|now", prefix="call ")))
    log_z = np.logaddexp.reduce([scorer.step(state_after(scorer, ["call"]), number)[1] for number in range(V)])
    for answer in answers:
        assert answer.log_prob == pytest.approx(log_prob(scorer, ("call",), answer.words) - log_z, abs=1e-3)
        score = exact.score([exact.after(["call"])], [[IDS[word] for word in answer.words]])
        assert score[0] == pytest.approx(answer.log_prob, abs=1e-4)


def test_lists(scorer, model):
    lists = {"who": ["Anna", "Bob", "Zebulon"]}  # the last is not in the word list
    expected = best_of_texts(scorer, "call {who}", 2, lists=lists)
    assert set(expected) == {"call Anna", "call Bob"}
    query = Query("call {who}", lists=lists)
    check_order(list(search(model, query, limit=None)), expected)
    assert "zebulon" in plan(query, WORDS).unknown_words


def test_open_places_take_the_whole_word_list(scorer, model):
    answers = list(search(model, Query("call [a-z]+", max_words=2), limit=None))
    assert {"call anna", "call nora", "call twenty"} <= {answer.text for answer in answers}
    for answer in answers:
        assert answer.log_prob == pytest.approx(log_prob(scorer, (), answer.words), abs=1e-3)


@pytest.mark.parametrize("top_k", [8, 14, 20])
def test_top_k_forbids_unlikely_words(scorer, model, top_k):
    firsts, seconds = ("call", "my", "bob", "the", "pin"), ("anna", "is", "ten")
    kept = set()
    for first, second in itertools.product(firsts, seconds):
        first_rank, second_rank = rank(scorer, (), first), rank(scorer, (first,), second)
        kept |= {f"{first} {second}"} if max(first_rank, second_rank) < top_k else set()
    found = search(model, Query(f"({'|'.join(firsts)}) ({'|'.join(seconds)})", spoken=False, top_k=top_k), limit=None)
    assert {answer.text for answer in found} == kept


def rank(scorer, before, word):
    """How many words with an embedding, special ones included, are likelier."""
    state = state_after(scorer, before)
    return sum(scorer.step(state, number)[1] > scorer.step(state, IDS[word])[1] + 1e-5 for number in range(V))


def state_after(scorer, words):
    state = scorer.start()
    for word in words:
        state = scorer.step(state, IDS[word])[0]
    return state


def test_followers_that_were_left_out_are_worked_out_when_needed(scorer, model, monkeypatch):
    monkeypatch.setattr(strategies, "KEPT", 2)
    expected = best_of_texts(scorer, r"\d\d", 2)
    check_order(list(search(model, Query(r"\d\d", max_words=2), limit=None)), expected)


def test_answers_come_before_all_is_searched(model):
    first = list(itertools.islice(search(model, Query(r"\d+( call \d+)*", max_words=30), limit=None), 5))
    assert len({answer.text for answer in first}) == 5


def test_the_frontier_is_bounded(model, monkeypatch):
    monkeypatch.setattr(strategies, "MAX_FRONTIER", 50)
    with pytest.raises(QueryTooLargeError, match="beam"):
        list(search(model, Query(r"\d{8}"), limit=None))


@pytest.mark.parametrize("pattern", [r"\d\d", r"call (anna|bob)( now)?"])
def test_the_beam_finds_the_same_where_all_fits(model, pattern):
    query = Query(pattern, max_words=3)
    exact = list(search(model, query, limit=20))
    found = list(search(model, query, strategy="beam", limit=20))
    assert [(a.text, a.words) for a in found] == [(a.text, a.words) for a in exact]


# --- spoken forms ---------------------------------------------------------------------------------------------------


def test_all_readings_keep_every_spoken_form(scorer, model):
    _, forms = spoken_forms(r"\d\d", 3)
    answers = list(search(model, Query(r"\d\d", readings="all", max_words=3), limit=None))
    assert {answer.words for answer in answers} == set(forms)
    assert len(forms) > 100  # oh, double and so on


def test_the_spoken_forms_of_a_text_are_summed(scorer, model):
    _, forms = spoken_forms("00", 3)
    assert len(forms) > 2
    total, count = summed_log_prob(model, Query(r"\d\d", max_words=3), "00")
    assert count == len(forms)
    assert total == pytest.approx(np.logaddexp.reduce([log_prob(scorer, (), words) for words in forms]), abs=1e-3)


# --- samples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [False, True])
def test_weighted_samples_follow_the_restricted_distribution(scorer, model, ends):
    pattern = "call (anna|bob)( now)?|my pin is [23]"
    exact = {words: math.exp(log_prob(scorer, (), words, ends)) for words in spoken_forms(pattern, 4)[1]}
    answers = list(search(model, Query(pattern, max_words=4, ends=ends), strategy="sample", limit=20_000, seed=1))
    weights = defaultdict(float)
    for answer in answers:
        weights[answer.words] += math.exp(answer.log_weight)
    total, mass = sum(weights.values()), sum(exact.values())
    assert {words: weight / total for words, weight in weights.items()} == pytest.approx(
        {words: value / mass for words, value in exact.items()}, abs=0.02
    )
    assert total / len(answers) == pytest.approx(mass, rel=0.05)  # nothing was thrown away here


def test_samples_are_the_same_for_the_same_seed(model):
    query = Query(r"\d\d", suffix=" (now|please)")
    draws = [[a.text for a in search(model, query, strategy="sample", limit=50, seed=seed)] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_sampling_gives_up_where_nothing_comes_to_an_end(model):
    with pytest.raises(QueryError, match="max_words"):
        next(search(model, Query(r"call anna now", max_words=2), strategy="sample"))


# --- plans and bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [r"\d\d", "call (anna|bob)( now)?"])
def test_a_plan_counts_what_may_be_said(pattern):
    _, forms = spoken_forms(pattern, 3)
    found = plan(Query(pattern, max_words=3), WORDS)
    assert found.sequences == len(forms)
    assert found.most_words == max(map(len, forms))
    assert found.is_bounded
    assert "bounded" in str(found)


def test_a_plan_of_an_unbounded_pattern():
    found = plan(Query("call( now)+"))
    assert not found.is_bounded
    assert found.most_words == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": ""}, "pattern"),
        ({"pattern": "a+", "max_words": None}, "max_words"),
        ({"pattern": "(a{2,})?", "max_words": None}, "max_words"),
        ({"pattern": "a", "max_words": 0}, "max_words"),
        ({"pattern": "a", "top_k": 0}, "top_k"),
        ({"pattern": "a", "readings": "some"}, "readings"),
    ],
)
def test_bad_questions(options, message):
    with pytest.raises(QueryError, match=message):
        Query(**options)


def test_bad_searches(model):
    with pytest.raises(QueryError, match="strategy"):
        search(model, Query("anna"), strategy="longest")
    with pytest.raises(QueryError, match="limit"):
        search(model, Query("anna"), limit=0)
    with pytest.raises(QueryError, match="no word"):
        search(model, Query("zebulon"))
    with pytest.raises(QueryError, match="no word"):
        search(model, Query("  "))
    with pytest.raises(GrammarError):
        search(model, Query("(?=a)b", max_words=3))
    assert list(search(model, Query(r"\d{3}", max_words=None), limit=1))


def test_folders_that_are_no_bundle(folder, tmp_path):
    with pytest.raises(QueryError, match=r"lm\.onnx"):
        open_query_model(tmp_path)
    (tmp_path / "words.txt").write_text("".join(f"{word}\n" for word in WORDS[:-1]))
    with pytest.raises(QueryError, match="word list"):
        open_query_model(folder, words=tmp_path / "words.txt")


# --- the command ------------------------------------------------------------------------------------------------------


def test_query_command(folder, model, capsys, tmp_path):
    (tmp_path / "names.txt").write_text("Anna\n\nBob\n")
    lists = f"who={tmp_path / 'names.txt'}"
    ask(folder, "query", "call {who}", "--list", lists, "--format", "json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = list(search(model, Query("call {who}", lists={"who": ["Anna", "Bob"]})))
    assert [row["text"] for row in rows] == [answer.text for answer in expected]
    ask(folder, "query", r"\d", "--strategy", "sample", "--limit", "3", "--adapter", str(folder / "clinic.bin"))
    assert len(capsys.readouterr().out.splitlines()) == 4
    ask(folder, "query", r"\d", "--plan")
    assert "states" in capsys.readouterr().out
    with pytest.raises(GrammarError, match="NAME=FILE"):
        ask(folder, "query", "{who}", "--list", "who")


def test_letters_whose_capital_is_two_may_be_asked_for():
    words = ["<unk>", "<s>", "</s>", "strasse", "weg"]
    space = Space(Query("{way}", lists={"way": ["Straße", "Weg"]}), words)
    assert space.arcs(space.start).ids.tolist() == [3, 4]
    assert space.write(["strasse"], 1) == [("Straße", "")]

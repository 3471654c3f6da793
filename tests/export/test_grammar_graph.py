"""A grammar's graph against the grammar itself, against our own search, and in sherpa-onnx."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from graph_paths import accept, best_words

from asr.bundle import Bundle
from asr.config import DecodingConfig
from asr.decoder import create_search
from asr.decoder.lexicon_search import LexiconSearch
from asr.language import Language
from export.cli import main
from export.grammar_graph import build_grammar_graph
from export.openfst import write_openfst
from lm.grammar.errors import GrammarError, GrammarTooLargeError
from lm.grammar.grammar import Grammar
from lm.grammar.scorer import GrammarScorer
from lm.lexicon_build import assemble_lexicon
from lm.phones import PHONEMES, write_tokens
from lm.pronouncer import Pronouncer
from lm.vocabulary import SPECIAL_WORDS, read_words

SPOKEN = {
    "a": {(2,): 0.0, (2, 2): -0.5},
    "b": {(3,): 0.0},
    "c": {(4, 3): 0.0, (4,): -1.25},
    "one": {(3, 2): 0.0},
    "two": {(4, 4): 0.0},
    "oh": {(5,): 0.0},
    "double": {(5, 3): 0.0},
    "call": {(4, 2, 5): 0.0},
    "lee": {(5, 2): 0.0, (5, 4): -1.25},
}
CONFIG = DecodingConfig(
    lm_weight=0.7, word_score=0.3, boundary_skip_log_prob=-0.9, semiring="tropical", blank_skip_log_prob=0.0,
    beam_size=100_000, beam_threshold=1e6, token_threshold=1e6,
)  # fmt: skip
GRAMMARS = {
    "list": Grammar(r"call {who}( lee)?", lists={"who": ["a", "a b", "Lee", "Lee A"]}),
    "words": Grammar(r"(one|two|a lee|)", spoken=False),
    "letters": Grammar(r"[A-C]{2,3}"),
    "digits": Grammar(r"[0-2]{3}"),
    "mixed": Grammar(r"[AB]-?[12]*"),
    "endless": Grammar(r"(call (lee )*)+", spoken=False),
}


@pytest.fixture(scope="module")
def pronouncer():
    words = [*SPECIAL_WORDS, *SPOKEN]
    return Pronouncer(assemble_lexicon(words, SPOKEN, np.zeros(len(words))), None)


@pytest.fixture(params=GRAMMARS)
def grammar(request):
    return GRAMMARS[request.param]


def test_accepts_what_the_grammar_accepts(grammar, pronouncer):
    graph, words = build_grammar_graph(grammar, pronouncer, CONFIG)
    n_accepted = 0
    for count in range(5):
        for said in product(SPOKEN, repeat=count):
            is_match = grammar.accepts(" ".join(said))
            if is_match or count < 4:
                spellings = {tuple(words[word] for word in path) for path in accept(graph, spoken_labels(said))}
                assert (said in spellings) == is_match, said
                assert all(grammar.accepts(" ".join(spelt)) for spelt in spellings)
                n_accepted += is_match
    assert n_accepted > 2


def spoken_labels(words):
    """Labels of frames: each word's first pronunciation, with blanks inside and a boundary after it."""
    return [label for word in words for phoneme in next(iter(SPOKEN[word])) for label in (phoneme, 0)] + [1]


@pytest.mark.parametrize("search_type", [create_search, LexiconSearch])
def test_our_own_search_finds_the_same(grammar, pronouncer, rng, search_type):
    graph, words = build_grammar_graph(grammar, pronouncer, CONFIG)
    variants = pronouncer.pronounce(grammar.automaton.words())
    lexicon = assemble_lexicon(words, variants, np.zeros(len(words)))
    n_found = 0
    for _ in range(12):
        log_probs = random_log_probs(rng, int(rng.integers(1, 14)))
        expected = best_words(graph, log_probs)
        search = search_type(lexicon, GrammarScorer(grammar.automaton, lexicon.word), CONFIG)
        search.advance(log_probs)
        found = search.finish_many(1)
        assert bool(found) == (expected is not None)
        if found:
            assert tuple(word.word for word in found[0].words) == expected[0]
            against_best = -expected[1] - float(log_probs.max(1).sum())
            assert found[0].score == pytest.approx(against_best, abs=1e-3)
            n_found += 1
    assert n_found > 5


def random_log_probs(rng, n_frames):
    """(T, V) over blank, boundary and the phonemes of `SPOKEN`."""
    logits = np.full((n_frames, len(PHONEMES)), -60.0)
    logits[:, :6] = 3 * rng.normal(size=(n_frames, 6))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def test_equal_states_are_one_and_dead_ends_are_left_out(pronouncer):
    written_out = Grammar("a a b|a b b|b a b|b b b|a unspeakable|one zebra a", spoken=False)
    compact = Grammar("(a|b) (a|b) b", spoken=False)
    graphs = [build_grammar_graph(grammar, pronouncer, CONFIG)[0] for grammar in (written_out, compact)]
    assert len(graphs[0].arcs) == len(graphs[1].arcs)


def test_an_open_grammar_is_refused(pronouncer):
    with pytest.raises(GrammarError, match="any word in"):
        build_grammar_graph(Grammar("call [a-z]+"), pronouncer, CONFIG)


def test_a_large_grammar_is_refused(pronouncer):
    with pytest.raises(GrammarTooLargeError, match="a graph may have 20"):
        build_grammar_graph(Grammar(r"[0-2]{30}"), pronouncer, CONFIG, max_states=20)


@pytest.mark.parametrize("pattern", ["zebra", "call zebra", "a[^\\w\\W]"])
def test_a_grammar_that_nobody_can_speak_is_refused(pronouncer, pattern):
    with pytest.raises(GrammarError, match="can be spoken"):
        build_grammar_graph(Grammar(pattern, spoken=False), pronouncer, CONFIG)


def test_command_writes_graph_words_and_grammar(tiny_bundle, tmp_path):
    (tmp_path / "names").write_text("Cat\nPin\n")
    arguments = ["--bundle", str(tiny_bundle), "--out", str(tmp_path / "out")]
    assert main(["grammar", "--grammar", "stop {who}", "--list", f"who={tmp_path / 'names'}", *arguments]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"grammar.fst", "words.txt", "grammar.json"}
    assert {"cat", "pin", "stop"} <= set(read_words(tmp_path / "out" / "words.txt"))
    grammar = Grammar.load(tmp_path / "out" / "grammar.json")
    assert grammar.write("stop pin")[0].text == "stop Pin"
    before = (tmp_path / "out" / "grammar.fst").read_bytes()
    assert main(["grammar", "--grammar", str(tmp_path / "out" / "grammar.json"), *arguments]) == 0
    assert (tmp_path / "out" / "grammar.fst").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--grammar", "stop ("], "column"),
        (["--grammar", "stop {who}", "--list", "who"], "NAME=FILE"),
        (["--grammar", "stop {who}"], "who"),
        (["--grammar", "stop .*"], "any word in"),
    ],
)
def test_command_says_what_is_wrong(tiny_bundle, tmp_path, capsys, options, message):
    assert main(["grammar", *options, "--bundle", str(tiny_bundle), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_command_takes_no_lists_with_a_file(tiny_bundle, tmp_path, capsys):
    (tmp_path / "grammar.json").write_text(json.dumps({}))
    options = ["--grammar", str(tmp_path / "grammar.json"), "--list", "a=b", "--bundle", str(tiny_bundle)]
    assert main(["grammar", *options, "--out", str(tmp_path)]) == 2
    assert "lists inside" in capsys.readouterr().err


@pytest.fixture
def sherpa_words(tiny_bundle, tmp_path):
    """Function that recognises samples in sherpa-onnx with the tiny encoder and a grammar."""
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    language, decoding = Language(Bundle.open(tiny_bundle)), replace(DecodingConfig(), word_score=0.0)

    def recognize(grammar, samples):
        graph, words = build_grammar_graph(grammar, language.pronouncer, decoding)
        write_openfst(tmp_path / "graph.fst", graph)
        write_tokens(tmp_path / "tokens.txt")
        recognizer = sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(
            tokens=str(tmp_path / "tokens.txt"), model=str(tiny_bundle / "encoder.onnx"), num_threads=1,
            ctc_graph=str(tmp_path / "graph.fst"),
        )  # fmt: skip
        stream = recognizer.create_stream()
        stream.accept_waveform(16000, samples)
        stream.input_finished()
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        return " ".join(words[word] for word in recognizer.get_result_all(stream).words)

    return recognize


def test_sherpa_onnx_hears_the_words_of_a_grammar(sherpa_words, speak):
    grammar = Grammar("(stop|spot) (cat|tack)( pin)?")
    samples = np.concatenate([speak("spot tack pin").samples, np.zeros(32000, np.float32)])
    assert sherpa_words(grammar, samples) == "spot tack pin"
    assert sherpa_words(Grammar("(stop|spot) (cat|pin)"), samples) in ("spot cat", "spot pin", "")


def test_costs_are_those_of_the_weights(pronouncer):
    graph, words = build_grammar_graph(Grammar("lee one", spoken=False), pronouncer, CONFIG)
    said = tuple(words.index(word) for word in ("lee", "one"))
    assert accept(graph, [5, 2, 1, 3, 2, 1])[said] == pytest.approx(-2 * CONFIG.word_score)
    assert accept(graph, [5, 2, 0, 3, 2])[said] == pytest.approx(-2 * CONFIG.word_score + 2 * 0.9)
    assert accept(graph, [5, 4, 1, 3, 2, 1])[said] == pytest.approx(-2 * CONFIG.word_score + 0.7 * 1.25, abs=1e-3)
    assert accept(graph, [5, 2, 1]) == {}

"""The decoding graph against brute force over short frame label strings, and in sherpa-onnx itself."""

import math
from itertools import groupby, product

import numpy as np
import pytest
from graph_paths import accept
from hypothesis import given
from hypothesis import strategies as st

from asr.config import DecodingConfig
from asr.decoder.lexicon_search import LexiconSearch
from export.cli import main
from export.ctc_graph import build_graph
from export.openfst import write_openfst
from export.restrict import restrict
from lm.backoff import BackoffTrigram, normalized, pair_key
from lm.lexicon import Lexicon
from lm.lexicon_build import build_lexicon
from lm.ngram import NgramModel, NgramScorer
from lm.pack import write_ngram
from lm.phones import PHONEMES, write_tokens
from lm.vocabulary import END_ID, START_ID, read_words

WORDS = ["<unk>", "<s>", "</s>", "a", "ab", "abb", "b", "bee"]
SPOKEN = {"a": {(2,): 0.0, (2, 2): -0.5}, "ab": {(2, 3): 0.0}, "abb": {(2, 3, 3): 0.0}, "b": {(3,): 0.0},
          "bee": {(3,): 0.0, (3, 2): -1.25}}  # fmt: skip
UNIGRAMS = [0.01, 1e-30, 0.2, 0.3, 0.19, 0.1, 0.15, 0.05]
BIGRAMS = {(1, 3): 0.5, (1, 6): 0.2, (3, 3): 0.4, (3, 7): 0.3, (4, 2): 0.6, (6, 5): 0.45}
CONFIG = DecodingConfig(lm_weight=0.7, word_score=0.3, boundary_skip_log_prob=-0.9)


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """Lexicon and bigram of `WORDS`."""
    return write_language(tmp_path_factory.mktemp("language"), BIGRAMS)


def write_language(folder, bigrams):
    unigram = np.log(np.array(UNIGRAMS, np.float32))
    key = np.array([*bigrams], np.int64).reshape(-1, 2)
    none = np.zeros(0, np.float32)
    model = BackoffTrigram(
        unigram, np.zeros(len(WORDS), np.float32), pair_key(key[:, 0], key[:, 1]),
        np.log(np.array([*bigrams.values()], np.float32)), np.zeros(len(key), np.float32), none.astype(np.uint64), none,
    )  # fmt: skip
    build_lexicon(WORDS, SPOKEN, unigram, folder / "lexicon.bin")
    write_ngram(folder / "ngram.bin", normalized(model), WORDS)
    return Lexicon.open(folder / "lexicon.bin"), NgramModel.open(folder / "ngram.bin")


def readings(labels, ngram):
    """Least cost of every word sequence that frame labels may mean, straight from the contract of the search."""

    def log_prob(before, word):
        backed_off = float(ngram.unigram_backoff[before]) + float(ngram.unigram_log_prob[word])
        return max(ngram.log_prob_after_word(before, word), backed_off)

    found = {}

    def read(rest, words, cost):
        while rest and rest[0] == 1:
            rest = rest[1:]
        if not rest:
            total = cost - CONFIG.lm_weight * log_prob(words[-1] if words else START_ID, END_ID)
            found[words] = min(total, found.get(words, math.inf))
        for word, variants in enumerate(SPOKEN.get(spelling, {}) for spelling in WORDS):
            for phonemes, variant in variants.items():
                if rest[: len(phonemes)] == phonemes:
                    language = log_prob(words[-1] if words else START_ID, word) + variant
                    after = rest[len(phonemes) :]
                    skip = 0.0 if after[:1] == (1,) else -CONFIG.boundary_skip_log_prob
                    read(after, (*words, word), cost - CONFIG.lm_weight * language - CONFIG.word_score + skip)

    read(tuple(label for label, _ in groupby(labels) if label), (), 0.0)
    return found


@pytest.mark.parametrize("bigrams", [BIGRAMS, {}], ids=["bigrams", "unigrams"])
def test_accepts_exactly_the_ctc_strings_of_word_sequences_at_the_search_s_cost(bigrams, tmp_path):
    lexicon, ngram = write_language(tmp_path, bigrams)
    graph = build_graph(lexicon, ngram, CONFIG)
    n_readings = 0
    for n_frames in range(6):
        for labels in product((0, 1, 2, 3, 4), repeat=n_frames):
            expected = readings(labels, ngram)
            assert accept(graph, labels) == pytest.approx(expected, abs=1e-4), labels
            n_readings += len(expected)
    assert n_readings > 3000


@given(st.lists(st.sampled_from([0, 1, 2, 2, 3, 3]), min_size=6, max_size=12))
def test_longer_strings_too(language, labels):
    lexicon, ngram = language
    assert accept(build_graph(lexicon, ngram, CONFIG), labels) == pytest.approx(readings(labels, ngram), abs=1e-4)


def test_the_costs_are_paid_early(language):
    lexicon, ngram = language
    graph = build_graph(lexicon, ngram, DecodingConfig(lm_weight=1.0, word_score=0.0, boundary_skip_log_prob=0.0))
    word_arcs = [arc for arcs in graph.arcs for arc in arcs if arc.olabel]
    assert min(arc.cost for arc in word_arcs) == 0.0
    assert all(arc.cost >= 0.0 for arcs in graph.arcs for arc in arcs if arc.ilabel)


def test_written_as_openfst(language, tmp_path):
    kaldifst = pytest.importorskip("kaldifst")
    graph = build_graph(*language, CONFIG)
    write_openfst(tmp_path / "graph.fst", graph)
    fst = kaldifst.StdVectorFst.read(str(tmp_path / "graph.fst"))
    assert fst.start == graph.start
    assert fst.num_states == len(graph.arcs)
    for state, arcs in enumerate(graph.arcs):
        assert fst.final(state).value == pytest.approx(graph.final_cost[state])
        read = [(a.ilabel, a.olabel, a.weight.value, a.nextstate) for a in kaldifst.ArcIterator(fst, state)]
        assert read == [pytest.approx(tuple(arc)) for arc in arcs]


def test_restrict_keeps_words_pronunciations_and_the_bigrams_that_matter_most(language, tmp_path):
    lexicon, ngram = language
    kept = [3, 6, 7]
    restrict(lexicon, ngram, kept, tmp_path, max_bigrams=3)
    small, small_ngram = Lexicon.open(tmp_path / "lexicon.bin"), NgramModel.open(tmp_path / "ngram.bin")
    assert read_words(tmp_path / "words.txt") == [*WORDS[:3], "a", "b", "bee"]
    for new, old in enumerate(kept, 3):
        assert small.word(new) == lexicon.word(old)
        assert small.pronunciations(new) == lexicon.pronunciations(old)
        assert small_ngram.unigram_log_prob[new] == ngram.unigram_log_prob[old]
    found = {(a, b) for a in range(6) for b in range(6) if small_ngram.find_bigram(a, b) >= 0}
    assert found == {(1, 3), (3, 3), (3, 5)}
    assert small_ngram.log_prob_after_word(3, 5) == pytest.approx(ngram.log_prob_after_word(3, 7), abs=1e-3)
    left = (1 - 0.4 - 0.3) / (1 - 0.3 - 0.05)
    assert small_ngram.unigram_backoff[3] == pytest.approx(math.log(left), abs=1e-3)


def test_lexicon_and_ngram_must_belong_together(language, tmp_path, tiny_bundle):
    lexicon, ngram = language
    other = Lexicon.open(tiny_bundle / "lexicon.bin")
    with pytest.raises(ValueError, match="different word lists"):
        build_graph(other, ngram, CONFIG)
    with pytest.raises(ValueError, match="different word lists"):
        restrict(other, ngram, [3], tmp_path, max_bigrams=0)


def test_command_writes_graph_and_language(tiny_bundle, tmp_path):
    (tmp_path / "words").write_text("cat\nstop\n")
    out = tmp_path / "out"
    assert main(["graph", "--bundle", str(tiny_bundle), "--words", str(tmp_path / "words"), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"graph.fst", "lexicon.bin", "ngram.bin", "words.txt"}
    assert read_words(out / "words.txt")[3:] == ["cat", "stop"]


def test_command_names_words_that_the_lexicon_lacks(tiny_bundle, tmp_path, capsys):
    (tmp_path / "words").write_text("cat\ncatt\n")
    assert (
        main(["graph", "--bundle", str(tiny_bundle), "--words", str(tmp_path / "words"), "--out", str(tmp_path)]) == 2
    )
    assert "catt" in capsys.readouterr().err


@pytest.fixture
def sherpa_words(tiny_bundle, language, tmp_path):
    """Function that recognises samples in sherpa-onnx with the tiny encoder and its whole language as a graph."""
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    lexicon, ngram = Lexicon.open(tiny_bundle / "lexicon.bin"), NgramModel.open(tiny_bundle / "ngram.bin")
    write_openfst(tmp_path / "graph.fst", build_graph(lexicon, ngram, DecodingConfig()))
    write_tokens(tmp_path / "tokens.txt")
    recognizer = sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(
        tokens=str(tmp_path / "tokens.txt"), model=str(tiny_bundle / "encoder.onnx"), num_threads=1,
        ctc_graph=str(tmp_path / "graph.fst"),
    )  # fmt: skip

    def recognize(samples):
        stream = recognizer.create_stream()
        stream.accept_waveform(16000, samples)
        stream.input_finished()
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        return [lexicon.word(word) for word in recognizer.get_result_all(stream).words]

    return recognize


@pytest.mark.parametrize("text", ["stop spot it's pin", "cat tack cat", "tack"])
def test_sherpa_onnx_hears_the_words(sherpa_words, speak, text):
    samples = np.concatenate([speak(text).samples, np.zeros(32000, np.float32)])
    assert sherpa_words(samples) == text.split()


def test_search_agrees_on_sharp_log_probs(language, rng):
    """Where one alignment holds nearly all probability, the sum over alignments and the best one are alike."""
    lexicon, ngram = language
    graph = build_graph(lexicon, ngram, CONFIG)
    n_compared = 0
    for _ in range(100):
        labels = rng.choice([0, 1, 2, 3], 8)
        expected = accept(graph, labels.tolist())
        if expected:
            log_probs = np.full((len(labels), len(PHONEMES)), -40.0, np.float32)
            log_probs[np.arange(len(labels)), labels] = 0.0
            search = LexiconSearch(lexicon, NgramScorer(ngram), CONFIG)
            search.advance(log_probs)
            words = tuple(word.word for word in search.finish())
            assert expected[words] == pytest.approx(min(expected.values()), abs=1e-4)
            n_compared += 1
    assert n_compared > 30


def test_restrict_drops_bigrams_that_back_off_would_beat(tmp_path):
    lexicon, ngram = write_language(tmp_path, {(3, 4): 0.15, (3, 6): 0.5, (4, 3): 0.6})
    assert ngram.log_prob_after_word(3, 4) > ngram.unigram_backoff[3] + ngram.unigram_log_prob[4]
    restrict(lexicon, ngram, [3, 4], tmp_path / "small", max_bigrams=100)  # without "b", more is left for back-off
    small = NgramModel.open(tmp_path / "small" / "ngram.bin")
    assert [(a, b) for a in range(5) for b in range(5) if small.find_bigram(a, b) >= 0] == [(4, 3)]
    assert small.unigram_backoff[3] == 0.0

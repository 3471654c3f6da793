import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
from ngram_data import make_sentences, small_estimate

from lm.arpa import ArpaModel, write_arpa
from lm.arrayfile import ArrayFileError, open_array_file, write_array_file
from lm.backoff import LAST_WORD
from lm.kenlm_model import KenlmScorer
from lm.ngram import BIGRAM_STATE, NO_CONTEXT, NgramModel, NgramScorer
from lm.pack import BIGRAM_BYTES, TRIGRAM_BYTES, fixed_bytes, quantize, write_ngram
from lm.perplexity import measure_perplexity
from lm.prune import drop_rare_words, prune
from lm.scorer import NullScorer
from lm.vocabulary import words_sha256


@pytest.fixture(scope="module")
def trained():
    words, sentences, full = small_estimate(60, 1500, 1, "tokens")
    return words, sentences, prune(drop_rare_words(full, len(words) - 6), budget=900).model


@pytest.fixture(scope="module")
def files(trained, tmp_path_factory):
    words, _, model = trained
    folder = tmp_path_factory.mktemp("ngram")
    write_ngram(folder / "ngram.bin", model, words)
    write_arpa(folder / "lm.arpa", model, words)
    return folder


@pytest.fixture(scope="module")
def arpa(files):
    return ArpaModel.from_file(files / "lm.arpa")


@pytest.fixture(scope="module")
def test_text(trained):
    """Sentences of the grammar, and nonsense that backs off everywhere."""
    words = trained[0]
    rng = random.Random(9)
    nonsense = [rng.choices(words[3:], k=rng.randint(1, 12)) for _ in range(200)]
    return [[], *make_sentences(words, 100, 11), *nonsense, ["never", "seen"], [words[3], "zebra", words[4]]]


def score(scorer, words, sentence):
    """Log-probabilities, word by word."""
    ids = {word: i for i, word in enumerate(words)}
    state, log_probs = scorer.start(), []
    for word in sentence:
        state, log_prob = scorer.step(state, ids.get(word, 0))
        log_probs.append(log_prob)
    return [*log_probs, scorer.finish(state)]


def oracle_score(arpa, sentence):
    state, log_probs = arpa.start(), []
    for word in (*sentence, "</s>"):
        state, log_prob = arpa.score(state, word)
        log_probs.append(log_prob)
    return log_probs


def test_arpa_keeps_the_model(trained, arpa):
    words, _, model = trained
    assert arpa.order == 3
    assert len(arpa.entries) == len(words) + model.bigram_key.size + model.trigram_key.size
    assert arpa.entries[(words[5],)][0] == pytest.approx(float(model.unigram_log_prob[5]), rel=1e-5)


def test_kenlm_equals_the_arpa_reader(trained, files, arpa, test_text):
    scorer = KenlmScorer(files / "lm.arpa", trained[0])
    for sentence in test_text:
        assert score(scorer, trained[0], sentence) == pytest.approx(oracle_score(arpa, sentence), abs=2e-4)


def test_packed_model_equals_the_arpa_reader(trained, files, arpa, test_text):
    scorer = NgramScorer(NgramModel.open(files / "ngram.bin"))
    for sentence in test_text:
        assert score(scorer, trained[0], sentence) == pytest.approx(oracle_score(arpa, sentence), abs=0.06)


def test_scorer_states_lose_nothing(trained, files, test_text):
    """Merged states score exactly as the model does when it is shown the last two words."""
    words = trained[0]
    model = NgramModel.open(files / "ngram.bin")
    scorer = NgramScorer(model)
    ids = {word: i for i, word in enumerate(words)}
    for sentence in test_text:
        numbers = [ids.get(word, 0) for word in sentence] + [2]
        expected = [model.log_prob_after_word(1, numbers[0])]
        expected += [model.log_prob(a, b, c) for a, b, c in zip([1, *numbers], numbers, numbers[1:], strict=False)]
        assert score(scorer, words, sentence) == expected


def test_states_are_minimal_and_documented(trained, files):
    words = trained[0]
    model = NgramModel.open(files / "ngram.bin")
    scorer = NgramScorer(model)
    assert scorer.start() == 2
    assert scorer.step(scorer.start(), 0)[0] == NO_CONTEXT
    assert scorer.step(scorer.start(), len(words) - 1)[0] == NO_CONTEXT
    reached = {scorer.start()}
    frontier = [scorer.start()]
    while frontier:
        state = frontier.pop()
        new = {scorer.step(state, word)[0] for word in range(3, len(words))} - reached
        reached |= new
        frontier += new
    bigrams = {s - BIGRAM_STATE for s in reached if s >= BIGRAM_STATE}
    assert bigrams
    assert all(model.trigram_first[i] < model.trigram_first[i + 1] for i in bigrams)
    unigrams = {s - 1 for s in reached if 0 < s < BIGRAM_STATE}
    assert unigrams
    assert all(model.bigram_first[w] < model.bigram_first[w + 1] for w in unigrams)


def test_cache_does_not_change_scores(trained, files, monkeypatch, test_text):
    monkeypatch.setattr("lm.ngram._CACHE_ENTRIES", 3)
    model = NgramModel.open(files / "ngram.bin")
    small = NgramScorer(model)
    monkeypatch.setattr("lm.ngram._CACHE_ENTRIES", 10**6)
    large = NgramScorer(model)
    for sentence in test_text[:50] * 2:
        assert score(small, trained[0], sentence) == score(large, trained[0], sentence)


def test_words_beyond_sixteen_bits_have_unigrams_only(tmp_path):
    words, _, full = small_estimate(20, 100)
    many = [*words, *(f"x{i}" for i in range(70_000))]
    model = drop_rare_words(full, len(words)).model
    wide = replace(
        model,
        unigram_log_prob=np.concatenate([model.unigram_log_prob, np.full(70_000, -12.0, np.float32)]),
        unigram_backoff=np.concatenate([model.unigram_backoff, np.zeros(70_000, np.float32)]),
    )
    write_ngram(tmp_path / "ngram.bin", wide, many)
    opened = NgramModel.open(tmp_path / "ngram.bin")
    assert NgramScorer(opened).step(NO_CONTEXT, 70_005) == (NO_CONTEXT, -12.0)
    assert opened.find_bigram(70_005, 4) == -1
    assert opened.log_prob(3, 70_005, 4) == pytest.approx(float(model.unigram_log_prob[4]), abs=0.01)


def test_pack_refuses_what_it_cannot_hold(trained, tmp_path):
    words, _, model = trained
    with pytest.raises(ValueError, match="word list"):
        write_ngram(tmp_path / "x", model, words[:-1])
    with pytest.raises(ValueError, match="no bigram"):
        write_ngram(tmp_path / "x", replace(model, bigram_key=model.bigram_key + np.uint64(1)), words)
    unknown = replace(model, trigram_key=np.sort(model.trigram_key & ~LAST_WORD))
    with pytest.raises(ValueError, match="<unk>"):
        write_ngram(tmp_path / "x", unknown, words)


def test_size_is_what_was_asked_for(trained, files):
    words, _, model = trained
    size = (files / "ngram.bin").stat().st_size
    assert (
        size <= fixed_bytes(len(words)) + BIGRAM_BYTES * model.bigram_key.size + TRIGRAM_BYTES * model.trigram_key.size
    )
    assert NgramModel.open(files / "ngram.bin").words_sha256 == words_sha256(words)


@pytest.mark.parametrize("count", [1, 7, 255, 256, 5000])
def test_quantize(count):
    values = np.random.default_rng(count).normal(-4, 2, count).astype(np.float32)
    values[0] = 0.0
    codes, table = quantize(values)
    assert codes.shape == values.shape
    assert table.shape == (256,)
    assert table[codes[0]] == 0.0
    error = np.abs(table[codes] - values)
    nearest = np.abs(values[:, None] - np.append(table, 0)[None]).min(axis=1)
    np.testing.assert_allclose(error, nearest, atol=1e-6)
    assert error.mean() < (1e-6 if count <= 255 else 0.02)


def test_open_refuses_other_files(files, tmp_path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ArrayFileError):
        NgramModel.open(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        NgramModel.open(tmp_path / "missing")
    shutil.copy(files / "ngram.bin", tmp_path / "short")
    with (tmp_path / "short").open("rb+") as file:
        file.truncate(1000)
    with pytest.raises(ArrayFileError):
        NgramModel.open(tmp_path / "short")


@pytest.mark.parametrize("change", ["missing", "dtype", "length"])
def test_open_refuses_arrays_that_do_not_fit(files, tmp_path, change):
    file = open_array_file(files / "ngram.bin", kind="ngram")
    arrays = dict(file.arrays)
    if change == "missing":
        del arrays["trigram_word"]
    elif change == "dtype":
        arrays["bigram_word"] = arrays["bigram_word"].astype(np.uint32)
    else:
        arrays["trigram_word"] = arrays["trigram_word"][:-1]
    write_array_file(tmp_path / "bad.bin", kind="ngram", arrays=arrays, meta=file.meta)
    with pytest.raises(ArrayFileError):
        NgramModel.open(tmp_path / "bad.bin")


def test_kenlm_scorer_refuses_other_files(files, tmp_path):
    with pytest.raises(FileNotFoundError):
        KenlmScorer(tmp_path / "missing", ["<unk>", "<s>", "</s>"])
    (tmp_path / "bad.arpa").write_text("hello\n")
    with pytest.raises(ValueError, match="KenLM cannot read"):
        KenlmScorer(tmp_path / "bad.arpa", ["<unk>", "<s>", "</s>"])
    with pytest.raises(ValueError, match="<unk>"):
        KenlmScorer(files / "lm.arpa", ["a", "b", "c"])


def test_null_scorer_is_silent():
    scorer = NullScorer()
    assert scorer.step(scorer.start(), 17) == (scorer.start(), 0.0)
    assert scorer.finish(scorer.start()) == 0.0


def test_perplexity_against_the_arpa_reader(trained, files, arpa, test_text):
    words = trained[0]
    ids = {word: i for i, word in enumerate(words)}
    known = [sentence for sentence in test_text if all(word in ids for word in sentence)]
    result = measure_perplexity(KenlmScorer(files / "lm.arpa", words), ids, known)
    predicted = sum(len(s) + 1 for s in known)
    expected = np.exp(-sum(arpa.sentence_log_prob(s) for s in known) / predicted)
    assert result.value == pytest.approx(expected, rel=1e-4)
    mixed = measure_perplexity(NullScorer(), ids, [[words[3], "zebra"]])
    assert (mixed.words, mixed.unknown, mixed.unknown_rate, mixed.value) == (2, 1, 0.5, 1.0)

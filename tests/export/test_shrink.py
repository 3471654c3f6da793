"""A smaller bundle says the same as the whole one about the words that it keeps."""

import json
from pathlib import Path

import numpy as np
import pytest

import asr
from asr.audio import open_audio
from asr.bundle import Bundle
from asr.features import compute_features
from asr.onnx_encoder import OnnxEncoder
from export.cli import main
from export.sensitivity import mean_divergence, stream
from export.shrink import Shrinking, context_shares, shrink, small_encoder
from lm.backoff import BackoffTrigram, normalized, pair_key
from lm.lexicon import Lexicon
from lm.ngram import NgramModel, NgramScorer
from lm.onnx_lm import OnnxLanguageModel
from lm.vocabulary import END_ID, SPECIAL_WORDS, START_ID

WORDS = 6000


@pytest.fixture(scope="module")
def whole():
    return Bundle.open()


@pytest.fixture(scope="module")
def small(whole, tmp_path_factory):
    return shrink(whole, tmp_path_factory.mktemp("shrunk") / "small", Shrinking(WORDS, 400_000))


def test_it_is_smaller_and_still_understands_its_clip(whole, small):
    assert small.size_bytes < 0.3 * whole.size_bytes
    assert small.manifest.files["ngram.bin"].bytes <= 400_000
    recognizer = asr.Recognizer(small.path)
    assert recognizer.n_words == WORDS - len(SPECIAL_WORDS)
    heard = recognizer.transcribe(small.file(small.manifest.selftest.audio), domain="assistant").text.split()
    assert {"what", "is", "the", "forecast", "in"} <= set(heard)


def test_words_and_pronunciations_are_those_of_the_whole(whole, small):
    before, after = Lexicon.open(whole.file("lexicon.bin")), Lexicon.open(small.file("lexicon.bin"))
    assert len(after) == WORDS
    for word in range(len(SPECIAL_WORDS), WORDS, 97):
        assert after.word(word) == before.word(word)
        assert sorted(after.pronunciations(word)) == sorted(before.pronunciations(word))


def test_the_neural_model_gives_kept_words_the_same_scores(whole, small):
    scores = []
    for bundle in (whole, small):
        model = OnnxLanguageModel(bundle.file("lm.onnx"), bundle.file("lm.bin"))
        adapter = model.load_adapter(bundle.file("adapters/assistant.bin"))
        scorer = model.scorer(adapter)
        state = scorer.start()
        scores.append([])
        for word in (40, 17, 3000, 5999):
            scorer.prepare([state])
            state, log_prob = scorer.step(state, word)
            scores[-1].append(log_prob)
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-5)


def test_kept_bigrams_and_trigrams_have_their_probabilities(whole, small):
    before, after = (NgramModel.open(bundle.file("ngram.bin")) for bundle in (whole, small))
    arrays = after.file.arrays
    assert 0 < len(arrays["bigram_word"]) < len(before.file.arrays["bigram_word"])
    scorers = [NgramScorer(before), NgramScorer(after)]
    checked = 0
    for first in range(len(SPECIAL_WORDS), 400):
        for place in range(int(arrays["bigram_first"][first]), int(arrays["bigram_first"][first + 1])):
            word = int(arrays["bigram_word"][place])
            old, new = (scorer.step(1 + first, word)[1] for scorer in scorers)
            assert new == pytest.approx(old, abs=0.1)
            checked += 1
    assert checked > 1000


def test_the_encoder_of_fewer_bits_takes_the_others_place(whole, tmp_path):
    graph = small_encoder(whole)
    lean = shrink(whole, tmp_path / "lean", Shrinking(encoder=graph))
    same = {name for name, info in lean.manifest.files.items() if whole.manifest.files.get(name) == info}
    assert lean.manifest.files.keys() == whole.manifest.files.keys()
    assert lean.manifest.files.keys() - same == {"encoder.onnx", "README.md"}
    assert lean.file("encoder.onnx").read_bytes() == graph.read_bytes()
    assert lean.manifest.quantization["encoder"]["scheme"] == "int4"
    assert "an encoder of fewer bits" in lean.file("README.md").read_text()
    heard = asr.Recognizer(lean.path).transcribe(lean.file(lean.manifest.selftest.audio)).text
    assert heard == whole.manifest.selftest.text
    assert small_encoder(lean) is None
    again = shrink(lean, tmp_path / "again", Shrinking(ngram_bytes=1_500_000, neural_share=0.95))
    assert again.manifest.neural_share == 0.95
    assert {info.neural_share for info in again.manifest.domains.values()} == {0.95}
    assert again.manifest.files["encoder.onnx"] == lean.manifest.files["encoder.onnx"]
    assert again.manifest.files["ngram.bin"].bytes <= 1_500_000
    assert again.manifest.quantization["encoder"] == lean.manifest.quantization["encoder"]


def test_an_encoder_that_quantize_has_not_written(whole, tmp_path):
    for graph in (whole.file("encoder.onnx"), whole.file("ngram.bin")):
        with pytest.raises(ValueError, match="expected an encoder that `asr-export quantize` has written"):
            shrink(whole, tmp_path / "none", Shrinking(encoder=graph))
    with pytest.raises(FileNotFoundError, match="nowhere.onnx"):
        shrink(whole, tmp_path / "none", Shrinking(encoder=tmp_path / "nowhere.onnx"))
    assert not list(tmp_path.iterdir())


def test_the_command_takes_it_by_default(whole, tmp_path, capsys):
    assert main(["shrink", "--out", str(tmp_path / "lean")]) == 0
    assert main(["shrink", "--whole-encoder", "--neural-share", "0.95", "--out", str(tmp_path / "kept")]) == 0
    assert "encoder.onnx" in capsys.readouterr().out
    lean, kept = (Bundle.open(tmp_path / name).manifest for name in ("lean", "kept"))
    assert lean.files["encoder.onnx"].bytes <= 2_500_000
    assert kept.files["encoder.onnx"] == whole.manifest.files["encoder.onnx"]
    assert kept.neural_share == 0.95


def test_both_encoders_say_nearly_the_same(whole):
    features = compute_features(np.concatenate(list(open_audio(whole.file(whole.manifest.selftest.audio)).blocks())))
    found = [stream(OnnxEncoder(path), features) for path in (whole.file("encoder.onnx"), small_encoder(whole))]
    assert 1e-4 < mean_divergence(found[:1], found[1:]) < 0.15


def test_without_the_neural_model(whole, tmp_path):
    small = shrink(whole, tmp_path / "plain", Shrinking(2000, 120_000, neural=False))
    assert "lm.bin" not in small.manifest.files
    assert asr.Recognizer(small.path).domains == ()
    assert json.loads((small.path / "manifest.json").read_text())["neural_share"] == 0.0


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Shrinking(2, 400_000), "words: expected"),
        (Shrinking(10**7, 400_000), "words: expected"),
        (Shrinking(WORDS, 1000), "ngram_bytes: 6000 words need"),
        (Shrinking(WORDS, 400_000, neural_share=1.5), "neural_share: expected 0 to 1, found 1.5"),
    ],
)
def test_impossible_plans_leave_nothing_behind(whole, tmp_path, plan, message):
    with pytest.raises(ValueError, match=message):
        shrink(whole, tmp_path / "out", plan)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_of_something_else_is_not_replaced(whole, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(FileExistsError):
        shrink(whole, Path(tmp_path), Shrinking(2000, 120_000, neural=False))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_shares_of_contexts_are_those_of_endless_text():
    """The oracle: the stationary distribution of the bigram's matrix, where the end of a sentence leads to a start."""
    rng = np.random.default_rng(3)
    n_words = 9
    unigram = rng.dirichlet(np.ones(n_words))
    unigram[[0, START_ID]] = 0
    unigram /= unigram.sum()
    pairs = np.array(
        [(a, b) for a in range(1, n_words) for b in range(2, n_words) if a != END_ID and rng.random() < 0.5]
    )
    key = np.sort(pair_key(pairs[:, 0], pairs[:, 1]))
    first, second = (key >> np.uint64(21)).astype(int), (key & np.uint64((1 << 21) - 1)).astype(int)
    with np.errstate(divide="ignore"):
        log_unigram = np.log(unigram).astype(np.float32)
    probs = unigram[second] * rng.uniform(0.5, 1.5, len(key))
    none = np.zeros(0, np.float32)
    model = normalized(
        BackoffTrigram(
            log_unigram, np.zeros(n_words, np.float32), key, np.log(probs).astype(np.float32),
            np.zeros(len(key), np.float32), np.zeros(0, np.uint64), none,
        )
    )  # fmt: skip
    matrix = np.exp(model.unigram_backoff.astype(float))[:, None] * unigram[None]
    matrix[first, second] = np.exp(model.bigram_log_prob)
    matrix[END_ID] = matrix[START_ID]
    share = np.full(n_words, 1 / n_words)
    for _ in range(500):
        share = share @ matrix
        share /= share.sum()
    words, bigrams = context_shares(model)
    assert words[2:] == pytest.approx(share[2:], abs=0.02)
    assert words[START_ID] == words[END_ID]
    assert bigrams == pytest.approx(words[first] * np.exp(model.bigram_log_prob), rel=1e-5)

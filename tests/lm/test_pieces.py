"""Pieces of words: found, cut and stored; token arrays of them; and a scorer of words over a model of pieces."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from asr.config import DecodingConfig  # noqa: E402
from asr.decoder import native  # noqa: E402
from asr.decoder.lexicon_search import LexiconSearch  # noqa: E402
from export.language_model import write_language_model  # noqa: E402
from lm.arrayfile import ArrayFileError, open_array_file, write_array_file  # noqa: E402
from lm.lexicon_build import assemble_lexicon  # noqa: E402
from lm.onnx_lm import OnnxLanguageModel  # noqa: E402
from lm.phones import PHONEMES  # noqa: E402
from lm.piece_scorer import PieceScorer  # noqa: E402
from lm.pieces import BEGIN, KIND, Pieces, PiecesError, begin_words, train_pieces  # noqa: E402
from lm.train.adapt import AdaptConfig, AdaptError, read_own_text  # noqa: E402
from lm.train.checkpoint import Checkpoint, TrainedModel  # noqa: E402
from lm.train.evaluate import evaluate  # noqa: E402
from lm.train.fofe import LanguageModel  # noqa: E402
from lm.train.tokens import TokenStore, encode, word_counts, write_pieces  # noqa: E402
from lm.vocabulary import END_ID, SPECIAL_WORDS, UNKNOWN_ID  # noqa: E402
from tests.lm.toy_language import MODEL, RECIPE, WORDS, train, write_store, write_texts  # noqa: E402

PIECES = Pieces(
    (*SPECIAL_WORDS, BEGIN, BEGIN + "a", "b", "ab", "a", BEGIN + "ba", "bb"),
    (0.0, 0.0, 0.0, -2.5, -1.5, -2.0, -2.25, -3.0, -4.0, -2.5),
)


def every_cut(text):
    """All ways to cut `text` into pieces, with what they add up to."""
    if not text:
        yield (), 0.0
    for size in range(1, len(text) + 1):
        for number in range(3, len(PIECES)):
            if PIECES.texts[number] == text[:size]:
                for rest, log_prob in every_cut(text[size:]):
                    yield (number, *rest), PIECES.log_probs[number] + log_prob


@pytest.mark.parametrize("word", ["".join(letters) for size in range(1, 6) for letters in product("ab", repeat=size)])
def test_a_word_is_cut_into_its_likeliest_pieces(word):
    cut = PIECES.cut(word)
    assert "".join(PIECES.texts[piece] for piece in cut) == BEGIN + word
    ways = list(every_cut(BEGIN + word))
    assert sum(PIECES.log_probs[piece] for piece in cut) == max(log_prob for _, log_prob in ways)
    assert cut in [way for way, _ in ways]


def test_what_no_piece_has_is_unknown_once():
    assert PIECES.cut("axyb") == (4, UNKNOWN_ID, 5)
    assert PIECES.cut("") == (3,)


@pytest.fixture(scope="module")
def found():
    pytest.importorskip("sentencepiece")
    rng = np.random.default_rng(0)
    syllables = ["ka", "to", "mi", "ren", "su", "lo", "pa", "ni"]
    words = {"".join(rng.choice(syllables, rng.integers(1, 4))): float(rng.integers(1, 60)) for _ in range(300)}
    return words, train_pieces(words, 60)


def test_pieces_are_cut_as_sentencepiece_cuts_them(found, tmp_path):
    import io

    import sentencepiece

    words, pieces = found
    assert len(pieces) == 60
    path = tmp_path / "words.tsv"
    path.write_text("".join(f"{word}\t{int(count)}\n" for word, count in words.items()))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        input=str(path), model_writer=model, vocab_size=60, input_format="tsv", unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        character_coverage=1.0, normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    for word in [*words, "mikato", "rentolo", "kamisulopa", "zebra"]:
        assert list(pieces.cut(word)) == theirs.EncodeAsIds(word), word


def test_too_many_pieces_are_asked_for():
    pytest.importorskip("sentencepiece")
    with pytest.raises(PiecesError, match="no 500 pieces can be found for 2 words"):
        train_pieces({"on": 3.0, "off": 2.0}, 500)


def test_they_come_back_from_the_file(tmp_path):
    PIECES.write(tmp_path / "pieces.bin")
    again = Pieces.open(tmp_path / "pieces.bin")
    assert (again.texts, again.log_probs, again.sha256) == (PIECES.texts, PIECES.log_probs, PIECES.sha256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": np.array([0, 3], np.uint32)}, "no list of pieces"),
        ({"log_prob": np.full(10, np.nan, np.float32)}, "damaged"),
        ({"text": np.frombuffer(b"x" * 40, np.uint8)}, "no list of pieces"),
    ],
)
def test_damaged_files(tmp_path, change, message):
    PIECES.write(tmp_path / "pieces.bin")
    file = open_array_file(tmp_path / "pieces.bin", kind=KIND)
    write_array_file(tmp_path / "bad.bin", kind=KIND, arrays={**file.arrays, **change}, meta=file.meta)
    with pytest.raises(ArrayFileError, match=message):
        Pieces.open(tmp_path / "bad.bin")
    with pytest.raises(PiecesError, match="twice"):
        Pieces((*SPECIAL_WORDS, "a", "a"), (0.0,) * 5)


def test_which_entries_begin_a_word():
    begins = begin_words(PIECES.texts)
    assert begins is not None
    assert np.flatnonzero(begins).tolist() == [3, 4, 8]
    assert begin_words(WORDS) is None


# --- token arrays -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path, write_texts(tmp_path))


def test_arrays_of_words_become_arrays_of_pieces(store, tmp_path):
    pytest.importorskip("sentencepiece")
    counts = word_counts(store)
    assert counts["please"] > counts["we"] / 2  # a word of few commands, and one of many stories
    assert counts.keys() == set(WORDS[3:])
    pieces = train_pieces(counts, 26)
    write_pieces(store, pieces, tmp_path / "pieces")
    again = TokenStore.open(tmp_path / "pieces")
    assert again.pieces is not None
    assert again.words == again.pieces.texts == pieces.texts
    for words, cut in zip((*store.sources, *store.dev), (*again.sources, *again.dev), strict=True):
        assert (cut.name, cut.application, cut.utterances) == (words.name, words.application, words.utterances)
        text = [WORDS[number] for number in store.read(words)]
        spelled = [pieces.texts[number] for number in again.read(cut)]
        ends = ("</s>", "<unk>")
        spaced = "".join(f" {piece} " if piece in ends else piece for piece in spelled)
        assert spaced.replace(BEGIN, " ").split() == text
        lines = " ".join(text).split(" </s>")
        known = [line.split() for line in lines if line and "<unk>" not in line]
        assert encode(known, pieces).tolist() == [
            piece for line in known for piece in [*(n for word in line for n in pieces.cut(word)), END_ID]
        ]


def test_a_model_of_pieces_is_trained_kept_and_adapted(store, tmp_path):
    pytest.importorskip("sentencepiece")
    pieces = train_pieces(word_counts(store), 26)
    write_pieces(store, pieces, tmp_path / "pieces")
    recipe = replace(RECIPE, samples=len(pieces), model=replace(MODEL, vocabulary_size=len(pieces), context=6))
    trained = train(tmp_path / "run", TokenStore.open(tmp_path / "pieces"), recipe)
    untrained = train(tmp_path / "other", TokenStore.open(tmp_path / "pieces"), recipe, stop_after=1)
    after, before = (trainer.measure()["dev_assistant"] for trainer in (trained, untrained))
    assert after < before / 4
    again = Checkpoint.open(tmp_path / "run").read()
    assert again.pieces is not None
    assert again.pieces.texts == pieces.texts
    own = tmp_path / "own.txt"
    own.write_text("\n".join(f"please open the {name} hall" for name in "yakkit zebrat kitchy celly attu".split() * 6))
    with pytest.raises(AdaptError, match="5 different lines"):
        read_own_text(own, pieces, AdaptConfig())


def test_perplexity_is_of_words(store, tmp_path):
    pytest.importorskip("sentencepiece")
    pieces = train_pieces(word_counts(store), 26)
    torch.manual_seed(0)
    model = LanguageModel(replace(MODEL, vocabulary_size=len(pieces)))
    lines = [["open", "the", "kitchen"], ["we", "saw"]]
    utterances = [encode([line], pieces) for line in lines]
    plain = evaluate(model, utterances, np.zeros(0, np.float32)).perplexity
    worded = evaluate(model, utterances, np.zeros(0, np.float32), begins=begin_words(pieces.texts)).perplexity
    assert plain.log_prob == worded.log_prob
    assert (plain.words, worded.words) == (sum(map(len, utterances)) - 2, 5)


# --- a scorer of words ------------------------------------------------------------------------------------------------

SPOKEN_WORDS = ["a", "ab", "abb", "b", "bab", "baab", "aa"]
LISTED = [*SPECIAL_WORDS, *SPOKEN_WORDS]


class Bigrams:
    """Stands for an n-gram that lacks the last two words."""

    n_words = len(LISTED) - 2

    def __init__(self):
        self.table = np.log(np.random.default_rng(4).dirichlet(np.ones(self.n_words), self.n_words))

    def start(self):
        return 1

    def step(self, state, word):
        return word, float(self.table[state, word])

    def finish(self, state):
        return float(self.table[state, 2])


@pytest.fixture(scope="module")
def neural(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    torch.manual_seed(2)
    config = replace(MODEL, vocabulary_size=len(PIECES), context=6)
    model = LanguageModel(config)
    with torch.no_grad():
        model.embedding.mul_(3)
        model.bias.sub_(2)
    write_language_model(TrainedModel(model, PIECES.texts, np.zeros(0, np.float32), PIECES), folder)
    return OnnxLanguageModel(folder / "lm.onnx", folder / "lm.bin")


def cut_listed(word):
    return PIECES.cut(LISTED[word])


def scorer_of(neural, kind):
    if kind == "alone":
        return PieceScorer(neural.scorer(), cut_listed)
    return PieceScorer(neural.scorer(), cut_listed, ngram=Bigrams(), n_ngram_words=Bigrams.n_words, share=0.6)


def test_a_word_is_as_likely_as_its_pieces_one_after_another(neural):
    inner, alone, mixed, ngram = neural.scorer(), scorer_of(neural, "alone"), scorer_of(neural, "mixed"), Bigrams()
    states = inner.start(), alone.start(), mixed.start(), ngram.start()
    for word in [3, 9, 4, 7, 5, 5]:
        at, total = states[0], 0.0
        for piece in PIECES.cut(LISTED[word]):
            at, log_prob = inner.step(at, piece)
            total += log_prob
        after, found = alone.step(states[1], word)
        both, weighed = mixed.step(states[2], word)
        known = word < Bigrams.n_words
        following, of_ngram = ngram.step(states[3], word if known else UNKNOWN_ID)
        expected = 0.6 * np.exp(total) + 0.4 * np.exp(of_ngram) * known
        assert found == pytest.approx(total)
        assert weighed == pytest.approx(np.log(expected))
        states = at, after, both, following
    assert alone.finish(states[1]) == pytest.approx(inner.finish(states[0]))


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_shares_out_of_range(neural, share):
    with pytest.raises(ValueError, match="expected a number above 0"):
        PieceScorer(neural.scorer(), cut_listed, share=share)


@pytest.fixture(scope="module")
def lexicon():
    sounds = {word: {tuple(2 + ord(c) - ord("a") for c in word): 0.0} for word in SPOKEN_WORDS}
    return assemble_lexicon(LISTED, sounds, np.full(len(LISTED), -2.0))


def frames(seed, size=80):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((size, len(PHONEMES)))
    logits[np.arange(size), rng.choice([0, 1, 2, 3], size)] += 5.0
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def listened(search, log_probs, cuts, *, looks_ahead=False):
    words, shown = [], []
    for part in np.split(log_probs, sorted(cuts)):
        search.advance(part)
        words += search.take_stable()
        if looks_ahead:
            shown.append([word.word for word in search.preview(log_probs[:15])])
        search.best()
    return [*words, *search.finish()], shown


def fields(words):
    return [(word.word, word.start_frame, word.end_frame) for word in words]


@pytest.mark.skipif(not native.available(), reason="the native search is not built")
@pytest.mark.parametrize("kind", ["alone", "mixed"])
@pytest.mark.parametrize("seed", range(3))
def test_native_equals_numpy(neural, lexicon, kind, seed):
    config = DecodingConfig(beam_size=20, lm_weight=0.6, stable_after_frames=30)
    (ours, shown), (theirs, seen) = (
        listened(make(lexicon, scorer_of(neural, kind), config), frames(seed), [20, 50], looks_ahead=True)
        for make in (LexiconSearch, native.NativeSearch)
    )
    assert fields(ours) == fields(theirs)
    assert shown == seen
    assert len(ours) > 5
    languages = [[word.language for word in words] for words in (ours, theirs)]
    assert np.allclose(*languages, atol=1e-4)


@pytest.mark.skipif(not native.available(), reason="the native search is not built")
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 80), max_size=6))
def test_slicing_and_previews_change_nothing(neural, lexicon, seed, cuts):
    config = DecodingConfig(beam_size=20, lm_weight=0.6)
    whole, sliced = (native.NativeSearch(lexicon, scorer_of(neural, "mixed"), config) for _ in range(2))
    assert listened(whole, frames(seed), [])[0] == listened(sliced, frames(seed), cuts, looks_ahead=True)[0]


def test_forgetting_changes_nothing(neural, lexicon, monkeypatch):
    log_probs, found = frames(5, 300), []
    monkeypatch.setattr("lm.neural.STATE_WORDS", 6)  # a forgotten state may come back with other old pieces
    for crowd in (10**6, 10):
        monkeypatch.setattr("lm.outer_scorer.CROWD", crowd)
        search = LexiconSearch(lexicon, scorer_of(neural, "mixed"), DecodingConfig(beam_size=8, stable_after_frames=20))
        found.append(fields(listened(search, log_probs, [100])[0]))
    assert found[0] == found[1]

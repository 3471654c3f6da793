"""The letter-to-phoneme network: its beam search against all alignments, and a tiny network from training to use."""

from __future__ import annotations

import itertools
from argparse import ArgumentParser
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.g2p import ALPHABET, G2P, ctc_prefix_beam, encode_letters, normalize_word
from lm.lexicon_cli import add_g2p_parser
from lm.phones import BLANK_ID, BOUNDARY_ID, PHONEMES
from lm.pronunciations import Variant


def all_sequences(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """Log-probability of every label sequence, summed over all alignments one by one."""
    T, V = log_probs.shape
    totals: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(V), repeat=T):
        collapsed = tuple(label for label, _ in itertools.groupby(path) if label != BLANK_ID)
        totals[collapsed] += float(np.exp(sum(log_probs[t, label] for t, label in enumerate(path))))
    return {labels: float(np.log(total)) for labels, total in totals.items()}


@settings(deadline=None, max_examples=25)
@given(frames=st.integers(1, 4), labels=st.integers(2, 4), seed=st.integers(0, 10**6))
def test_prefix_beam_sums_all_alignments(frames: int, labels: int, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 2, (frames, labels))
    log_probs = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    expected = {sequence: total for sequence, total in all_sequences(log_probs).items() if sequence}
    found = ctc_prefix_beam(log_probs, n_best=10_000, beam_size=10_000, label_margin=np.inf)
    assert dict(found) == pytest.approx(expected, abs=1e-4)
    assert [total for _, total in found] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-4)


def test_small_beam_keeps_the_best_of_a_clear_matrix() -> None:
    log_probs = np.full((6, 5), np.log(0.02), np.float32)
    for frame, label in enumerate([2, 2, 0, 2, 3, 0]):
        log_probs[frame, label] = np.log(0.92)
    assert ctc_prefix_beam(log_probs, n_best=2)[0][0] == (2, 2, 3)


@pytest.mark.parametrize(("word", "normal"), [("Café", "cafe"), ("DON’T", "don't"), ("naïve", "naive"), ("ﬁn", "fin")])
def test_normalize_word(word: str, normal: str) -> None:
    assert normalize_word(word) == normal


@pytest.mark.parametrize("word", ["", " ", "'", "4x4", "two words", "a-b", "слово", "a.m."])
def test_other_characters_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="letters a-z and apostrophes"):
        normalize_word(word)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.onnx"):
        G2P.open(tmp_path / "nowhere.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(ValueError, match="not an ONNX file"):
        G2P.open(tmp_path / "text.onnx")


SOUND = {letter: 2 + index for index, letter in enumerate(ALPHABET)}


def spoken(word: str) -> tuple[int, ...]:
    """A toy language: every letter its own sound, x two of them, e at the end silent."""
    letters = word[:-1] if len(word) > 1 and word.endswith("e") else word
    return tuple(sound for letter in letters for sound in ((35, 36) if letter == "x" else (SOUND[letter],)))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> G2P:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    import torch

    from lm.train.g2p import G2PConfig, export_g2p, train, training_targets

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    words = {"".join(rng.choice(list("abdexot"), rng.integers(2, 6))) for _ in range(300)}
    targets = training_targets([Variant(word, spoken(word), 0.0, "toy") for word in sorted(words)], [])
    config = G2PConfig(d_model=32, layers=1, dropout=0.0, epochs=12, batch_size=16, peak_learning_rate=0.02)
    network = train(targets, config)
    path = tmp_path_factory.mktemp("g2p") / "g2p.onnx"
    export_g2p(network, path)
    g2p = G2P.open(path)
    letters = encode_letters(["toadbex", "abexxed"])
    with torch.no_grad():
        expected = network(torch.from_numpy(letters)).exp().numpy()
    actual = np.exp(g2p.session.run(None, {"letters": letters})[0])
    np.testing.assert_allclose(actual, expected, atol=0.1)  # int8 weights
    return g2p


def test_toy_language_is_learnt(toy: G2P) -> None:
    words = ["tab", "bex", "toe", "ode", "boxed", "data", "taboo", "xt"]
    right = [toy.pronounce(word)[0][0] == spoken(word) for word in words]
    assert sum(right) >= 7, [word for word, ok in zip(words, right, strict=True) if not ok]


def test_many_equals_one_by_one(toy: G2P) -> None:
    words = ["Tab", "box", "toad", "data", "bed"]
    together = toy.pronounce_many(words, n_best=3)
    for word, found in zip(words, together, strict=True):
        alone = toy.pronounce(word, 3)
        assert [labels for labels, _ in found] == [labels for labels, _ in alone]
        assert [total for _, total in found] == pytest.approx([total for _, total in alone], abs=1e-3)
        assert all(labels and BOUNDARY_ID not in labels and max(labels) < len(PHONEMES) for labels, _ in found)
        assert [total for _, total in found] == sorted((total for _, total in found), reverse=True)
    assert toy.pronounce_many([]) == []


@pytest.mark.parametrize("n_best", [0, 9])
def test_n_best_out_of_range(toy: G2P, n_best: int) -> None:
    with pytest.raises(ValueError, match=f"got {n_best}"):
        toy.pronounce("tab", n_best)


def test_network_for_other_phonemes_is_refused(toy: G2P, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [other])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(ValueError, match="other letters or phonemes"):
        G2P.open(tmp_path / "other.onnx")


def test_pronounce_command(
    toy: G2P, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(G2P, "open", classmethod(lambda cls, path: toy))
    parser = ArgumentParser()
    add_g2p_parser(parser.add_subparsers())
    arguments = parser.parse_args(["pronounce", "tab", "box", "--g2p", "g2p.onnx", "--n-best", "2"])
    arguments.run(arguments)
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["tab", "tab", "box", "box"]
    assert all(len(line) == 4 and line[3] == "g2p" for line in lines)


def test_targets_weight_habits_and_drop_what_cannot_be_learnt() -> None:
    pytest.importorskip("torch")
    from lm.train.g2p import HABIT_SHARE, training_targets

    dictionary = [Variant("of", (4, 39), 0.0, "d"), Variant("of", (5, 39), 0.0, "d"), Variant("a", (4,), 0.0, "d")]
    dictionary += [
        Variant("w", (2, 3, 4, 5), 0.0, "d"),
        Variant("4x", (2,), 0.0, "d"),
        Variant("i", (2, 2, 3), 0.0, "d"),
    ]
    targets = training_targets(dictionary, [Variant("of", (6, 16), 0.0, "h"), Variant("of", (4, 39), 0.0, "h")])
    rest = (1 - HABIT_SHARE) / 2
    assert dict(targets["of"]) == pytest.approx(
        {(4, 39): HABIT_SHARE / 2 + rest, (5, 39): rest, (6, 16): HABIT_SHARE / 2}
    )
    assert targets["a"] == [((4,), 1.0)]
    assert set(targets) == {"of", "a"}  # too many phonemes for its letters, a digit, a repeat that needs a blank

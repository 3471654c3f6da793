"""The lexicon against dictionaries of sets: what is built is found again, and nothing else."""

from __future__ import annotations

import hashlib
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.arrayfile import ArrayFileError, open_array_file, write_array_file
from lm.lexicon import Lexicon
from lm.lexicon_build import build_lexicon
from lm.lexicon_cli import add_lexicon_parser, read_unigram_log_prob
from lm.phones import PHONEME_ID, PHONEMES
from lm.pronunciations import Variant, merge, read_cmudict, read_tsv, to_tsv

SPECIAL = ["<unk>", "<s>", "</s>"]
Spoken = dict[str, dict[tuple[int, ...], float]]

phonemes = st.lists(st.integers(2, 6), min_size=1, max_size=5).map(tuple)
spoken_words = st.dictionaries(
    st.text("abcé'z", min_size=1, max_size=4),
    st.dictionaries(phonemes, st.floats(-5, 3), max_size=3),
    min_size=1,
    max_size=12,
).filter(lambda spoken: any(spoken.values()))


def ids(symbols: str) -> tuple[int, ...]:
    return tuple(PHONEME_ID[symbol] for symbol in symbols.split())


def build(path: Path, spoken: Spoken, *, seed: int = 0) -> tuple[Lexicon, np.ndarray]:
    words = [*SPECIAL, *spoken]
    unigram = np.random.default_rng(seed).uniform(-12, -1, len(words)).astype(np.float32)
    build_lexicon(words, spoken, unigram, path)
    return Lexicon.open(path), unigram


def walk(lexicon: Lexicon) -> dict[tuple[int, ...], int]:
    """Every node by its label sequence, found from the root along the child ranges."""
    nodes, waiting = {}, [((), 0)]
    while waiting:
        labels, node = waiting.pop()
        nodes[labels] = node
        children = range(lexicon.node_first_child[node], lexicon.node_first_child[node + 1])
        assert [*lexicon.node_label[children.start : children.stop]] == sorted(
            {*lexicon.node_label[children.start : children.stop]}
        )
        waiting += [((*labels, int(lexicon.node_label[child])), child) for child in children]
    return nodes


def entries_at(lexicon: Lexicon, node: int) -> range:
    return range(lexicon.node_first_entry[node], lexicon.node_first_entry[node + 1])


@settings(deadline=None, max_examples=25)
@given(spoken=spoken_words)
def test_trie_holds_exactly_the_pronunciations(tmp_path_factory: pytest.TempPathFactory, spoken: Spoken) -> None:
    lexicon, _ = build(tmp_path_factory.mktemp("lexicon") / "lexicon.bin", spoken)
    nodes = walk(lexicon)
    assert len(nodes) == len(lexicon.node_label)
    found = {
        (lexicon.word(int(lexicon.entry_word[entry])), labels): float(lexicon.entry_log_prob[entry])
        for labels, node in nodes.items()
        for entry in entries_at(lexicon, node)
    }
    expected = {
        (word, labels): log_prob - max(variants.values())
        for word, variants in spoken.items()
        for labels, log_prob in variants.items()
    }
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
    prefixes = {labels[:n] for _, labels in expected for n in range(len(labels) + 1)}
    assert set(nodes) == prefixes


@settings(deadline=None, max_examples=25)
@given(spoken=spoken_words, seed=st.integers(0, 1000))
def test_lookahead_is_the_best_below(tmp_path_factory: pytest.TempPathFactory, spoken: Spoken, seed: int) -> None:
    lexicon, unigram = build(tmp_path_factory.mktemp("lexicon") / "lexicon.bin", spoken, seed=seed)
    nodes = walk(lexicon)
    for prefix, node in nodes.items():
        below = [
            float(lexicon.entry_log_prob[entry]) + float(unigram[lexicon.entry_word[entry]])
            for labels, other in nodes.items()
            if labels[: len(prefix)] == prefix
            for entry in entries_at(lexicon, other)
        ]
        assert float(lexicon.node_lookahead[node]) == pytest.approx(max(below), rel=1e-3)


@settings(deadline=None, max_examples=25)
@given(spoken=spoken_words, other=st.text("abcé'z", max_size=4))
def test_find_word_and_pronunciations(tmp_path_factory: pytest.TempPathFactory, spoken: Spoken, other: str) -> None:
    lexicon, _ = build(tmp_path_factory.mktemp("lexicon") / "lexicon.bin", spoken)
    words = [*SPECIAL, *spoken]
    assert len(lexicon) == len(words)
    assert [lexicon.word(word_id) for word_id in range(len(words))] == words
    assert [lexicon.find(word) for word in words] == list(range(len(words)))
    assert lexicon.find(other) == (words.index(other) if other in words else None)
    for word, variants in spoken.items():
        found = lexicon.pronunciations(words.index(word))
        assert {labels for labels, _ in found} == set(variants)
        assert [log_prob for _, log_prob in found] == sorted((log_prob for _, log_prob in found), reverse=True)
    assert lexicon.pronunciations(1) == []
    assert lexicon.words_sha256 == hashlib.sha256("\n".join(words).encode()).hexdigest()


def test_homophones_share_a_node(tmp_path: Path) -> None:
    two = ids("t u")
    lexicon, _ = build(tmp_path / "l.bin", {"two": {two: 0.0}, "to": {two: -1.0, ids("t ə"): 0.0}, "too": {two: 0.0}})
    entries = entries_at(lexicon, walk(lexicon)[two])
    assert sorted(lexicon.word(int(lexicon.entry_word[entry])) for entry in entries) == ["to", "too", "two"]
    assert lexicon.pronunciations(4) == [(ids("t ə"), 0.0), (two, -1.0)]
    with pytest.raises(IndexError, match="outside"):
        lexicon.word(6)


@pytest.mark.parametrize("wrong", [(), (0,), (1, 5), (2, len(PHONEMES))])
def test_bad_pronunciation_is_refused(tmp_path: Path, wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="'ab'"):
        build(tmp_path / "l.bin", {"ab": {wrong: 0.0}})


def test_bad_words_are_refused(tmp_path: Path) -> None:
    spoken = {"a": {(2,): 0.0}}
    with pytest.raises(ValueError, match="first three words"):
        build_lexicon(["a", "b", "c"], spoken, np.zeros(3), tmp_path / "l.bin")
    with pytest.raises(ValueError, match="more than once"):
        build_lexicon([*SPECIAL, "a", "a"], spoken, np.zeros(5), tmp_path / "l.bin")
    with pytest.raises(ValueError, match="4 words need as many"):
        build_lexicon([*SPECIAL, "a"], spoken, np.zeros(5), tmp_path / "l.bin")
    with pytest.raises(ValueError, match="no word of the list"):
        build_lexicon([*SPECIAL, "b"], spoken, np.zeros(4), tmp_path / "l.bin")


DAMAGE = {
    "word_offset": lambda a: a[:-1],
    "word_by_spelling": lambda a: a + 9,
    "node_label": lambda a: np.full_like(a, 200),
    "node_first_child": lambda a: np.concatenate([a[:1] - 1, a[1:]]).astype(a.dtype),
    "node_first_entry": lambda a: a + 1,
    "node_lookahead": lambda a: a.astype(np.float32),
    "entry_word": lambda a: a + 90,
    "entry_log_prob": lambda a: a[:-1],
    "word_bytes": lambda a: a[:-1],
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_array_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "l.bin"
    build(path, {"two": {ids("t u"): 0.0}, "tea": {ids("t i"): 0.0}})
    file = open_array_file(path, kind="lexicon")
    arrays = {key: np.array(array) for key, array in file.arrays.items()}
    arrays[name] = DAMAGE[name](arrays[name])
    write_array_file(path, kind="lexicon", arrays=arrays, meta=file.meta)
    with pytest.raises(ArrayFileError):
        Lexicon.open(path)


def test_cycle_missing_array_and_other_phonemes_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "l.bin"
    build(path, {"two": {ids("t u"): 0.0}})
    file = open_array_file(path, kind="lexicon")
    arrays = {key: np.array(array) for key, array in file.arrays.items()}
    cycle = {**arrays, "node_first_child": np.array([1, 1, 3, 3], np.uint32)}  # node 1 would be its own child
    missing = {key: array for key, array in arrays.items() if key != "entry_word"}
    for damaged, meta, message in (
        (cycle, file.meta, "node_first_child"),
        (missing, file.meta, "'entry_word' is missing"),
        (arrays, {**file.meta, "phonemes": ["a"]}, "another phoneme set"),
        (arrays, {"phonemes": list(PHONEMES)}, "words_sha256"),
    ):
        write_array_file(path, kind="lexicon", arrays=damaged, meta=meta)
        with pytest.raises(ArrayFileError, match=message):
            Lexicon.open(path)


def test_read_cmudict(tmp_path: Path) -> None:
    path = tmp_path / "cmu.dict"
    path.write_text(";;; comment\nthe DH AH0\nTHE(2) DH AH1\nbut B AH T # no stress\n\n", encoding="utf-8")
    assert [(v.word, v.phonemes) for v in read_cmudict(path)] == [
        ("the", ids("ð ə")),
        ("the", ids("ð ʌ")),
        ("but", ids("b ə t")),
        ("but", ids("b ʌ t")),
    ]
    path.write_text("the DH QQ\n", encoding="utf-8")
    with pytest.raises(ValueError, match="cmu.dict:1: 'QQ' is not"):
        [*read_cmudict(path)]
    path.write_text("the\n", encoding="utf-8")
    with pytest.raises(ValueError, match="cmu.dict:1: expected"):
        [*read_cmudict(path)]


def test_tsv_round_trip_and_errors(tmp_path: Path) -> None:
    path = tmp_path / "hama.tsv"
    variants = [Variant("of", ids("ɔ f"), 0.0, "habit"), Variant("church", ids("t͡ʃ ɝ t͡ʃ"), -1.5, "g2p")]
    path.write_text(to_tsv(variants), encoding="utf-8")
    assert [*read_tsv(path)] == variants
    path.write_text("of\tɔ f\t0\n", encoding="utf-8")
    assert [v.source for v in read_tsv(path)] == ["hama"]
    for line in ("of", "of\tɔ f", "of\tɔ f\tx", "of\tɔ g\t0", "of\t\t0", "of\t<wb>\t0", "of\tɔ\tnan"):
        path.write_text(f"a\tə\t0\n{line}\n", encoding="utf-8")
        with pytest.raises(ValueError, match=r"hama\.tsv:2"):
            [*read_tsv(path)]


def test_merge_lets_later_sources_overrule() -> None:
    first = [Variant("a", (n,), 0.0, "dictionary") for n in (2, 3, 4)]
    merged = merge([*first, Variant("a", (2,), -2.0, "speech"), Variant("a", (5,), 0.0, "speech")], max_variants=3)
    assert [(v.phonemes, v.source) for v in merged["a"]] == [
        ((5,), "speech"),
        ((4,), "dictionary"),
        ((3,), "dictionary"),
    ]
    assert merge([*first, Variant("a", (2,), -2.0, "speech")], max_variants=9)["a"][-1].log_prob == -2.0


def test_unigrams_are_smoothed_and_sum_to_one(tmp_path: Path) -> None:
    path = tmp_path / "counts.tsv"
    path.write_text("b\t3\t7.5\nunlisted\t9\t9\n", encoding="utf-8")
    log_prob = read_unigram_log_prob(path, [*SPECIAL, "a", "b"])
    assert np.exp(log_prob) == pytest.approx(np.array([1, 1, 1, 1, 8.5]) / 12.5)
    path.write_text("b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"counts\.tsv:1"):
        read_unigram_log_prob(path, [*SPECIAL, "b"])


def test_command_builds_from_all_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "words.txt": "<unk>\n<s>\n</s>\nof\nto\nzzz\n",
        "counts.tsv": "of\t9\nto\t5\n",
        "c.dict": "of AH1 V\nto T UW1\n",
    }
    files |= {"habit.tsv": "of\tɔ f\t0\n", "speech.tsv": "of\tʌ v\t-1\tspeech\nelsewhere\tə\t0\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    parser = ArgumentParser()
    add_lexicon_parser(parser.add_subparsers())
    command = "lexicon --words words.txt --counts counts.tsv --cmudict c.dict --pronunciations habit.tsv speech.tsv"
    command += " --write-pronunciations all.tsv --out lexicon.bin"
    arguments = parser.parse_args([str(tmp_path / part) if "." in part else part for part in command.split()])
    arguments.run(arguments)
    lexicon = Lexicon.open(tmp_path / "lexicon.bin")
    assert lexicon.pronunciations(3) == [(ids("ɔ f"), 0.0), (ids("ʌ v"), -1.0)]
    assert lexicon.pronunciations(4) == [(ids("t u"), 0.0)]
    assert lexicon.pronunciations(5) == []
    assert (tmp_path / "all.tsv").read_text(encoding="utf-8") == (
        "of\tɔ f\t0\thabit\nof\tʌ v\t-1\tspeech\nto\tt u\t0\tcmudict\n"
    )
    assert "1 words  habit+speech" in capsys.readouterr().err

import lzma
from collections import Counter

import pytest

from lm.corpus import CorpusError, CorpusReport, Exclusion, Source, parse_source, read_corpus, read_lines, read_recipe
from lm.vocabulary import (
    WordListError,
    check_words,
    choose_words,
    read_dictionary_words,
    read_words,
    words_sha256,
    write_words,
)


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_plain_and_compressed_text_read_the_same(tmp_path):
    lines = ["Hello, world!", "http://dropped.example", "", "Good morning."]
    plain = write(tmp_path / "a.txt", *lines)
    with lzma.open(tmp_path / "a.txt.xz", "wt") as file:
        file.write(plain.read_text())
    assert list(read_lines(plain)) == [["hello", "world"], ["good", "morning"]]
    assert list(read_lines(tmp_path / "a.txt.xz")) == list(read_lines(plain))


def test_recipe(tmp_path):
    (tmp_path / "text").mkdir()
    write(tmp_path / "text" / "books.txt", "a b")
    recipe = write(tmp_path / "r.toml", "[weights]", '"text/books" = 2')
    assert read_recipe(recipe, tmp_path) == [Source("text/books", tmp_path / "text" / "books.txt", 2.0)]


@pytest.mark.parametrize(
    "content",
    ["[weights]\n'books' = 0", "[weights]\n'books' = true", "[weights]\n'books' = 'x'", "[weights]\n'missing' = 1",
     "[weight]\n'books' = 1", "order = 3\n[weights]\n'books' = 1", "[weights", "weights = 3"],
)  # fmt: skip
def test_bad_recipes(tmp_path, content):
    write(tmp_path / "books.txt", "a b")
    with pytest.raises(CorpusError):
        read_recipe(write(tmp_path / "r.toml", content), tmp_path)


def test_parse_source(tmp_path):
    path = write(tmp_path / "a.txt", "a")
    assert parse_source(str(path)) == Source(str(path), path, 1.0)
    assert parse_source(f"{path}=0.25").weight == 0.25
    for bad in (f"{path}=x", f"{path}=-1", f"{path}=nan", f"{path}x"):
        with pytest.raises(CorpusError):
            parse_source(bad)


def test_exclusion():
    exclusion = Exclusion([["turn", "it", "off"], ["one", "two", "three", "four", "five", "six", "seven"]])
    assert ["turn", "it", "off"] in exclusion
    assert ["please", "turn", "it", "off"] not in exclusion
    assert ["so", "two", "three", "four", "five", "six", "seven", "eight"] in exclusion
    assert ["one", "two", "three", "four", "five"] not in exclusion
    assert ["one", "two", "three", "four", "five", "seven", "six"] not in exclusion
    assert [] not in exclusion


def test_each_text_is_read_once_where_it_weighs_most(tmp_path):
    light = Source("light", write(tmp_path / "l", "Same line.", "only here", "never this one"), 1.0)
    heavy = Source("heavy", write(tmp_path / "h", "same line", "same line!", "another"), 3.0)
    report = CorpusReport()
    read = list(read_corpus([light, heavy], Exclusion([["never", "this", "one"]]), report))
    assert [(s.name, " ".join(words)) for s, words in read] == [
        ("heavy", "same line"),
        ("heavy", "another"),
        ("light", "only here"),
    ]
    assert report.kept == {"heavy": 2, "light": 1}
    assert report.duplicates == {"heavy": 1, "light": 1}
    assert report.excluded == {"light": 1}


def test_choose_words():
    counts = Counter({"the": 9, "rare": 1, "known": 1, "x-ray": 5, "o'clock": 2, "parents'": 2, "a" * 30: 4, "''": 3})
    weighted = Counter({**counts, "o'clock": 20})
    chosen = choose_words(counts, weighted, size=10, dictionary=frozenset({"known", "unseen"}))
    assert chosen == ["<unk>", "<s>", "</s>", "o'clock", "the", "parents'", "known"]
    assert choose_words(counts, weighted, size=1) == ["<unk>", "<s>", "</s>", "o'clock"]


def test_word_lists_are_checked(tmp_path):
    words = ["<unk>", "<s>", "</s>", "a", "b"]
    write_words(tmp_path / "words.txt", words)
    assert read_words(tmp_path / "words.txt") == words
    for bad in (["a", "b"], [*words, "a"], [*words, ""]):
        with pytest.raises(WordListError):
            check_words(bad, "list")
    assert words_sha256(words) != words_sha256([*words, "c"])


def test_dictionary_words(tmp_path):
    path = write(tmp_path / "d", ";;; comment", "Read R IY D", "read(2) R EH D", "", "o'clock AH K L AA K")
    assert read_dictionary_words(path) == {"read", "o'clock"}

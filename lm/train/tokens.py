"""Text as word ids on disk: one array a source, made once and mapped when read.

tokens/words.txt                    the word list that the ids belong to, all of it
tokens/tokens.json                  {"sources": [{name, application, file, utterances, words, unknown}], "dev": [...]}
tokens/dictation__books.npy         uint32 (N): word ids of utterances, each ended by `</s>`
tokens/dev__assistant.npy           the same, of the text that an application's perplexity is measured on
tokens/pieces.bin                   where the ids are of pieces (lm/pieces.py), which words.txt then lists
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lm.corpus import CorpusReport, Exclusion, Source, read_corpus, read_lines
from lm.pieces import PIECES_FILE, Pieces
from lm.train.folders import replace_folder
from lm.vocabulary import END_ID, SPECIAL_WORDS, UNKNOWN_ID, read_words, words_sha256, write_words

Tokens = npt.NDArray[np.uint32]
Ids = Mapping[str, int] | Pieces
"""Ids of words, or what cuts them into pieces."""
_CUTS = 50_000


class TokensError(ValueError):
    """The folder holds no token arrays, or not those asked for."""


@dataclass(frozen=True, slots=True)
class TokenArray:
    """What a file of word ids holds."""

    name: str
    application: str
    file: str
    utterances: int
    words: int
    """Without the ends of utterances."""
    unknown: int
    """Of the words, those that the word list lacks."""


def encode(utterances: Iterable[Sequence[str]], ids: Ids, known: Container[str] | None = None) -> Tokens:
    """Ids of the words of utterances, or of their pieces, one after another, each utterance ended by `</s>`.

    Words that are not `known`, where that is given, are `<unk>`: so pieces compare with a word list.
    """
    cut = lru_cache(_CUTS)(ids.cut) if isinstance(ids, Pieces) else lambda word: (ids.get(word, UNKNOWN_ID),)
    buffer = array("I")
    for words in utterances:
        for word in words:
            buffer.extend(cut(word) if known is None or word in known else (UNKNOWN_ID,))
        buffer.append(END_ID)
    return np.frombuffer(buffer, np.uintc).astype(np.uint32)


def utterance_bounds(tokens: Tokens) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First position and length (end included) of each utterance."""
    ends = np.flatnonzero(tokens == END_ID)
    starts = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
    return starts, ends + 1 - starts


def write_tokens(
    folder: Path,
    words: Sequence[str],
    sources: Sequence[Source],
    dev: Mapping[str, Source],
    *,
    application_of: Callable[[Source], str],
    exclusion: Exclusion,
    report: CorpusReport,
    progress: Callable[[Iterable[tuple[Source, list[str]]]], Iterable[tuple[Source, list[str]]]] = lambda lines: lines,
) -> None:
    """Write the token arrays of `sources` and of the dev texts; a training line equal to a dev line is dropped.

    Args:
        folder: Made anew; an older one is replaced once all is written.
        words: The word list.
        sources: Training text; duplicates are dropped as `lm.corpus.read_corpus` does.
        dev: Application -> text that is measured, not trained on.
        application_of: The application of a source.
        exclusion: Text to keep out.
        report: Filled with what was kept and dropped.
        progress: Wraps the stream of lines.
    """
    ids = {word: number for number, word in enumerate(words)}

    def write(out: Path) -> None:
        held_out: set[tuple[str, ...]] = set()
        measured, trained = [], []
        for application, source in dev.items():
            lines = list(read_lines(source.path))
            held_out.update(map(tuple, lines))
            measured.append(_save(out, f"dev__{application}", source.name, application, encode(lines, ids)))
        corpus = progress(read_corpus(sources, exclusion, report))
        for source, group in groupby(corpus, key=lambda item: item[0]):
            tokens = encode((line for _, line in group if tuple(line) not in held_out), ids)
            file = source.name.strip("/").replace("/", "__")
            trained.append(_save(out, file, source.name, application_of(source), tokens))
        write_words(out / "words.txt", words)
        index = {"sources": [asdict(item) for item in trained], "dev": [asdict(item) for item in measured]}
        (out / "tokens.json").write_text(json.dumps(index, indent=1), encoding="utf-8")

    replace_folder(folder, write)


def write_pieces(
    store: TokenStore, pieces: Pieces, folder: Path, *, progress: Callable[[Iterable[str]], Iterable[str]] = iter
) -> None:
    """Write the token arrays of `store`, which are of words, as such of pieces; words that it lacks stay `<unk>`.

    `progress` wraps the words while they are cut.
    """
    cuts = [np.array([number] if number <= END_ID else pieces.cut(word), np.uint32) for number, word in
            enumerate(progress(store.words))]  # fmt: skip
    lengths = np.array([len(cut) for cut in cuts])
    firsts, flat = np.cumsum(lengths) - lengths, np.concatenate(cuts)

    def convert(out: Path, item: TokenArray) -> TokenArray:
        words = np.asarray(store.read(item), np.int64)
        size = lengths[words]
        ends = np.cumsum(size)
        places = np.repeat(firsts[words] - ends + size, size) + np.arange(ends[-1] if ends.size else 0)
        return _save(out, item.file.removesuffix(".npy"), item.name, item.application, flat[places])

    def write(out: Path) -> None:
        index = {kind: [asdict(convert(out, item)) for item in items] for kind, items in
                 (("sources", store.sources), ("dev", store.dev))}  # fmt: skip
        write_words(out / "words.txt", pieces.texts)
        pieces.write(out / PIECES_FILE)
        (out / "tokens.json").write_text(json.dumps(index, indent=1), encoding="utf-8")

    replace_folder(folder, write)


def word_counts(store: TokenStore) -> dict[str, float]:
    """How often each word of the list comes up, every application counting the same."""
    total = np.zeros(len(store.words))
    for application in store.applications:
        own = np.zeros(len(store.words))
        for item in store.sources:
            if item.application == application:
                own += np.bincount(store.read(item), minlength=len(store.words))
        total += own / own.sum()
    size = sum(item.words for item in store.sources)
    return {
        word: size * float(count) for word, count in zip(store.words, total, strict=True) if word not in SPECIAL_WORDS
    }


def _save(folder: Path, file: str, name: str, application: str, tokens: Tokens) -> TokenArray:
    np.save(folder / f"{file}.npy", tokens)
    utterances = int((tokens == END_ID).sum())
    unknown = int((tokens == UNKNOWN_ID).sum())
    return TokenArray(name, application, f"{file}.npy", utterances, tokens.size - utterances, unknown)


@dataclass(frozen=True, slots=True)
class TokenStore:
    """Token arrays of a folder, mapped when asked for."""

    folder: Path
    words: tuple[str, ...]
    sources: tuple[TokenArray, ...]
    dev: tuple[TokenArray, ...]

    @staticmethod
    def open(folder: str | Path) -> TokenStore:
        """Open what `write_tokens` wrote.

        Raises:
            TokensError: there is no such folder, or a file of it is missing or unreadable.
        """
        folder = Path(folder)
        try:
            index = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
            sources, dev = (tuple(TokenArray(**row) for row in index[key]) for key in ("sources", "dev"))
            words = tuple(read_words(folder / "words.txt"))
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise TokensError(f"{folder}: not a folder that `asr-lm tokens` wrote ({error})") from None
        missing = [item.file for item in (*sources, *dev) if not (folder / item.file).is_file()]
        if missing:
            raise TokensError(f"{folder}: {', '.join(missing)} missing; run `asr-lm tokens` again")
        return TokenStore(folder, words, sources, dev)

    @property
    def words_sha256(self) -> str:
        """Digest of the word list."""
        return words_sha256(self.words)

    @property
    def pieces(self) -> Pieces | None:
        """What `words` are where they are pieces."""
        path = self.folder / PIECES_FILE
        return Pieces.open(path) if path.is_file() else None

    @property
    def applications(self) -> tuple[str, ...]:
        """Applications that there is training text of."""
        return tuple(sorted({source.application for source in self.sources}))

    def read(self, item: TokenArray) -> Tokens:
        """The ids `(N,)` of one of `sources` or `dev`, mapped."""
        tokens: Tokens = np.load(self.folder / item.file, mmap_mode="r")
        return tokens

    def read_dev(self, application: str) -> Tokens:
        """The ids of an application's dev text; empty where it has none."""
        found = [self.read(item) for item in self.dev if item.application == application]
        return found[0] if found else np.zeros(0, np.uint32)

"""CTC targets and learned pronunciations from a store with teacher posteriors."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from asr.decoder.greedy import collapse
from asr.train.align import Alignment, Pronunciation, align, pronunciations_of
from asr.train.prepare import Track
from asr.train.store import FeatureStore
from lm.corpus import read_lines
from lm.lexicon import Lexicon
from lm.normalize import normalize_text
from lm.phones import BOUNDARY_ID, PHONEMES, to_symbols
from lm.pronunciations import read_tsv

MAX_VARIANTS = 8


@dataclass(frozen=True, slots=True)
class AlignedClip:
    """A clip whose transcript was found in its audio."""

    index: int
    audio: str
    split: str
    words: tuple[str, ...]
    alignment: Alignment


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """What could be aligned, and why the rest could not."""

    aligned: list[AlignedClip]
    left_out: Counter[str]
    unknown_words: Counter[str]


def read_pronunciations(paths: Sequence[Path]) -> dict[str, list[Pronunciation]]:
    """All variants of all files, in their order."""
    out: dict[str, list[Pronunciation]] = defaultdict(list)
    for path in paths:
        for variant in read_tsv(path):
            if variant.phonemes not in out[variant.word]:
                out[variant.word].append(variant.phonemes)
    return out


def align_store(
    folder: Path, pronunciations: Sequence[Path], pseudo: Mapping[str, str], min_log_prob: float, track: Track
) -> AlignmentReport:
    """Align every transcribed clip of a store with its teacher's posteriors."""
    store = FeatureStore.open(folder, n_phonemes=len(PHONEMES))
    lexicon = read_pronunciations(pronunciations)
    report = AlignmentReport([], Counter(), Counter())
    stored = enumerate(clip.clip for clip in store.clips)
    for index, clip in track(stored, "align", len(store.clips)):
        words = normalize_text(clip.text or pseudo.get(clip.audio, ""))
        found = pronunciations_of(words, lexicon) if words else None
        if not words or found is None:
            report.left_out["no words" if not words else "unknown word"] += 1
            report.unknown_words.update(word for word in words or [] if word not in lexicon)
            continue
        teacher = store.posteriors(index, "clean")
        if teacher is None:
            raise ValueError(f"{folder}: the store has no teacher posteriors; run `asr-train prepare --teacher`")
        alignment = align(teacher.astype(np.float32), [variants[:MAX_VARIANTS] for variants in found])
        if alignment is None or alignment.log_prob_per_frame < min_log_prob:
            report.left_out["too short" if alignment is None else "does not match"] += 1
            continue
        report.aligned.append(AlignedClip(index, clip.audio, clip.split, tuple(words), alignment))
    return report


def spoken_text(path: Path, lexicon: Lexicon, max_lines: int) -> Iterator[list[int]]:
    """Labels of a text file's lines, each word in its best pronunciation; lines with unknown words are left out."""
    best: dict[str, Pronunciation | None] = {}
    for words in islice(read_lines(path), max_lines):
        for word in words:
            if word not in best:
                index = lexicon.find(word)
                variants = [] if index is None else lexicon.pronunciations(index)
                best[word] = variants[0][0] if variants else None
        spoken = [best[word] for word in words]
        if None not in spoken:
            yield [label for phones in spoken for label in (BOUNDARY_ID, *(phones or ()))][1:]


def heard_pronunciations(report: AlignmentReport, store: FeatureStore) -> Iterator[tuple[str, Pronunciation]]:
    """Every word of the training clips with the phonemes that the network put out where it was spoken."""
    for clip in report.aligned:
        if clip.split != "train":
            continue
        teacher = store.posteriors(clip.index, "clean")
        assert teacher is not None
        best = teacher.argmax(-1)
        for word, aligned in zip(clip.words, clip.alignment.words, strict=True):
            heard = collapse(best[aligned.start_frame : aligned.end_frame].tolist())
            if heard and BOUNDARY_ID not in heard:
                yield word, tuple(heard)


def learn_variants(
    report: AlignmentReport, folder: Path, *, min_count: int = 3, min_share: float = 0.08
) -> list[tuple[str, Pronunciation, float]]:
    """Variants heard `min_count` times or more and in `min_share` of a word's occurrences, with log(share / best)."""
    store = FeatureStore.open(folder, n_phonemes=len(PHONEMES))
    counts: dict[str, Counter[Pronunciation]] = defaultdict(Counter)
    for word, heard in heard_pronunciations(report, store):
        counts[word][heard] += 1
    out = []
    for word, variants in sorted(counts.items()):
        total, most = sum(variants.values()), max(variants.values())
        for phonemes, count in variants.most_common():
            if count >= min_count and count >= min_share * total:
                out.append((word, phonemes, math.log(count / most)))
    return out


def write_variants(path: Path, variants: Sequence[tuple[str, Pronunciation, float]]) -> None:
    """Write variants as TSV: word, phonemes, log-prob."""
    lines = (f"{word}\t{to_symbols(phonemes)}\t{score:.3f}\n" for word, phonemes, score in variants)
    path.write_text("".join(lines), encoding="utf-8")

"""`asr-lm lexicon` and `asr-lm pronounce`: pronunciations from all their sources, and the lexicon built from them."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm.g2p import G2P, is_spellable
from lm.lexicon_build import build_lexicon
from lm.pronunciations import Variant, merge, read_cmudict, read_tsv, to_tsv
from lm.vocabulary import read_words

G2P_MARGIN = 2.0  # a second guess further behind was right for 3 % of held-out words, a nearer one for 19 %


def add_lexicon_parser(subparsers: Any) -> None:
    """Add the command `lexicon` to the subparsers of `asr-lm`."""
    parser = subparsers.add_parser("lexicon", help="build lexicon.bin from words and pronunciations")
    parser.add_argument("--words", type=Path, required=True, help="word list, one a line; line order gives the ids")
    parser.add_argument("--counts", type=Path, required=True, help="TSV: word first, its (weighted) count last")
    parser.add_argument("--cmudict", type=Path, help="dictionary in CMUdict format")
    parser.add_argument(
        "--pronunciations",
        type=Path,
        nargs="*",
        default=[],
        help="TSV files: word, phonemes, log-probability, perhaps a source; later files overrule earlier ones",
    )
    parser.add_argument("--g2p", type=Path, help="letter-to-phoneme network for words that no other source lists")
    parser.add_argument("--g2p-variants", type=int, default=1, help="guesses a word (%(default)s)")
    parser.add_argument("--max-variants", type=int, default=4, help="pronunciations a word (%(default)s)")
    parser.add_argument("--write-pronunciations", type=Path, help="also write the merged pronunciations as TSV")
    parser.add_argument("--output", type=Path, required=True, help="lexicon to write")
    parser.set_defaults(run=run_lexicon)


def run_lexicon(args: argparse.Namespace) -> None:
    """Build the lexicon; the share of words by source goes to stderr.

    Raises:
        ValueError: a file is malformed, or no word has a pronunciation.
    """
    words = read_words(args.words)
    listed = [*(read_cmudict(args.cmudict) if args.cmudict else ())]
    for path in args.pronunciations:
        listed += read_tsv(path)
    if args.g2p:
        listed += _guess(G2P.open(args.g2p), words, {variant.word for variant in listed}, args.g2p_variants)
    known = set(words[3:])
    variants = merge((variant for variant in listed if variant.word in known), max_variants=args.max_variants)
    if args.write_pronunciations:
        tsv = to_tsv(variant for word in words for variant in variants.get(word, ()))
        args.write_pronunciations.write_text(tsv, encoding="utf-8")
    spoken = {word: {v.phonemes: v.log_prob for v in found} for word, found in variants.items()}
    build_lexicon(words, spoken, read_unigram_log_prob(args.counts, words), args.output)
    _report(words, variants, args.output)


def read_unigram_log_prob(path: Path, words: Sequence[str]) -> npt.NDArray[np.float32]:
    """Natural log-probability of every word (W,) from its count, plus one.

    Raises:
        ValueError: a line of the file is not a word and numbers between tabs.
    """
    ids = {word: word_id for word_id, word in enumerate(words)}
    counts = np.ones(len(words))
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        word, *columns = line.split("\t")
        try:
            count = float(columns[-1])
        except (IndexError, ValueError):
            raise ValueError(f"{path}:{number}: expected '<word> <count>' between tabs, found {line!r}") from None
        if word in ids:
            counts[ids[word]] += count
    log_prob: npt.NDArray[np.float32] = np.log(counts / counts.sum()).astype(np.float32)
    return log_prob


def _guess(g2p: G2P, words: Sequence[str], listed: set[str], n_variants: int) -> Iterator[Variant]:
    unlisted = [word for word in words[3:] if word not in listed and is_spellable(word)]
    for word, spoken in zip(unlisted, g2p.pronounce_many(unlisted, n_variants), strict=True):
        for phonemes, log_prob in spoken:
            if log_prob > spoken[0][1] - G2P_MARGIN:
                yield Variant(word, phonemes, log_prob - spoken[0][1], "g2p")


def _report(words: Sequence[str], variants: dict[str, list[Variant]], output: Path) -> None:
    by_source = Counter("+".join(sorted({variant.source for variant in found})) for found in variants.values())
    by_source["(none)"] = len(words) - 3 - len(variants)
    for source, count in by_source.most_common():
        print(f"{count:>8} words  {source}", file=sys.stderr)
    total = sum(map(len, variants.values()))
    print(f"{total:>8} pronunciations, {output.stat().st_size} bytes -> {output}", file=sys.stderr)


def add_g2p_parser(subparsers: Any) -> None:
    """Add the command `pronounce` to the subparsers of `asr-lm`."""
    parser = subparsers.add_parser("pronounce", help="speak words by their letters, as TSV that `lexicon` reads")
    parser.add_argument("words", nargs="+", metavar="WORD")
    parser.add_argument("--g2p", type=Path, required=True, help="letter-to-phoneme network")
    parser.add_argument("--n-best", type=int, default=1, help="pronunciations a word (%(default)s)")
    parser.set_defaults(run=run_g2p)


def run_g2p(args: argparse.Namespace) -> None:
    """Print word, phonemes, log-probability and `g2p` between tabs.

    Raises:
        ValueError: a word has other characters than letters and apostrophes, or `--n-best` is out of range.
    """
    spoken = G2P.open(args.g2p).pronounce_many(args.words, args.n_best)
    for word, found in zip(args.words, spoken, strict=True):
        print(to_tsv(Variant(word, phonemes, log_prob, "g2p") for phonemes, log_prob in found), end="")

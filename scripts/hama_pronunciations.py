"""Ask the hama package's G2P how it speaks a list of words, and write its answers in this project's phonemes.

The acoustic network starts from hama's and has learnt the habits of that G2P ("I" is `i`, "of" ends in `f`), so its
pronunciations stand in the lexicon beside the dictionary's. Optional recipe step: pip install hama==1.7.0 (Apache-2.0).

    python scripts/hama_pronunciations.py words.txt hama.tsv --seconds 600

Words are taken in file order (most frequent first); a word that the output has already is not asked for again.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lm.phones import PHONEME_ID

ASKABLE = re.compile(r"[a-z']*[a-z][a-z']*")
RENAMED = {"g": "ɡ"}


def to_phonemes(labels: list[str]) -> list[str] | None:
    """Hama's labels as our phonemes; None where one of them is not in our set."""
    phonemes = [RENAMED.get(label, label) for label in labels]
    return phonemes if phonemes and all(phoneme in PHONEME_ID for phoneme in phonemes) else None


def words_to_ask(words: Path, out: Path) -> Iterator[str]:
    """The words of `words` that can be asked and are not in `out` yet, in file order."""
    done = set()
    if out.exists():
        done = {line.split("\t")[0] for line in out.read_text(encoding="utf-8").splitlines()}
    for line in words.read_text(encoding="utf-8").splitlines():
        if line not in done and ASKABLE.fullmatch(line):
            yield line


def main() -> None:
    """Append `word<TAB>phonemes<TAB>0.0` lines to the output until the words or the time run out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", type=Path, help="one word a line, most frequent first")
    parser.add_argument("out", type=Path, help="TSV to append to")
    parser.add_argument("--seconds", type=float, default=600.0, help="stop after this long (default: %(default)s)")
    arguments = parser.parse_args()

    from hama import G2PModel

    model = G2PModel()
    start, asked, written = time.perf_counter(), 0, 0
    words = words_to_ask(arguments.words, arguments.out)
    with arguments.out.open("a", encoding="utf-8", buffering=1) as file:
        for word in words:
            if time.perf_counter() - start > arguments.seconds:
                break
            asked += 1
            phonemes = to_phonemes([alignment.phoneme for alignment in model.predict(word).alignments])
            if phonemes is not None:
                written += 1
                file.write(f"{word}\t{' '.join(phonemes)}\t0.0\n")
    seconds = time.perf_counter() - start
    print(
        f"{asked} words asked, {asked - written} skipped for a label outside the set, "
        f"{1000 * seconds / max(asked, 1):.1f} ms a word",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()

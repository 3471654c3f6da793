"""What the commands of `asr-lm` print on stderr while they work."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from lm.corpus import CorpusReport

Item = TypeVar("Item")


def say(message: str) -> None:
    """Print a line on stderr."""
    print(message, file=sys.stderr, flush=True)


def progress(items: Iterable[Item]) -> Iterable[Item]:
    """The same items, counted in a progress bar where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    bar: Iterable[Item] = tqdm(items, unit=" lines", mininterval=1.0, file=sys.stderr)
    return bar


def say_report(report: CorpusReport) -> None:
    """Print how many lines of each source were kept, and why the others were not."""
    say(f"{'source':<45} {'kept':>9} {'duplicate':>9} {'excluded':>9}")
    for name in sorted(report.kept.keys() | report.duplicates.keys() | report.excluded.keys()):
        say(f"{name:<45} {report.kept[name]:>9} {report.duplicates[name]:>9} {report.excluded[name]:>9}")

"""Clips of `benchmarks.grammar_cases`, spoken by the voices that no training set holds.

    python -m benchmarks.grammar_speech --kokoro kokoro --contacts names.txt --each 200 --out grammar-speech

`manifest.jsonl` then has, for each clip, `kind` and `written` too.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from asr.train.synthesis_plan import HELD_OUT_VOICES, Planner
from asr.train.synthesize import KokoroSpeaker, Report, synthesize
from benchmarks.grammar_cases import PATTERNS, Case, make_cases
from lm.normalize import normalize_text


@dataclass(frozen=True, slots=True)
class CaseText:
    """A source of the planner: cases of all kinds, in a fixed order of kinds."""

    cases: Sequence[Case]
    name: str = "grammar"
    weight: float = 1.0

    def draw(self, rng: np.random.Generator) -> tuple[str, str]:
        """A case: (text, spoken)."""
        case = self.cases[int(rng.integers(len(self.cases)))]
        return spoken_text(case), f"{case.spoken}."


def spoken_text(case: Case) -> str:
    """The words of a case, as a transcript has them."""
    return " ".join(normalize_text(case.spoken.lower()) or [])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kokoro", type=Path, required=True, help="model folder, from `asr-train kokoro`")
    parser.add_argument("--contacts", type=Path, required=True, help="names, one a line")
    parser.add_argument("--each", type=int, default=200, help="cases of each kind (%(default)s)")
    parser.add_argument("--hours", type=float, default=1.4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    contacts = re.split(r"\s*\n\s*", args.contacts.read_text(encoding="utf-8").strip())
    cases = [case for kind in PATTERNS for case in make_cases(kind, args.each, args.seed, contacts)]
    planner = Planner([CaseText(cases)], list(HELD_OUT_VOICES), args.seed)

    def on_clip(report: Report) -> None:
        print(f"\r{report.n_clips} clips, {report.seconds / 3600:.2f} h", end="", flush=True)

    speaker = partial(KokoroSpeaker, args.kokoro)
    synthesize(planner, speaker, args.out, 3600 * args.hours, workers=1, split="test", on_clip=on_clip)
    by_text = {spoken_text(case): case for case in cases}
    manifest = args.out / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    known = [row | {"kind": by_text[row["text"]].kind, "written": by_text[row["text"]].written} for row in rows]
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in known), encoding="utf-8")


if __name__ == "__main__":
    main()

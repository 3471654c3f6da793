r"""What `asr-lm adapt` makes of a text and what it takes: perplexities before and after, seconds, bytes.

python -m benchmarks.adapt --trunk runs/shared/final --text mine.txt --tokens tokens --other heldout/assistant.txt

The command runs as a user would start it, once without general text and, where `--tokens` is given, once with it. The
first of the texts is what is learned from; each `--other` text is not seen, the user's own included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.process import describe

NAME = "adapted"


def read_table(printed: str) -> dict[str, dict[str, float]]:
    """The command's table: perplexity `before` and `after` of each text.

    Raises:
        ValueError: there is none.
    """
    lines = [line.split("\t") for line in printed.splitlines()]
    if ["text", "before", "after"] not in lines:
        raise ValueError(f"asr-lm adapt printed no table, but: {printed[:200]!r}")
    rows = lines[lines.index(["text", "before", "after"]) + 1 :]
    return {name: {"before": float(before), "after": float(after)} for name, before, after in rows}


def measure(options: Sequence[str], threads: int) -> dict[str, Any]:
    """Run `asr-lm adapt` with `options`: its table, seconds and bytes.

    Raises:
        ValueError: the command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / NAME
        command = [sys.executable, "-m", "lm.cli", "adapt", *options, "--name", NAME, "--out", str(out)]
        before, started = os.times(), time.monotonic()
        run = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
        )
        seconds, after = time.monotonic() - started, os.times()
        if run.returncode:
            raise ValueError(f"asr-lm adapt failed:\n{run.stderr}")
        runtime = [out / f"{NAME}{suffix}" for suffix in (".bin", ".onnx_adapter")]
        return {
            "seconds": round(seconds, 1),
            "cpu_seconds": round(
                after.children_user - before.children_user + after.children_system - before.children_system, 1
            ),
            "bytes": sum(path.stat().st_size for path in runtime if path.is_file()),
            "perplexity": read_table(run.stdout),
        }


def print_row(name: str, row: Mapping[str, Any]) -> None:
    """One run on one line a text."""
    print(f"{name}: {row['seconds']} s, {row['cpu_seconds']} s of processor time, {row['bytes']} bytes")
    for text, found in row["perplexity"].items():
        change = 100 * (found["after"] / found["before"] - 1)
        print(f"  {text}: {found['before']} -> {found['after']} ({change:+.1f} %)")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trunk", required=True, help="what `asr-lm adapt --trunk` takes")
    parser.add_argument("--text", required=True, help="the user's text")
    parser.add_argument("--other", action="append", default=[], help="text that is not learned from")
    parser.add_argument("--tokens", help="folder of `asr-lm tokens`: general text")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    options = ["--trunk", args.trunk, "--text", args.text, *(["--other", *args.other] if args.other else [])]
    kinds = {"made-up": options, **({"tokens": [*options, "--tokens", args.tokens]} if args.tokens else {})}
    rows = {}
    for name, kind in kinds.items():
        rows[name] = measure(kind, args.threads)
        print_row(name, rows[name])
    if args.out:
        words = list(argv if argv is not None else sys.argv[1:])
        header = describe(words) | {"command": " ".join(["python -m benchmarks.adapt", *words])}
        result = {**header, "threads": args.threads, "rows": rows}
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`asr-lm query` and `asr-lm audit`: questions to the language model, and what an adapter gives away."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lm.console import say
from lm.corpus import open_text
from lm.grammar.lists import read_lists
from lm.query.query import MAX_WORDS, READINGS, TOKENS, Answer, Query

QUERY_EXAMPLES = r"""examples:
  asr-lm query '(he|she)' --trunk BUNDLE --prefix 'the nurse said that '
  asr-lm query '\d{3}-\d{4}' --trunk BUNDLE --adapter clinic/clinic.bin --prefix 'my number is ' --strategy beam
  asr-lm query 'call {contact}' --list contact=names.txt --trunk BUNDLE --strategy sample --limit 20
  asr-lm query '\d\d:\d\d' --trunk BUNDLE --plan
"""
AUDIT_EXAMPLES = """examples:
  asr-lm audit --trunk BUNDLE --adapter clinic/clinic.bin --text mine.txt
  asr-lm audit --trunk BUNDLE --adapter clinic/clinic.bin --text mine.txt --patterns secrets.json --format json

secrets.json: {"patient": "P-\\\\d{6}", "ward": {"pattern": "ward {name}", "lists": {"name": ["north", "south"]}}}
"""


def add_query_parsers(subparsers: Any) -> None:
    """Add the commands of this file to the subparsers of `asr-lm`."""
    _add_query(_parser(subparsers, "query", "what the model says for a pattern, most probable first", QUERY_EXAMPLES))
    _add_audit(_parser(subparsers, "audit", "what an adapter gives away of its training text", AUDIT_EXAMPLES))


def _parser(subparsers: Any, name: str, purpose: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=purpose, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trunk", type=Path, required=True, help="bundle folder, with lm.onnx, lm.bin and lexicon.bin")
    parser.add_argument("--words", type=Path, help="word list, where the folder has no lexicon.bin")
    parser.add_argument(
        "--softmax",
        action="store_true",
        help="exact probabilities, ten times slower; else as the recogniser takes them",
    )
    return parser


def _add_query(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", help="regular expression over written text")
    parser.add_argument("--adapter", type=Path, help="NAME.bin that the model is to wear")
    parser.add_argument("--prefix", default="", help="pattern of what was said before; it is not scored")
    parser.add_argument("--suffix", default="", help="pattern of what has to follow; it is scored")
    parser.add_argument(
        "--list", action="append", default=[], metavar="NAME=FILE", help="entries of {NAME}, one a line"
    )
    parser.add_argument("--plain", action="store_true", help="plain words only, no digits, letters or symbols")
    parser.add_argument("--readings", choices=READINGS, default="canonical", help="all: every spoken form by itself")
    parser.add_argument("--tokens", choices=TOKENS, default="canonical", help="of a model of pieces, all: every cut")
    parser.add_argument("--edits", type=int, default=0, help='words like "um" that may be said besides (%(default)s)')
    parser.add_argument("--top-k", type=int, help="only words among the model's so many likeliest")
    parser.add_argument("--max-words", type=int, default=MAX_WORDS, help="of an answer (%(default)s)")
    parser.add_argument("--ends", action="store_true", help="score the end of the sentence too")
    parser.add_argument("--strategy", choices=("shortest", "beam", "sample"), default="shortest")
    parser.add_argument("--limit", type=int, default=10, help="answers (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of sample")
    parser.add_argument("--plan", action="store_true", help="print what the question compiles to, and do not ask")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.set_defaults(run=run_query)


def _add_audit(parser: argparse.ArgumentParser) -> None:
    from lm.query.audit import SAMPLES

    parser.add_argument("--adapter", type=Path, required=True, help="NAME.bin with NAME.onnx_adapter beside it")
    parser.add_argument("--text", type=Path, required=True, help="the text that it was made of (.txt or .txt.xz)")
    parser.add_argument("--patterns", type=Path, help="JSON file; phone, email, card, pin and name without one")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="candidates to rank among (%(default)s)")
    parser.add_argument("--strings", type=int, default=5, help="most probable strings of a pattern (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the candidates")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.set_defaults(run=run_audit)


def run_query(args: argparse.Namespace) -> None:
    """Print answers, or the plan."""
    from lm.query import open_query_model, plan, search

    query = Query(
        args.pattern, args.prefix, args.suffix, spoken=not args.plain, readings=args.readings, edits=args.edits,
        tokens=args.tokens, lists=read_lists(args.list), top_k=args.top_k, max_words=args.max_words, ends=args.ends,
    )  # fmt: skip
    trunk, adapted = open_query_model(args.trunk, args.adapter, args.words, softmax=args.softmax)
    model = adapted or trunk
    if args.plan:
        found = plan(query, model.words, model.pieces)
        print(json.dumps(asdict(found), indent=1) if args.format == "json" else found)
        return
    is_sample = args.strategy == "sample"
    answers = search(model, query, strategy=args.strategy, limit=args.limit, seed=args.seed)
    if args.format == "table":
        print("log_prob\t" + ("log_weight\t" if is_sample else "") + "text\tspoken")
    for answer in answers:
        print(json.dumps(asdict(answer)) if args.format == "json" else _row(answer, is_sample), flush=True)


def _row(answer: Answer, is_sample: bool) -> str:
    weight = f"{answer.log_weight:.2f}\t" if is_sample else ""
    return f"{answer.log_prob:.2f}\t{weight}{answer.prefix}{answer.text}{answer.suffix}\t{' '.join(answer.words)}"


def run_audit(args: argparse.Namespace) -> None:
    """Print a table or JSON, and the verdict."""
    from lm.query.audit import audit
    from lm.query.model import open_query_model
    from lm.query.secrets import built_in_patterns, read_patterns

    patterns = read_patterns(args.patterns) if args.patterns else built_in_patterns()
    trunk, adapted = open_query_model(args.trunk, args.adapter, args.words, softmax=args.softmax)
    assert adapted is not None
    with open_text(args.text) as lines:
        report = audit(
            trunk, adapted, lines, patterns, samples=args.samples, strings=args.strings, seed=args.seed
        )  # fmt: skip
    if args.format == "json":
        print(json.dumps({**asdict(report), "verdict": report.verdict}, indent=1))
        return
    print("pattern\tsecret\tline\ttimes\texposure\ttrunk\tof bits\tplace\ttrunk\tlearnt")
    for s in sorted(report.secrets, key=lambda secret: -secret.exposure):
        row = (
            s.pattern, s.text, s.line, s.count, f"{s.exposure:.1f}", f"{s.trunk_exposure:.1f}", f"{s.bits:.1f}",
            s.place or "-", s.trunk_place or "-", "yes" if s.is_learnt else "no",
        )  # fmt: skip
        print(*row, sep="\t")
    print("\npattern\tmost probable under the adapter\tafter\tlog_prob\ttrunk\tin the text")
    for pattern in report.patterns:
        for said in pattern.said:
            known = "yes" if said.is_in_text else "no"
            figures = f"{said.log_prob:.2f}\t{said.trunk_log_prob:.2f}"
            print(f"{pattern.name}\t{said.text}\t{said.before[-40:]}\t{figures}\t{known}")
    if report.left_out:
        say(f"{report.left_out} of {report.lines} lines are never trained on (no words, or markup): not looked at")
    print(f"\n{report.verdict}")

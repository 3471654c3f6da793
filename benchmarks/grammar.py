r"""Grammars on real and on synthetic speech: how often the right thing is accepted, and the wrong one.

python -m benchmarks.grammar coffee --manifest speech/manifest.jsonl --labels speech/dev/coffee_commands.json \
    --noise-dir speech/noise
python -m benchmarks.grammar spoken --manifest grammar-speech/manifest.jsonl --contacts names.txt
python -m benchmarks.grammar speed --manifest grammar-speech/manifest.jsonl --contacts names.txt --every 5
python -m benchmarks.grammar reject --manifest speech/manifest.jsonl --contacts names.txt --every 4

Each part goes into its own file under benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asr
from asr.grammar_stream import GrammarStream
from asr.types import FloatArray
from benchmarks.corpus import Clip, add_noise, load_manifest, read_audio, select
from benchmarks.grammar_cases import PATTERNS
from benchmarks.process import describe
from benchmarks.runner import progress_bar

SNRS_DB = (24, 18, 12, 6)
BLOCK = 16000
REJECT_CORPORA = ("mini_librispeech", "common_voice_b", "smart_home_commands", "coffee_commands")


def hear(
    recognizer: asr.Recognizer, grammar: asr.Grammar, samples: FloatArray, *, with_free: bool = True
) -> dict[str, Any]:
    """What a grammar makes of a clip, the evidence for it, and what is heard without any grammar."""
    stream = recognizer.create_stream(grammar=grammar)
    assert isinstance(stream, GrammarStream)
    started = time.process_time()
    for start in range(0, len(samples), BLOCK):
        stream.accept(samples[start : start + BLOCK])
    result = stream.finish()
    assert result.match is not None
    groups = {
        name: [capture.text for capture in (found if isinstance(found, list) else [found])]
        for name, found in result.groups.items()
    }
    return {
        "text": result.text,
        "accepted": result.accepted,
        "confidence": round(result.confidence, 4),
        "groups": groups,
        "spoken": result.spoken,
        "free": recognizer.transcribe((samples, 16000)).text if with_free else result.match.free_text,
        "evidence": asdict(stream.evidence) if stream.evidence else None,
        "cpu_s": time.process_time() - started,
        "seconds": len(samples) / 16000,
    }


# --- coffee ---------------------------------------------------------------------------------------------------------


def coffee_grammar(labels: Mapping[str, Any]) -> asr.Grammar:
    """Orders as the benchmark describes them: size, roast and shots in any order, then drink and additions."""
    slots = {name: "|".join(sorted(values, key=len, reverse=True)) for name, values in labels["slots"].items()}
    named = {name: f"(?P<{name}>{values})" for name, values in slots.items()}
    before = "|".join(named[name] for name in ("size", "roast", "numberOfShots"))
    added = f"(?:{named['milkAmount']}|{named['sugarAmount']})"
    carriers = "|".join(labels["carrier_phrases"])
    order = rf"(?:(?:{before}) ){{0,3}}{named['coffeeDrink']}"
    return asr.Grammar(rf"(?:{carriers}) an? {order}(?: (?:with|and) {added}){{0,2}}")


def is_right(label: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether an order was accepted and has every slot, and no other."""
    expected = {name: [value.strip()] for name, value in label["slots"].items()}
    return bool(row["accepted"]) and row["groups"] == expected


def run_coffee(args: argparse.Namespace, recognizer: asr.Recognizer) -> dict[str, Any]:
    """Accepted orders by signal-to-noise ratio, next to matching what free decoding hears."""
    labels = json.loads(args.labels.read_text(encoding="utf-8"))
    grammar = coffee_grammar(labels)
    clips = select(load_manifest(args.manifest), ["coffee_commands"])[args.start :: args.every]
    noises = (
        sorted(path for path in args.noise_dir.glob("*") if re.search(args.noise, path.name)) if args.noise_dir else []
    )
    rows = []
    for snr in [None, *(SNRS_DB if noises else ())]:
        right = free_right = n_rejected = 0
        for number, clip in enumerate(progress_bar(iterable=clips, desc=f"coffee, {snr or 'clean'}")):
            samples = read_audio(clip.path)
            if snr is not None:
                samples = add_noise(samples, read_audio(noises[number * 7 % len(noises)]), snr)
            label = labels["labels"][clip.path.stem]
            heard = hear(recognizer, grammar, samples)
            right += is_right(label, heard)
            n_rejected += not heard["accepted"]
            free_right += is_right(label, matched_free(grammar, heard["free"]))
            was_said = is_right(label, {**heard, "accepted": True})
            _dump(args, {"id": clip.path.stem, "snr": snr, "right": was_said, "label": label, **heard})
        rows.append(
            {
                "snr_db": snr,
                "clips": len(clips),
                "accepted_right": round(right / len(clips), 4),
                "rejected": round(n_rejected / len(clips), 4),
                "free_right": round(free_right / len(clips), 4),
            }
        )
    return {"pattern": grammar.pattern, "rows": rows}


def matched_free(grammar: asr.Grammar, heard: str) -> dict[str, Any]:
    """What remains when free decoding is matched against the grammar afterwards."""
    writings = grammar.write(heard)
    match = grammar.fullmatch(writings[0].text) if writings else None
    if match is None:
        return {"accepted": False, "groups": {}, "text": ""}
    text = writings[0].text
    groups = {name: [text[a:b] for a, b in spans] for name, spans in match.groups.items() if spans}
    return {"accepted": True, "groups": groups, "text": text}


# --- spoken forms ---------------------------------------------------------------------------------------------------


def kind_grammars(contacts: Path) -> dict[str, asr.Grammar]:
    """The grammar of each kind of `benchmarks.grammar_cases`."""
    names = contacts.read_text(encoding="utf-8").split("\n")
    lists = {"contact": [name for name in names if name]}
    return {
        kind: asr.Grammar(pattern, lists=lists if kind == "contact" else None) for kind, pattern in PATTERNS.items()
    }


def run_spoken(args: argparse.Namespace, recognizer: asr.Recognizer) -> dict[str, Any]:
    """Sentence accuracy by kind, next to free decoding written by the same grammar."""
    entries = [json.loads(line) for line in args.manifest.read_text(encoding="utf-8").splitlines()]
    grammars = kind_grammars(args.contacts)
    counts: dict[str, list[int]] = {kind: [0, 0, 0, 0] for kind in grammars}
    for entry in progress_bar(iterable=entries[args.start :: args.every], desc="spoken forms"):
        kind, written = entry["kind"], entry["written"]
        heard = hear(recognizer, grammars[kind], read_audio(args.manifest.parent / entry["audio"]))
        free = matched_free(grammars[kind], heard["free"])
        counts[kind][0] += 1
        counts[kind][1] += heard["accepted"] and heard["text"] == written
        counts[kind][2] += heard["text"] == written
        counts[kind][3] += free["text"] == written
        row = {"kind": kind, "written": written, "right": heard["text"] == written, "said": entry["text"]}
        _dump(args, {**row, **heard, "free_text": free["text"]})
    rows = [
        {
            "kind": kind,
            "clips": n,
            "right": _share(right, n),
            "right_ignoring_rejection": _share(best, n),
            "free_right": _share(free, n),
        }
        for kind, (n, right, best, free) in counts.items()
        if n
    ]
    return {"rows": rows}


# --- rejection ------------------------------------------------------------------------------------------------------


def run_reject(args: argparse.Namespace, recognizer: asr.Recognizer) -> dict[str, Any]:
    """Share of other speech that each grammar accepts."""
    grammars = kind_grammars(args.contacts)
    if args.labels:
        grammars["coffee"] = coffee_grammar(json.loads(args.labels.read_text(encoding="utf-8")))
    clips = select(load_manifest(args.manifest), REJECT_CORPORA, "dev")[args.start :: args.every]
    rows = []
    for kind, grammar in grammars.items():
        own = {"coffee": "coffee_commands"}.get(kind)
        others = [clip for clip in clips if clip.corpus != own]
        accepted = 0
        for clip in progress_bar(iterable=others, desc=kind):
            heard = hear(recognizer, grammar, read_audio(clip.path), with_free=False)
            accepted += heard["accepted"]
            _dump(args, {"kind": kind, "negative": True, "right": False, "clip": _name(clip), **heard})
        rows.append({"kind": kind, "clips": len(others), "false_accepts": _share(accepted, len(others))})
    return {"rows": rows}


# --- speed ----------------------------------------------------------------------------------------------------------


def run_speed(args: argparse.Namespace, recognizer: asr.Recognizer) -> dict[str, Any]:
    """CPU seconds a second of speech with each kind's grammar and without any, on the same clips in turns."""
    entries = [json.loads(line) for line in args.manifest.read_text(encoding="utf-8").splitlines()]
    grammars = kind_grammars(args.contacts)
    rows = []
    for kind, grammar in grammars.items():
        clips = [entry for entry in entries if entry["kind"] == kind][args.start :: args.every]
        spent, seconds = [0.0, 0.0], 0.0
        for clip in progress_bar(iterable=clips, desc=kind):
            samples = read_audio(args.manifest.parent / clip["audio"])
            seconds += len(samples) / 16000
            for index, used in enumerate((None, grammar)):
                started = time.process_time()
                recognizer.transcribe((samples, 16000), grammar=used)
                spent[index] += time.process_time() - started
        without, with_ = (cpu_s / seconds for cpu_s in spent)
        rows.append({"kind": kind, "clips": len(clips), "rtf": round(with_, 4), "rtf_without": round(without, 4)})
        rows[-1]["ratio"] = round(with_ / without, 3)
    return {"rows": rows}


def _name(clip: Clip) -> str:
    return f"{clip.corpus}/{clip.path.name}"


def _share(count: int, total: int) -> float:
    return round(count / total, 4)


def _dump(args: argparse.Namespace, row: dict[str, Any]) -> None:
    if args.dump:
        with args.dump.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


PARTS = {"coffee": run_coffee, "spoken": run_spoken, "reject": run_reject, "speed": run_speed}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure one part, print it, write JSON."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--bundle", type=Path, help="the embedded one if not given")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--labels", type=Path, help="coffee_commands.json")
    parser.add_argument("--contacts", type=Path, help="names, one a line")
    parser.add_argument("--noise-dir", type=Path)
    parser.add_argument("--noise", default="", help="regular expression that the names of noise files must match")
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip (%(default)s)")
    parser.add_argument(
        "--start", type=int, default=0, help="from this one on; the halves are for fitting and for reporting"
    )
    parser.add_argument("--dump", type=Path, help="append every row with its evidence to this JSON-lines file")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/grammar-PART.json")
    args = parser.parse_args(words)
    figures = PARTS[args.part](args, asr.Recognizer(args.bundle))
    command = "python -m benchmarks.grammar " + " ".join(words)
    result = {"schema": 1, "kind": f"grammar-{args.part}", **describe(words), "command": command, **figures}
    out = args.out or Path(f"benchmarks/results/grammar-{args.part}.json")
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for row in figures["rows"]:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()

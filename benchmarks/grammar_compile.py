"""What a grammar costs: to compile, to tell which words may follow, to hold 20,000 names, to survive a hostile pattern.

    python -m benchmarks.grammar_compile

The patterns are those of grammar_patterns.tsv, one for each of 66 things that products ask their users to say. Next to
ours stand llguidance and outlines-core, which constrain the tokens of a language model: over the same patterns, with
all bytes and the words of all the patterns as tokens, along the same written texts. They follow written tokens and we
follow spoken words, so theirs does less. All times are CPU time of the one thread, so that a busy machine does not
matter; to ask for it takes about half a microsecond, which is in the times of single steps.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import thread_time as clock
from typing import Any

import numpy as np

from asr.bundle import Bundle, default_bundle_path
from asr.language import Language
from benchmarks.grammar_rivals import measure_llguidance, measure_outlines, spread_us
from benchmarks.process import describe
from lm.grammar.automaton import DEAD
from lm.grammar.errors import GrammarError
from lm.grammar.grammar import Grammar
from lm.grammar.readings import default_readings
from lm.lexicon_build import assemble_lexicon
from lm.vocabulary import SPECIAL_WORDS

PATTERNS_FILE = Path(__file__).with_name("grammar_patterns.tsv")
LISTS = {"contact": ("Maria Alvarez", "Kim Lee", "Dr. Okafor", "Jo", "Anne-Marie Dubois", "Sam O'Neill")}
N_NAMES = 20_000
WALKS, LONGEST_WALK = 8, 25
BARS = {
    "compile_p50_ms": 2.0, "compile_max_ms": 50.0, "mask_p50_us": 5.0, "mask_p999_us": 200.0,
    "mask_again_p50_us": 5.0, "mask_again_p999_us": 200.0, "step_p50_us": 5.0, "step_p999_us": 200.0,
    "list_ms": 300.0, "list_mb": 20.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pattern:
    """A row of the file of patterns."""

    name: str
    pattern: str
    matches: tuple[str, str]
    matches_not: str

    @property
    def expanded(self) -> str:
        """The pattern with its lists as alternatives, for those who know no lists."""
        expanded = self.pattern
        for name, entries in LISTS.items():
            expanded = expanded.replace(f"{{{name}}}", f"({'|'.join(map(re.escape, entries))})")
        return expanded


def read_patterns() -> list[Pattern]:
    """All patterns of the file, in its order."""
    rows = [line.split("\t") for line in PATTERNS_FILE.read_text(encoding="utf-8").splitlines()[1:]]
    return [Pattern(name, pattern, (first, second), wrong) for _, name, pattern, first, second, wrong in rows]


def compiled(pattern: Pattern) -> Grammar:
    """Its grammar."""
    lists = {name: entries for name, entries in LISTS.items() if f"{{{name}}}" in pattern.pattern}
    return Grammar(pattern.pattern, lists=lists)


def seconds(action: Callable[..., object], *arguments: Any) -> float:
    """How long a call takes."""
    started = clock()
    action(*arguments)
    return clock() - started


def measure_compile(patterns: Sequence[Pattern]) -> dict[str, Any]:
    """Parse, automaton and start state of every pattern: the median of five runs."""
    first_s = seconds(default_readings)
    times_ms = {p.name: 1e3 * median(seconds(compiled, p) for _ in range(5)) for p in patterns}
    slowest = sorted(times_ms.items(), key=lambda item: -item[1])[:5]
    return {
        "readings_once_ms": round(first_s * 1e3, 2),
        "p50_ms": round(median(times_ms.values()), 3),
        "max_ms": round(max(times_ms.values()), 3),
        "slowest": {name: round(value, 3) for name, value in slowest},
    }


@dataclass(slots=True)
class Steps:
    """Times along the walks, in seconds."""

    first_step: list[float]
    step: list[float]
    first_mask: list[float]
    mask: list[float]


def walk(grammar: Grammar, rng: np.random.Generator, steps: Steps) -> str:
    """One random way into a grammar, as spoken, until it may end; every state's words are told twice."""
    automaton, words = grammar.automaton, sorted(grammar.automaton.words())
    state, said = automaton.start, list[str]()
    while len(said) < LONGEST_WALK:
        steps.first_mask.append(seconds(automaton.following, state))
        steps.mask.append(seconds(automaton.following, state))
        following = []
        for word in words:
            started = clock()
            following.append(automaton.step(state, word))
            steps.first_step.append(clock() - started)
        allowed = [index for index, after in enumerate(following) if after != DEAD]
        if not allowed or (automaton.is_final(state) and rng.random() < 0.3):
            break
        index = int(rng.choice(allowed))
        steps.step.append(seconds(automaton.step, state, words[index]))
        said.append(words[index])
        state = following[index]
    return " ".join(said)


def measure_masks(patterns: Sequence[Pattern]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Times of steps and of all words of a state; and written texts of the walks, by pattern."""
    rng, steps, texts = np.random.default_rng(0), Steps([], [], [], []), {}
    n_words = []
    for pattern in patterns:
        grammar = compiled(pattern)
        n_words.append(len(grammar.automaton.words()))
        walks = [walk(grammar, rng, steps) for _ in range(WALKS)]
        written = [writings[0].text for said in walks if (writings := grammar.write(said))]
        texts[pattern.name] = [*pattern.matches, *written]
    figures = {
        "walks": WALKS * len(patterns),
        "walks_that_matched": sum(len(texts[pattern.name]) - len(pattern.matches) for pattern in patterns),
        "words_a_pattern": {"p50": median(n_words), "max": max(n_words)},
        "step_first_time": spread_us(steps.first_step),
        "step_again": spread_us(steps.step),
        "mask_first_time": spread_us(steps.first_mask),
        "mask_again": spread_us(steps.mask),
    }
    return figures, texts


def make_names(language: Language, count: int) -> list[str]:
    """Different names of two words: of the lexicon, and every tenth with a last word that the lexicon lacks."""
    rng, lexicon = np.random.default_rng(0), language.lexicon
    spellings = [lexicon.word(word) for word in rng.permutation(np.arange(3, len(lexicon)))]
    spellings = [word.capitalize() for word in spellings if re.fullmatch("[a-z]{3,}", word)]
    firsts, lasts = spellings[:2000], spellings[2000:12000]
    made_up = [f"{a}{b.lower()}" for a, b in zip(lasts[:1000], lasts[1000:2000], strict=True)]
    names = dict[str, None]()
    while len(names) < count:
        last = made_up if len(names) % 10 == 0 else lasts
        names[f"{firsts[int(rng.integers(2000))]} {last[int(rng.integers(len(last)))]}"] = None
    return list(names)


def measure_list(language: Language) -> dict[str, Any]:
    """20,000 names: to construct the grammar, and with the pronunciations and the lexicon of its words."""
    names = make_names(language, N_NAMES)

    def construct() -> Grammar:
        return Grammar("call {contact}", lists={"contact": names})

    def pronounce(grammar: Grammar) -> None:
        words = grammar.automaton.words()
        variants = language.pronouncer.pronounce(words)
        spellings = [*SPECIAL_WORDS, *sorted(variants)]
        assemble_lexicon(spellings, variants, np.zeros(len(spellings)))

    times_s = [seconds(construct) for _ in range(5)]
    grammar = construct()
    words = grammar.automaton.words()
    language.pronouncer.pronounce(["one"])  # opens what it needs
    pronounce_s = seconds(pronounce, grammar)
    gc.collect()
    tracemalloc.start()
    kept = construct()
    kept_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    pronounce(kept)
    _, pronounced_peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "names": len(names),
        "words": len(words),
        "words_not_in_lexicon": sum(language.lexicon.find(word) is None for word in words),
        "construct_ms": round(1e3 * median(times_s), 1),
        "peak_mb": round(peak_bytes / 1e6, 2),
        "kept_mb": round(kept_bytes / 1e6, 2),
        "pronounce_first_time_ms": round(1e3 * pronounce_s, 1),
        "peak_with_pronunciations_mb": round(pronounced_peak_bytes / 1e6, 2),
    }


HOSTILE = {
    "repeat of 129 optional": r"(a?){1,129}",
    "repeat of repeats": r"(\d{1,129}){1,129}",
    "repeats three deep": r"((\d{1,99}){1,99}){1,99}",
    "nested stars": r"((a*)*)*b",
    "catastrophic backtracking": r"(a+a+)+b",
    "overlapping alternatives": r"(a|b|ab)*c",
    "late choice": r"(a|b)*a(a|b){20}",
    "all of Unicode": "[\x01-\U0010ffff]{1,100}",
    "10,000 alternatives": "|".join(f"name{number}" for number in range(10_000)),
    "1 MB": "a" * 1_000_000,
    "1 MB of brackets": "(" * 1_000_000,
    "100,000 nested groups": "(" * 50_000 + "a" + ")" * 50_000,
    "huge repeat": r"\d{1,1000000000}",
    "every word, ten times": r"(\w{1,20} ?){1,10}",
    "back-reference": r"(a+)\1",
    "look-ahead": r"(?=a)a",
    "open bracket": "[a-",
    "unknown list": "call {nobody}",
    "nothing can match": r"[^\w\W]",
    "empty": "",
}
"""Patterns that a careless or a hostile author may write."""
_SAID = "a b one double two a hundred and five call a a b c two two nine oh " * 3


def measure_hostile() -> list[dict[str, Any]]:
    """For each of `HOSTILE`, the time to compile it and to follow 50 words as far as they go, or the error."""
    rows = []
    for name, pattern in HOSTILE.items():
        started = clock()
        row: dict[str, Any] = {"name": name, "pattern": pattern[:40]}
        try:
            grammar = Grammar(pattern)
            row["compile_ms"] = round(1e3 * (clock() - started), 2)
            row["words_followed"] = _follow(grammar)
        except GrammarError as error:
            row["error"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"[:200]
        rows.append({**row, "total_ms": round(1e3 * (clock() - started), 2)})
    return rows


def _follow(grammar: Grammar) -> int:
    """How many words of `_SAID` go on from where the grammar was; those that may not follow are passed over."""
    state, count = grammar.automaton.start, 0
    for word in _SAID.split():
        after = DEAD if state == DEAD else grammar.automaton.step(state, word)
        state, count = (state, count) if after == DEAD else (after, count + 1)
    return count


def against_bars(figures: dict[str, Any]) -> dict[str, Any]:
    """Each bar with the value that stands against it."""
    masks, compile_, names = figures["masks"], figures["compile"], figures["list"]
    values = {
        "compile_p50_ms": compile_["p50_ms"], "compile_max_ms": compile_["max_ms"],
        "mask_p50_us": masks["mask_first_time"]["p50_us"], "mask_p999_us": masks["mask_first_time"]["p999_us"],
        "mask_again_p50_us": masks["mask_again"]["p50_us"], "mask_again_p999_us": masks["mask_again"]["p999_us"],
        "step_p50_us": masks["step_first_time"]["p50_us"], "step_p999_us": masks["step_first_time"]["p999_us"],
        "list_ms": names["construct_ms"], "list_mb": names["peak_mb"],
    }  # fmt: skip
    return {name: {"bar": bar, "value": values[name], "met": values[name] <= bar} for name, bar in BARS.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write JSON."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="whose pronunciations to take; the embedded one if not given")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/grammar-compile.json"))
    args = parser.parse_args(arguments)
    patterns = read_patterns()
    figures: dict[str, Any] = {"patterns": len(patterns), "compile": measure_compile(patterns)}
    figures["masks"], texts = measure_masks(patterns)
    tokens = sorted({word for pattern in patterns for word in compiled(pattern).automaton.words()})
    sources = [(pattern.expanded, texts[pattern.name]) for pattern in patterns]
    for name, measure in (("llguidance", measure_llguidance), ("outlines_core", measure_outlines)):
        figures[name] = measure(sources, tokens)
    figures["list"] = measure_list(Language(Bundle.open(args.bundle or default_bundle_path())))
    figures["hostile"] = measure_hostile()
    figures["bars"] = against_bars(figures)
    command = "python -m benchmarks.grammar_compile " + " ".join(arguments)
    result = {"schema": 1, "kind": "grammar-compile", **describe(arguments), "command": command.strip(), **figures}
    args.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for name, value in figures.items():
        print(name, json.dumps(value, ensure_ascii=False))


if __name__ == "__main__":
    main()

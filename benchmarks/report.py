"""Result files -> one Markdown page and one plot of word error rate against speed or size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OURS = "sottovoce"
NARROW_BEAM = 8
OURS_NARROW = f"{OURS}, beam {NARROW_BEAM}"
Result = Mapping[str, Any]


class ResultError(ValueError):
    """A file is not a result of asr-bench."""


def load(path: Path) -> Result:
    """Read a result file.

    Raises:
        ResultError: it is not one.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: not a readable JSON file: {error}") from error
    if not isinstance(result, dict) or "kind" not in result or "date" not in result:
        raise ResultError(f"{path}: expected a result of asr-bench, found JSON without kind and date")
    return result


def markdown(results: Mapping[str, Result]) -> str:
    """One section for each result file, by file name: its table, and the command and machine it comes from."""
    sections = []
    for name, result in results.items():
        machine = result["machine"]
        source = (
            f"{result['date'][:10]}, {machine['cpu']}, Python {machine['python']}, commit {result['commit'] or 'none'}"
        )
        sections.append(f"### {name}\n\n{result_table(result)}\n\n`{result['command']}` ({source})\n")
    return "\n".join(sections)


def result_table(result: Result) -> str:
    """The table of one result, by its kind."""
    if "rows" in result:
        return rows_table(result)
    return comparison_table(result) if result["kind"] in {"wer", "speed", "device"} else figures_table(result)


def comparison_table(result: Result) -> str:
    """A row for each system: WER for each corpus with its interval, speed and its ratio to ours, memory, size."""
    systems: Mapping[str, Any] = result["systems"]
    corpora = list(dict.fromkeys(corpus for system in systems.values() for corpus in system.get("corpora", {})))
    ours = systems.get(OURS, {}).get("rtf")
    head = [
        "system",
        *(f"WER % {corpus}" for corpus in corpora),
        "RTF",
        f"RTF / {OURS}",
        "peak RSS MB",
        "model MB",
        "input",
    ]
    rows = []
    for name, system in systems.items():
        wers = [_wer(system.get("corpora", {}).get(corpus)) for corpus in corpora]
        ratio = f"{system['rtf'] / ours:.2f}" if ours else "-"
        sizes = [f"{system[key] / 1e6:.0f}" for key in ("peak_rss_bytes", "model_bytes")]
        rows.append([name, *wers, f"{system['rtf']:.3f}", ratio, *sizes, system["mode"]])
    return table(head, rows)


def _wer(scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return "-"
    low, high = scores["whisper"]["interval_95"]
    return f"{100 * scores['whisper']['wer']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def figures_table(result: Result) -> str:
    """A row for each figure below `figures`, nested names joined by dots."""
    return table(["figure", "value"], [[name, _shown(value)] for name, value in _flat(result["figures"])])


def rows_table(result: Result) -> str:
    """A row for each of `rows`, nested names joined by dots."""
    rows = [dict(_flat(row)) for row in result["rows"]]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return table(names, [[_shown(row.get(name, "")) for name in names] for row in rows])


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        flat += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return flat


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def points(results: Sequence[Result], axis: str) -> dict[str, tuple[float, float]]:
    """(speed or size, WER %) of each system that has a word error rate, pooled over corpora.

    Of several files with a system the first one counts; a beam that is not the bundle's makes another system.
    """
    found: dict[str, tuple[float, float]] = {}
    for result in results:
        for name, system in result.get("systems", {}).items():
            scores = [corpus["whisper"] for corpus in system.get("corpora", {}).values()]
            n_words = sum(score["words"] for score in scores)
            if n_words:
                errors = sum(score[key] for score in scores for key in ("substitutions", "insertions", "deletions"))
                x = system["rtf"] if axis == "rtf" else system["model_bytes"] / 1e6
                beam = system.get("options", {}).get("beam_size")
                found.setdefault(f"{name}, beam {beam}" if beam else name, (x, 100 * errors / n_words))
    return found


def plot(places: Mapping[str, tuple[float, float]], axis: str, path: Path) -> None:
    """Draw one labelled point for each system; both axes are better towards zero."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    ordered = sorted(places.items(), key=lambda place: place[1])
    for number, (name, (x, wer)) in enumerate(ordered):
        is_ours = name == OURS or name.startswith(f"{OURS},")
        axes.scatter(x, wer, s=70 if is_ours else 40, marker="*" if is_ours else "o")
        beside = [rate for _, (_, rate) in ordered[max(number - 1, 0) : number + 2]]
        is_below = wer < sum(beside) / len(beside)  # names of neighbours would cover each other
        axes.annotate(name, (x, wer), xytext=(6, -12 if is_below else 5), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=0)
    axes.margins(x=0.25)
    axes.set_xlabel("CPU seconds per second of audio, one thread" if axis == "rtf" else "model on disk, MB")
    axes.set_ylabel("word error rate, %")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=150)
    plt.close(figure)

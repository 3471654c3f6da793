"""The device sheet for people: a Markdown page with all figures and a plot of the main ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import NARROW_BEAM, OURS, OURS_NARROW, Result, table

MOMENT = "first"
"""Moment of a word that the targets and the plot are about; see `benchmarks.emission`."""
TARGET_CHUNK_MS = 320
PARTS = {
    "waiting": "wait for the chunk", "later": "later chunks", "look_ahead": "look-ahead", "buffering": "buffering",
    "compute": "compute",
}  # fmt: skip
LABELS = {"first": "first shown", "lasting": "shown for good", "stable": "promised"}
NOT_MEASURED = "-"
HOW = """\
Every measurement runs in a fresh process, on one thread unless said otherwise. RTF is CPU seconds for each second of
audio. Start is `import asr` and `Recognizer()`, median of five processes, with files in the page cache. Memory is
looked at from outside after 60 s of streamed speech; "empty" has imported NumPy only. Chunk and finish times are CPU
time of the whole engine, features and search included, `finish()` right after the last word. Emission latency counts
from the end of a word by forced alignment (pocketsphinx). For whole-file systems the time for a clip is what a speaker
waits after it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bar that the engine is held against."""

    name: str
    limit: float
    found: float | None
    unit: str

    @property
    def verdict(self) -> str:
        """Whether it is reached."""
        if self.found is None:
            return "not measured"
        return "yes" if self.found <= self.limit else "no"


def targets(sheet: Result) -> list[Target]:
    """The bars, with what the sheet's first bundle has."""
    bundle = next(iter(sheet["bundles"].values()))
    chunk: Mapping[str, Any] = next((row for row in bundle["chunks"] if row["chunk_ms"] == TARGET_CHUNK_MS), {})
    shown = _emission_row(bundle, TARGET_CHUNK_MS) or {}
    where = f"at {TARGET_CHUNK_MS} ms chunks"
    return [
        Target(f"word shown after its end, median, {where}", 500, shown.get("p50_ms"), "ms"),
        Target(f"word shown after its end, 90th percentile, {where}", 800, shown.get("p90_ms"), "ms"),
        Target(f"finish(), 90th percentile, {where}", 150, chunk.get("finish", {}).get("p90_ms"), "ms"),
        Target("steady memory above Python with NumPy", 90, bundle["memory"]["steady_above_empty_bytes"] / 1e6, "MB"),
        Target(f"RTF at a beam of {NARROW_BEAM} as a share of the next's", 0.35, share_of_next(sheet["systems"]), ""),
    ]


def share_of_next(systems: Mapping[str, Mapping[str, float]]) -> float | None:
    """Our compute, with a narrow beam, as a share of that of the quickest other system; None where there is none."""
    others = [figures["rtf"] for name, figures in systems.items() if name not in (OURS, OURS_NARROW)]
    return systems[OURS_NARROW]["rtf"] / min(others) if others and OURS_NARROW in systems else None


def markdown(sheet: Result, plot: str | None = None) -> str:
    """The page; `plot` is the path of the picture as the page is to name it."""
    source = f"`{sheet['command']}` ({sheet['date'][:10]}, commit {sheet['commit'] or 'none'})"
    clips = f"{sheet['selection']['clips']} clips, {sheet['selection']['audio_s']:g} s of audio."
    sections = [
        "# Device sheet",
        source,
        *([f"![what the engine costs on this machine]({plot})"] if plot else []),
        _machine_table(sheet),
        f"{clips} {HOW}",
        f"## Targets\n\n{_target_table(targets(sheet))}",
        f"## Size, start, memory\n\n{_bundle_table(sheet['bundles'])}",
        f"## Compute\n\n{_compute_table(sheet['bundles'])}\n\n{_energy_note(sheet['bundles'])}",
        f"## Emission latency\n\n{_emission_section(sheet['bundles'])}",
        f"## Next to others\n\n{_system_table(sheet['systems'])}",
    ]
    return "\n\n".join(sections) + "\n"


def _machine_table(sheet: Result) -> str:
    machine, versions = sheet["machine"], sheet["versions"]
    memory = machine["memory_bytes"]
    return table(["machine", ""], [
        ["processor", machine["cpu"]],
        ["cores", f"{machine['cores']}, {machine['allowed_cores']} of them for this run"],
        ["memory", f"{memory / 2**30:.0f} GiB" if memory else NOT_MEASURED],
        ["system", f"{machine['system']}, {machine['kernel']}"],
        ["Python", machine["python"]],
        *([name, version] for name, version in versions.items()),
    ])  # fmt: skip


def _target_table(bars: Sequence[Target]) -> str:
    rows = [
        [bar.name, f"{bar.limit:g} {bar.unit}".strip(), _number(bar.found, unit=bar.unit), bar.verdict] for bar in bars
    ]
    return table(["", "at most", "found", "reached"], rows)


def _bundle_table(bundles: Mapping[str, Any]) -> str:
    columns = [_bundle_column(bundle) for bundle in bundles.values()]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return table(["", *bundles], rows)


def _bundle_column(bundle: Mapping[str, Any]) -> dict[str, str]:
    """What does not depend on the chunk size, by what it is called."""
    two_threads = bundle["two_threads"] or {}
    memory = {
        f"{name.removesuffix('_bytes').replace('_', ' ').replace('rss', 'RSS')}, MB": f"{value / 1e6:.1f}"
        for name, value in bundle["memory"].items()
    }
    return {
        "encoder weights": str(bundle["encoder_weights"]),
        **{f"{part}, MB": f"{size / 1e6:.2f}" for part, size in bundle["bytes"].items()},
        "start: CPU time, s": _number(bundle["start"]["cpu_s"]),
        "start: wall time of import, s": _number(bundle["start"]["import_s"]),
        "start: wall time of Recognizer(), s": _number(bundle["start"]["recognizer_s"]),
        **memory,
        "two threads: wall time / audio": _number(two_threads.get("wall_rtf"), 4),
        "two threads: wall time / audio, encoder alone": _number(two_threads.get("encoder_wall_rtf"), 4),
    }


def _compute_table(bundles: Mapping[str, Any]) -> str:
    head = ["bundle", "chunk ms", "RTF", "RTF encoder alone", "chunk p50 / p99 / p99.9 ms (n)", "finish p50 / p90 ms",
            "encoder MMAC / s of audio", "J / s of audio"]  # fmt: skip
    rows = []
    for name, bundle in bundles.items():
        for row in bundle["chunks"]:
            macs = row["encoder_macs_per_s"]
            rows.append([
                name,
                str(row["chunk_ms"]),
                f"{row['rtf']:.4f}",
                f"{row['encoder_rtf']:.4f}",
                f"{_percentiles(row['chunk'], ('p50_ms', 'p99_ms', 'p99.9_ms'))} ({row['chunk']['n']})",
                _percentiles(row["finish"], ("p50_ms", "p90_ms")),
                NOT_MEASURED if macs is None else f"{macs / 1e6:.0f}",
                _number(row["joules_per_s"], 3),
            ])  # fmt: skip
    return table(head, rows)


def _energy_note(bundles: Mapping[str, Any]) -> str:
    if any(row["joules_per_s"] is None for bundle in bundles.values() for row in bundle["chunks"]):
        return (
            "This machine does not tell its energy: RTF (CPU seconds) and MACs of the encoder stand for it. "
            "They are not joules."
        )
    return "Energy is that of the whole processor package (RAPL), idle power and other processes included."


def _emission_section(bundles: Mapping[str, Any]) -> str:
    measured = {name: bundle["emission"] for name, bundle in bundles.items() if bundle["emission"]}
    if not measured:
        return "Not measured: pocketsphinx is not installed, or no clip has a text."
    rows = []
    for name, emission in measured.items():
        for row in emission["rows"]:
            means = [f"{row['mean_ms'][part]:.0f}" if row["n"] else NOT_MEASURED for part in PARTS]
            percentiles = _percentiles(row, ("p50_ms", "p90_ms", "p99_ms"), 0)
            rows.append([name, str(row["chunk_ms"]), row["moment"], str(row["n"]), percentiles, *means])
    head = ["bundle", "chunk ms", "moment", "words", "p50 / p90 / p99 ms", *(f"mean {part}" for part in PARTS.values())]
    return (
        "`first`: shown at its place; `lasting`: shown and not changed any more; `stable`: promised not to change.\n\n"
        + table(head, rows)
    )


def _system_table(systems: Mapping[str, Any]) -> str:
    ours = systems[OURS]["rtf"]
    rows = [
        [name, system["mode"], f"{system['rtf']:.3f}", f"{ours / system['rtf']:.2f}",
         _percentiles(system["clip"], ("p50_ms", "p90_ms"), 0), f"{system['load_cpu_s']:.2f}",
         f"{system['peak_rss_bytes'] / 1e6:.0f}", f"{system['model_bytes'] / 1e6:.0f}"]
        for name, system in systems.items()
    ]  # fmt: skip
    head = ["system", "input", "RTF", f"{OURS} / it", "clip p50 / p90 ms", "load CPU s", "peak RSS MB", "model MB"]
    return table(head, rows)


def _emission_row(bundle: Mapping[str, Any], chunk_ms: int, moment: str = MOMENT) -> Mapping[str, Any] | None:
    rows = (bundle["emission"] or {}).get("rows", [])
    return next((row for row in rows if (row["chunk_ms"], row["moment"]) == (chunk_ms, moment)), None)


def _number(value: float | None, digits: int = 2, unit: str = "") -> str:
    return NOT_MEASURED if value is None else f"{value:.{digits}f} {unit}".strip()


def _percentiles(figures: Mapping[str, Any], names: Sequence[str], digits: int = 1) -> str:
    return " / ".join(_number(figures.get(name), digits) for name in names)


def plot(sheet: Result, path: Path) -> None:
    """Draw size, compute and memory next to the others, chunk times and emission latency of the first bundle."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(14, 7.5), layout="constrained")
    bundles, systems = sheet["bundles"], sheet["systems"]
    name, bundle = next(iter(bundles.items()))
    _plot_bytes(axes[0, 0], bundles)
    _plot_systems(axes[0, 1], {n: s["rtf"] for n, s in systems.items()}, "CPU seconds per second of audio", "{:.3f}")
    _plot_systems(axes[0, 2], {n: s["peak_rss_bytes"] / 1e6 for n, s in systems.items()}, "peak memory, MB", "{:.0f}")
    _plot_chunks(axes[1, 0], bundle)
    _plot_emission_parts(axes[1, 1], bundle)
    _plot_emission_range(axes[1, 2], bundle)
    machine = sheet["machine"]
    figure.suptitle(f"{name}: {machine['cpu']}, one thread, {sheet['selection']['audio_s']:.0f} s of audio")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plot_bytes(axes: Any, bundles: Mapping[str, Any]) -> None:
    """A bar for each bundle, stacked by part."""
    left = [0.0] * len(bundles)
    for part in next(iter(bundles.values()))["bytes"]:
        if part == "total":
            continue
        width = [bundle["bytes"][part] / 1e6 for bundle in bundles.values()]
        axes.barh(list(bundles), width, left=left, label=part, height=0.5)
        left = [start + size for start, size in zip(left, width, strict=True)]
    axes.invert_yaxis()
    axes.set(title="size on disk, MB", ylim=(len(bundles) - 0.5, -0.5 - len(bundles) * 0.8))
    axes.legend(ncols=3, fontsize=8, loc="upper left")


def _plot_systems(axes: Any, values: Mapping[str, float], title: str, form: str) -> None:
    """A bar for each system, ours in another colour."""
    bars = axes.barh(
        list(values), list(values.values()), color=["C3" if name in (OURS, OURS_NARROW) else "C7" for name in values]
    )
    axes.bar_label(bars, labels=[form.format(value) for value in values.values()], padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_title(title)


def _plot_chunks(axes: Any, bundle: Mapping[str, Any]) -> None:
    """Compute for each chunk by chunk size: three percentiles, and `finish()`."""
    rows = bundle["chunks"]
    kinds = [("chunk", "p50_ms"), ("chunk", "p99_ms"), ("chunk", "p99.9_ms"), ("finish", "p90_ms")]
    for number, (kind, key) in enumerate(kinds):
        places = [place + 0.2 * (number - 1.5) for place in range(len(rows))]
        label = f"{kind} {key.removesuffix('_ms')}" if kind == "chunk" else "finish() p90"
        bars = axes.bar(places, [row[kind].get(key, 0.0) for row in rows], width=0.2, label=label)
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
    axes.set_xticks(range(len(rows)), [f"{row['chunk_ms']} ms" for row in rows])
    axes.set(title="CPU time for each chunk, ms", xlabel="chunk")
    _legend_above(axes)


def _plot_emission_parts(axes: Any, bundle: Mapping[str, Any]) -> None:
    """What the mean latency of a shown word consists of, with the median and the 90th percentile of the whole."""
    axes.set(title="word first shown after its end: mean parts, ms", xlabel="chunk")
    rows = list(_measured_rows(bundle, MOMENT))
    if not rows:
        return _nothing(axes)
    names = [f"{row['chunk_ms']} ms" for row in rows]
    bottom = [0.0] * len(rows)
    for part, label in PARTS.items():
        height = [max(0.0, row["mean_ms"][part]) for row in rows]
        axes.bar(names, height, bottom=bottom, label=label, width=0.5)
        bottom = [low + more for low, more in zip(bottom, height, strict=True)]
    for key, marker in (("p50_ms", "o"), ("p90_ms", "^")):
        axes.plot(names, [row[key] for row in rows], marker, color="black", label=key.removesuffix("_ms"))
    _legend_above(axes)
    return None


def _plot_emission_range(axes: Any, bundle: Mapping[str, Any]) -> None:
    """50th to 99th percentile of each moment, a point at the 90th."""
    axes.set(title="word after its end: p50, p90, p99, ms", xlabel="chunk")
    found = {moment: list(_measured_rows(bundle, moment)) for moment in LABELS}
    if not any(found.values()):
        return _nothing(axes)
    for number, (moment, rows) in enumerate(found.items()):
        places = [place + 0.2 * (number - 1) for place in range(len(rows))]
        middle = [row["p90_ms"] for row in rows]
        low = [row["p90_ms"] - row["p50_ms"] for row in rows]
        high = [row["p99_ms"] - row["p90_ms"] for row in rows]
        axes.errorbar(places, middle, [low, high], fmt="o", capsize=5, label=LABELS[moment])
    rows = found["first"]
    axes.set_xticks(range(len(rows)), [f"{row['chunk_ms']} ms" for row in rows])
    _legend_above(axes)
    return None


def _measured_rows(bundle: Mapping[str, Any], moment: str) -> Iterator[Mapping[str, Any]]:
    rows = (bundle["emission"] or {}).get("rows", [])
    return (row for row in rows if row["moment"] == moment and row["n"])


def _legend_above(axes: Any) -> None:
    """A legend in a quarter of the height that nothing is drawn in."""
    axes.set_ylim(0, 1.4 * axes.get_ylim()[1])
    axes.legend(fontsize=8, ncols=2, loc="upper left")


def _nothing(axes: Any) -> None:
    axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)

r"""The web page in headless Chromium against the engine in Python: same texts, time, memory, bytes.

asr-export web asr/data/english page --onnxruntime-web onnxruntime-web-1.30.0.tgz
python -m benchmarks.web --page page --playwright node_modules/playwright-core/index.mjs \
    --manifest speech/manifest.jsonl --corpus mini_librispeech,common_voice_b --clips 5 --live 2

Each clip goes into the page's file field as 16-bit WAV at 16 kHz; the text, real-time factor and memory are read from
the page, `python` is `asr.Recognizer().transcribe` of the same file. The live clips are played into Chromium's fake
microphone at 48 kHz. Node.js and Chromium must be installed, and playwright-core (`npm install playwright-core`).
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

import asr
from benchmarks.corpus import Clip, load_manifest, read_audio, select, write_wav
from benchmarks.process import describe

DRIVER = Path(__file__).with_name("web_page.mjs")
MICROPHONE_HZ = 48_000
PARTS = {"page": "*.*", "search.wasm": "model/search.wasm", "model": "model/*", "onnxruntime-web": "ort/*"}
"""What the page is made of, by the files' names."""


class BrowserError(RuntimeError):
    """The browser could not be driven."""


class Browser:
    """The page, opened anew in Chromium for each task."""

    def __init__(self, page: Path, playwright: Path, chromium: str) -> None:
        """Take the folder of `asr-export web`, playwright-core's `index.mjs`, and the browser's path."""
        self._task = {"folder": str(page.resolve()), "playwright": str(playwright.resolve()), "chromium": chromium}

    def run(self, **task: Any) -> dict[str, Any]:
        """What the driver saw.

        Args:
            task: `files` to recognise, or `microphone`, a file to hear, and for how many `seconds`.

        Raises:
            BrowserError: with what node printed.
        """
        text = json.dumps({**self._task, **task})
        done = subprocess.run(["node", str(DRIVER)], input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrowserError(f"{DRIVER.name} failed:\n{done.stderr[-2000:]}")
        seen: dict[str, Any] = json.loads(done.stdout)
        if seen["error"]:
            raise BrowserError(f"the page says: {seen['error']}")
        return seen


def measure_files(
    browser: Browser, recognizer: asr.Recognizer, clips: Sequence[Clip], folder: Path, rounds: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row a clip, and what the driver saw in each round; the clips' WAV files go into `folder`."""
    files = []
    for number, clip in enumerate(clips):
        files.append(folder / f"{number}.wav")
        write_wav(files[-1], read_audio(clip.path))
    seen = [browser.run(files=[str(file) for file in files]) for _ in range(rounds)]
    rows = []
    for number, (clip, file) in enumerate(zip(clips, files, strict=True)):
        result, found = recognizer.transcribe(file), [run["recordings"][number] for run in seen]
        row: dict[str, Any] = {"audio": f"{clip.corpus}/{clip.path.name}", "seconds": round(result.duration, 2)}
        row["identical"] = all(one["text"] == result.text for one in found)
        row["real_time_factor"] = [float(one["speed"]) for one in found]
        if not row["identical"]:
            row |= {"python": result.text, "page": [one["text"] for one in found]}
        rows.append(row)
    return rows, seen


def measure_live(browser: Browser, recognizer: asr.Recognizer, clip: Clip, folder: Path) -> dict[str, Any]:
    """What the page makes of a clip that it hears through the microphone."""
    samples = read_audio(clip.path)
    heard = np.concatenate([np.zeros(8000, np.float32), samples, np.zeros(48_000, np.float32)])
    file = folder / "live.wav"
    soundfile.write(file, soxr.resample(heard, 16_000, MICROPHONE_HZ), MICROPHONE_HZ, subtype="PCM_16")
    live = browser.run(microphone=str(file), seconds=len(samples) / 16_000 + 2)["live"]
    return {
        "audio": f"{clip.corpus}/{clip.path.name}",
        "text": live["text"],
        "python": recognizer.transcribe((samples, 16_000)).text,
        "partials": len(live["partials"]),
        "real_time_factor": float(live["speed"]),
    }


def measure_bytes(page: Path) -> dict[str, dict[str, int]]:
    """Bytes of the page's parts, as they are and as a server sends them (gzip)."""
    files = {name: [path for path in page.glob(pattern) if path.is_file()] for name, pattern in PARTS.items()}
    files["model"] = [path for path in files["model"] if path not in files["search.wasm"]]
    return {
        "bytes": {name: sum(path.stat().st_size for path in paths) for name, paths in files.items()},
        "bytes_gzip": {
            name: sum(len(gzip.compress(path.read_bytes(), 6)) for path in paths) for name, paths in files.items()
        },
    }


def summary(rows: Sequence[Mapping[str, Any]], seen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of all clips together."""
    best = [min(row["real_time_factor"]) for row in rows]
    return {
        "clips": len(rows),
        "identical": sum(row["identical"] for row in rows),
        "real_time_factor": {"median": statistics.median(best), "lowest": min(best), "highest": max(best)},
        "memory_mb": int(seen[0]["recordings"][-1]["memory"].split()[0]),
        "load_s": round(min(run["load_s"] for run in seen), 1),
        "requests_elsewhere": sum(len(run["elsewhere"]) for run in seen),
        "browser": seen[0]["browser"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, required=True, help="folder of `asr-export web`")
    parser.add_argument("--bundle", type=Path, help="that the page was made of; the embedded one if not given")
    parser.add_argument("--playwright", type=Path, required=True, help="index.mjs of playwright-core")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--corpus", default="mini_librispeech,common_voice_b")
    parser.add_argument("--clips", type=int, default=5, help="of each corpus (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--live", type=int, default=2, help="clips through the microphone (%(default)s)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(words)
    if args.chromium is None:
        parser.error("no chromium on the path: install one, or name it with --chromium")
    clips, manifest = [], load_manifest(args.manifest)
    for corpus in args.corpus.split(","):
        own = select(manifest, [corpus], "dev", 1)
        clips += own[:: max(1, len(own) // args.clips)][: args.clips]
    browser, recognizer = Browser(args.page, args.playwright, args.chromium), asr.Recognizer(args.bundle)
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows, seen = measure_files(browser, recognizer, clips, Path(folder), args.rounds)
            heard = [clip for clip in clips if clip.corpus == clips[-1].corpus][: args.live]
            live = [measure_live(browser, recognizer, clip, Path(folder)) for clip in heard]
    except BrowserError as error:
        print(error, file=sys.stderr)
        return 1
    figures = {**summary(rows, seen), **measure_bytes(args.page), "live": live, "rows": rows}
    for name, value in figures.items():
        print(f"{name}: {value}")
    if args.out:
        header = describe(words) | {"command": " ".join(["python -m benchmarks.web", *words])}
        result = {"schema": 1, "kind": "web", **header, **figures}
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

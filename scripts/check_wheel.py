"""Does the wheel work for somebody who has nothing else? `python scripts/check_wheel.py`.

Builds the wheel, installs it without extras in an empty virtual environment, and transcribes the example
recordings with it from another folder. Fails unless torch is absent there and every text is the one that these sources
hear: whether that is right is for the tests to say.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import asr

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
NOT_SOURCES = (".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "*.pyd")
UNWANTED = ("torch", "torchaudio", "onnx", "kenlm")
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


def build_wheel(folder: Path) -> Path:
    """Build the wheel into `folder`; from a copy of the sources, so that no earlier build leaks into it."""
    sources = folder / "sources"
    shutil.copytree(ROOT, sources, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    subprocess.run([sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", folder, sources], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_alone(wheel: Path, folder: Path) -> Path:
    """Install the wheel with its base dependencies in a fresh environment; returns the `bin` folder."""
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/python", *PIP, "install", wheel], check=True)
    return folder / "bin"


def has_module(python: Path, name: str) -> bool:
    """Whether the environment of `python` holds the module."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return subprocess.run([python, "-c", code]).returncode == 0


def wrong_texts(binaries: Path, folder: Path) -> list[str]:
    """Transcribe every example; returns one line for each text that is not the expected one."""
    recordings = sorted(EXAMPLES.glob("*.flac"))
    if not recordings:
        return [f"{EXAMPLES} holds no recording"]
    command = [str(binaries / "asr"), "transcribe", "--format", "json", *map(str, recordings)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if run.returncode:
        return [f"asr transcribe ended with status {run.returncode}: {run.stderr.strip()}"]
    heard = [json.loads(line)["text"] for line in run.stdout.splitlines()]
    problems, recognizer = [], asr.Recognizer()
    for recording, text in zip(recordings, heard, strict=True):
        print(f"{recording.name}: {text}")
        expected = recognizer.transcribe(recording).text
        if not text or text != expected:
            problems.append(f"{recording.name}: expected {expected!r}, heard {text!r}")
    return problems


def main() -> int:
    """Build, install, transcribe, compare."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build_wheel(folder)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
        binaries = install_alone(wheel, folder / "environment")
        problems = wrong_texts(binaries, folder)
        problems += [
            f"{name} is installed there" for name in ("torch", "onnx") if has_module(binaries / "python", name)
        ]
    for problem in problems:
        print("check_wheel.py:", problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

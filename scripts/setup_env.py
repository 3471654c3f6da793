"""Make a virtual environment for this checkout: `python3 scripts/setup_env.py runtime|dev|bench`.

| kind | folder | holds |
|---|---|---|
| runtime | `.venv-runtime` | the engine with its base dependencies only; no torch. `make demo` runs in it |
| dev | `.venv` | the extras train, export and lm, and what tests and lint need, for `make test` and `make lint` |
| bench | `.venv` | dev, and the other recognisers that `asr-bench` compares with (about 400 MB) |

The project is installed in place (editable), so a change of the code needs no new installation. Uses the
standard library only, because it runs before anything is installed. Running it again updates what is there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 10)
PIP = "pip>=25.1"  # the first one that installs dependency groups
TORCH = "torch==2.13.0"  # pip takes a CPU wheel of it where its configuration offers one, else the default build


@dataclass(frozen=True)
class Kind:
    """What one kind of environment holds."""

    folder: str
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def needs_torch(self) -> bool:
        """Whether torch and torchaudio belong to it."""
        return bool(self.extras)


KINDS = {
    "runtime": Kind(".venv-runtime"),
    "dev": Kind(".venv", ("train", "export", "lm"), ("test", "lint")),
    "bench": Kind(".venv", ("train", "export", "lm", "bench"), ("test", "lint")),
}


def make_venv(folder: Path) -> Path:
    """Create the environment if it is not there; returns its Python."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    return python


def install(python: Path, kind: Kind) -> None:
    """Install the project and what `kind` needs."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    run([*pip, "--upgrade", PIP])
    project = "."
    pinned: list[str] = []
    if kind.needs_torch:
        project = f".[{','.join(kind.extras)}]"
        pinned = [TORCH]
        run([*pip, "numpy", TORCH])
        run([str(python), "scripts/install_torchaudio.py"])
    groups = [word for group in kind.groups for word in ("--group", group)]
    run([*pip, "--editable", project, *pinned, *groups])


def run(command: list[str]) -> None:
    """Run a command in the project's root, shown with its time; raises CalledProcessError when it fails."""
    print("+", " ".join(command), flush=True)
    start = time.monotonic()
    subprocess.run(command, check=True, cwd=ROOT)
    print(f"  {time.monotonic() - start:.0f} s", flush=True)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    kind = KINDS[parser.parse_args().kind]
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        print(f"Python {sys.version.split()[0]} is too old: run this with Python {wanted} or newer.", file=sys.stderr)
        return 1
    try:
        install(make_venv(ROOT / kind.folder), kind)
    except subprocess.CalledProcessError as error:
        print(f"setup_env.py: this failed, see above: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

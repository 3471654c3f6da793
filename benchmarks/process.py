"""What a process can say about itself and its machine: memory, CPU time, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

PACKAGES = ("sottovoce", "numpy", "onnxruntime", "faster-whisper", "ctranslate2", "pocketsphinx", "moonshine-voice",
            "sherpa-onnx")  # fmt: skip
POWERCAP = Path("/sys/class/powercap")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")


def cpu_seconds() -> float:
    """User and system time of this process so far, all threads."""
    return time.process_time()


def peak_rss_bytes(pid: int | None = None) -> int:
    """Most memory that this process, or another one, has held.

    Linux' `ru_maxrss` may hold the parent's value from before exec, so `/proc` is asked first. Elsewhere the peak of
    another process is not known: what it holds now is given.
    """
    value = _proc_status("VmHWM", pid)
    if value is not None:
        return value
    if pid is not None:
        return rss_bytes(pid)
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rss_bytes(pid: int | None = None) -> int:
    """Memory that this process, or another one, holds now."""
    value = _proc_status("VmRSS", pid)
    if value is not None:
        return value
    import psutil

    return int(psutil.Process(pid).memory_info().rss)


def anonymous_bytes(pid: int | None = None) -> int | None:
    """Memory that a process holds besides mapped files, which the system may drop and read again; None off Linux."""
    return _proc_status("RssAnon", pid)


def energy_joules() -> float | None:
    """Energy that the machine's processors have used since some moment, by RAPL; None where it does not tell.

    It is that of everything that runs on them; the counter starts anew every few hours at most.
    """
    counters = sorted(POWERCAP.glob("intel-rapl:[0-9]*/energy_uj"))
    packages = [path for path in counters if path.parent.name.count(":") == 1]
    try:
        return sum(int(path.read_text()) for path in packages) / 1e6 if packages else None
    except OSError:  # only root may read it on most systems
        return None


def _proc_status(key: str, pid: int | None = None) -> int | None:
    status = Path("/proc") / ("self" if pid is None else str(pid)) / "status"
    if not status.exists():
        return None
    for line in status.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return None


def stay_on_one_core() -> None:
    """Bind this process and all threads it will start to one core, where the system allows it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def folder_bytes(*paths: Path) -> int:
    """Bytes of files, and of all files below folders; hidden ones left out."""
    files = [path for path in paths if path.is_file()]
    files += [file for path in paths if path.is_dir() for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if not file.name.startswith("."))


def describe(argv: list[str]) -> dict[str, Any]:
    """Header of every result: date, command, machine, versions, commit. Folders of absolute paths are left out."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": " ".join(["asr-bench", *map(_without_folder, argv)]),
        "machine": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _commit(),
    }


def _without_folder(word: str) -> str:
    return Path(word).name if os.path.isabs(word) else word


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Commit of the checkout that this file lies in, with "-dirty" if tracked files differ; None outside one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()

"""Install a torchaudio that fits the torch already installed, and check it: `python scripts/install_torchaudio.py`.

With a CUDA build of torch this is a plain `pip install torchaudio`. With a CPU build it is not: torchaudio's
Linux wheels on the package index are linked against CUDA libraries (`libc10_cuda.so`), which a CPU torch lacks,
so `import torchaudio` stops with `OSError: Could not load this library`. All that training uses (Kaldi
features, resampling, SpecAugment, speed, noise, convolution) is Python on top of torch, and torchaudio runs
without its compiled part when that is absent. So here, and only here, the compiled part (`torchaudio/lib/*.so`)
is removed, if and only if it cannot be loaded. Lost with it: `rnnt_loss`, `forced_align` and the CUDA CTC
decoder, none of which this project uses. `pip install --force-reinstall --no-deps torchaudio` undoes it.

Running it again is harmless: an installation that works is left alone. Exit status 0 only if the check at the
end passed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

NEWEST_MINOR = 11  # torchaudio 2.11 is the last one; it works with torch 2.11 and every later 2.x
CUDA_LIBRARIES = ("libc10_cuda", "libtorch_cuda", "libcudart", "Could not load this library")

SELF_CHECK = """
import torch, torchaudio
from torchaudio import functional, transforms
from torchaudio.compliance import kaldi
wave = torch.sin(torch.arange(16000.0) * 0.1).unsqueeze(0)
fbank = kaldi.fbank(wave, num_mel_bins=80, sample_frequency=16000.0)
assert fbank.shape == (98, 80) and bool(fbank.isfinite().all()), fbank.shape
assert transforms.Resample(16000, 8000)(wave).shape == (1, 8000)
masked = transforms.SpecAugment(2, 20, 2, 20)(torch.ones(1, 80, 98))
assert masked.shape == (1, 80, 98)
faster, _ = transforms.Speed(16000, 1.1)(wave)
assert abs(faster.shape[-1] - 16000 / 1.1) < 2, faster.shape
noisy = functional.add_noise(wave, torch.randn_like(wave), torch.tensor([10.0]))
assert noisy.shape == wave.shape and not torch.equal(noisy, wave)
assert functional.fftconvolve(wave, torch.ones(1, 100)).shape == (1, 16099)
print(torchaudio.__version__)
"""


def check() -> tuple[bool, str]:
    """Run everything that training uses, in a fresh interpreter; returns (passed, version or error text)."""
    run = subprocess.run([sys.executable, "-c", SELF_CHECK], capture_output=True, text=True)
    return run.returncode == 0, (run.stdout if run.returncode == 0 else run.stderr).strip()


def requirement(torch_version: str) -> str:
    """The torchaudio release that belongs to this torch, e.g. "2.13.0+cpu" -> "torchaudio==2.11.*"."""
    major, minor = (int(part) for part in torch_version.split(".")[:2])
    return f"torchaudio=={major}.{min(minor, NEWEST_MINOR)}.*"


def install(torch_version: str) -> None:
    """Install with pip; `--no-deps` so that torch itself is never replaced."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    command = [*pip, requirement(torch_version)]
    print("+", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def remove_compiled_part() -> list[Path]:
    """Delete `torchaudio/lib/*.so`; returns what was deleted."""
    spec = importlib.util.find_spec("torchaudio")
    assert spec is not None
    assert spec.submodule_search_locations
    libraries = sorted(Path(spec.submodule_search_locations[0], "lib").glob("*.so"))
    for library in libraries:
        library.unlink()
    return libraries


def main() -> int:
    """Install if needed, mend a CUDA-linked wheel beside a CPU torch, and check."""
    try:
        torch_version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        print("torch is not installed in this environment: install it first, then run this again.", file=sys.stderr)
        return 1
    if importlib.util.find_spec("torchaudio") is None:
        install(torch_version)
    passed, message = check()
    if not passed and any(name in message for name in CUDA_LIBRARIES):
        removed = remove_compiled_part()
        print(f"torch {torch_version} cannot load torchaudio's CUDA-linked libraries; removed {len(removed)} of them.")
        passed, message = check()
    if not passed:
        print(f"torchaudio does not work with torch {torch_version}:\n{message}", file=sys.stderr)
        return 1
    print(f"torchaudio {message} works with torch {torch_version}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

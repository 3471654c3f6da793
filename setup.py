"""Builds the native search; everything else about the package stands in pyproject.toml.

Where no C++ compiler is found the build goes on without it, and the search in NumPy is used.
"""

import sys
from pathlib import Path

import nanobind
from setuptools import Extension, setup

DECODER = Path("asr/decoder")
NANOBIND = Path(nanobind.include_dir()).parent
GNU_FLAGS = ["-std=c++17", "-O3", "-fvisibility=hidden", "-fno-strict-aliasing", "-ffp-contract=off"]
MSVC_FLAGS = ["/std:c++17", "/O2", "/EHsc", "/fp:precise"]

native = Extension(
    "asr.decoder._native",
    sources=[str(DECODER / "native.cpp"), str(DECODER / "nanobind.cpp")],
    depends=sorted(map(str, DECODER.glob("*.hpp"))),
    include_dirs=[str(NANOBIND / "include"), str(NANOBIND / "src"), str(NANOBIND / "ext/robin_map/include")],
    define_macros=[("NDEBUG", None), ("NB_COMPACT_ASSERTIONS", None)],
    extra_compile_args=MSVC_FLAGS if sys.platform == "win32" else GNU_FLAGS,
    language="c++",
    optional=True,
)

setup(ext_modules=[native])

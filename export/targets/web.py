"""A static web page that recognises speech in the browser: the target `web`.

The folder needs no build step and no other server than one of plain files: page and recogniser are the ES modules of
`export/targets/web`, the search is `search.wasm` there (scripts/build_wasm.sh), the encoder runs in onnxruntime-web,
whose files come out of its npm package, and the model is the bundle's.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from asr.bundle import Bundle, DomainInfo
from asr.config import DecodingConfig
from asr.decoder.inputs import PREVIEW_BEAM
from asr.errors import OptionError
from asr.onnx_encoder import OnnxEncoder
from asr.stream import PREVIEW_FRAMES
from export.targets.base import MARKER, check_chunk
from lm.arrayfile import open_array_file, write_array_file
from lm.neural import ADAPTER_KIND, ADAPTER_WEIGHTS
from lm.onnx_lm import read_adapter_weights
from lm.pieces import PIECES_FILE

SOURCES = Path(__file__).parent / "web"
PAGE_FILES = (
    "index.html", "style.css", "page.js", "worker.js", "audio.js", "microphone.js", "capture.js", "resampler.js",
    "recognizer.js", "stream.js", "features.js", "encoder.js", "decoder.js", "arrays.js", "README.md",
)  # fmt: skip
SEARCH = "search.wasm"
MODEL_FILES = ("encoder.onnx", "lexicon.bin", "ngram.bin", "lm.bin")
"""Those that the bundle has are copied; the last two are optional."""
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
RUNTIME_VERSION = "1.30.0"
"""Of onnxruntime-web: the one that the page was tested with."""


def write_web(bundle: Bundle, out: Path, chunk_ms: int, *, onnxruntime_web: Path | None = None) -> None:
    """Fill the existing, empty folder `out` with the page.

    Args:
        bundle: the model.
        out: existing, empty folder.
        chunk_ms: how much audio is encoded at once, one of the bundle's chunk sizes.
        onnxruntime_web: what `npm pack onnxruntime-web` wrote.

    Raises:
        ChunkSizeError: the bundle does not offer `chunk_ms`.
        OptionError: `onnxruntime_web` is not given, or is not that package; the bundle's language model is over pieces.
    """
    chunk_ms = check_chunk(bundle, chunk_ms)
    if PIECES_FILE in bundle.manifest.files:
        raise OptionError(f"{bundle.path}: its language model is over pieces of words, which the page does not know")
    runtime = _unpack_runtime(onnxruntime_web, out / "ort")
    for name in PAGE_FILES:
        shutil.copyfile(SOURCES / name, out / name)
    model = out / "model"
    model.mkdir()
    shutil.copyfile(SOURCES / SEARCH, model / SEARCH)
    for name in MODEL_FILES:
        if name in bundle.manifest.files:
            shutil.copyfile(bundle.file(name), model / name)
    for domain in bundle.manifest.domains.values():
        if domain.adapter:
            _write_adapter(bundle.file(domain.adapter), model / _adapter_file(domain.adapter))
    shutil.copyfile(bundle.file("README.md"), out / "MODEL.md")
    _write_json(model / "model.json", _settings(bundle, model, chunk_ms))
    _write_json(out / MARKER, {"target": "web", "chunk_ms": chunk_ms, "onnxruntime_web": runtime})


def _adapter_file(adapter: str) -> str:
    return f"adapter-{Path(adapter).name}"


def _write_adapter(adapter: Path, out: Path) -> None:
    """Both files of an adapter as one array file, which the page's search reads."""
    file = open_array_file(adapter, kind=ADAPTER_KIND)
    weights = read_adapter_weights(adapter.with_suffix(ADAPTER_WEIGHTS))
    arrays = {name: np.ascontiguousarray(array) for name, array in {**file.arrays, **weights}.items()}
    write_array_file(out, kind=ADAPTER_KIND, arrays=arrays, meta=file.meta)


def _domain(domain: DomainInfo, decoding: DecodingConfig) -> dict[str, object]:
    decoding = replace(decoding, lm_weight=domain.lm_weight, word_score=domain.word_score)
    adapter = _adapter_file(domain.adapter) if domain.adapter else None
    return {"adapter": adapter, "neural_share": domain.neural_share, "decoding": decoding.to_dict()}


def _settings(bundle: Bundle, model: Path, chunk_ms: int) -> dict[str, object]:
    """What the page must know besides the files: their sizes, and what the manifest says of encoder and search."""
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "language": manifest.language,
        "license": manifest.license,
        "chunk_ms": chunk_ms,
        "frame_ms": manifest.encoder.frame_ms,
        "look_ahead_ms": manifest.encoder.look_ahead_ms,
        "state": [asdict(state) for state in manifest.encoder.state],
        "decoding": manifest.decoding.to_dict(),
        "neural_share": manifest.neural_share,
        "domains": {name: _domain(domain, manifest.decoding) for name, domain in manifest.domains.items()},
        "confidence": asdict(manifest.confidence),
        "endpoint": asdict(manifest.endpoint),
        "preview": {"frames": _preview_frames(bundle), "beam_size": PREVIEW_BEAM},
        "files": {path.name: path.stat().st_size for path in sorted(model.iterdir())},
    }


def _preview_frames(bundle: Bundle) -> int:
    """Frames of the look-ahead that partial results show: as many as the encoder gives."""
    encoder = OnnxEncoder(bundle.file("encoder.onnx"))
    return len(encoder.look_ahead(encoder.initial_state())[:PREVIEW_FRAMES])


def _unpack_runtime(package: Path | None, folder: Path) -> str:
    """Copy onnxruntime-web's files out of its npm package and return its version."""
    advice = (
        f"run `npm pack onnxruntime-web@{RUNTIME_VERSION}` and pass `--onnxruntime-web "
        f"onnxruntime-web-{RUNTIME_VERSION}.tgz`"
    )
    if package is None:
        raise OptionError(f"the page needs onnxruntime-web, which is an npm package: {advice}")
    if not package.is_file():
        raise OptionError(f"{package}: no such file; {advice}")
    folder.mkdir()
    try:
        with tarfile.open(package) as archive:
            about = json.loads(_read(archive, "package/package.json"))
            if about.get("name") != "onnxruntime-web":
                raise OptionError(f"{package}: expected onnxruntime-web, found {about.get('name')}; {advice}")
            for name in RUNTIME_FILES:
                (folder / name).write_bytes(_read(archive, f"package/dist/{name}"))
            return str(about["version"])
    except (tarfile.TarError, KeyError, ValueError, OSError, EOFError, zlib.error) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"{package}: not the npm package onnxruntime-web ({error}); {advice}") from None


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is not a file")
    return file.read()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

"""All targets by name, and the one way to write any of them."""

from __future__ import annotations

from pathlib import Path

from asr.bundle import Bundle
from export.targets.base import Target, check_chunk, check_encoder, complete_folder
from export.targets.graphs import ONNX, ORT, SHERPA_ONNX
from export.targets.torch_targets import COREML, EXECUTORCH, LITERT

TARGETS = {target.name: target for target in (ONNX, ORT, SHERPA_ONNX, EXECUTORCH, LITERT, COREML)}


def write_target(target: Target, bundle_path: Path | None, out: Path, chunk_ms: int | None = None) -> int:
    """Export a bundle; returns the bytes written.

    Args:
        target: one of `TARGETS`.
        bundle_path: folder of the bundle, or None for the embedded one.
        out: folder to make; an earlier export there is replaced once the new one is complete.
        chunk_ms: chunk that the export is for; None: the bundle's default.

    Raises:
        BundleError: the bundle is damaged, or its encoder is not what it says.
        ChunkSizeError: the bundle does not serve `chunk_ms`.
        MissingDependencyError: the target's tool is not installed.
        FileExistsError: `out` is something else.
    """
    bundle = Bundle.open(bundle_path)
    chunk_ms = check_chunk(bundle, bundle.manifest.encoder.default_chunk_ms if chunk_ms is None else chunk_ms)
    check_encoder(bundle)
    with complete_folder(out) as folder:
        target.write(bundle, folder, chunk_ms)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())

"""Write a model bundle: copy its files, fingerprint them, write the manifest, and open the result as a check.

The folder appears under its name only when everything is in it and the loader has accepted it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr.bundle import FEATURES, MANIFEST, SAMPLE_RATE_HZ, SCHEMA_VERSION, Bundle, DomainInfo, Selftest, sha256_of
from asr.confidence import ConfidenceWeights
from asr.config import DecodingConfig
from asr.endpoint import EndpointConfig
from asr.onnx_encoder import SUBSAMPLING_FACTOR, OnnxEncoder
from asr.recognizer import Recognizer
from asr.rejection import RejectionWeights
from lm.phones import write_tokens

CHUNK_MS = (320, 640, 1280)
DEFAULT_CHUNK_MS = 640
MADE_HERE = ("tokens.txt", "README.md")
_REJECTION = RejectionWeights()


def write_bundle(
    out_dir: str | Path,
    *,
    name: str,
    language: str,
    files: Mapping[str, str | Path],
    readme: str,
    selftest: Selftest,
    decoding: DecodingConfig,
    confidence: ConfidenceWeights,
    endpoint: EndpointConfig,
    quantization: Mapping[str, Any],
    provenance: Mapping[str, Any],
    license: str,
    neural_share: float = 0.0,
    domains: Mapping[str, DomainInfo] | None = None,
    rejection: RejectionWeights = _REJECTION,
    chunk_ms: Sequence[int] = CHUNK_MS,
    default_chunk_ms: int = DEFAULT_CHUNK_MS,
) -> Bundle:
    """Write a bundle to `out_dir`, replacing a bundle that is there.

    Args:
        out_dir: folder to make.
        name: of the model, for people.
        language: BCP 47 tag, such as `en`.
        files: name in the bundle -> file to copy: encoder.onnx, lexicon.bin, ngram.bin, lm.onnx and lm.bin, adapters,
            the self-test clip, and whatever else belongs in it. `tokens.txt`, `README.md` and the manifest are written
            here.
        readme: the model card.
        selftest: name of the clip among `files`, and the text that the engine must hear in it.
        decoding: settings of the search.
        confidence: weights of the confidence.
        endpoint: when an utterance ends.
        quantization: how the encoder was quantised.
        provenance: where model and data come from.
        license: SPDX identifier.
        neural_share: of the neural language model in a word's probability; 0 where there is none.
        domains: kinds of speech by name.
        rejection: when a grammar's match is accepted.
        chunk_ms: chunk sizes that the encoder serves.
        default_chunk_ms: the one to use unless asked otherwise.

    Raises:
        BundleError: the loader does not accept what was written; `out_dir` is as before then.
        FileExistsError: `out_dir` is there and is not a bundle.
        FileNotFoundError: one of `files` is missing.
    """
    out_dir = Path(out_dir)
    if out_dir.exists() and not (out_dir / MANIFEST).is_file():
        raise FileExistsError(f"{out_dir} is there and is not a bundle: remove it, or choose another folder")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=f".{out_dir.name}.") as temporary:
        made = Path(temporary) / "new"
        _write_files(made, files, readme)
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "language": language,
            "sample_rate": SAMPLE_RATE_HZ,
            "features": dict(FEATURES),
            "encoder": _encoder_entry(made / "encoder.onnx", chunk_ms, default_chunk_ms),
            "decoding": decoding.to_dict(),
            "neural_share": neural_share,
            "domains": {domain: asdict(info) for domain, info in (domains or {}).items()},
            "confidence": asdict(confidence),
            "rejection": asdict(rejection),
            "endpoint": asdict(endpoint),
            "quantization": dict(quantization),
            "files": _fingerprints(made),
            "selftest": asdict(selftest),
            "provenance": dict(provenance),
            "license": license,
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
        (made / MANIFEST).write_text(text + "\n", encoding="utf-8")
        Recognizer(made)
        if out_dir.exists():
            out_dir.rename(Path(temporary) / "old")
        made.rename(out_dir)
    return Bundle.open(out_dir)


def settings_of(bundle: Bundle) -> dict[str, Any]:
    """Arguments of `write_bundle` that give a bundle of the same settings: all but folder, files and model card."""
    manifest = bundle.manifest
    return {
        "name": manifest.name, "language": manifest.language, "selftest": manifest.selftest,
        "decoding": manifest.decoding, "confidence": manifest.confidence, "endpoint": manifest.endpoint,
        "quantization": manifest.quantization, "provenance": manifest.provenance, "license": manifest.license,
        "neural_share": manifest.neural_share, "domains": manifest.domains, "rejection": manifest.rejection,
        "chunk_ms": manifest.encoder.chunk_ms, "default_chunk_ms": manifest.encoder.default_chunk_ms,
    }  # fmt: skip


def copy_bundle(
    bundle: Bundle,
    out_dir: str | Path,
    *,
    files: Mapping[str, str | Path],
    without: Collection[str] = (),
    readme: str | None = None,
    **changes: Any,
) -> Bundle:
    """Write a bundle that is like another one but for some files and settings.

    Args:
        bundle: the other one.
        out_dir: folder to make.
        files: name in the bundle -> file that is new or takes another one's place.
        without: names of the other bundle's files that are left out.
        readme: the model card; the other bundle's if not given.
        changes: arguments of `write_bundle`.

    Raises:
        BundleError, FileExistsError, FileNotFoundError: as `write_bundle`.
    """
    kept = {name: bundle.file(name) for name in bundle.manifest.files if name not in (*MADE_HERE, *without)}
    card = bundle.file("README.md").read_text(encoding="utf-8") if readme is None else readme
    return write_bundle(out_dir, files={**kept, **files}, readme=card, **{**settings_of(bundle), **changes})


def _write_files(folder: Path, files: Mapping[str, str | Path], readme: str) -> None:
    folder.mkdir()
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    write_tokens(folder / "tokens.txt")
    (folder / "README.md").write_text(readme, encoding="utf-8")


def _encoder_entry(path: Path, chunk_ms: Sequence[int], default_chunk_ms: int) -> dict[str, Any]:
    encoder = OnnxEncoder(path)
    return {
        "chunk_ms": list(chunk_ms),
        "default_chunk_ms": default_chunk_ms,
        "frame_ms": SUBSAMPLING_FACTOR * FEATURES["frame_shift_ms"],
        "left_context_frames": encoder.metadata["left_context_len"],
        "look_ahead_ms": encoder.look_ahead_frames * FEATURES["frame_shift_ms"],
        "state": [{"name": s.name, "shape": list(s.shape), "dtype": s.dtype} for s in encoder.state_spec],
    }


def _fingerprints(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in paths
    }

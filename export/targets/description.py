"""`target.json`, `tokens.txt` and `README.md` of an exported folder: what goes in, what comes out, how to call it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asr.bundle import FEATURES, Bundle
from asr.features import SILENCE_LOG_MEL
from asr.onnx_encoder import N_MELS
from export.targets.base import MARKER
from lm.phones import PHONEMES, write_tokens

SCHEMA_VERSION = 1
FRAME_MS = int(FEATURES["frame_shift_ms"])
PHONEME_LOOP = """
```python
import json
import numpy as np
from asr.audio import open_audio
from asr.features import compute_features  # elsewhere: any Kaldi fbank with the settings in target.json

{runtime}

about = json.load(open("target.json"))
with open_audio("speech.wav") as source:
    features = compute_features(np.concatenate(list(source.blocks())))
window, chunk = about["window"]["shape"][1], about["chunk_ms"] // 10
end = -len(features) % chunk + window - chunk
features = np.pad(features, ((0, end), (0, 0)), constant_values=about["silence"])
states = [np.zeros(state["shape"], state["dtype"]) for state in about["states"]]
tokens = [line.split()[0] for line in open("tokens.txt", encoding="utf-8")]
last = 0
for start in range(0, len(features) - window + 1, chunk):
    log_probs, *states = run([features[None, start : start + window], *states])
    for label in log_probs[0].argmax(1):
        if label not in (0, last):  # 0 is CTC's blank
            print(tokens[label], end=" ")
        last = label
```
"""
"""Code of a README; `{runtime}` defines `run`: the arrays that go in -> those that come out, in order."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output, for one stream."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Contract:
    """What a step of an exported encoder takes and gives; states go round, in this order, zeros at first."""

    window: Tensor
    """(1, T, 80) feature frames: a chunk's, and those of its look-ahead."""
    log_probs: Tensor
    """(1, chunk frames / 2, V)."""
    states: tuple[Tensor, ...]


def contract(bundle: Bundle, chunk_ms: int, counter: str = "int64", unused: Sequence[str] = ()) -> Contract:
    """Shapes at one chunk size.

    Args:
        bundle: whose encoder is exported.
        chunk_ms: chunk size.
        counter: dtype of the last state, the number of frames so far.
        unused: names of states that the export leaves out.
    """
    encoder = bundle.manifest.encoder
    window = (chunk_ms + encoder.look_ahead_ms) // FRAME_MS
    *states, frames = (
        Tensor(state.name, state.shape, state.dtype) for state in encoder.state if state.name not in unused
    )
    return Contract(
        Tensor("x", (1, window, N_MELS), "float32"),
        Tensor("log_probs", (1, chunk_ms // encoder.frame_ms, len(PHONEMES)), "float32"),
        (*states, replace(frames, dtype=counter)),
    )


def describe_target(
    bundle: Bundle, folder: Path, shapes: Contract, *, target: str, model: str, code: str, notes: Sequence[str] = (),
    weights: str | None = None,
) -> None:  # fmt: skip
    """Write `target.json`, `README.md` and `tokens.txt` beside an exported model.

    Args:
        bundle: what was exported.
        folder: where to.
        shapes: of the exported step.
        target: its name.
        model: name of the model's file in the folder.
        code: that runs it, for its runtime, as Markdown.
        notes: sentences on what is different there.
        weights: their type in the file; None: as in the bundle.
    """
    encoder = bundle.manifest.encoder
    chunk_ms = shapes.log_probs.shape[1] * encoder.frame_ms
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "target": target,
        "model": model,
        "bundle": bundle.manifest.name,
        "encoder_sha256": bundle.manifest.files["encoder.onnx"].sha256,
        "sample_rate": bundle.manifest.sample_rate,
        "features": dict(FEATURES),
        "silence": SILENCE_LOG_MEL,
        "chunk_ms": chunk_ms,
        "look_ahead_ms": encoder.look_ahead_ms,
        "frame_ms": encoder.frame_ms,
        **({} if weights is None else {"weights": weights}),
        **asdict(shapes),
    }
    write_tokens(folder / "tokens.txt")
    (folder / MARKER).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(bundle, chunk_ms, target, code, notes), encoding="utf-8")


def _readme(bundle: Bundle, chunk_ms: int, target: str, code: str, notes: Sequence[str]) -> str:
    frames, ahead = chunk_ms // FRAME_MS, bundle.manifest.encoder.look_ahead_ms // FRAME_MS
    lines = [
        f"# {bundle.manifest.name} for {target}",
        "",
        f"A streaming CTC encoder over phonemes. Each step takes {frames + ahead} log-mel frames of {FRAME_MS} ms (a "
        f"chunk of {frames}, and {ahead} of look-ahead that come again with the next chunk) and the states of the step "
        f"before, zeros at first. It gives {frames // 2} rows of log-probabilities over the lines of `tokens.txt`, one "
        "every 20 ms, and the next states, in the order of the inputs. Names, shapes, types and the features' settings "
        "are in `target.json`. After the audio's end, fill up with frames of silence.",
        "",
        code.strip(),
        *(part for note in notes for part in ("", note)),
    ]
    return "\n".join(lines) + "\n"

"""Fit the weights of the word confidence: was each recognised word right? Logistic regression on a development set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.confidence import ConfidenceWeights
from asr.decoder import PathWord
from asr.metrics import EditKind, align
from asr.onnx_encoder import OnnxEncoder
from asr.train.evaluate import Words, open_language
from asr.train.manifest import Clip
from asr.train.prepare import Track, read_features, windows
from lm.normalize import normalize_for_wer

Array = npt.NDArray[np.float64]
_NAMES = ("bias", "acoustic_per_frame", "acoustic", "language", "log_frames")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted weights, and how well they do on the half of the words that they were not fitted on."""

    weights: ConfidenceWeights
    n_words: int
    accuracy: float
    """Share of held-out words that were right."""
    expected_calibration_error: float
    """Mean distance of confidence and accuracy over ten bins."""
    auc: float
    """Probability that a right word has a higher confidence than a wrong one."""


def calibrate(bundle: Path | None, clips: Sequence[Clip], audio_dir: Path, chunk_ms: int, track: Track) -> Calibration:
    """Recognise the clips with a bundle and fit the weights on every other clip."""
    language = open_language(bundle)
    encoder = OnnxEncoder(language.bundle.file("encoder.onnx"))
    rows: list[list[Array]] = [[], []]
    labels: list[list[bool]] = [[], []]
    for number, clip in track(enumerate(clips), "recognise", len(clips)):
        words = _recognise(encoder, language, audio_dir / clip.audio, chunk_ms // 10)
        rows[number % 2] += [features_of(word) for word in words]
        labels[number % 2] += right_words([language.lexicon.word(w.word) for w in words], clip.text or "")
    fitted = fit_logistic(np.array(rows[0]), np.array(labels[0], float))
    held_out, right = np.array(rows[1]), np.array(labels[1], float)
    confidence = 1 / (1 + np.exp(-held_out @ fitted))
    return Calibration(
        ConfidenceWeights(**dict(zip(_NAMES, map(float, fitted), strict=True))),
        len(right),
        float(right.mean()),
        calibration_error(confidence, right),
        area_under_curve(confidence, right),
    )


def features_of(word: PathWord) -> Array:
    """Inputs of the logistic function, in the order of its weights."""
    frames = max(word.end_frame - word.start_frame, 1)
    return np.array([1.0, word.acoustic / frames, word.acoustic, word.language, np.log(frames)])


def right_words(words: Sequence[str], reference: str) -> list[bool]:
    """Which recognised words are right, by the alignment with the fewest edits."""
    edits = align(normalize_for_wer(reference).split(), list(words))
    return [edit.kind is EditKind.MATCH for edit in edits if edit.hypothesis is not None]


def fit_logistic(inputs: Array, labels: Array, *, ridge: float = 1.0, steps: int = 30) -> Array:
    """Weights (D,) of a logistic regression, by Newton's method; the first input, the constant, is not shrunk."""
    penalty = ridge * np.diag([0.0] + [1.0] * (inputs.shape[1] - 1))
    weights = np.zeros(inputs.shape[1])
    for _ in range(steps):
        probability = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (labels - probability) - penalty @ weights
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs + penalty
        weights = weights + np.linalg.solve(curvature, gradient)
    return weights


def calibration_error(confidence: Array, right: Array, bins: int = 10) -> float:
    """Expected calibration error over equally wide bins."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[place == b].mean() - right[place == b].mean()) * (place == b).mean() for b in np.unique(place)
    ]
    return float(np.sum(gaps))


def area_under_curve(confidence: Array, right: Array) -> float:
    """Area under the ROC curve by ranks; ties count half."""
    _, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n_right = right.sum()
    return float((rank[right == 1].sum() - n_right * (n_right + 1) / 2) / (n_right * (len(right) - n_right)))


def _recognise(encoder: OnnxEncoder, language: Words, path: Path, chunk_frames: int) -> list[PathWord]:
    search = language.new_search()
    state = encoder.initial_state()
    for window in windows(read_features(path), chunk_frames, encoder.look_ahead_frames):
        log_probs, state = encoder.step(window, state)
        search.advance(log_probs)
    return [*search.take_stable(), *search.finish()]

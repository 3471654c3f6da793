import itertools

import numpy as np
import pytest

pytest.importorskip("torch")

from asr.train.align import NO_BOUNDARY_LOG_PROB, align, pronunciations_of  # noqa: E402

A, B, C = 2, 3, 4


def random_log_probs(rng, n_frames, n_labels=5):
    logits = 2 * rng.standard_normal((n_frames, n_labels))
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def runs_of(path):
    """(label, first frame, frame after the last) of each run that is not blank."""
    runs, frame = [], 0
    for label, run in itertools.groupby(path):
        end = frame + len(list(run))
        if label != 0:
            runs.append((label, frame, end))
        frame = end
    return runs


def readings(runs, words):
    """Cost and variants of every way in which runs of labels are the transcript."""
    if not words:
        if all(label == 1 for label, _, _ in runs):
            yield 0.0, []
        return
    start = next((i for i, (label, _, _) in enumerate(runs) if label != 1), len(runs))
    for variant, phones in enumerate(words[0]):
        end = start + len(phones)
        if tuple(label for label, _, _ in runs[start:end]) != tuple(phones):
            continue
        rest = runs[end:]
        touches = len(words) > 1 and bool(rest) and rest[0][0] != 1 and rest[0][1] == runs[end - 1][2]
        for cost, others in readings(rest, words[1:]):
            yield cost + (NO_BOUNDARY_LOG_PROB if touches else 0.0), [variant, *others]


def brute_force(log_probs, words):
    best = (-np.inf, None)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        acoustic = sum(float(log_probs[t, label]) for t, label in enumerate(path))
        for cost, variants in readings(runs_of(path), words):
            best = max(best, (acoustic + cost, variants), key=lambda item: item[0])
    return best


@pytest.mark.parametrize("seed", range(5))
def test_finds_the_best_pronunciations(seed):
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, 6)
    words = [[(A,), (B, C)], [(C, A), (C,)]]
    score, variants = brute_force(log_probs, words)
    found = align(log_probs, words)
    assert found.log_prob_per_frame * len(log_probs) == pytest.approx(score, abs=1e-4)
    assert [word.pronunciation for word in found.words] == [words[i][v] for i, v in enumerate(variants)]


def test_times_and_targets():
    labels = [0, A, A, 0, B, 1, 1, C, 0]
    log_probs = np.full((len(labels), 5), np.log(1e-3), np.float32)
    log_probs[np.arange(len(labels)), labels] = np.log(0.99)
    found = align(log_probs, [[(A, B), (A, C)], [(C,)]])
    assert [(w.pronunciation, w.start_frame, w.end_frame) for w in found.words] == [((A, B), 1, 5), ((C,), 7, 8)]
    assert found.targets() == [A, B, 1, C]


def test_too_short_or_empty_is_none():
    assert align(random_log_probs(np.random.default_rng(0), 2), [[(A, B, C)]]) is None
    assert align(random_log_probs(np.random.default_rng(0), 2), []) is None


def test_unknown_word_leaves_the_clip_out():
    assert pronunciations_of(["a", "b"], {"a": [(A,)]}) is None
    assert pronunciations_of(["a"], {"a": [(A,)]}) == [[(A,)]]

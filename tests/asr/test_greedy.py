import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoder.greedy import GreedyDecoder, PathPhoneme
from lm.phones import BLANK_ID, PHONEMES


def frames_of(labels):
    log_probs = np.full((len(labels), len(PHONEMES)), -9.0, np.float32)
    log_probs[np.arange(len(labels)), labels] = -0.1
    return log_probs


def runs(labels):
    """Oracle: runs of equal labels, blanks left out."""
    found, frame = [], 0
    for label, run in itertools.groupby(labels):
        end = frame + len(list(run))
        if label != BLANK_ID:
            found.append(PathPhoneme(label, frame, end))
        frame = end
    return found


@given(labels=st.lists(st.integers(0, 3), max_size=30), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_equals_the_runs_of_best_labels_however_it_is_cut(labels, cuts):
    decoder = GreedyDecoder()
    found = [phoneme for chunk in np.split(frames_of(labels), sorted(cuts)) for phoneme in decoder.advance(chunk)]
    assert found + decoder.finish() == runs(labels)


def test_a_phoneme_is_given_once_it_has_ended():
    decoder = GreedyDecoder()
    assert decoder.advance(frames_of([0, 7, 7])) == []
    assert decoder.advance(frames_of([7, 0])) == [PathPhoneme(7, 1, 4)]
    assert decoder.finish() == []


def test_finish_separates_utterances_and_the_frames_count_on():
    decoder = GreedyDecoder()
    decoder.advance(frames_of([5, 5]))
    assert decoder.finish() == [PathPhoneme(5, 0, 2)]
    assert decoder.advance(frames_of([5, 0])) == [PathPhoneme(5, 2, 3)]


def test_of_equal_labels_the_smaller_id_wins():
    decoder = GreedyDecoder()
    decoder.advance(np.zeros((1, len(PHONEMES)), np.float32))
    assert decoder.finish() == []


@pytest.mark.parametrize("log_probs", [np.full((1, len(PHONEMES)), np.nan, np.float32), np.zeros((2, 5), np.float32)])
def test_rejects_what_are_no_log_probabilities(log_probs):
    with pytest.raises(ValueError, match="log_probs"):
        GreedyDecoder().advance(log_probs)

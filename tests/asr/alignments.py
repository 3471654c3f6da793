"""The oracle of the searches: every label sequence, all its alignments, all ways to read it as words."""

import itertools

import numpy as np

from lm.phones import BLANK_ID, BOUNDARY_ID, PHONEMES
from lm.vocabulary import SPECIAL_WORDS

ALL_LABELS = range(len(PHONEMES))


def random_frames(rng, frames, labels=ALL_LABELS, peak=1.0):
    """Log-softmax of random logits; labels outside `labels` are impossible."""
    logits = np.full((frames, len(PHONEMES)), -np.inf)
    logits[:, list(labels)] = peak * rng.standard_normal((frames, len(labels)))
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def collapse(alignment):
    """(label, first frame, frame after the last) of each run that is not blank."""
    runs, frame = [], 0
    for label, run in itertools.groupby(alignment):
        end = frame + len(list(run))
        if label != BLANK_ID:
            runs.append((label, frame, end))
        frame = end
    return runs


def readings(labels, entries, scorer, config, state, position=0):
    """Every way to read labels as words: final score, [(word, first run, last run, language)]."""
    if position == len(labels):
        yield config.lm_weight * scorer.finish(state), []
        return
    if labels[position] == BOUNDARY_ID:
        yield from readings(labels, entries, scorer, config, state, position + 1)
        return
    for word, phonemes, log_prob in entries:
        end = position + len(phonemes)
        if labels[position:end] != phonemes:
            continue
        following, language = scorer.step(state, word)
        has_boundary = end < len(labels) and labels[end] == BOUNDARY_ID
        gain = config.lm_weight * (language + log_prob) + config.word_score
        gain += 0.0 if has_boundary else config.boundary_skip_log_prob
        for score, words in readings(labels, entries, scorer, config, following, end + has_boundary):
            yield gain + score, [(word, position, end - 1, language), *words]


def brute_force(log_probs, lexicon, scorer, config, labels):
    """Score of every word sequence, over all label sequences, their alignments and their readings."""
    plus = max if config.semiring == "tropical" else np.logaddexp
    relative = log_probs.astype(np.float64) - log_probs.max(axis=1, keepdims=True)
    acoustic = {}
    for alignment in itertools.product(labels, repeat=len(log_probs)):
        score = sum(relative[t, label] for t, label in enumerate(alignment))
        key = tuple(label for label, _, _ in collapse(alignment))
        acoustic[key] = plus(acoustic.get(key, -np.inf), score)
    ids = range(len(SPECIAL_WORDS), len(lexicon))
    entries = [(word, *pronunciation) for word in ids for pronunciation in lexicon.pronunciations(word)]
    totals = {}
    for key, heard in acoustic.items():
        for score, words in readings(key, entries, scorer, config, scorer.start()):
            spelt = tuple(word for word, *_ in words)
            totals[spelt] = plus(totals.get(spelt, -np.inf), heard + score)
    return totals


class HistoryScorer:
    """Another scorer with a state of its own for every history, so that the search never gives one up for another."""

    def __init__(self, scorer):
        self.scorer = scorer
        self.histories = [(scorer.start(), ())]

    def start(self):
        return 0

    def step(self, state, word):
        inner, words = self.histories[state]
        following, language = self.scorer.step(inner, word)
        history = (following, (*words, word))
        if history not in self.histories:
            self.histories.append(history)
        return self.histories.index(history), language

    def finish(self, state):
        return self.scorer.finish(self.histories[state][0])

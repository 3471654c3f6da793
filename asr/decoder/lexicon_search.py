"""CTC beam search through the lexicon in NumPy: the oracle of the native one, and what runs where that was not built.

A hypothesis is (trie node, was its label emitted in the last frame?, scorer state); at the root the last label has no
bearing on what may follow, so there the flag is always unset. In every frame each hypothesis is continued in all ways.
Equal continuations after the same words become one, their probabilities added up: the score of a hypothesis is over
all its CTC alignments (Graves et al. 2006), and its times are those of the best one. (In the tropical semiring its
score is that of the best one, too.) Of equal continuations after different words, which nothing later can tell apart,
the better one stays. Ties go to what was generated first when equal hypotheses meet, and to the smaller (node, flag,
state) in ranking, so that the native search can be held to the same output. Log-probabilities are taken relative to
the best label of their frame: that shifts all hypotheses alike, and keeps scores small over hours. Hypotheses are
ranked with the look-ahead of their node, the root included: so each has one word on credit, and those between words
have no advantage.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from asr.config import DecodingConfig
from asr.decoder.beam import (
    Beam,
    BoolArray,
    Candidates,
    Complete,
    Ends,
    HashArray,
    IntArray,
    ScoreArray,
    WordEnd,
)  # fmt: skip
from asr.decoder.history import History, PathWord, Reading
from asr.decoder.inputs import FLOOR, PREVIEW_BEAM, check_log_probs
from asr.types import FloatArray
from lm.lexicon import Lexicon
from lm.phones import BLANK_ID, BOUNDARY_ID
from lm.scorer import RememberingScorer, Scorer


class LexiconSearch:
    """The search over one stream; see `asr.decoder.search.Search`."""

    def __init__(self, lexicon: Lexicon, scorer: Scorer, config: DecodingConfig) -> None:
        self._lexicon = lexicon
        self._scorer = scorer
        self._remembering = scorer if isinstance(scorer, RememberingScorer) else None
        self._config = config
        self._plus: np.ufunc = np.maximum if config.semiring == "tropical" else np.logaddexp
        self._root_children = np.arange(1, int(lexicon.node_first_child[1]))
        self._root_labels = lexicon.node_label[self._root_children]
        self._frame = 0
        self._stable: list[PathWord] = []
        self._restart()

    def advance(self, log_probs: FloatArray) -> None:
        """Take in frames.

        Args:
            log_probs: (T, V) natural log-probabilities; any T.

        Raises:
            ValueError: wrong shape, NaN or plus infinity.
        """
        frames = np.maximum(check_log_probs(log_probs), np.float32(FLOOR)).astype(np.float64)
        for frame in frames:
            self._advance_frame(frame - frame.max(), frame[BLANK_ID] > self._config.blank_skip_log_prob)

    def take_stable(self) -> list[PathWord]:
        """Words on which all hypotheses agree; each is returned once."""
        self._settle(self._history.common(self._beam.history.tolist()))
        words, self._stable = self._stable, []
        return words

    def best(self) -> list[PathWord]:
        """The best hypothesis after the words that were taken; an unfinished word only where it could end now."""
        words = self._stable + self._history.path(int(self._beam.history[0]))
        self._prepare_ends()
        ends = self._ends_of(int(self._beam.node[0]), int(self._beam.state[0]))
        if ends:
            words.append(self._path_word(0, max(ends, key=lambda end: end.gain)))
        return words

    def preview(self, log_probs: FloatArray) -> list[PathWord]:
        """What `best` would be after these frames (T, V): a guess, which is not taken in and leaves no trace."""
        self._prepare_ends()
        ahead = copy.copy(self)
        ahead._config = replace(self._config, beam_size=PREVIEW_BEAM)
        ahead._beam = Beam._make(column[:PREVIEW_BEAM] for column in self._beam)
        ahead._history, ahead._stable, ahead._known_ends = copy.deepcopy(self._history), list(self._stable), {}
        if self._remembering is None:
            return ahead._words_after_frames(log_probs)
        self._remembering.begin_preview()
        try:
            return ahead._words_after_frames(log_probs)
        finally:
            self._remembering.end_preview()

    def _words_after_frames(self, log_probs: FloatArray) -> list[PathWord]:
        self.advance(log_probs)
        return self.best()

    def trailing_silence(self) -> int:
        """Frames since the best hypothesis' last phoneme, or since the utterance's start if it has none."""
        return self._frame - int(self._beam.end[0])

    def finish(self) -> list[PathWord]:
        """End the utterance and return the words that were not taken yet; then start anew, the frame count going on."""
        unfinished = self._stable + self._history.path(int(self._beam.history[0]))
        readings = self.finish_many(1)
        return readings[0].words if readings else unfinished

    def finish_many(self, count: int) -> list[Reading]:
        """End the utterance in up to `count` ways, best first: none where no word sequence may end here."""
        readings: dict[int, Complete] = {}
        for reading in self._complete():
            same = readings.get(reading.words)
            readings[reading.words] = same.joined(reading, self._plus) if same else reading
        ranked = sorted(readings.values(), key=lambda reading: -reading.score)[:count]
        found = [Reading(self._stable + self._words_of(way), way.score) for way in ranked]
        self._restart()
        return found

    def history_size(self) -> int:
        """Words held for the hypotheses: what memory grows with."""
        return len(self._history)

    def _restart(self) -> None:
        self._stable = []
        self._history = History()
        self._forget([])
        zero, score = np.zeros(1, np.int64), np.zeros(1)
        now, state = zero + self._frame, zero + self._scorer.start()
        self._beam = Beam(zero, zero != 0, state, score, zero, zero.astype(np.uint64), now, now, score, score)

    def _advance_frame(self, relative: ScoreArray, is_blank: bool) -> None:
        beam = self._beam
        if is_blank and relative[BLANK_ID] == 0.0 and not beam.emitted.any():
            self._frame += 1  # a second sure blank changes nothing but the time
        else:
            ends = self._word_ends()
            candidates = self._candidates(ends, relative, is_blank)
            self._beam = self._follow(*self._choose(candidates, ends), ends, relative)
            self._frame += 1
        self._settle_old()
        if self._remembering and self._remembering.is_crowded():
            self._forget(self._beam.state.tolist())

    def _forget(self, kept: list[int]) -> None:
        """Let the scorer forget all states but these; the words that may end are scored anew."""
        self._known_ends: dict[tuple[int, int], list[WordEnd]] = {}
        if self._remembering:
            self._remembering.retain(kept)

    def _prepare_ends(self) -> None:
        """Prepare what the next frame will ask of the scorer; whoever asks earlier does this first.

        What is worked out together may differ in the last bit from what is worked out apart, and how the audio was cut
        up must make no difference.
        """
        if self._remembering is None:
            return
        first = self._lexicon.node_first_entry
        keys = zip(self._beam.node.tolist(), self._beam.state.tolist(), strict=True)
        self._prepare([key[1] for key in keys if first[key[0]] < first[key[0] + 1] and key not in self._known_ends])

    def _prepare(self, states: list[int]) -> None:
        if self._remembering:
            self._remembering.prepare(states)

    def _word_ends(self) -> Ends:
        """Score every word that may end at the hypotheses' nodes; scores are kept while a hypothesis needs them."""
        node, state, first = self._beam.node, self._beam.state, self._lexicon.node_first_entry
        at = np.flatnonzero(first[node] < first[node + 1]).tolist()
        known: dict[tuple[int, int], list[WordEnd]] = {}
        rows = []
        self._prepare_ends()
        for i, key in zip(at, zip(node[at].tolist(), state[at].tolist(), strict=True), strict=True):
            if key not in known:
                known[key] = self._known_ends[key] if key in self._known_ends else self._ends_of(*key)
            rows += [(i, end) for end in known[key]]
        self._known_ends = known
        parent = np.array([i for i, _ in rows], np.int64)
        words = [end for _, end in rows]
        states = np.array([end.state for end in words], np.int64)
        return Ends(parent, states, self._beam.score[parent] + np.array([end.gain for end in words]), words)

    def _ends_of(self, node: int, state: int) -> list[WordEnd]:
        """The words that may end at a node, in order of their entries; those that the scorer forbids are left out."""
        config, first = self._config, self._lexicon.node_first_entry
        ends = []
        for entry in range(int(first[node]), int(first[node + 1])):
            word = int(self._lexicon.entry_word[entry])
            following, language = self._scorer.step(state, word)
            gain = config.lm_weight * (language + float(self._lexicon.entry_log_prob[entry])) + config.word_score
            if language > -np.inf:
                ends.append(WordEnd(word, following, language, gain))
        return ends

    def _candidates(self, ends: Ends, relative: ScoreArray, is_blank: bool) -> Candidates:
        beam = self._beam
        index = np.arange(len(beam.node))
        blank = _plain(index, beam.node, np.zeros(len(index), np.bool_), beam.state, beam.score + relative[BLANK_ID])
        if is_blank:
            return blank
        allowed = relative >= -self._config.token_threshold
        parts = [blank, self._repeats(relative, allowed), self._children(relative, allowed)]
        if allowed[BOUNDARY_ID]:
            parts += self._boundaries(ends, relative[BOUNDARY_ID])
        parts.append(self._next_words(ends, relative, allowed))
        return Candidates._make(np.concatenate(columns) for columns in zip(*parts, strict=True))

    def _repeats(self, relative: ScoreArray, allowed: BoolArray) -> Candidates:
        beam = self._beam
        label = self._lexicon.node_label[beam.node]
        i = np.flatnonzero(beam.emitted & allowed[label])
        return _plain(i, beam.node[i], beam.emitted[i], beam.state[i], beam.score[i] + relative[label[i]])

    def _children(self, relative: ScoreArray, allowed: BoolArray) -> Candidates:
        """The next phoneme of the same word, or the first one of a word at the root."""
        beam, lexicon = self._beam, self._lexicon
        first = lexicon.node_first_child[beam.node].astype(np.int64)
        count = lexicon.node_first_child[beam.node + 1] - first
        parent = np.repeat(np.arange(len(count)), count)
        child = np.arange(len(parent)) + np.repeat(first - np.cumsum(count) + count, count)
        label = lexicon.node_label[child]
        keep = allowed[label] & ~self._is_repeat(parent, label)
        parent, child, label = parent[keep], child[keep], label[keep]
        score = beam.score[parent] + relative[label]
        return _plain(parent, child, np.ones(len(child), np.bool_), beam.state[parent], score)

    def _boundaries(self, ends: Ends, relative: np.float64) -> list[Candidates]:
        beam = self._beam
        root = np.flatnonzero(beam.node == 0)
        size = len(ends.parent)
        return [
            _plain(root, beam.node[root], beam.emitted[root], beam.state[root], beam.score[root] + relative),
            Candidates(
                ends.parent, np.zeros(size, np.int64), np.zeros(size, np.bool_), ends.state, ends.score + relative,
                np.arange(size),
            ),
        ]  # fmt: skip

    def _next_words(self, ends: Ends, relative: ScoreArray, allowed: BoolArray) -> Candidates:
        """The first phoneme of the next word, without a boundary."""
        children = self._root_children[allowed[self._root_labels]]
        ended = np.repeat(np.arange(len(ends.parent)), len(children))
        child = np.tile(children, len(ends.parent))
        keep = ~self._is_repeat(ends.parent[ended], self._lexicon.node_label[child])
        ended, child = ended[keep], child[keep]
        score = ends.score[ended] + self._config.boundary_skip_log_prob + relative[self._lexicon.node_label[child]]
        return Candidates(ends.parent[ended], child, np.ones(len(child), np.bool_), ends.state[ended], score, ended)

    def _is_repeat(self, parent: IntArray, label: npt.NDArray[np.uint8]) -> BoolArray:
        """Whether `label` directly follows itself, which CTC reads as one phoneme."""
        is_same: BoolArray = label == self._lexicon.node_label[self._beam.node[parent]]
        return is_same & self._beam.emitted[parent]

    def _choose(self, candidates: Candidates, ends: Ends) -> tuple[Candidates, HashArray]:
        """The candidates that survive, best first, joined over alignments, and the hashes of their words."""
        lookahead = self._config.lm_weight * self._lexicon.node_lookahead[candidates.node].astype(np.float64)
        total = candidates.score + lookahead
        kept = np.flatnonzero(total >= total.max() - self._config.beam_threshold)
        words = self._words_after(candidates, ends)[kept]
        parts = Candidates._make(column[kept] for column in candidates)
        key = 2 * parts.node + parts.emitted
        order = np.lexsort((words, parts.state, key))  # stable: alignments stay in the order in which they came
        starts = np.flatnonzero(_changes(key[order], parts.state[order], words[order]))
        score = self._plus.reduceat(parts.score[order], starts)
        unique = np.lexsort((-parts.score, words, parts.state, key))[starts]  # the best alignment gives the times
        total = score + lookahead[kept][unique]
        ranking = np.lexsort((words[unique], parts.state[unique], key[unique], -total))
        alike = np.stack([key[unique][ranking], parts.state[unique][ranking]])
        is_first = np.sort(np.unique(alike, axis=1, return_index=True)[1])[: self._config.beam_size]
        chosen = unique[ranking[is_first]]
        best = Candidates._make(column[chosen] for column in parts)
        return best._replace(score=score[ranking[is_first]]), words[chosen]

    def _words_after(self, candidates: Candidates, ends: Ends) -> HashArray:
        """Hash of each candidate's words."""
        words = self._beam.words[candidates.parent]
        has_ended = candidates.ended >= 0
        spoken = np.array([end.word + 1 for end in ends.words], np.uint64)
        words[has_ended] = _mix(words[has_ended], spoken[candidates.ended[has_ended]])
        return words

    def _follow(self, chosen: Candidates, words: HashArray, ends: Ends, relative: ScoreArray) -> Beam:
        """The hypotheses that `chosen` stand for."""
        parent, node, emitted, state, score, ended = chosen
        before = Beam._make(column[parent] for column in self._beam)
        history = before.history.copy()
        for i in np.flatnonzero(ended >= 0).tolist():
            word = self._path_word(int(parent[i]), ends.words[ended[i]])
            history[i] = self._history.extend(int(history[i]), word)
        is_new = emitted & ((before.node == 0) | (ended >= 0))
        label = np.where(emitted, self._lexicon.node_label[node], BLANK_ID)
        acoustic = np.where(is_new, 0.0, before.acoustic) + relative[label]
        return Beam(
            node, emitted, state, score, history, words,
            start=np.where(is_new, self._frame, before.start),
            end=np.where(emitted, self._frame + 1, before.end),
            acoustic=acoustic,
            acoustic_at_end=np.where(emitted, acoustic, before.acoustic_at_end),
        )  # fmt: skip

    def _path_word(self, index: int, end: WordEnd) -> PathWord:
        beam = self._beam
        start_frame, end_frame = int(beam.start[index]), int(beam.end[index])
        return PathWord(end.word, start_frame, end_frame, float(beam.acoustic_at_end[index]), end.language)

    def _words_of(self, way: Complete) -> list[PathWord]:
        words = self._history.path(int(self._beam.history[way.hypothesis]))
        return [*words, self._path_word(way.hypothesis, way.end)] if way.end else words

    def _settle_old(self) -> None:
        """Give up hypotheses that disagree with the best one about words of long ago; keep the history small."""
        leaves = self._beam.history.tolist()
        node = self._history.last_ended_before(leaves[0], self._frame - self._config.stable_after_frames)
        if node:
            agrees = np.array([self._history.common([leaf, node]) == node for leaf in leaves])
            self._beam = Beam._make(column[agrees] for column in self._beam)
            self._settle(node)
        elif self._history.is_full:
            self._settle(0)

    def _settle(self, node: int) -> None:
        """Move the words up to `node`, an ancestor of every hypothesis, to the stable ones."""
        self._stable += self._history.path(node)
        history = self._history.compact(node, self._beam.history.tolist())
        self._beam = self._beam._replace(history=np.array(history, np.int64))

    def _complete(self) -> Iterator[Complete]:
        """Each way in which the utterance may end: after words that are over, then with the last word of the others."""
        beam, ends = self._beam, self._word_ends()
        root = np.flatnonzero(beam.node == 0)
        spoken = np.array([end.word + 1 for end in ends.words], np.uint64)
        hashes = np.concatenate([beam.words[root], _mix(beam.words[ends.parent], spoken)]).tolist()
        scores = np.concatenate([beam.score[root], ends.score + self._config.boundary_skip_log_prob]).tolist()
        states = beam.state[root].tolist() + ends.state.tolist()
        ways = [(i, None) for i in root.tolist()] + list(zip(ends.parent.tolist(), ends.words, strict=True))
        self._prepare(states)
        for (index, end), state, words, score in zip(ways, states, hashes, scores, strict=True):
            total = score + self._config.lm_weight * self._scorer.finish(state)
            if total > -np.inf:
                yield Complete(index, end, words, total, total)


def _plain(parent: IntArray, node: IntArray, emitted: BoolArray, state: IntArray, score: ScoreArray) -> Candidates:
    """Candidates in which no word ends."""
    return Candidates(parent, node, emitted, state, score, np.full(len(parent), -1))


def _changes(*columns: npt.NDArray[np.generic]) -> BoolArray:
    """Rows that differ from the row before them in any of the sorted columns."""
    is_new = np.ones(len(columns[0]), np.bool_)
    is_new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return is_new


def _mix(seed: HashArray, value: HashArray) -> HashArray:
    """A hash of `value` on top of `seed`."""
    mixed = (seed ^ value) * np.uint64(0x9E3779B97F4A7C15)
    return mixed ^ (mixed >> np.uint64(29))

// CTC beam search through the lexicon; the C++ twin of lexicon_search.py, which explains it and must give equal results:
// candidates are generated in the same order, and scores are added up in the same order, in double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "candidates.hpp"
#include "history.hpp"
#include "hypothesis.hpp"
#include "word_scorer.hpp"

namespace sottovoce {

class LexiconSearch {
  public:
    LexiconSearch(const Trie& trie, WordScorer& scorer, const Config& config)
        : trie_(trie), scorer_(scorer), config_(config), candidates_(config, trie.node_lookahead) {
        restart();
    }

    // Takes in `frames` (count, width) row by row; there is no NaN among them.
    void advance(const float* frames, size_t count, size_t width) {
        relative_.resize(width);
        for (size_t t = 0; t < count; ++t) {
            const float* frame = frames + t * width;
            for (size_t v = 0; v < width; ++v) relative_[v] = std::max(frame[v], kFloor);
            const bool is_blank = relative_[kBlank] > config_.blank_skip_log_prob;
            const double best = *std::max_element(relative_.begin(), relative_.end());
            for (double& value : relative_) value -= best;
            advance_frame(is_blank);
        }
    }

    std::vector<PathWord> take_stable() {
        int32_t node = beam_[0].history;
        for (const Hypothesis& hypothesis : beam_) node = history_.common(node, hypothesis.history);
        settle(node);
        return std::exchange(stable_, {});
    }

    std::vector<PathWord> best() {
        std::vector<PathWord> words = words_of(beam_[0]);
        std::vector<WordEnd> ends;
        prepare_ends();
        append_ends(beam_[0].node, beam_[0].state, ends);
        const auto end = std::max_element(ends.begin(), ends.end(), [](auto& a, auto& b) { return a.gain < b.gain; });
        if (end != ends.end()) words.push_back(path_word(beam_[0], *end));
        return words;
    }

    // What `best` would be after more frames, of which no trace is left; with the first `beam_size` hypotheses only.
    std::vector<PathWord> preview(const float* frames, size_t count, size_t width, size_t beam_size) {
        prepare_ends();
        LexiconSearch ahead(*this, beam_size);
        const Preview of_scorer(scorer_);
        ahead.advance(frames, count, width);
        return ahead.best();
    }

    int64_t trailing_silence() const { return frame_ - beam_[0].end; }

    std::vector<PathWord> finish() {
        const std::vector<PathWord> unfinished = words_of(beam_[0]);
        const std::vector<Reading> readings = finish_many(1);
        return readings.empty() ? unfinished : readings[0].words;
    }

    std::vector<Reading> finish_many(size_t count) {
        std::vector<Complete> ways = complete();
        std::stable_sort(ways.begin(), ways.end(), [](auto& a, auto& b) { return a.score > b.score; });
        if (ways.size() > count) ways.resize(count);
        std::vector<Reading> readings;
        for (const Complete& way : ways) {
            readings.push_back({words_of(*way.hypothesis), way.score});
            if (way.hypothesis->node != 0) readings.back().words.push_back(path_word(*way.hypothesis, way.end));
        }
        restart();
        return readings;
    }

    size_t history_size() const { return history_.size(); }

  private:
    LexiconSearch(const LexiconSearch& other, size_t beam_size)
        : trie_(other.trie_), scorer_(other.scorer_), config_(other.config_.with_beam(beam_size)),
          frame_(other.frame_), stable_(other.stable_), history_(other.history_), beam_(other.beam_),
          candidates_(config_, trie_.node_lookahead) {
        if (beam_.size() > beam_size) beam_.resize(beam_size);
    }

    using EndRanges = std::unordered_map<NodeState, EndRange, NodeStateHash>;
    static constexpr float kFloor = -1e4f;  // as FLOOR in inputs.py

    void restart() {
        stable_.clear();
        history_ = History();
        forget({});
        beam_.assign(1, Hypothesis{0, false, scorer_.start(), 0.0, 0, 0, frame_, frame_, 0.0, 0.0});
    }

    void advance_frame(bool is_blank) {
        candidates_.clear();
        find_ends();
        add_blanks();
        if (!is_blank) {
            find_allowed();
            add_repeats();
            add_children();
            if (allowed_[kBoundary]) add_boundaries();
            add_next_words();
        }
        follow(candidates_.choose());
        ++frame_;
        settle_old();
        if (scorer_.is_crowded()) {
            states_.clear();
            for (const Hypothesis& hypothesis : beam_) states_.push_back(hypothesis.state);
            forget(states_);
        }
    }

    // Lets the scorer forget all states but these; the words that may end are scored anew.
    void forget(const std::vector<int64_t>& kept) {
        ends_.clear();
        end_ranges_.clear();
        scorer_.retain(kept);
    }

    // Scores every word that may end at the hypotheses' nodes; scores are kept while a hypothesis needs them.
    void find_ends() {
        prepare_ends();
        std::swap(ends_, old_ends_);
        std::swap(end_ranges_, old_end_ranges_);
        ends_.clear();
        end_ranges_.clear();
        ended_.clear();
        for (size_t i = 0; i < beam_.size(); ++i) {
            const uint32_t node = beam_[i].node;
            if (!may_end(node)) continue;
            const NodeState key{node, beam_[i].state};
            const auto [place, is_new] = end_ranges_.try_emplace(key);
            if (is_new) place->second = known_or_new_ends(key);
            for (int32_t end = place->second.first; end < place->second.last; ++end)
                ended_.push_back({static_cast<int32_t>(i), end});
        }
    }

    // What the next frame will ask of the scorer. Whoever asks earlier does this first: what is worked out together may
    // differ in the last bit from what is worked out apart, and how the audio was cut up must make no difference.
    void prepare_ends() {
        asked_.clear();
        for (const Hypothesis& hypothesis : beam_) {
            const uint32_t node = hypothesis.node;
            if (!may_end(node) || end_ranges_.count({node, hypothesis.state})) continue;
            for (uint32_t entry = trie_.node_first_entry[node]; entry < trie_.node_first_entry[node + 1]; ++entry)
                asked_.push_back({hypothesis.state, trie_.entry_word[entry]});
        }
        scorer_.prepare_words(asked_);
    }

    bool may_end(uint32_t node) const { return trie_.node_first_entry[node] != trie_.node_first_entry[node + 1]; }

    EndRange known_or_new_ends(const NodeState& key) {
        const auto first = static_cast<int32_t>(ends_.size());
        const auto old = old_end_ranges_.find(key);
        if (old == old_end_ranges_.end())
            append_ends(key.node, key.state, ends_);
        else
            ends_.insert(ends_.end(), old_ends_.begin() + old->second.first, old_ends_.begin() + old->second.last);
        return {first, static_cast<int32_t>(ends_.size())};
    }

    void append_ends(uint32_t node, int64_t state, std::vector<WordEnd>& ends) {
        for (uint32_t entry = trie_.node_first_entry[node]; entry < trie_.node_first_entry[node + 1]; ++entry) {
            const uint32_t word = trie_.entry_word[entry];
            const Step step = scorer_.step(state, word);
            const double pronunciation = half_to_double(trie_.entry_log_prob[entry]);
            const double gain = config_.lm_weight * (step.log_prob + pronunciation) + config_.word_score;
            if (step.log_prob > -std::numeric_limits<double>::infinity())
                ends.push_back({word, step.state, step.log_prob, gain});
        }
    }

    // The different word sequences that the utterance may end with, in order of their first appearance: after words
    // that are over, then with the last word of those that are not.
    std::vector<Complete> complete() {
        find_ends();
        std::vector<Complete> ways;
        for (const Hypothesis& hypothesis : beam_)
            if (hypothesis.node == 0)
                ways.push_back({&hypothesis, {0, hypothesis.state, 0.0, 0.0}, hypothesis.words, hypothesis.score});
        for (const auto& [parent, ended] : ended_) {
            const WordEnd& end = ends_[ended];
            const double score = beam_[parent].score + end.gain + config_.boundary_skip_log_prob;
            ways.push_back({&beam_[parent], end, mix(beam_[parent].words, end.word + uint64_t{1}), score});
        }
        states_.clear();
        for (const Complete& way : ways) states_.push_back(way.end.state);
        scorer_.prepare(states_);
        std::vector<Complete> found;
        std::unordered_map<uint64_t, size_t> place;
        for (Complete& way : ways) {
            way.score = way.best = way.score + config_.lm_weight * scorer_.finish(way.end.state);
            if (!(way.score > -std::numeric_limits<double>::infinity())) continue;
            const auto [at, is_new] = place.try_emplace(way.words, found.size());
            if (is_new) found.push_back(way);
            else found[at->second] = joined(found[at->second], way);
        }
        return found;
    }

    // Two ways with the same words as one.
    Complete joined(const Complete& first, const Complete& second) const {
        Complete both = second.best > first.best ? second : first;
        both.score = candidates_.plus(first.score, second.score);
        return both;
    }

    void find_allowed() {
        allowed_.resize(relative_.size());
        for (size_t v = 0; v < relative_.size(); ++v) allowed_[v] = relative_[v] >= -config_.token_threshold;
        root_children_.clear();
        for (uint32_t child = 1; child < trie_.node_first_child[1]; ++child)
            if (allowed_[trie_.node_label[child]]) root_children_.push_back(child);
    }

    void add_blanks() {
        for (size_t i = 0; i < beam_.size(); ++i)
            add(i, -1, beam_[i].node, false, beam_[i].state, beam_[i].score + relative_[kBlank]);
    }

    void add_repeats() {
        for (size_t i = 0; i < beam_.size(); ++i) {
            const uint8_t label = trie_.node_label[beam_[i].node];
            if (beam_[i].emitted && allowed_[label])
                add(i, -1, beam_[i].node, true, beam_[i].state, beam_[i].score + relative_[label]);
        }
    }

    // The next phoneme of the same word, or the first one of a word at the root.
    void add_children() {
        for (size_t i = 0; i < beam_.size(); ++i) {
            if (beam_[i].node == 0) {
                for (const uint32_t child : root_children_) add_phoneme(i, -1, child, beam_[i].state, beam_[i].score);
                continue;
            }
            const uint32_t last = trie_.node_first_child[beam_[i].node + 1];
            for (uint32_t child = trie_.node_first_child[beam_[i].node]; child < last; ++child)
                if (allowed_[trie_.node_label[child]]) add_phoneme(i, -1, child, beam_[i].state, beam_[i].score);
        }
    }

    void add_boundaries() {
        for (size_t i = 0; i < beam_.size(); ++i)
            if (beam_[i].node == 0) add(i, -1, 0, false, beam_[i].state, beam_[i].score + relative_[kBoundary]);
        for (const Ended& ended : ended_) {
            const WordEnd& end = ends_[ended.end];
            const double score = beam_[ended.parent].score + end.gain + relative_[kBoundary];
            add(ended.parent, ended.end, 0, false, end.state, score);
        }
    }

    // The first phoneme of the next word, without a boundary.
    void add_next_words() {
        for (const Ended& ended : ended_) {
            const WordEnd& end = ends_[ended.end];
            const double score = beam_[ended.parent].score + end.gain + config_.boundary_skip_log_prob;
            for (const uint32_t child : root_children_) add_phoneme(ended.parent, ended.end, child, end.state, score);
        }
    }

    void add_phoneme(size_t parent, int32_t ended, uint32_t child, int64_t state, double score) {
        const uint8_t label = trie_.node_label[child];
        const bool is_repeat = beam_[parent].emitted && label == trie_.node_label[beam_[parent].node];
        if (!is_repeat) add(parent, ended, child, true, state, score + relative_[label]);
    }

    void add(size_t parent, int32_t ended, uint32_t node, bool emitted, int64_t state, double score) {
        const uint64_t before = beam_[parent].words;
        const uint64_t words = ended < 0 ? before : mix(before, ends_[ended].word + uint64_t{1});
        candidates_.add({static_cast<int32_t>(parent), ended, node, emitted, state, words, score});
    }

    // The hypotheses that the candidates stand for become the beam.
    void follow(const std::vector<Candidate>& chosen) {
        old_beam_.swap(beam_);
        beam_.clear();
        for (const Candidate& candidate : chosen) {
            const Hypothesis& parent = old_beam_[candidate.parent];
            Hypothesis next = parent;
            next.node = candidate.node;
            next.emitted = candidate.emitted;
            next.state = candidate.state;
            next.score = candidate.score;
            next.words = candidate.words;
            const bool has_ended = candidate.ended >= 0;
            if (has_ended) next.history = history_.extend(parent.history, path_word(parent, ends_[candidate.ended]));
            if (next.emitted) {
                if (parent.node == 0 || has_ended) {
                    next.start = frame_;
                    next.acoustic = 0.0;
                }
                next.acoustic += relative_[trie_.node_label[next.node]];
                next.acoustic_at_end = next.acoustic;
                next.end = frame_ + 1;
            } else {
                next.acoustic += relative_[kBlank];
            }
            beam_.push_back(next);
        }
    }

    PathWord path_word(const Hypothesis& hypothesis, const WordEnd& end) const {
        return {end.word, hypothesis.start, hypothesis.end, hypothesis.acoustic_at_end, end.language};
    }

    std::vector<PathWord> words_of(const Hypothesis& hypothesis) const {
        std::vector<PathWord> words = stable_;
        history_.append_path(hypothesis.history, words);
        return words;
    }

    // Gives up hypotheses that disagree with the best one about words of long ago; keeps the history small.
    void settle_old() {
        const int32_t node = history_.last_ended_before(beam_[0].history, frame_ - config_.stable_after_frames);
        if (node) {
            const auto disagrees = [&](const Hypothesis& h) { return history_.common(h.history, node) != node; };
            beam_.erase(std::remove_if(beam_.begin(), beam_.end(), disagrees), beam_.end());
            settle(node);
        } else if (history_.is_full()) {
            settle(0);
        }
    }

    // Moves the words up to `node`, an ancestor of every hypothesis, to the stable ones.
    void settle(int32_t node) {
        history_.append_path(node, stable_);
        std::vector<int32_t*> leaves;
        for (Hypothesis& hypothesis : beam_) leaves.push_back(&hypothesis.history);
        history_.compact(node, leaves);
    }

    const Trie trie_;
    WordScorer& scorer_;
    const Config config_;
    int64_t frame_ = 0;
    std::vector<PathWord> stable_;
    History history_;
    std::vector<Hypothesis> beam_, old_beam_;
    std::vector<WordEnd> ends_, old_ends_;
    EndRanges end_ranges_, old_end_ranges_;

    // Of the frame in progress; members so that their memory is used again.
    std::vector<double> relative_;
    std::vector<uint8_t> allowed_;
    std::vector<uint32_t> root_children_;
    std::vector<Ended> ended_;
    std::vector<int64_t> states_;
    std::vector<StateWord> asked_;
    Candidates candidates_;
};

}  // namespace sottovoce

// The continuations of one frame's hypotheses, joined and pruned.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "history.hpp"
#include "word_scorer.hpp"

namespace sottovoce {

struct Config {
    size_t beam_size;
    double beam_threshold, token_threshold, lm_weight, word_score, boundary_skip_log_prob, blank_skip_log_prob;
    int64_t stable_after_frames;
    bool is_tropical;  // the score of a reading is that of its best alignment, not over all of them

    Config with_beam(size_t size) const {
        Config changed = *this;
        changed.beam_size = size;
        return changed;
    }
};

struct Candidate {
    int32_t parent, ended;  // indices into the hypotheses and the ends of words (-1: no word ended)
    uint32_t node;
    bool emitted;
    int64_t state;
    uint64_t words;
    double score, total = 0.0;  // without and with look-ahead, over all alignments
    double best = 0.0;          // score of the best alignment, which gives the times
};

class Candidates {
  public:
    Candidates(const Config& config, const uint16_t* node_lookahead)
        : config_(config), node_lookahead_(node_lookahead) {}

    void clear() {
        kept_.clear();
        best_total_ = -std::numeric_limits<double>::infinity();
    }

    // Notes a candidate, unless the best one so far rules it out.
    void add(Candidate candidate) {
        candidate.total = candidate.score + lookahead(candidate.node);
        candidate.best = candidate.score;
        if (!(candidate.total >= best_total_ - config_.beam_threshold)) return;
        best_total_ = std::max(best_total_, candidate.total);
        kept_.push_back(candidate);
    }

    // Leaves the candidates that survive, best first.
    const std::vector<Candidate>& choose() {
        const double cutoff = best_total_ - config_.beam_threshold;
        const auto is_out = [cutoff](const Candidate& candidate) { return !(candidate.total >= cutoff); };
        kept_.erase(std::remove_if(kept_.begin(), kept_.end(), is_out), kept_.end());
        add_up();
        std::sort(kept_.begin(), kept_.end(), [](const Candidate& a, const Candidate& b) {
            if (a.total != b.total) return a.total > b.total;
            if (a.node != b.node) return a.node < b.node;
            if (a.emitted != b.emitted) return b.emitted;
            return a.state != b.state ? a.state < b.state : a.words < b.words;
        });
        keep_first();
        return kept_;
    }

    // The score of two alignments together.
    double plus(double a, double b) const {
        if (config_.is_tropical) return std::max(a, b);
        if (a == b) return a + std::log(2.0);
        return a > b ? a + std::log1p(std::exp(b - a)) : b + std::log1p(std::exp(a - b));
    }

  private:
    double lookahead(uint32_t node) const { return config_.lm_weight * half_to_double(node_lookahead_[node]); }

    // Candidates of the same words that may go on alike become one, their probabilities added up.
    void add_up() {
        clear_slots(kept_.size());
        size_t size = 0;
        for (const Candidate& candidate : kept_) {
            const size_t slot = find_slot(candidate, mix(key(candidate), candidate.words), true);
            if (slots_[slot] < 0) {
                slots_[slot] = static_cast<int32_t>(size);
                kept_[size++] = candidate;
                continue;
            }
            Candidate& sum = kept_[slots_[slot]];
            const double score = plus(sum.score, candidate.score);
            if (candidate.best > sum.best) {
                sum.parent = candidate.parent;
                sum.ended = candidate.ended;
                sum.best = candidate.best;
            }
            sum.score = score;
        }
        kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(size), kept_.end());
        for (Candidate& sum : kept_)
            sum.total = sum.score + lookahead(sum.node);
    }

    // Of sorted candidates that go on alike after different words only the best stays; and no more than the beam holds.
    void keep_first() {
        clear_slots(kept_.size());
        size_t size = 0;
        for (size_t i = 0; i < kept_.size() && size < config_.beam_size; ++i) {
            const Candidate candidate = kept_[i];
            const size_t slot = find_slot(candidate, key(candidate), false);
            if (slots_[slot] >= 0) continue;
            slots_[slot] = static_cast<int32_t>(size);
            kept_[size++] = candidate;
        }
        kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(size), kept_.end());
    }

    static uint64_t key(const Candidate& candidate) {
        return mix(mix(0, 2 * uint64_t{candidate.node} + candidate.emitted), candidate.state);
    }

    void clear_slots(size_t n_candidates) {
        size_t size = 1024;
        while (size < 2 * n_candidates) size *= 2;
        slots_.assign(size, -1);
    }

    // Where the equal candidate is, or may be put.
    size_t find_slot(const Candidate& wanted, uint64_t hash, bool same_words) const {
        const size_t mask = slots_.size() - 1;
        for (size_t slot = hash & mask;; slot = (slot + 1) & mask) {
            if (slots_[slot] < 0) return slot;
            const Candidate& found = kept_[slots_[slot]];
            if (found.node == wanted.node && found.emitted == wanted.emitted && found.state == wanted.state &&
                (!same_words || found.words == wanted.words))
                return slot;
        }
    }

    const Config config_;
    const uint16_t* node_lookahead_;
    std::vector<Candidate> kept_;
    std::vector<int32_t> slots_;  // hash table of indices into kept_, a power of two long
    double best_total_ = 0.0;
};

}  // namespace sottovoce

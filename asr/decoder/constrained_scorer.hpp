// The twins of GrammarScorer and ConstrainedScorer in lm/grammar/scorer.py. Where a word leads in the grammar is asked in
// Python once, and remembered.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

#include "word_scorer.hpp"

namespace sottovoce {

// What a grammar lets follow; -1 is nothing. Searches of several threads may share one.
class GrammarTable {
  public:
    using Follow = std::function<int64_t(int64_t state, uint32_t word)>;
    using IsFinal = std::function<bool(int64_t state)>;

    GrammarTable(int64_t start, Follow follow, IsFinal is_final)
        : start_(start), follow_(std::move(follow)), is_final_(std::move(is_final)) {}

    int64_t start() const { return start_; }

    int64_t follow(int64_t state, uint32_t word) {
        const uint64_t key = static_cast<uint64_t>(state) << 32 | word;
        {
            const std::lock_guard<std::mutex> guard(mutex_);
            const auto place = after_.find(key);
            if (place != after_.end()) return place->second;
        }
        const int64_t following = follow_(state, word);  // waits for the interpreter, whose owner may wait for the mutex
        const std::lock_guard<std::mutex> guard(mutex_);
        if (after_.size() >= kMostKnown) after_.clear();  // a stream may go on for hours
        return after_[key] = following;
    }

    bool is_final(int64_t state) {
        {
            const std::lock_guard<std::mutex> guard(mutex_);
            const auto place = final_.find(state);
            if (place != final_.end()) return place->second;
        }
        const bool is_final = is_final_(state);
        const std::lock_guard<std::mutex> guard(mutex_);
        return final_[state] = is_final;
    }

  private:
    static constexpr size_t kMostKnown = 200'000;

    const int64_t start_;
    const Follow follow_;
    const IsFinal is_final_;
    std::mutex mutex_;
    std::unordered_map<uint64_t, int64_t> after_;
    std::unordered_map<int64_t, bool> final_;
};

class GrammarScorer : public WordScorer {
  public:
    explicit GrammarScorer(GrammarTable& table) : table_(table) {}

    int64_t start() override { return table_.start(); }
    Step step(int64_t state, uint32_t word) override {
        const int64_t following = table_.follow(state, word);
        return following < 0 ? Step{state, kForbidden} : Step{following, 0.0};
    }
    double finish(int64_t state) override { return table_.is_final(state) ? 0.0 : kForbidden; }

    static constexpr double kForbidden = -std::numeric_limits<double>::infinity();

  private:
    GrammarTable& table_;
};

class ConstrainedScorer : public OuterScorer {
  public:
    // Per word: its id in `inner`, and what the grammar itself gives it (log; minus infinity: nothing).
    ConstrainedScorer(GrammarTable& table, WordScorer& inner, std::vector<uint32_t> inner_words,
                      std::vector<float> own_log_prob, double inner_log_share)
        : OuterScorer(inner),
          table_(table),
          inner_words_(std::move(inner_words)),
          own_log_prob_(std::move(own_log_prob)),
          inner_log_share_(inner_log_share) {}

    int64_t start() override { return keep({inner_.start(), table_.start()}); }

    Step step(int64_t state, uint32_t word) override {
        const Pair pair = found(state);
        const int64_t following = table_.follow(pair.own, word);
        if (following < 0) return {state, GrammarScorer::kForbidden};
        const Step step = inner_.step(pair.inner, inner_words_.at(word));
        const double model = step.log_prob + inner_log_share_, own = own_log_prob_.at(word);
        return {keep({step.state, following}), own == GrammarScorer::kForbidden ? model : sum_of_logs(model, own)};
    }

    double finish(int64_t state) override {
        const Pair pair = found(state);
        return table_.is_final(pair.own) ? inner_.finish(pair.inner) : GrammarScorer::kForbidden;
    }

    // Of what the grammar forbids, the model is asked nothing.
    void prepare(const std::vector<int64_t>& states) override {
        std::vector<int64_t> inner;
        for (const int64_t state : states)
            if (table_.is_final(found(state).own)) inner.push_back(found(state).inner);
        inner_.prepare(inner);
    }

    void prepare_words(const std::vector<StateWord>& asked) override {
        std::vector<StateWord> inner;
        for (const auto& [state, word] : asked)
            if (table_.follow(found(state).own, word) >= 0)
                inner.push_back({found(state).inner, inner_words_.at(word)});
        inner_.prepare_words(inner);
    }

  private:
    static double sum_of_logs(double a, double b) {
        const double best = std::max(a, b);
        return best + std::log1p(std::exp(std::min(a, b) - best));
    }

    GrammarTable& table_;
    const std::vector<uint32_t> inner_words_;
    const std::vector<float> own_log_prob_;
    const double inner_log_share_;
};

}  // namespace sottovoce

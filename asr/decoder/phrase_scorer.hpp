// The twin of PhraseScorer in lm/phrases.py, with equal states and log-probabilities.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

#include "word_scorer.hpp"

namespace sottovoce {

// Arrays of a PhraseAutomaton; the arc i leads to node i + 1.
struct PhraseTable {
    const uint32_t *first_arc, *arc_word, *fail;
    const double *lent, *earned;
};

class PhraseScorer : public OuterScorer {
  public:
    PhraseScorer(const PhraseTable& table, WordScorer& inner, uint32_t inner_words, double unlisted_log_share)
        : OuterScorer(inner), table_(table), inner_words_(inner_words), unlisted_log_share_(unlisted_log_share) {}

    int64_t start() override { return keep({inner_.start(), 0}); }

    Step step(int64_t state, uint32_t word) override {
        const Pair pair = found(state);
        const auto node = static_cast<uint32_t>(pair.own);
        const bool is_known = word < inner_words_;
        const Step inner = inner_.step(pair.inner, is_known ? word : kUnknownWord);
        const uint32_t next = follow(node, word);
        const double log_prob = is_known ? inner.log_prob : inner.log_prob + unlisted_log_share_;
        const double boost = table_.lent[next] - table_.lent[node] + table_.earned[next];
        return {keep({inner.state, next}), log_prob + boost};
    }

    double finish(int64_t state) override {
        const Pair pair = found(state);
        return inner_.finish(pair.inner) - table_.lent[pair.own];
    }

    void prepare_words(const std::vector<StateWord>& asked) override {
        std::vector<StateWord> inner;
        for (const auto& [state, word] : asked)
            inner.push_back({found(state).inner, word < inner_words_ ? word : kUnknownWord});
        inner_.prepare_words(inner);
    }

  private:
    static constexpr uint32_t kUnknownWord = 0;

    uint32_t follow(uint32_t node, uint32_t word) const {
        for (;;) {
            const uint32_t* const end = table_.arc_word + table_.first_arc[node + 1];
            const uint32_t* const place = std::lower_bound(table_.arc_word + table_.first_arc[node], end, word);
            if (place != end && *place == word) return static_cast<uint32_t>(place - table_.arc_word) + 1;
            if (node == 0) return 0;
            node = table_.fail[node];
        }
    }

    const PhraseTable table_;
    const uint32_t inner_words_;
    const double unlisted_log_share_;
};

}  // namespace sottovoce

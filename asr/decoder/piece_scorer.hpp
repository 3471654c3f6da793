// The twin of PieceScorer in lm/piece_scorer.py: a scorer of pieces as one of words.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

#include "word_scorer.hpp"

namespace sottovoce {

class PieceScorer : public OuterScorer {
  public:
    using Cut = std::function<std::vector<uint32_t>(uint32_t word)>;

    // `ngram`, which may be missing, knows `ngram_words` words and speaks for 1 - share.
    PieceScorer(WordScorer& inner, Cut cut, WordScorer* ngram, size_t ngram_words, double share)
        : OuterScorer(inner), cut_(std::move(cut)), ngram_(ngram), ngram_words_(ngram_words), share_(share) {}

    int64_t start() override { return keep({inner_.start(), ngram_ ? ngram_->start() : 0}); }

    Step step(int64_t state, uint32_t word) override {
        const Pair pair = found(state);
        Step inner{pair.inner, 0.0};
        for (const uint32_t piece : pieces(word)) {
            const Step next = inner_.step(inner.state, piece);
            inner = {next.state, inner.log_prob + next.log_prob};
        }
        if (!ngram_) return {keep({inner.state, 0}), inner.log_prob};
        const bool is_known = word < ngram_words_;
        const Step ngram = ngram_->step(pair.own, is_known ? word : kUnknownWord);
        return {keep({inner.state, ngram.state}), mixed(inner.log_prob, is_known ? ngram.log_prob : kNever)};
    }

    double finish(int64_t state) override {
        const Pair pair = found(state);
        return ngram_ ? mixed(inner_.finish(pair.inner), ngram_->finish(pair.own)) : inner_.finish(pair.inner);
    }

    bool needs_interpreter() const override {
        return inner_.needs_interpreter() || (ngram_ && ngram_->needs_interpreter());
    }

    // Pieces of a word but the last are asked for here, those of all words together.
    void prepare_words(const std::vector<StateWord>& asked) override {
        if (pairs_.is_preview()) return;
        std::vector<std::pair<int64_t, const std::vector<uint32_t>*>> open;
        for (const auto& [state, word] : asked) open.emplace_back(found(state).inner, &pieces(word));
        std::vector<int64_t> states;
        for (size_t place = 0; !open.empty(); ++place) {
            states.clear();
            for (const auto& way : open) states.push_back(way.first);
            inner_.prepare(states);
            size_t size = 0;
            for (const auto& [state, word] : open)
                if (place + 1 < word->size()) open[size++] = {inner_.step(state, (*word)[place]).state, word};
            open.resize(size);
        }
    }

  private:
    static constexpr uint32_t kUnknownWord = 0;
    static constexpr double kNever = -std::numeric_limits<double>::infinity();

    const std::vector<uint32_t>& pieces(uint32_t word) {
        const auto place = cuts_.find(word);
        return place != cuts_.end() ? place->second : cuts_.emplace(word, cut_(word)).first->second;
    }

    double mixed(double pieces, double ngram) const {
        const double highest = std::max(pieces, ngram);
        if (highest == kNever) return kNever;
        return highest + std::log(share_ * std::exp(pieces - highest) + (1 - share_) * std::exp(ngram - highest));
    }

    const Cut cut_;
    WordScorer* const ngram_;
    const size_t ngram_words_;
    const double share_;
    std::unordered_map<uint32_t, std::vector<uint32_t>> cuts_;
};

}  // namespace sottovoce

// The twin of NeuralScorer in lm/neural.py: equal states, and log-probabilities equal but for the order of additions.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

#include "history.hpp"
#include "word_scorer.hpp"

namespace sottovoce {

constexpr size_t kMaxContext = 12;
constexpr size_t kStateWords = 4;  // as STATE_WORDS in neural.py

// Arrays of lm.bin, and an adapter's bias added to theirs; layout in docs/architecture.md.
struct NeuralTable {
    size_t rows, dim, scales, context, unknown_words;  // `scales` of a row, each for dim / scales numbers
    const uint8_t* embedding;                          // (rows, dim / 2), two numbers a byte
    const uint16_t* scale;
    const float* bias;
    const uint16_t* unknown_log_share;
};

class NeuralScorer : public WordScorer {
  public:
    using Words = std::array<uint32_t, kMaxContext>;  // of a context, the oldest first
    // Runs the hidden layers on contexts (count, context) of word ids below `rows`, and gives (count, dim).
    using Predict = std::function<std::vector<float>(const std::vector<int64_t>& contexts, size_t count)>;

    NeuralScorer(const NeuralTable& table, Predict predict, WordScorer* ngram, double share)
        : table_(table), predict_(std::move(predict)), ngram_(ngram), share_(share) {
        if (table.context > kMaxContext) throw std::invalid_argument("the language model's context is too long");
    }

    int64_t start() override {
        Words words{};
        std::fill(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(table_.context), kStartWord);
        return keep(words, ngram_ ? ngram_->start() : 0);
    }

    Step step(int64_t state, uint32_t word) override {
        if (word >= table_.rows + table_.unknown_words)
            throw std::out_of_range("the language model lacks a word of the lexicon");
        const Context context = found(state);
        const Step ngram = ngram_ ? ngram_->step(context.ngram, word) : Step{0, kNever};
        const double log_prob = mixed(state, word, ngram.log_prob);
        Words words = context.words;
        std::move(words.begin() + 1, words.begin() + static_cast<std::ptrdiff_t>(table_.context), words.begin());
        words[table_.context - 1] = word;
        return {keep(words, ngram.state), log_prob};
    }

    double finish(int64_t state) override {
        const double ngram = ngram_ ? ngram_->finish(found(state).ngram) : kNever;
        return mixed(state, kEndWord, ngram);
    }

    void prepare(const std::vector<int64_t>& states) override {
        if (contexts_.is_preview()) return;
        missing_.clear();
        for (const int64_t state : states) {
            Context& context = found(state);
            if (context.predicted != kMissing) continue;
            context.predicted = kRequested;
            missing_.push_back(state);
        }
        if (missing_.empty()) return;
        ids_.clear();
        for (const int64_t state : missing_) {
            const Words& words = found(state).words;
            for (size_t i = 0; i < table_.context; ++i) ids_.push_back(row(words[i]));
        }
        const std::vector<float> predicted = predict_all();
        for (size_t i = 0; i < missing_.size(); ++i) {
            const int32_t slot = free_slot();
            std::copy_n(predicted.begin() + static_cast<std::ptrdiff_t>(i * table_.dim), table_.dim,
                        rows_.begin() + static_cast<std::ptrdiff_t>(slot * table_.dim));
            found(missing_[i]).predicted = slot;
        }
    }

    bool needs_interpreter() const override { return ngram_ && ngram_->needs_interpreter(); }

    bool is_crowded() const override { return !contexts_.is_preview() && contexts_.kept().size() >= kCrowd; }
    void begin_preview() override { contexts_.begin_preview(); }
    void end_preview() override { contexts_.end_preview(); }

    void retain(const std::vector<int64_t>& states) override {
        std::unordered_map<int64_t, Context> kept;
        for (const int64_t state : states) kept.emplace(state, found(state));
        std::vector<bool> is_used(rows_.size() / table_.dim, false);
        for (const auto& entry : kept)
            if (entry.second.predicted >= 0) is_used[static_cast<size_t>(entry.second.predicted)] = true;
        free_.clear();
        for (size_t slot = is_used.size(); slot-- > 0;)
            if (!is_used[slot]) free_.push_back(static_cast<int32_t>(slot));
        contexts_.replace(std::move(kept));
    }

  private:
    static constexpr uint32_t kUnknownWord = 0, kStartWord = 1, kEndWord = 2;
    static constexpr int32_t kMissing = -1, kRequested = -2;
    static constexpr size_t kCrowd = 4096;  // as CROWD in neural.py
    static constexpr double kNever = -std::numeric_limits<double>::infinity();

    struct Context {
        Words words;
        int64_t ngram;      // state of the n-gram
        int32_t predicted;  // place in rows_
    };

    std::vector<float> predict_all() {
        try {
            std::vector<float> predicted = predict_(ids_, missing_.size());
            if (predicted.size() == missing_.size() * table_.dim) return predicted;
            throw std::runtime_error("the language model gave another number of values than expected");
        } catch (...) {
            for (const int64_t state : missing_) found(state).predicted = kMissing;
            throw;
        }
    }

    Context& found(int64_t state) {
        Context* const context = contexts_.find(state);
        if (!context) throw std::out_of_range("the language model has forgotten this state");
        return *context;
    }

    int64_t keep(const Words& words, int64_t ngram) {
        uint64_t hash = 0;
        const size_t first = table_.context - std::min(table_.context, kStateWords);
        for (size_t i = first; i < table_.context; ++i) hash = mix(hash, words[i] + uint64_t{1});
        const auto state = static_cast<int64_t>(hash >> 1);
        contexts_.keep(state, Context{words, ngram, kMissing});
        return state;
    }

    uint32_t row(uint32_t word) const { return word < table_.rows ? word : kUnknownWord; }

    double neural(int64_t state, uint32_t word) {
        if (found(state).predicted < 0) prepare({state});
        if (found(state).predicted < 0) return table_.bias[row(word)] + unknown_share(word);
        const float* predicted = rows_.data() + static_cast<size_t>(found(state).predicted) * table_.dim;
        const uint8_t* embedding = table_.embedding + size_t{row(word)} * (table_.dim / 2);
        const uint16_t* scale = table_.scale + size_t{row(word)} * table_.scales;
        const size_t size = table_.dim / table_.scales, half = table_.scales / 2;
        double dot = 0.0;
        for (size_t group = 0; group < half; ++group, embedding += size, predicted += size) {
            dot += half_to_double(scale[group]) * sum<0>(embedding, predicted, size);
            dot += half_to_double(scale[half + group]) * sum<4>(embedding, predicted + table_.dim / 2, size);
        }
        return dot + table_.bias[row(word)] + unknown_share(word);
    }

    double unknown_share(uint32_t word) const {
        return word < table_.rows ? 0.0 : half_to_double(table_.unknown_log_share[word - table_.rows]);
    }

    // Products of four bits of each byte, as signed numbers, with floats; the order of additions is free.
    template <int kShift>
    static double sum(const uint8_t* bytes, const float* values, size_t size) {
        float sums[8] = {};  // independent ones, which compilers turn into vector instructions
        size_t i = 0;
        for (; i + 8 <= size; i += 8)
            for (size_t j = 0; j < 8; ++j)
                sums[j] += values[i + j] * static_cast<float>(((bytes[i + j] >> kShift) & 15) - 8);
        for (; i < size; ++i) sums[0] += values[i] * static_cast<float>(((bytes[i] >> kShift) & 15) - 8);
        double total = 0.0;
        for (const float part : sums) total += part;
        return total;
    }

    // In a preview the n-gram speaks alone after contexts that have not been predicted; where there is none, the bias.
    double mixed(int64_t state, uint32_t word, double ngram) {
        if (contexts_.is_preview() && ngram_ && found(state).predicted < 0) return ngram;
        const double neural = this->neural(state, word);
        if (!ngram_) return neural;
        const double highest = std::max(neural, ngram);
        if (highest == kNever) return kNever;
        return highest + std::log(share_ * std::exp(neural - highest) + (1 - share_) * std::exp(ngram - highest));
    }

    int32_t free_slot() {
        if (free_.empty()) {
            const size_t slots = rows_.size() / table_.dim, more = std::max<size_t>(64, slots / 2);
            rows_.resize((slots + more) * table_.dim);
            for (size_t slot = slots + more; slot-- > slots;) free_.push_back(static_cast<int32_t>(slot));
        }
        const int32_t slot = free_.back();
        free_.pop_back();
        return slot;
    }

    const NeuralTable table_;
    const Predict predict_;
    WordScorer* const ngram_;
    const double share_;
    States<Context> contexts_;
    std::vector<float> rows_;  // what was predicted, (slots, dim)
    std::vector<int32_t> free_;
    std::vector<int64_t> missing_, ids_;
};

}  // namespace sottovoce

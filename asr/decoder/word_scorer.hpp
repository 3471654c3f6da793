// Scorers of words: the role, and the two that need no Python.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <unordered_map>
#include <utility>
#include <vector>

#include "history.hpp"

namespace sottovoce {

// IEEE half precision, for which C++17 has no type.
inline double half_to_double(uint16_t half) {
    const uint64_t sign = static_cast<uint64_t>(half >> 15) << 63, exponent = (half >> 10) & 31, mantissa = half & 1023;
    if (exponent == 0) return (sign ? -1.0 : 1.0) * std::ldexp(static_cast<double>(mantissa), -24);
    const uint64_t bits = sign | (exponent == 31 ? 0x7FFull : exponent + 1008) << 52 | mantissa << 42;
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

struct Step {
    int64_t state;
    double log_prob;
};

struct StateWord {
    int64_t state;
    uint32_t word;
};

class WordScorer {
  public:
    virtual ~WordScorer() = default;
    virtual int64_t start() = 0;
    virtual Step step(int64_t state, uint32_t word) = 0;
    virtual double finish(int64_t state) = 0;
    virtual bool needs_interpreter() const { return false; }  // every call must hold Python's lock

    // For scorers whose states stand for something that they keep; see RememberingScorer in lm/scorer.py.
    virtual void prepare(const std::vector<int64_t>&) {}  // `finish` will be asked of them, and `step` perhaps
    virtual void prepare_words(const std::vector<StateWord>& asked) {  // these steps will be asked for
        std::vector<int64_t> states;
        for (const StateWord& ask : asked)
            if (states.empty() || states.back() != ask.state) states.push_back(ask.state);
        prepare(states);
    }
    virtual bool is_crowded() const { return false; }
    virtual void retain(const std::vector<int64_t>&) {}
    // From a `begin_preview` to its `end_preview`: states that come up are forgotten at the end, and nothing is worked out
    // for good, so that what is scored after it is as if it had not been; scores may be rougher.
    virtual void begin_preview() {}
    virtual void end_preview() {}
};

// A preview for as long as it lives.
class Preview {
  public:
    explicit Preview(WordScorer& scorer) : scorer_(scorer) { scorer_.begin_preview(); }
    ~Preview() { scorer_.end_preview(); }
    Preview(const Preview&) = delete;
    Preview& operator=(const Preview&) = delete;

  private:
    WordScorer& scorer_;
};

// What a scorer keeps for its states; what comes in during a preview goes with it.
template <typename Value>
class States {
  public:
    Value* find(int64_t state) {
        const auto place = kept_.find(state);
        if (place != kept_.end()) return &place->second;
        const auto passing = passing_.find(state);
        return passing == passing_.end() ? nullptr : &passing->second;
    }
    void keep(int64_t state, const Value& value) {
        if (!is_preview_) kept_.try_emplace(state, value);
        else if (!kept_.count(state)) passing_.try_emplace(state, value);
    }
    void replace(std::unordered_map<int64_t, Value> kept) { kept_ = std::move(kept); }
    const std::unordered_map<int64_t, Value>& kept() const { return kept_; }

    bool is_preview() const { return is_preview_; }
    void begin_preview() { is_preview_ = true; }
    void end_preview() {
        is_preview_ = false;
        passing_.clear();
    }

  private:
    std::unordered_map<int64_t, Value> kept_, passing_;
    bool is_preview_ = false;
};

// A state of the inner scorer, and something of the outer one's own.
struct Pair {
    int64_t inner, own;
};

// The twin of OuterScorer in lm/outer_scorer.py: what scorers over another one share.
class OuterScorer : public WordScorer {
  public:
    bool needs_interpreter() const override { return inner_.needs_interpreter(); }
    void prepare(const std::vector<int64_t>& states) override { inner_.prepare(inner_states(states)); }

    bool is_crowded() const override {
        return !pairs_.is_preview() && (pairs_.kept().size() >= kCrowd || inner_.is_crowded());
    }

    void retain(const std::vector<int64_t>& states) override {
        const std::vector<int64_t> inner = inner_states(states);
        std::unordered_map<int64_t, Pair> kept;
        for (const int64_t state : states) kept.emplace(state, found(state));
        pairs_.replace(std::move(kept));
        inner_.retain(inner);
    }

    void begin_preview() override {
        pairs_.begin_preview();
        inner_.begin_preview();
    }
    void end_preview() override {
        pairs_.end_preview();
        inner_.end_preview();
    }

  protected:
    explicit OuterScorer(WordScorer& inner) : inner_(inner) {}

    int64_t keep(const Pair& pair) {
        const uint64_t hash = mix(mix(0, static_cast<uint64_t>(pair.inner) + 1), static_cast<uint64_t>(pair.own) + 1);
        const auto state = static_cast<int64_t>(hash >> 1);
        pairs_.keep(state, pair);
        return state;
    }

    const Pair& found(int64_t state) {
        const Pair* const pair = pairs_.find(state);
        if (!pair) throw std::out_of_range("the scorer has forgotten this state");
        return *pair;
    }

    std::vector<int64_t> inner_states(const std::vector<int64_t>& states) {
        std::vector<int64_t> inner;
        for (const int64_t state : states) inner.push_back(found(state).inner);
        return inner;
    }

    WordScorer& inner_;
    States<Pair> pairs_;

  private:
    static constexpr size_t kCrowd = 4096;  // as CROWD in outer_scorer.py
};

class NullScorer final : public WordScorer {
  public:
    int64_t start() override { return 0; }
    Step step(int64_t, uint32_t) override { return {0, 0.0}; }
    double finish(int64_t) override { return 0.0; }
};

// Arrays of ngram.bin; layout and numbering of states in docs/architecture.md.
struct Ngram {
    size_t words, bigram_rows;  // words with unigrams, and those that may be the first of a bigram
    const uint16_t *unigram_log_prob, *unigram_backoff;
    const uint32_t* bigram_first;
    const uint16_t* bigram_word;
    const uint8_t *bigram_log_prob, *bigram_backoff;
    const float *bigram_log_prob_table, *bigram_backoff_table;
    const uint32_t* trigram_first;
    const uint16_t* trigram_word;
    const uint8_t* trigram_log_prob;
    const float* trigram_log_prob_table;
};

// The twin of NgramScorer in lm/ngram.py, with equal states and log-probabilities.
class NgramScorer : public WordScorer {
  public:
    explicit NgramScorer(const Ngram& ngram) : ngram_(ngram) {}

    int64_t start() override { return state_after_word(kStartWord); }
    double finish(int64_t state) override { return step(state, kEndWord).log_prob; }

    Step step(int64_t state, uint32_t word) override {
        if (word >= ngram_.words) throw std::out_of_range("the n-gram lacks a word of the lexicon");
        if (state == kNoContext) return {state_after_word(word), half_to_double(ngram_.unigram_log_prob[word])};
        const bool has_bigram = state >= kBigramState;
        const auto context = static_cast<size_t>(state - kBigramState);
        const uint32_t previous = has_bigram ? ngram_.bigram_word[context] : static_cast<uint32_t>(state - 1);
        const std::ptrdiff_t bigram = find_bigram(previous, word);
        const int64_t next = bigram < 0 ? state_after_word(word) : state_after_bigram(bigram);
        if (!has_bigram) return {next, log_prob_after_word(bigram, previous, word)};
        const uint32_t* trigrams = ngram_.trigram_first + context;
        const std::ptrdiff_t found = find(ngram_.trigram_word, word, trigrams[0], trigrams[1]);
        if (found >= 0) return {next, ngram_.trigram_log_prob_table[ngram_.trigram_log_prob[found]]};
        const double backoff = ngram_.bigram_backoff_table[ngram_.bigram_backoff[context]];
        return {next, backoff + log_prob_after_word(bigram, previous, word)};
    }

  private:
    static constexpr uint32_t kStartWord = 1, kEndWord = 2;
    static constexpr int64_t kNoContext = 0, kBigramState = int64_t{1} << 32;

    static std::ptrdiff_t find(const uint16_t* words, uint32_t word, uint32_t low, uint32_t high) {
        const uint16_t* place = std::lower_bound(words + low, words + high, word);
        return place != words + high && *place == word ? place - words : -1;
    }

    std::ptrdiff_t find_bigram(uint32_t first, uint32_t second) const {
        if (first >= ngram_.bigram_rows) return -1;
        return find(ngram_.bigram_word, second, ngram_.bigram_first[first], ngram_.bigram_first[first + 1]);
    }

    double log_prob_after_word(std::ptrdiff_t bigram, uint32_t first, uint32_t word) const {
        if (bigram >= 0) return ngram_.bigram_log_prob_table[ngram_.bigram_log_prob[bigram]];
        return half_to_double(ngram_.unigram_backoff[first]) + half_to_double(ngram_.unigram_log_prob[word]);
    }

    int64_t state_after_bigram(std::ptrdiff_t bigram) const {
        const bool has_trigrams = ngram_.trigram_first[bigram + 1] > ngram_.trigram_first[bigram];
        return has_trigrams ? kBigramState + bigram : state_after_word(ngram_.bigram_word[bigram]);
    }

    int64_t state_after_word(uint32_t word) const {
        const bool has_bigrams = word < ngram_.bigram_rows && ngram_.bigram_first[word + 1] > ngram_.bigram_first[word];
        return has_bigrams ? 1 + int64_t{word} : kNoContext;
    }

    const Ngram ngram_;
};

}  // namespace sottovoce

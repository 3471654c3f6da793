// The decoder as a WebAssembly module: lexicon_search.hpp over arrays that decoder.js has laid in memory.
//
// Structs of sizes and addresses come in as arrays of 32-bit numbers in the order of their fields.
#include <cstdlib>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "../../../asr/decoder/lexicon_search.hpp"
#include "../../../asr/decoder/neural_scorer.hpp"
#include "hidden_layers.hpp"

#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

// An exception ends in JavaScript as one: nothing on the way catches it, and the search is of no use afterwards.
extern "C" {
__attribute__((import_module("host"), import_name("fail"))) void fail(const char* message);
void* __cxa_allocate_exception(size_t size) { return std::malloc(size); }
[[noreturn]] void __cxa_throw(void* exception, void*, void (*)(void*)) {
    fail(static_cast<std::exception*>(exception)->what());
    __builtin_trap();
}
}

namespace sottovoce {
namespace {

struct Network {
    size_t rows, dim, scales, context, unknown_words;
    const uint8_t* embedding;
    const uint16_t *scale, *bias, *unknown_log_share;
    size_t codes;
    const float* fofe;
    size_t is_gelu, n_layers;
    const Layer* layers;
};

struct GivenAdapter {
    size_t n_bias;  // 0: the bias stays
    const int8_t* bias;
    const float* bias_scale;
    const LayerChange* layers;
};

static_assert(sizeof(GivenAdapter) == 4 * 4 && sizeof(LayerChange) == 3 * 4);
static_assert(sizeof(Trie) == 6 * 4 && sizeof(Ngram) == 14 * 4 && sizeof(Network) == 14 * 4 && sizeof(Layer) == 5 * 4);
static_assert(sizeof(PathWord) == 40);

class Neural {
  public:
    explicit Neural(const Network& given)
        : bias_(widened(given)),
          table{given.rows, given.dim, given.scales, given.context, given.unknown_words, given.embedding, given.scale,
                bias_.data(), given.unknown_log_share},
          layers(table, given.fofe, given.codes, {given.layers, given.layers + given.n_layers}, given.is_gelu != 0) {}

    const std::vector<float>& bias() const { return bias_; }

  private:
    static std::vector<float> widened(const Network& given) {
        std::vector<float> bias(given.rows);
        for (size_t row = 0; row < given.rows; ++row) bias[row] = static_cast<float>(half_to_double(given.bias[row]));
        return bias;
    }

    const std::vector<float> bias_;

  public:
    const NeuralTable table;
    const HiddenLayers layers;
};

// An adapter: the neural model's hidden layers and output bias, changed.
class Adapter {
  public:
    Adapter(const Neural& neural, const GivenAdapter& given)
        : bias_(changed(neural.bias(), given)), table(neural.table), changes(neural.layers.changes(given.layers)) {
        table.bias = bias_.data();
    }

  private:
    static std::vector<float> changed(std::vector<float> bias, const GivenAdapter& given) {
        for (size_t row = 0; row < given.n_bias; ++row)
            bias[row] += static_cast<float>(given.bias[row]) * *given.bias_scale;
        return bias;
    }

    const std::vector<float> bias_;

  public:
    NeuralTable table;
    const HiddenLayers::Changes changes;
};

// What streams share.
struct Language {
    Trie trie;
    std::unique_ptr<Ngram> ngram;
    std::unique_ptr<Neural> neural;
};

// A search and its scorers; `adapter` may be null.
class Search {
  public:
    Search(const Language& language, const Adapter* adapter, double neural_share, const Config& config)
        : ngram_(language.ngram ? std::make_unique<NgramScorer>(*language.ngram) : nullptr),
          neural_(neural(language, adapter, neural_share, ngram_.get())),
          search(language.trie, scorer(), config) {}

  private:
    static std::unique_ptr<NeuralScorer> neural(const Language& language, const Adapter* adapter, double share,
                                                NgramScorer* ngram) {
        if (!language.neural || share <= 0) return nullptr;
        const HiddenLayers& layers = language.neural->layers;
        const HiddenLayers::Changes* changes = adapter ? &adapter->changes : nullptr;
        const auto predict = [&layers, changes](const std::vector<int64_t>& ids, size_t count) {
            return layers(ids, count, changes);
        };
        const NeuralTable& table = adapter ? adapter->table : language.neural->table;
        return std::make_unique<NeuralScorer>(table, predict, share < 1 ? ngram : nullptr, share);
    }

    WordScorer& scorer() {
        if (neural_) return *neural_;
        if (ngram_) return *ngram_;
        return null_;
    }

    NullScorer null_;
    std::unique_ptr<NgramScorer> ngram_;
    std::unique_ptr<NeuralScorer> neural_;

  public:
    LexiconSearch search;
    std::vector<PathWord> words;  // what was returned last

    size_t give(std::vector<PathWord> found) {
        words = std::move(found);
        return words.size();
    }
};

}  // namespace

EXPORT(allocate) void* allocate(size_t size) { return std::aligned_alloc(64, (size + 63) / 64 * 64); }

EXPORT(create_language)
Language* create_language(const Trie* trie, const Ngram* ngram, const Network* network) {
    return new Language{*trie, ngram ? std::make_unique<Ngram>(*ngram) : nullptr,
                        network ? std::make_unique<Neural>(*network) : nullptr};
}

EXPORT(create_adapter) Adapter* create_adapter(const Language* language, const GivenAdapter* adapter) {
    return new Adapter(*language->neural, *adapter);
}

EXPORT(predict)
float* predict(const Language* language, const Adapter* adapter, const uint32_t* contexts, size_t count) {
    const std::vector<int64_t> ids(contexts, contexts + count * language->neural->table.context);
    const std::vector<float> rows = language->neural->layers(ids, count, adapter ? &adapter->changes : nullptr);
    auto* copy = static_cast<float*>(allocate(rows.size() * sizeof(float)));
    std::copy(rows.begin(), rows.end(), copy);
    return copy;
}

EXPORT(create_search)
Search* create_search(const Language* language, const Adapter* adapter, double neural_share, size_t beam_size,
                      double beam_threshold, double token_threshold, double lm_weight, double word_score,
                      double boundary_skip_log_prob, double blank_skip_log_prob, size_t stable_after_frames,
                      size_t is_tropical) {
    return new Search(*language, adapter, neural_share, Config{beam_size, beam_threshold, token_threshold, lm_weight, word_score, boundary_skip_log_prob,
                             blank_skip_log_prob, static_cast<int64_t>(stable_after_frames), is_tropical != 0});
}

EXPORT(release) void release(void* memory) { std::free(memory); }
EXPORT(delete_search) void delete_search(Search* search) { delete search; }
EXPORT(advance) void advance(Search* search, const float* frames, size_t count, size_t width) {
    search->search.advance(frames, count, width);
}
EXPORT(take_stable) size_t take_stable(Search* search) { return search->give(search->search.take_stable()); }
EXPORT(best) size_t best(Search* search) { return search->give(search->search.best()); }
EXPORT(preview) size_t preview(Search* search, const float* frames, size_t count, size_t width, size_t beam_size) {
    return search->give(search->search.preview(frames, count, width, beam_size));
}
EXPORT(finish) size_t finish(Search* search) { return search->give(search->search.finish()); }
EXPORT(words) const PathWord* words(const Search* search) { return search->words.data(); }
EXPORT(trailing_silence) double trailing_silence(const Search* search) {
    return static_cast<double>(search->search.trailing_silence());
}

}  // namespace sottovoce

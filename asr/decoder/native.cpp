// The Python module asr.decoder._native: lexicon_search.hpp over arrays and scorers that Python hands in.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <utility>

#include "bound_grammar.hpp"
#include "lexicon_search.hpp"
#include "neural_scorer.hpp"
#include "phrase_scorer.hpp"
#include "piece_scorer.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace sottovoce {
namespace {

using Frames = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// Arrays by name, kept alive for what points into them.
class Arrays {
  public:
    explicit Arrays(nb::dict arrays) : arrays_(std::move(arrays)) {}

    // Raises where an array is missing, or is not contiguous and of type T: a converted copy would not live on.
    template <typename T>
    nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu> get(const char* name) const {
        return nb::cast<nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>>(arrays_[name], false);
    }
    template <typename T>
    const T* data(const char* name) const {
        return get<T>(name).data();
    }

  private:
    nb::dict arrays_;
};

class BoundTrie : private Arrays {
  public:
    explicit BoundTrie(nb::dict arrays)
        : Arrays(std::move(arrays)),
          trie{data<uint8_t>("node_label"), data<uint32_t>("node_first_child"), data<uint32_t>("node_first_entry"),
               data<uint16_t>("node_lookahead"), data<uint32_t>("entry_word"), data<uint16_t>("entry_log_prob")} {}

    const Trie trie;
};

class BoundNgram final : private Arrays, public NgramScorer {
  public:
    explicit BoundNgram(nb::dict arrays) : Arrays(std::move(arrays)), NgramScorer(ngram()) {}

  private:
    Ngram ngram() const {
        return {get<uint16_t>("unigram_log_prob").size(),
                get<uint32_t>("bigram_first").size() - 1,
                data<uint16_t>("unigram_log_prob"),
                data<uint16_t>("unigram_backoff"),
                data<uint32_t>("bigram_first"),
                data<uint16_t>("bigram_word"),
                data<uint8_t>("bigram_log_prob"),
                data<uint8_t>("bigram_backoff"),
                data<float>("bigram_log_prob_table"),
                data<float>("bigram_backoff_table"),
                data<uint32_t>("trigram_first"),
                data<uint16_t>("trigram_word"),
                data<uint8_t>("trigram_log_prob"),
                data<float>("trigram_log_prob_table")};
    }
};

// A scorer written in Python; every call needs the interpreter lock.
class PythonScorer final : public WordScorer {
  public:
    explicit PythonScorer(nb::object scorer) : scorer_(std::move(scorer)), remembers_(nb::hasattr(scorer_, "prepare")) {}
    int64_t start() override { return nb::cast<int64_t>(scorer_.attr("start")()); }
    Step step(int64_t state, uint32_t word) override {
        const auto [next, log_prob] = nb::cast<std::pair<int64_t, double>>(scorer_.attr("step")(state, word));
        return {next, log_prob};
    }
    double finish(int64_t state) override { return nb::cast<double>(scorer_.attr("finish")(state)); }
    bool needs_interpreter() const override { return true; }
    void prepare(const std::vector<int64_t>& states) override {
        if (remembers_) scorer_.attr("prepare")(to_list(states));
    }
    bool is_crowded() const override { return remembers_ && nb::cast<bool>(scorer_.attr("is_crowded")()); }
    void retain(const std::vector<int64_t>& states) override {
        if (remembers_) scorer_.attr("retain")(to_list(states));
    }
    void begin_preview() override {
        if (remembers_) scorer_.attr("begin_preview")();
    }
    void end_preview() override {
        if (remembers_) scorer_.attr("end_preview")();
    }

  private:
    static nb::list to_list(const std::vector<int64_t>& states) {
        nb::list result;
        for (const int64_t state : states) result.append(state);
        return result;
    }

    nb::object scorer_;
    bool remembers_;
};

// Arrays of lm.bin by name; the hidden layers are run by a Python function, under the interpreter lock.
class BoundNeural final : private Arrays, public NeuralScorer {
  public:
    BoundNeural(nb::dict arrays, size_t context, nb::object predict, WordScorer* ngram, double share)
        : Arrays(std::move(arrays)), NeuralScorer(table(context), caller(std::move(predict), context), ngram, share) {}

  private:
    using Ids = nb::ndarray<nb::numpy, const int64_t, nb::ndim<2>>;
    using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

    NeuralTable table(size_t context) const {
        const size_t rows = get<float>("bias").size(), bytes = get<uint8_t>("embedding").size();
        const size_t scales = get<uint16_t>("embedding_scale").size();
        if (rows == 0 || bytes % rows || scales == 0 || scales % (2 * rows) || bytes % (scales / 2))
            throw nb::value_error("embedding, embedding_scale and bias do not fit each other");
        return {rows,
                2 * bytes / rows,
                scales / rows,
                context,
                get<uint16_t>("unknown_log_share").size(),
                data<uint8_t>("embedding"),
                data<uint16_t>("embedding_scale"),
                data<float>("bias"),
                data<uint16_t>("unknown_log_share")};
    }

    static Predict caller(nb::object predict, size_t context) {
        return [predict, context](const std::vector<int64_t>& ids, size_t count) {
            nb::gil_scoped_acquire acquire;
            auto* copy = new std::vector<int64_t>(ids);
            const nb::capsule owner(copy, [](void* p) noexcept { delete static_cast<std::vector<int64_t>*>(p); });
            const auto rows = nb::cast<Rows>(predict(Ids(copy->data(), {count, context}, owner)));
            return std::vector<float>(rows.data(), rows.data() + rows.size());
        };
    }
};

// The pieces of a word are asked for in Python once, and remembered.
class BoundPieces final : public PieceScorer {
  public:
    BoundPieces(WordScorer& inner, nb::object cut, WordScorer* ngram, size_t ngram_words, double share)
        : PieceScorer(inner, cutter(std::move(cut)), ngram, ngram_words, share) {}

  private:
    static Cut cutter(nb::object cut) {
        return [cut](uint32_t word) {
            nb::gil_scoped_acquire acquire;
            return nb::cast<std::vector<uint32_t>>(cut(word));
        };
    }
};

// Arrays of a PhraseAutomaton by name.
class BoundPhrases final : private Arrays, public PhraseScorer {
  public:
    BoundPhrases(nb::dict arrays, WordScorer& inner, uint32_t inner_words, double unlisted_log_share)
        : Arrays(std::move(arrays)),
          PhraseScorer({data<uint32_t>("first_arc"), data<uint32_t>("arc_word"), data<uint32_t>("fail"),
                        data<double>("lent"), data<double>("earned")},
                       inner, inner_words, unlisted_log_share) {}
};

nb::list to_python(const std::vector<PathWord>& words) {
    nb::list result;
    for (const PathWord& word : words)
        result.append(nb::make_tuple(word.word, word.start_frame, word.end_frame, word.acoustic, word.language));
    return result;
}

class BoundSearch {
  public:
    BoundSearch(const BoundTrie& trie, WordScorer& scorer, size_t beam_size, double beam_threshold,
                double token_threshold, double lm_weight, double word_score, double boundary_skip_log_prob,
                double blank_skip_log_prob, int64_t stable_after_frames, bool is_tropical)
        : needs_python_(scorer.needs_interpreter()),
          search_(trie.trie, scorer,
                  Config{beam_size, beam_threshold, token_threshold, lm_weight, word_score, boundary_skip_log_prob,
                         blank_skip_log_prob, stable_after_frames, is_tropical}) {}

    void advance(const Frames& frames) {
        std::optional<nb::gil_scoped_release> release;
        if (!needs_python_) release.emplace();
        search_.advance(frames.data(), frames.shape(0), frames.shape(1));
    }
    nb::list take_stable() { return to_python(search_.take_stable()); }
    nb::list best() { return to_python(search_.best()); }
    nb::list preview(const Frames& frames, size_t beam_size) {
        return to_python(search_.preview(frames.data(), frames.shape(0), frames.shape(1), beam_size));
    }
    nb::list finish() { return to_python(search_.finish()); }
    nb::list finish_many(size_t count) {
        nb::list result;
        for (const Reading& reading : search_.finish_many(count))
            result.append(nb::make_tuple(to_python(reading.words), reading.score));
        return result;
    }
    int64_t trailing_silence() const { return search_.trailing_silence(); }
    size_t history_size() const { return search_.history_size(); }

  private:
    bool needs_python_;
    LexiconSearch search_;
};

}  // namespace

NB_MODULE(_native, module) {
    nb::class_<WordScorer>(module, "WordScorer");
    nb::class_<NullScorer, WordScorer>(module, "NullScorer").def(nb::init<>());
    nb::class_<PythonScorer, WordScorer>(module, "PythonScorer").def(nb::init<nb::object>(), "scorer"_a);
    nb::class_<BoundNgram, WordScorer>(module, "NgramScorer").def(nb::init<nb::dict>(), "arrays"_a);
    nb::class_<BoundNeural, WordScorer>(module, "NeuralScorer")
        .def(nb::init<nb::dict, size_t, nb::object, WordScorer*, double>(), nb::keep_alive<1, 5>(), "arrays"_a,
             "context"_a, "predict"_a, "ngram"_a.none(), "share"_a);
    nb::class_<BoundPieces, WordScorer>(module, "PieceScorer")
        .def(nb::init<WordScorer&, nb::object, WordScorer*, size_t, double>(), nb::keep_alive<1, 2>(),
             nb::keep_alive<1, 4>(), "inner"_a, "cut"_a, "ngram"_a.none(), "ngram_words"_a, "share"_a);
    nb::class_<BoundTable>(module, "GrammarTable").def(nb::init<const nb::object&>(), "arcs"_a);
    nb::class_<BoundGrammar, WordScorer>(module, "GrammarScorer")
        .def(nb::init<BoundTable&>(), nb::keep_alive<1, 2>(), "table"_a);
    nb::class_<BoundConstrained, WordScorer>(module, "ConstrainedScorer")
        .def(nb::init<BoundTable&, WordScorer&, const WordIds&, const LogProbs&, double>(), nb::keep_alive<1, 2>(),
             nb::keep_alive<1, 3>(), "table"_a, "inner"_a, "inner_words"_a, "own_log_prob"_a, "inner_log_share"_a);
    nb::class_<BoundPhrases, WordScorer>(module, "PhraseScorer")
        .def(nb::init<nb::dict, WordScorer&, uint32_t, double>(), nb::keep_alive<1, 3>(), "arrays"_a, "inner"_a,
             "inner_words"_a, "unlisted_log_share"_a);
    nb::class_<BoundTrie>(module, "Trie").def(nb::init<nb::dict>(), "arrays"_a);
    nb::class_<BoundSearch>(module, "Search")
        .def(nb::init<const BoundTrie&, WordScorer&, size_t, double, double, double, double, double, double, int64_t,
                      bool>(),
             nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>(), "trie"_a, "scorer"_a, "beam_size"_a, "beam_threshold"_a,
             "token_threshold"_a, "lm_weight"_a, "word_score"_a, "boundary_skip_log_prob"_a, "blank_skip_log_prob"_a,
             "stable_after_frames"_a, "is_tropical"_a)
        .def("advance", &BoundSearch::advance, "frames"_a)
        .def("take_stable", &BoundSearch::take_stable)
        .def("best", &BoundSearch::best)
        .def("preview", &BoundSearch::preview, "frames"_a, "beam_size"_a)
        .def("trailing_silence", &BoundSearch::trailing_silence)
        .def("finish", &BoundSearch::finish)
        .def("finish_many", &BoundSearch::finish_many, "count"_a)
        .def("history_size", &BoundSearch::history_size);
}

}  // namespace sottovoce

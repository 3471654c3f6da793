// Grammar scorers over functions that Python hands in, called under the interpreter lock.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <utility>

#include "constrained_scorer.hpp"

namespace sottovoce {

using WordIds = nanobind::ndarray<const uint32_t, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;
using LogProbs = nanobind::ndarray<const float, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;

// `grammar` is a GrammarScorer of lm/grammar/scorer.py.
inline GrammarTable grammar_table(const nanobind::object& grammar) {
    namespace nb = nanobind;
    const auto start = nb::cast<int64_t>(grammar.attr("start")());
    nb::object follow = grammar.attr("follow"), is_final = grammar.attr("is_final");
    return {start,
            [follow](int64_t state, uint32_t word) {
                nb::gil_scoped_acquire acquire;
                return nb::cast<int64_t>(follow(state, word));
            },
            [is_final](int64_t state) {
                nb::gil_scoped_acquire acquire;
                return nb::cast<bool>(is_final(state));
            }};
}

class BoundGrammar final : public GrammarScorer {
  public:
    explicit BoundGrammar(const nanobind::object& grammar) : GrammarScorer(grammar_table(grammar)) {}
};

class BoundConstrained final : public ConstrainedScorer {
  public:
    BoundConstrained(const nanobind::object& grammar, WordScorer& inner, const WordIds& words, const LogProbs& own,
                     double inner_log_share)
        : ConstrainedScorer(grammar_table(grammar), inner, {words.data(), words.data() + words.size()},
                            {own.data(), own.data() + own.size()}, inner_log_share) {}
};

}  // namespace sottovoce

// Grammar scorers over functions that Python hands in, called under the interpreter lock.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <utility>

#include "constrained_scorer.hpp"

namespace sottovoce {

using WordIds = nanobind::ndarray<const uint32_t, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;
using LogProbs = nanobind::ndarray<const float, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;

class BoundTable final : public GrammarTable {
  public:
    // `arcs` is a GrammarArcs of lm/grammar/scorer.py.
    explicit BoundTable(const nanobind::object& arcs)
        : GrammarTable(
              nanobind::cast<int64_t>(arcs.attr("start")()),
              [follow = nanobind::object(arcs.attr("follow"))](int64_t state, uint32_t word) {
                  nanobind::gil_scoped_acquire acquire;
                  return nanobind::cast<int64_t>(follow(state, word));
              },
              [is_final = nanobind::object(arcs.attr("is_final"))](int64_t state) {
                  nanobind::gil_scoped_acquire acquire;
                  return nanobind::cast<bool>(is_final(state));
              }) {}
};

class BoundGrammar final : public GrammarScorer {
  public:
    explicit BoundGrammar(BoundTable& table) : GrammarScorer(table) {}
};

class BoundConstrained final : public ConstrainedScorer {
  public:
    BoundConstrained(BoundTable& table, WordScorer& inner, const WordIds& words, const LogProbs& own,
                     double inner_log_share)
        : ConstrainedScorer(table, inner, {words.data(), words.data() + words.size()},
                            {own.data(), own.data() + own.size()}, inner_log_share) {}
};

}  // namespace sottovoce

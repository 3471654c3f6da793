// What the search through the lexicon works on: the trie, hypotheses, and the ends of words.
#pragma once

#include <cstddef>
#include <cstdint>

#include "history.hpp"

namespace sottovoce {

constexpr uint8_t kBlank = 0, kBoundary = 1;

// Arrays of lexicon.bin; layout in docs/architecture.md.
struct Trie {
    const uint8_t* node_label;
    const uint32_t* node_first_child;
    const uint32_t* node_first_entry;
    const uint16_t* node_lookahead;
    const uint32_t* entry_word;
    const uint16_t* entry_log_prob;
};

struct Hypothesis {
    uint32_t node;
    bool emitted;  // the last frame's label is the node's, so that emitting it again makes no new phoneme
    int64_t state;
    double score;  // without look-ahead
    int32_t history;
    uint64_t words;  // hash of all words of the utterance so far
    int64_t start;  // first frame of the word in progress
    int64_t end;    // frame after the last phoneme's last emission, of whichever word
    double acoustic, acoustic_at_end;  // of the word in progress, up to now and up to `end`
};

struct WordEnd {
    uint32_t word;
    int64_t state;  // of the scorer, after the word
    double language, gain;
};

// A way in which the utterance may end, and all others with the same words.
struct Complete {
    const Hypothesis* hypothesis;  // of the best one
    WordEnd end;                   // its last word, where that is still open
    uint64_t words;
    double score, best = 0.0;  // of all together, and of the best one
};

struct EndRange {
    int32_t first, last;
};

struct Ended {
    int32_t parent, end;  // indices into beam_ and into ends_
};

struct NodeState {
    uint32_t node;
    int64_t state;
    bool operator==(const NodeState& other) const { return node == other.node && state == other.state; }
};

struct NodeStateHash {
    size_t operator()(const NodeState& key) const { return mix(mix(0, key.node), key.state); }
};

}  // namespace sottovoce

// Words of the hypotheses as a tree of parent links; the C++ twin of history.py.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace sottovoce {

struct PathWord {
    uint32_t word;
    int64_t start_frame, end_frame;
    double acoustic, language;

    bool operator==(const PathWord& other) const {
        return word == other.word && start_frame == other.start_frame && end_frame == other.end_frame &&
               acoustic == other.acoustic && language == other.language;
    }
};

// A way in which an utterance may have ended.
struct Reading {
    std::vector<PathWord> words;
    double score;
};

inline uint64_t mix(uint64_t seed, uint64_t value) {
    const uint64_t x = (seed ^ value) * 0x9E3779B97F4A7C15ull;
    return x ^ (x >> 29);
}

// A node's parent always has the smaller index; node 0 is the root.
class History {
  public:
    int32_t extend(int32_t parent, const PathWord& word) {
        const auto [place, is_new] = known_.try_emplace(Node{parent, word}, static_cast<int32_t>(nodes_.size()));
        if (is_new) nodes_.push_back(place->first);
        return place->second;
    }

    int32_t common(int32_t a, int32_t b) const {
        while (a != b) {
            int32_t& later = a > b ? a : b;
            later = nodes_[later].parent;
        }
        return a;
    }

    int32_t last_ended_before(int32_t leaf, int64_t frame) const {
        while (leaf && nodes_[leaf].word.end_frame >= frame) leaf = nodes_[leaf].parent;
        return leaf;
    }

    void append_path(int32_t leaf, std::vector<PathWord>& words) const {
        const auto size = static_cast<std::ptrdiff_t>(words.size());
        for (; leaf; leaf = nodes_[leaf].parent) words.push_back(nodes_[leaf].word);
        std::reverse(words.begin() + size, words.end());
    }

    // Makes `root` the root, forgets every node but those from it to `leaves`, and renumbers the leaves.
    void compact(int32_t root, const std::vector<int32_t*>& leaves) {
        std::vector<int32_t> renumber(nodes_.size(), kForgotten);
        renumber[root] = 0;
        for (const int32_t* leaf : leaves)
            for (int32_t node = *leaf; renumber[node] == kForgotten; node = nodes_[node].parent) renumber[node] = 0;
        std::vector<Node> kept{Node{}};
        known_.clear();
        for (size_t node = root + 1; node < nodes_.size(); ++node) {
            if (renumber[node] == kForgotten) continue;
            renumber[node] = static_cast<int32_t>(kept.size());
            kept.push_back(Node{renumber[nodes_[node].parent], nodes_[node].word});
            known_.emplace(kept.back(), renumber[node]);
        }
        for (int32_t* leaf : leaves) *leaf = renumber[*leaf];
        nodes_ = std::move(kept);
        limit_ = std::max(kCompactFrom, 2 * nodes_.size());
    }

    bool is_full() const { return nodes_.size() > limit_; }
    size_t size() const { return nodes_.size(); }

  private:
    struct Node {
        int32_t parent = 0;
        PathWord word{};

        bool operator==(const Node& other) const { return parent == other.parent && word == other.word; }
    };
    struct NodeHash {
        size_t operator()(const Node& node) const {
            return mix(mix(mix(node.parent, node.word.word), node.word.start_frame), node.word.end_frame);
        }
    };
    static constexpr int32_t kForgotten = -1;
    static constexpr size_t kCompactFrom = 1024;

    std::vector<Node> nodes_{Node{}};
    std::unordered_map<Node, int32_t, NodeHash> known_;
    size_t limit_ = kCompactFrom;
};

}  // namespace sottovoce

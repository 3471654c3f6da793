// The hidden layers of the neural language model: what lm.onnx does (export/language_model.py), where no call may wait.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "../../../asr/decoder/neural_scorer.hpp"

namespace sottovoce {

// Arrays of lm.bin; layout in docs/architecture.md.
struct Layer {
    size_t inputs, outputs;
    const int8_t* weight;  // (inputs, outputs)
    const float *scale, *bias;
};

// Arrays of an adapter, halves: what it adds to a layer is x . down . up.
struct LayerChange {
    size_t rank;
    const uint16_t *down, *up;  // (inputs, rank), (rank, outputs)
};

// An adapter's change of one layer, as floats.
class LowRank {
  public:
    LowRank(const LayerChange& change, size_t inputs, size_t outputs)
        : inputs_(inputs), outputs_(outputs), rank_(change.rank), down_(widened(change.down, inputs * change.rank)),
          up_(widened(change.up, change.rank * outputs)) {}

    // Add the change of rows x (count, inputs) to y (count, outputs).
    void add(const std::vector<float>& x, size_t count, std::vector<float>& y) const {
        std::vector<float> narrow(rank_);
        for (size_t n = 0; n < count; ++n) {
            std::fill(narrow.begin(), narrow.end(), 0.0f);
            for (size_t i = 0; i < inputs_; ++i)
                for (size_t r = 0; r < rank_; ++r) narrow[r] += x[n * inputs_ + i] * down_[i * rank_ + r];
            for (size_t r = 0; r < rank_; ++r)
                for (size_t o = 0; o < outputs_; ++o) y[n * outputs_ + o] += narrow[r] * up_[r * outputs_ + o];
        }
    }

  private:
    static std::vector<float> widened(const uint16_t* halves, size_t count) {
        std::vector<float> floats(count);
        for (size_t i = 0; i < count; ++i) floats[i] = static_cast<float>(half_to_double(halves[i]));
        return floats;
    }

    size_t inputs_, outputs_, rank_;
    std::vector<float> down_, up_;
};

class HiddenLayers {
  public:
    using Changes = std::vector<LowRank>;  // of every layer

    // `fofe` is (codes, context): how much each word of a context counts in each code.
    HiddenLayers(const NeuralTable& table, const float* fofe, size_t codes, const std::vector<Layer>& layers,
                 bool is_gelu)
        : table_(table), fofe_(fofe, fofe + codes * table.context), codes_(codes), is_gelu_(is_gelu) {
        for (const Layer& layer : layers) layers_.emplace_back(layer);
    }

    // What an adapter's arrays, one entry a layer, make of these layers.
    Changes changes(const LayerChange* given) const {
        Changes found;
        for (size_t number = 0; number < layers_.size(); ++number)
            found.emplace_back(given[number], layers_[number].inputs(), layers_[number].outputs());
        return found;
    }

    // Contexts (count, context) of word ids, the oldest first, to vectors (count, dim); `changes` may be null.
    std::vector<float> operator()(const std::vector<int64_t>& contexts, size_t count, const Changes* changes) const {
        std::vector<float> x = encode(contexts, count);
        for (size_t number = 0; number < layers_.size(); ++number) {
            std::vector<float> y = layers_[number].apply(x, count);
            if (changes) (*changes)[number].add(x, count, y);
            const bool is_last = number + 1 == layers_.size(), is_residual = number > 0 && !is_last;
            if (!is_last) activate(y);
            if (is_residual) std::transform(y.begin(), y.end(), x.begin(), y.begin(), std::plus<float>());
            x = std::move(y);
        }
        return x;
    }

  private:
    // The weights as floats, rows padded to whole tiles.
    class Matrix {
      public:
        explicit Matrix(const Layer& layer)
            : inputs_(layer.inputs), outputs_(layer.outputs), width_((outputs_ + kTile - 1) / kTile * kTile),
              weight_(inputs_ * width_), bias_(layer.bias, layer.bias + outputs_) {
            for (size_t i = 0; i < inputs_; ++i)
                for (size_t o = 0; o < outputs_; ++o)
                    weight_[i * width_ + o] = static_cast<float>(layer.weight[i * outputs_ + o]) * layer.scale[o];
        }

        size_t inputs() const { return inputs_; }
        size_t outputs() const { return outputs_; }

        std::vector<float> apply(const std::vector<float>& x, size_t count) const {
            std::vector<float> y(count * outputs_);
            size_t row = 0;
            for (; row + 4 <= count; row += 4) multiply<4>(&x[row * inputs_], &y[row * outputs_]);
            for (; row < count; ++row) multiply<1>(&x[row * inputs_], &y[row * outputs_]);
            return y;
        }

      private:
        static constexpr size_t kTile = 8;

        // Rows share what is read of the weights; each is added up in the same order, however many there are.
        template <size_t kRows>
        void multiply(const float* x, float* y) const {
            for (size_t first = 0; first < outputs_; first += kTile) {
                float sums[kRows][kTile] = {};
                const float* weights = weight_.data() + first;
                for (size_t i = 0; i < inputs_; ++i, weights += width_)
                    for (size_t r = 0; r < kRows; ++r)
                        for (size_t j = 0; j < kTile; ++j) sums[r][j] += x[r * inputs_ + i] * weights[j];
                for (size_t r = 0; r < kRows; ++r)
                    for (size_t j = 0; j < kTile && first + j < outputs_; ++j)
                        y[r * outputs_ + first + j] = sums[r][j] + bias_[first + j];
            }
        }

        size_t inputs_, outputs_, width_;
        std::vector<float> weight_, bias_;
    };

    // The embeddings of a context's words, added up once for each code: (count, codes * dim).
    std::vector<float> encode(const std::vector<int64_t>& contexts, size_t count) const {
        std::vector<float> x(count * codes_ * table_.dim), embedding(table_.dim);
        for (size_t n = 0; n < count; ++n)
            for (size_t age = 0; age < table_.context; ++age) {
                unpack(static_cast<size_t>(contexts[n * table_.context + age]), embedding);
                for (size_t code = 0; code < codes_; ++code) {
                    const float factor = fofe_[code * table_.context + age];
                    float* sum = &x[(n * codes_ + code) * table_.dim];
                    for (size_t d = 0; d < table_.dim; ++d) sum[d] += factor * embedding[d];
                }
            }
        return x;
    }

    void unpack(size_t word, std::vector<float>& embedding) const {
        const size_t half = table_.dim / 2, group = table_.dim / table_.scales;
        const uint8_t* bytes = table_.embedding + word * half;
        const uint16_t* scale = table_.scale + word * table_.scales;
        for (size_t d = 0; d < table_.dim; ++d) {
            const int step = d < half ? bytes[d] & 15 : bytes[d - half] >> 4;
            embedding[d] = static_cast<float>(step - 8) * static_cast<float>(half_to_double(scale[d / group]));
        }
    }

    void activate(std::vector<float>& values) const {
        for (float& value : values)
            value = is_gelu_ ? value * (std::erf(value * 0.70710678f) + 1.0f) * 0.5f : std::max(value, 0.0f);
    }

    const NeuralTable table_;
    const std::vector<float> fofe_;
    const size_t codes_;
    const bool is_gelu_;
    std::vector<Matrix> layers_;
};

}  // namespace sottovoce

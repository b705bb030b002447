// Products of a few rows by a weight in half precision, which is read once and never copied: an answer is
// made token by token, and takes as long as its weights take to be read.

#pragma once

#include "kernels.h"
#include "vectors.h"

namespace kernels::PROCESSOR {

namespace {

constexpr int few = 16;  // rows, fewer than which are such
constexpr int rows_at_once = registers / 8, weights_at_once = 4;

// y [rows, weights] = x [rows, depth] w' [weights, depth].
template <int rows, int weights, typename Number>
void dots(const float* x, const Number* w, int depth, float* y, std::int64_t y_stride) {
  Vector sums[rows][weights] = {};
  const auto add = [&](auto loaded, int k) {
    Vector left[rows];
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      left[i] = loaded(x + std::int64_t{i} * depth + k);
    }
#pragma GCC unroll 4
    for (int j = 0; j < weights; ++j) {
      const Vector right = loaded(w + std::int64_t{j} * depth + k);
#pragma GCC unroll 4
      for (int i = 0; i < rows; ++i) {
        sums[i][j] += left[i] * right;
      }
    }
  };
  int k = 0;
  for (; k + lanes <= depth; k += lanes) {
    add([](const auto* from) { return load(from); }, k);
  }
  if (k < depth) {
    add([=](const auto* from) { return load_some(from, depth - k); }, k);
  }
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < weights; ++j) {
      y[i * y_stride + j] = sum(sums[i][j]);
    }
  }
}

template <int weights, typename Number>
void rows_by(const float* x, int rows, const Number* w, int depth, float* y, std::int64_t y_stride) {
  int i = 0;
  for (; i + rows_at_once <= rows; i += rows_at_once) {
    dots<rows_at_once, weights>(x + std::int64_t{i} * depth, w, depth, y + i * y_stride, y_stride);
  }
  for (; i < rows; ++i) {
    dots<1, weights>(x + std::int64_t{i} * depth, w, depth, y + i * y_stride, y_stride);
  }
}

// y [rows, count] = x [rows, depth] w' [count, depth].
template <typename Number>
void few_rows(const float* x, int rows, const Number* w, int count, int depth, float* y, std::int64_t y_stride) {
  int j = 0;
  for (; j + weights_at_once <= count; j += weights_at_once) {
    rows_by<weights_at_once>(x, rows, w + std::int64_t{j} * depth, depth, y + j, y_stride);
  }
  for (; j < count; ++j) {
    rows_by<1>(x, rows, w + std::int64_t{j} * depth, depth, y + j, y_stride);
  }
}

}  // namespace

}  // namespace kernels::PROCESSOR

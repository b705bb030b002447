// Causal attention of each example by itself, in blocks of queries whose scores stay in the cache.
// As FlashAttention (Dao et al. 2022, algorithms 2 and 4): backward computes the probabilities again
// from the scores' log-sums. S scores, P probabilities, O outputs, D the row sums of dO * O.

#pragma once

#include <cmath>

#include "kernels.h"
#include "product.h"
#include "vector_math.h"

namespace kernels::PROCESSOR {

namespace {

constexpr int queries_at_once = 64;

// A block of queries of one example, and the keys that any of them sees.
struct Block {
  int query;    // the first
  int queries;
  int key;      // the first
  int keys;
  int window;

  Block(int first, int length, int window)
      : query(first),
        queries(smaller(queries_at_once, length - first)),
        key(window ? larger(0, first + 1 - window) : 0),
        keys(first + queries - key),
        window(window) {}

  // Of the block's keys, those that a query sees: from `begin` to `end`.
  int end(int row) const { return query + row + 1 - key; }
  int begin(int row) const { return window ? larger(0, end(row) - window) : 0; }
};

inline void clear(float* values, std::int64_t count) {
  std::memset(values, 0, sizeof(float) * count);
}

// s [queries, keys] scores to the numerators of P, zero where a query sees nothing.
void softmax_numerators(const Block& block, float scale, float* s, float* sums, float* log_sums, int heads) {
  for (int row = 0; row < block.queries; ++row, s += block.keys) {
    const int begin = block.begin(row), end = block.end(row);
    float highest = s[begin];
#pragma omp simd reduction(max : highest)
    for (int i = begin; i < end; ++i) {
      highest = s[i] > highest ? s[i] : highest;
    }
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int i = begin; i < end; ++i) {
      s[i] = exponential((s[i] - highest) * scale);
      sum += s[i];
    }
    clear(s, begin);
    clear(s + end, block.keys - end);
    sums[row] = sum;
    log_sums[row * heads] = highest * scale + std::log(sum);
  }
}

// s scores to P, d_p dP to dS; d [queries] is D.
void score_gradients(
    const Block& block, float scale, const float* log_sums, int heads, const float* d, float* s, float* d_p) {
  for (int row = 0; row < block.queries; ++row, s += block.keys, d_p += block.keys) {
    const int begin = block.begin(row), end = block.end(row);
    const float log_sum = log_sums[row * heads], d_row = d[row];
#pragma omp simd
    for (int i = begin; i < end; ++i) {
      s[i] = exponential(s[i] * scale - log_sum);
      d_p[i] = s[i] * (d_p[i] - d_row) * scale;
    }
    clear(s, begin);
    clear(d_p, begin);
    clear(s + end, block.keys - end);
    clear(d_p + end, block.keys - end);
  }
}

void divide_rows(float* o, const float* sums, int rows, int size, int stride) {
  for (int row = 0; row < rows; ++row, o += stride) {
    const float inverse = 1.0f / sums[row];
#pragma omp simd
    for (int i = 0; i < size; ++i) {
      o[i] *= inverse;
    }
  }
}

void row_products(const float* a, const float* b, float* d, int rows, int size, int stride) {
  for (int row = 0; row < rows; ++row, a += stride, b += stride) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < size; ++i) {
      sum += a[i] * b[i];
    }
    d[row] = sum;
  }
}

// Calls visit(start, length, head) for every head of every example.
template <typename Visit>
void for_each_head(const AttentionShape& shape, Visit visit) {
  std::int64_t start = 0;
  for (int example = 0; example < shape.examples; ++example) {
    const int length = shape.lengths[example];
    for (int head = 0; head < shape.heads; ++head) {
      visit(start, length, head);
    }
    start += length;
  }
}

int longest(const AttentionShape& shape) {
  int found = 0;
  for (int example = 0; example < shape.examples; ++example) {
    found = larger(found, shape.lengths[example]);
  }
  return found;
}

// Scores of a block of queries, twice.
float* room_for_scores(const AttentionShape& shape) {
  static thread_local Room room;
  return room.of(2 * static_cast<std::size_t>(queries_at_once) * longest(shape));
}

void attention(
    const AttentionShape& shape,
    const float* q,
    const float* k,
    const float* v,
    float* o,
    float* log_sums) {
  const int size = shape.size, row = shape.heads * size, key_row = shape.groups * size;
  float* const s = room_for_scores(shape);
  float sums[queries_at_once];
  for_each_head(shape, [&](std::int64_t start, int length, int head) {
    const int group = head / (shape.heads / shape.groups);
    const float* keys = k + start * key_row + group * size;
    const float* values = v + start * key_row + group * size;
    for (int first = 0; first < length; first += queries_at_once) {
      const Block block(first, length, shape.window);
      const std::int64_t at = (start + first) * row + head * size;
      const std::int64_t key_at = static_cast<std::int64_t>(block.key) * key_row;
      multiply(
          {rows_of(q + at, row), transposed(keys + key_at, key_row), size},
          block.queries, block.keys, s, block.keys);
      softmax_numerators(
          block, shape.scale, s, sums, log_sums + (start + first) * shape.heads + head, shape.heads);
      multiply(
          {rows_of(s, block.keys), rows_of(values + key_at, key_row), block.keys},
          block.queries, size, o + at, row);
      divide_rows(o + at, sums, block.queries, size, row);
    }
  });
}

void attention_gradient(
    const AttentionShape& shape,
    const float* q,
    const float* k,
    const float* v,
    const float* o,
    const float* log_sums,
    const float* d_o,
    float* d_q,
    float* d_k,
    float* d_v) {
  const int size = shape.size, row = shape.heads * size, key_row = shape.groups * size;
  float* const s = room_for_scores(shape);
  float* const d_p = s + static_cast<std::size_t>(queries_at_once) * longest(shape);
  float d[queries_at_once];
  std::int64_t tokens = 0;
  for (int example = 0; example < shape.examples; ++example) {
    tokens += shape.lengths[example];
  }
  clear(d_k, tokens * key_row);
  clear(d_v, tokens * key_row);
  for_each_head(shape, [&](std::int64_t start, int length, int head) {
    const int group = head / (shape.heads / shape.groups);
    for (int first = 0; first < length; first += queries_at_once) {
      const Block block(first, length, shape.window);
      const std::int64_t at = (start + first) * row + head * size;
      const std::int64_t key_at = (start + block.key) * key_row + group * size;
      const float *queries = q + at, *keys = k + key_at, *values = v + key_at, *d_outputs = d_o + at;
      multiply(
          {rows_of(queries, row), transposed(keys, key_row), size}, block.queries, block.keys, s, block.keys);
      multiply(
          {rows_of(d_outputs, row), transposed(values, key_row), size}, block.queries, block.keys, d_p, block.keys);
      row_products(d_outputs, o + at, d, block.queries, size, row);
      score_gradients(
          block, shape.scale, log_sums + (start + first) * shape.heads + head, shape.heads, d, s, d_p);
      multiply(
          {rows_of(d_p, block.keys), rows_of(keys, key_row), block.keys}, block.queries, size, d_q + at, row);
      multiply(
          {transposed(d_p, block.keys), rows_of(queries, row), block.queries},
          block.keys, size, d_k + key_at, key_row, true);
      multiply(
          {transposed(s, block.keys), rows_of(d_outputs, row), block.queries},
          block.keys, size, d_v + key_at, key_row, true);
    }
  });
}

}  // namespace

}  // namespace kernels::PROCESSOR

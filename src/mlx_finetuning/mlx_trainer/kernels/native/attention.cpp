// Causal attention of each example by itself, in blocks of queries whose scores stay in the cache.
// As FlashAttention (Dao et al. 2022, algorithms 2 and 4): backward computes the probabilities again
// from the scores' log-sums. S scores, P probabilities, O outputs, D the row sums of dO * O.

#include <algorithm>
#include <cmath>
#include <memory>

#include "kernels.h"
#include "vector_math.h"

// Of the BLAS that MLX uses.
extern "C" void cblas_sgemm(
    int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float* a,
    int lda, const float* b, int ldb, float beta, float* c, int ldc);

namespace kernels {

namespace {

constexpr int queries_at_once = 64;

// A matrix whose rows are `stride` numbers apart.
struct Rows {
  const float* data;
  int stride;
};

constexpr int row_major = 101, plain = 111, transposed = 112;

// c [m, n] = alpha * a [m, k] b' [n, k], or added to it.
void a_times_b_transposed(Rows a, Rows b, float* c, int stride, int m, int n, int k) {
  cblas_sgemm(
      row_major, plain, transposed, m, n, k, 1.0f, a.data, a.stride, b.data, b.stride, 0.0f, c, stride);
}

// c [m, n] = a [m, k] b [k, n].
void a_times_b(Rows a, Rows b, float* c, int stride, int m, int n, int k) {
  cblas_sgemm(
      row_major, plain, plain, m, n, k, 1.0f, a.data, a.stride, b.data, b.stride, 0.0f, c, stride);
}

// c [m, n] += a' [k, m] b [k, n].
void add_a_transposed_times_b(Rows a, Rows b, float* c, int stride, int m, int n, int k) {
  cblas_sgemm(
      row_major, transposed, plain, m, n, k, 1.0f, a.data, a.stride, b.data, b.stride, 1.0f, c, stride);
}

// A block of queries of one example, and the keys that any of them sees.
struct Block {
  int query;    // the first
  int queries;
  int key;      // the first
  int keys;
  int window;

  Block(int first, int length, int window)
      : query(first),
        queries(std::min(queries_at_once, length - first)),
        key(window ? std::max(0, first + 1 - window) : 0),
        keys(first + queries - key),
        window(window) {}

  // Of the block's keys, those that a query sees: from `begin` to `end`.
  int end(int row) const { return query + row + 1 - key; }
  int begin(int row) const { return window ? std::max(0, end(row) - window) : 0; }
};

}  // namespace

// s [queries, keys] scores to the numerators of P, zero where a query sees nothing.
PER_PROCESSOR
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
    std::fill(s, s + begin, 0.0f);
    std::fill(s + end, s + block.keys, 0.0f);
    sums[row] = sum;
    log_sums[row * heads] = highest * scale + std::log(sum);
  }
}

// s scores to P, d_p dP to dS; d [queries] is D.
PER_PROCESSOR
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
    std::fill(s, s + begin, 0.0f);
    std::fill(d_p, d_p + begin, 0.0f);
    std::fill(s + end, s + block.keys, 0.0f);
    std::fill(d_p + end, d_p + block.keys, 0.0f);
  }
}

PER_PROCESSOR
void divide_rows(float* o, const float* sums, int rows, int size, int stride) {
  for (int row = 0; row < rows; ++row, o += stride) {
    const float inverse = 1.0f / sums[row];
#pragma omp simd
    for (int i = 0; i < size; ++i) {
      o[i] *= inverse;
    }
  }
}

PER_PROCESSOR
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

namespace {

// Calls visit(start, length, head) for every head of every example.
template <typename Visit>
void for_each_head(const AttentionShape& shape, Visit visit) {
  std::int64_t start = 0;
  for (int length : shape.lengths) {
    for (int head = 0; head < shape.heads; ++head) {
      visit(start, length, head);
    }
    start += length;
  }
}

std::unique_ptr<float[]> room_for_scores(const AttentionShape& shape) {
  const int longest = *std::max_element(shape.lengths.begin(), shape.lengths.end());
  return std::unique_ptr<float[]>(new float[static_cast<std::size_t>(queries_at_once) * longest]);
}

}  // namespace

void attention(
    const AttentionShape& shape,
    const float* q,
    const float* k,
    const float* v,
    float* o,
    float* log_sums) {
  const int size = shape.size, row = shape.heads * size, key_row = shape.groups * size;
  const auto s = room_for_scores(shape);
  float sums[queries_at_once];
  for_each_head(shape, [&](std::int64_t start, int length, int head) {
    const int group = head / (shape.heads / shape.groups);
    const float* keys = k + start * key_row + group * size;
    const float* values = v + start * key_row + group * size;
    for (int first = 0; first < length; first += queries_at_once) {
      const Block block(first, length, shape.window);
      const std::int64_t at = (start + first) * row + head * size;
      const std::int64_t key_at = static_cast<std::int64_t>(block.key) * key_row;
      a_times_b_transposed(
          {q + at, row}, {keys + key_at, key_row}, s.get(), block.keys, block.queries, block.keys, size);
      softmax_numerators(
          block, shape.scale, s.get(), sums, log_sums + (start + first) * shape.heads + head, shape.heads);
      a_times_b(
          {s.get(), block.keys}, {values + key_at, key_row}, o + at, row, block.queries, size, block.keys);
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
  const auto s = room_for_scores(shape), d_p = room_for_scores(shape);
  float d[queries_at_once];
  std::int64_t tokens = 0;
  for (int length : shape.lengths) {
    tokens += length;
  }
  std::fill(d_k, d_k + tokens * key_row, 0.0f);
  std::fill(d_v, d_v + tokens * key_row, 0.0f);
  for_each_head(shape, [&](std::int64_t start, int length, int head) {
    const int group = head / (shape.heads / shape.groups);
    for (int first = 0; first < length; first += queries_at_once) {
      const Block block(first, length, shape.window);
      const std::int64_t at = (start + first) * row + head * size;
      const std::int64_t key_at = (start + block.key) * key_row + group * size;
      const Rows keys{k + key_at, key_row}, values{v + key_at, key_row};
      const Rows queries{q + at, row}, d_outputs{d_o + at, row};
      const Rows probabilities{s.get(), block.keys}, d_scores{d_p.get(), block.keys};
      a_times_b_transposed(queries, keys, s.get(), block.keys, block.queries, block.keys, size);
      a_times_b_transposed(d_outputs, values, d_p.get(), block.keys, block.queries, block.keys, size);
      row_products(d_o + at, o + at, d, block.queries, size, row);
      score_gradients(
          block, shape.scale, log_sums + (start + first) * shape.heads + head, shape.heads, d, s.get(), d_p.get());
      a_times_b(d_scores, keys, d_q + at, row, block.queries, size, block.keys);
      add_a_transposed_times_b(d_scores, queries, d_k + key_at, key_row, block.keys, size, block.queries);
      add_a_transposed_times_b(probabilities, d_outputs, d_v + key_at, key_row, block.keys, size, block.queries);
    }
  });
}

}  // namespace kernels

// A linear layer with LoRA's factors: y = x W' + (scale x A) B, where `low` is what stands in brackets.

#pragma once

#include "few_rows.h"
#include "kernels.h"
#include "product.h"

namespace kernels::PROCESSOR {

namespace {

void scale_all(float* values, std::int64_t count, float scale) {
  for (std::int64_t i = 0; scale != 1.0f && i < count; ++i) {
    values[i] *= scale;
  }
}

void linear_down(const LinearShape& s, const float* x, const float* a, float* low) {
  multiply({rows_of(x, s.in), rows_of(a, s.rank), s.in}, s.tokens, s.rank, low, s.rank);
  scale_all(low, std::int64_t{s.tokens} * s.rank, s.scale);
}

void linear_up(
    const LinearShape& s, int first, int count, const float* x, const void* w, const float* b, const float* low, float* y) {
  const Matrix weights = transposed(w, s.in, s.type).from_column(first);
  const Part parts[] = {
      {rows_of(x, s.in), weights, s.in},
      {rows_of(low, s.rank), rows_of(b, s.out).from_column(first), s.rank}};
  const bool is_few = s.tokens < few && s.type != NumberType::float32;
  if (!is_few) {
    multiply(parts, s.rank ? 2 : 1, s.tokens, count, y + first, s.out, false);
    return;
  }
  if (s.type == NumberType::float16) {
    few_rows(x, s.tokens, weights.at<Float16>(0, 0), count, s.in, y + first, s.out);
  } else {
    few_rows(x, s.tokens, weights.at<BFloat16>(0, 0), count, s.in, y + first, s.out);
  }
  if (s.rank) {
    multiply(parts[1], s.tokens, count, y + first, s.out, true);
  }
}

void linear_gradient(
    const LinearShape& s, const void* w, const float* a, const float* b, const float* d_y, float* d_low, float* d_x) {
  if (s.rank) {
    multiply({rows_of(d_y, s.out), transposed(b, s.out), s.out}, s.tokens, s.rank, d_low, s.rank);
    scale_all(d_low, std::int64_t{s.tokens} * s.rank, s.scale);
  }
  if (d_x) {
    const Part parts[] = {
        {rows_of(d_y, s.out), rows_of(w, s.in, s.type), s.out},
        {rows_of(d_low, s.rank), transposed(a, s.rank), s.rank}};
    multiply(parts, s.rank ? 2 : 1, s.tokens, s.in, d_x, s.in, false);
  }
}

void factor_gradients(
    const LinearShape& s, const float* x, const float* low, const float* d_y, const float* d_low, float* d_a, float* d_b) {
  static thread_local Room room;
  float* const turned = room.of(static_cast<std::size_t>(s.rank) * s.in);
  // As dA' = dLow' x, whose few rows need no copy of x.
  multiply({transposed(d_low, s.rank), rows_of(x, s.in), s.tokens}, s.rank, s.in, turned, s.in);
  transpose(turned, s.in, s.rank, s.in, s.in, d_a, s.rank);
  multiply({transposed(low, s.rank), rows_of(d_y, s.out), s.tokens}, s.rank, s.out, d_b, s.out);
}

}  // namespace

}  // namespace kernels::PROCESSOR

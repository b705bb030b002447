// Activation, norm, rotary positions and cross-entropy: one pass over memory where MLX takes several.

#pragma once

#include <cmath>

#include "kernels.h"
#include "vector_math.h"

namespace kernels::PROCESSOR {

namespace {

void swiglu(const float* gate, const float* up, float* out, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = gate[i] * sigmoid(gate[i]) * up[i];
  }
}

void swiglu_gradient(
    const float* gate,
    const float* up,
    const float* upstream,
    float* d_gate,
    float* d_up,
    std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const float s = sigmoid(gate[i]);
    const float silu = s * gate[i];
    const float d = upstream[i];
    d_gate[i] = d * up[i] * (s + silu * (1.0f - s));
    d_up[i] = d * silu;
  }
}

// 0.5 * (1 + tanh(z)) = sigmoid(2 z) with z = sqrt(2 / pi) * (x + 0.044715 x**3).
constexpr float gelu_slope = 1.59576912f, gelu_cubic = 0.044715f;

void gelu(const float* x, float* out, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = x[i] * sigmoid(gelu_slope * (x[i] + gelu_cubic * x[i] * x[i] * x[i]));
  }
}

void gelu_gradient(const float* x, const float* upstream, float* d_x, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const float square = x[i] * x[i];
    const float s = sigmoid(gelu_slope * x[i] * (1.0f + gelu_cubic * square));
    const float slope = gelu_slope * (1.0f + 3.0f * gelu_cubic * square);
    d_x[i] = upstream[i] * (s + x[i] * s * (1.0f - s) * slope);
  }
}

inline float inverse_root_mean_square(const float* x, std::int64_t width, float eps) {
  float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < width; ++i) {
    squares += x[i] * x[i];
  }
  return 1.0f / std::sqrt(squares / static_cast<float>(width) + eps);
}

void rms_norm(
    const float* x, const float* weight, float* out, std::int64_t rows, std::int64_t width, float eps) {
  for (std::int64_t row = 0; row < rows; ++row, x += width, out += width) {
    const float inverse = inverse_root_mean_square(x, width, eps);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
      out[i] = x[i] * inverse * weight[i];
    }
  }
}

void rms_norm_gradient(
    const float* x,
    const float* weight,
    const float* upstream,
    float* d_x,
    float* d_weight,
    std::int64_t rows,
    std::int64_t width,
    float eps) {
  for (std::int64_t i = 0; d_weight && i < width; ++i) {
    d_weight[i] = 0.0f;
  }
  for (std::int64_t row = 0; row < rows; ++row, x += width, upstream += width, d_x += width) {
    const float inverse = inverse_root_mean_square(x, width, eps);
    float along = 0.0f;  // the gradient's part in the direction of x
#pragma omp simd reduction(+ : along)
    for (std::int64_t i = 0; i < width; ++i) {
      along += upstream[i] * weight[i] * x[i];
    }
    const float share = along * inverse * inverse * inverse / static_cast<float>(width);
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
      d_x[i] = upstream[i] * weight[i] * inverse - x[i] * share;
    }
    if (d_weight) {
#pragma omp simd
      for (std::int64_t i = 0; i < width; ++i) {
        d_weight[i] += upstream[i] * x[i] * inverse;
      }
    }
  }
}

void rotary(
    const float* x,
    const float* cosines,
    const float* sines,
    float* out,
    std::int64_t tokens,
    std::int64_t heads,
    std::int64_t size,
    std::int64_t half,
    float direction) {
  for (std::int64_t token = 0; token < tokens; ++token, cosines += half, sines += half) {
    for (std::int64_t head = 0; head < heads; ++head, x += size, out += size) {
#pragma omp simd
      for (std::int64_t i = 0; i < half; ++i) {
        const float sine = direction * sines[i];
        const float first = x[i], second = x[half + i];
        out[i] = first * cosines[i] - second * sine;
        out[half + i] = first * sine + second * cosines[i];
      }
      for (std::int64_t i = 2 * half; i < size; ++i) {
        out[i] = x[i];
      }
    }
  }
}

void cross_entropy(
    const float* logits,
    const std::int32_t* targets,
    float* losses,
    float* log_sums,
    std::int64_t rows,
    std::int64_t width) {
  for (std::int64_t row = 0; row < rows; ++row, logits += width) {
    float highest = logits[0];
#pragma omp simd reduction(max : highest)
    for (std::int64_t i = 0; i < width; ++i) {
      highest = logits[i] > highest ? logits[i] : highest;
    }
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < width; ++i) {
      sum += exponential(logits[i] - highest);
    }
    log_sums[row] = highest + std::log(sum);
    losses[row] = std::log(sum) + (highest - logits[targets[row]]);
  }
}

void cross_entropy_gradient(
    const float* logits,
    const std::int32_t* targets,
    const float* log_sums,
    const float* upstream,
    float* d_logits,
    std::int64_t rows,
    std::int64_t width) {
  for (std::int64_t row = 0; row < rows; ++row, logits += width, d_logits += width) {
    const float log_sum = log_sums[row], weight = upstream[row];
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
      d_logits[i] = weight * exponential(logits[i] - log_sum);
    }
    d_logits[targets[row]] -= weight;
  }
}

}  // namespace

}  // namespace kernels::PROCESSOR

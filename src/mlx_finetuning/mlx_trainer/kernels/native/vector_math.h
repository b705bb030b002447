// An exponential that the compiler can vectorise.

#pragma once

#include <cstdint>
#include <cstring>

namespace kernels::PROCESSOR {

namespace {

// e**x to a relative 2e-7 for x in [-60, 87]; exactly nothing below, because products with denormal
// numbers take a hundred times as long.
inline float exponential(float x) {
  constexpr float to_integer = 12582912.0f;  // 1.5 * 2**23: the sum's lowest bits hold the integer
  const float bounded = x > 87.0f ? 87.0f : (x < -60.0f ? -60.0f : x);
  const float shifted = bounded * 1.44269504f + to_integer;
  const float power = shifted - to_integer;
  const float rest = (bounded - power * 0.693359375f) + power * 2.12194440e-4f;  // of ln 2, in two parts
  float value = 1.38888889e-3f * rest + 8.33333333e-3f;
  value = value * rest + 4.16666667e-2f;
  value = value * rest + 1.66666667e-1f;
  value = value * rest + 0.5f;
  value = value * rest + 1.0f;
  value = value * rest + 1.0f;
  std::int32_t bits, exponent;
  std::memcpy(&bits, &value, sizeof bits);
  std::memcpy(&exponent, &shifted, sizeof exponent);
  bits += exponent << 23;
  std::memcpy(&value, &bits, sizeof value);
  return x < -60.0f ? 0.0f : (x == x ? value : x);
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

}  // namespace

}  // namespace kernels::PROCESSOR

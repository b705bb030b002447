// Vectors of float32 as wide as this processor has them, and how numbers of two bytes become such.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__F16C__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace kernels::PROCESSOR {

namespace {

#if defined(__AVX512F__)
constexpr int lanes = 16, registers = 32;
#elif defined(__AVX2__)
constexpr int lanes = 8, registers = 16;
#elif defined(__aarch64__)
constexpr int lanes = 4, registers = 32;
#else
constexpr int lanes = 4, registers = 16;
#endif

typedef float Vector __attribute__((vector_size(4 * lanes)));
typedef float Unaligned __attribute__((vector_size(4 * lanes), aligned(4)));
typedef std::uint32_t Words __attribute__((vector_size(4 * lanes)));

// As they are stored: five bits of exponent and ten behind them, or float32's upper half.
struct Float16 {
  std::uint16_t bits;
};

struct BFloat16 {
  std::uint16_t bits;
};

inline Vector load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }

inline Words load_bits(const void* from) {
  typedef std::uint16_t Shorts __attribute__((vector_size(2 * lanes)));
  Shorts bits;
  std::memcpy(&bits, from, sizeof(bits));
  return __builtin_convertvector(bits, Words);
}

inline Vector load(const BFloat16* from) { return reinterpret_cast<Vector>(load_bits(from) << 16); }

inline Vector load(const Float16* from) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#elif defined(__aarch64__)
  typedef __fp16 Halves __attribute__((vector_size(2 * lanes)));
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  return __builtin_convertvector(halves, Vector);
#else
  const Words bits = load_bits(from), magnitude = (bits & 0x7fff) << 13;
  // Both exponents count from another number, also those of denormal numbers.
  const Words value = reinterpret_cast<Words>(reinterpret_cast<Vector>(magnitude) * 0x1p112f);
  const Words infinite = reinterpret_cast<Words>(magnitude >= (0x7c00u << 13)) & 0x7f800000;
  return reinterpret_cast<Vector>(value | infinite | (bits & 0x8000) << 16);
#endif
}

// The first `count` numbers, and zeros.
template <typename Number>
inline Vector load_some(const Number* from, int count) {
  Number padded[lanes] = {};
  std::memcpy(padded, from, sizeof(Number) * count);
  return load(padded);
}

inline void store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }

inline float number(float value) { return value; }

template <typename Number>
inline float number(Number value) {
  return load_some(&value, 1)[0];
}

inline float sum(Vector value) {
  float parts[lanes];
  store(parts, value);
#pragma GCC unroll 4
  for (int width = lanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      parts[i] += parts[i + width];
    }
  }
  return parts[0];
}

inline int smaller(int a, int b) { return a < b ? a : b; }

inline int larger(int a, int b) { return a > b ? a : b; }

}  // namespace

}  // namespace kernels::PROCESSOR

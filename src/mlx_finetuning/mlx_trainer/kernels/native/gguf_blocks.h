// ggml's blocks as arrays of MLX's packed form, or of six_bit.py. The reference, which says what the
// forms are, is gguf_blocks.py.

#pragma once

#if defined(__BMI2__)
#include <immintrin.h>
#endif

#include <cstring>

#include "kernels.h"

namespace kernels::PROCESSOR {

namespace {

inline float half(const std::uint8_t* at) {
  std::uint16_t stored;
  std::memcpy(&stored, at, sizeof stored);
  const bool is_number = (stored & 0x7c00) != 0x7c00;
  const std::uint32_t bits = (stored & 0x7fffu) << 13 | (is_number ? 0 : 0x7f800000u);
  float value;
  std::memcpy(&value, &bits, sizeof value);
  value = is_number ? value * 0x1p112f : value;  // exponents count from another zero
  return stored & 0x8000 ? -value : value;
}

// Eight levels, a byte each.
using Levels = std::uint64_t;

constexpr Levels each = 0x0101010101010101;

inline Levels eight(const std::uint8_t* bytes) {
  Levels levels;
  std::memcpy(&levels, bytes, sizeof levels);
  return levels;
}

// Bit i of `bits`, in level i.
inline Levels one_each(std::uint8_t bits) {
  // In each byte its own bit; 127 more carry it, wherever it is, to the byte's highest one.
  const Levels own = bits * each & 0x8040201008040201;
  return own + 127 * each >> 7 & each;
}

// The lowest `size` bits of every `width`.
constexpr std::uint64_t lowest(int size, int width) {
  std::uint64_t mask = 0;
  for (int at = 0; at < 64; at += width) {
    mask |= ((std::uint64_t{1} << size) - 1) << at;
  }
  return mask;
}

// Puts levels behind one another, with `bits` bits each.
template <int bits>
inline void put(Levels levels, std::uint8_t*& to) {
#if defined(__BMI2__)
  levels = _pext_u64(levels, lowest(bits, 8));
#else
  // Neighbours become one, three times.
  constexpr auto pairs = lowest(bits, 16), fours = lowest(2 * bits, 32), eights = lowest(4 * bits, 64);
  levels = (levels & pairs) | (levels >> (8 - bits) & pairs << bits);
  levels = (levels & fours) | (levels >> (16 - 2 * bits) & fours << 2 * bits);
  levels = (levels & eights) | (levels >> (32 - 4 * bits) & eights << 4 * bits);
#endif
  std::memcpy(to, &levels, bits);
  to += bits;
}

// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
template <int bits, bool has_offset>
void blocks_of_32(
    const std::uint8_t* block, std::int64_t count, std::uint8_t* to, float* scales, float* biases) {
  constexpr float zero = 1 << (bits - 1);  // the level that stands for 0, where there is no offset
  for (; count > 0; --count) {
    const float scale = half(block);
    *scales++ = scale;
    *biases++ = has_offset ? half(block + 2) : -zero * scale;
    const auto *fifth = block + (has_offset ? 4 : 2), *stored = fifth + (bits == 5 ? 4 : 0);
    for (int part = 0; part < 4; ++part) {
      if constexpr (bits == 8) {
        put<8>(eight(stored + 8 * part) ^ 128 * each, to);  // signed: 128 more
      } else {
        const auto lower = eight(stored + part % 2 * 8) >> part / 2 * 4 & 15 * each;
        put<bits>(bits == 5 ? lower | one_each(fifth[part]) << 4 : lower, to);
      }
    }
    block = stored + (bits == 8 ? 32 : 16);
  }
}

// Q4_K, Q5_K.
template <int bits>
void blocks_of_256(
    const std::uint8_t* block, std::int64_t count, std::uint8_t* to, float* scales, float* biases) {
  for (; count > 0; --count) {
    const float scale = half(block), offset = half(block + 2);
    const auto* numbers = block + 4;  // of six bits: those of the last four groups are in two parts
    const auto* fifth = block + 16;  // bit g of byte i belongs to column i of group g
    const auto* lower = fifth + (bits == 5 ? 32 : 0);
    for (int group = 0; group < 8; ++group) {
      const auto both = numbers[group + 4];
      const bool is_whole = group < 4;
      *scales++ = scale * (is_whole ? numbers[group] & 63 : (both & 15) | numbers[group - 4] >> 6 << 4);
      *biases++ = -offset * (is_whole ? both & 63 : both >> 4 | numbers[group] >> 6 << 4);
      for (int i = 0; i < 32; i += 8) {
        const auto levels = eight(lower + group / 2 * 32 + i) >> group % 2 * 4 & 15 * each;
        put<bits>(bits == 5 ? levels | (eight(fifth + i) >> group & each) << 4 : levels, to);
      }
    }
    block = lower + 128;
  }
}

// Q6_K.
void blocks_of_six_bits(
    const std::uint8_t* block,
    std::int64_t count,
    std::uint8_t* to,
    std::uint8_t* scales,
    std::uint8_t* block_scales) {
  for (; count > 0; --count) {
    for (int group = 0; group < 8; ++group) {
      const int at = group % 4;  // of the 128 columns that have 64 bytes of lower bits, and 32 of upper ones
      const auto *lower = block + group / 4 * 64 + at % 2 * 32, *upper = block + 128 + group / 4 * 32;
      for (int i = 0; i < 32; i += 8) {
        const auto low = eight(lower + i) >> at / 2 * 4 & 15 * each, high = eight(upper + i) >> 2 * at & 3 * each;
        put<6>(low | high << 4, to);
      }
    }
    std::memcpy(scales, block + 192, 16);
    std::memcpy(block_scales, block + 208, 2);
    scales += 16;
    block_scales += 2;
    block += 210;
  }
}

void pack(
    BlockType type,
    const std::uint8_t* blocks,
    std::int64_t count,
    std::uint8_t* levels,
    void* scales,
    void* offsets) {
  auto *floats = static_cast<float*>(scales), *biases = static_cast<float*>(offsets);
  switch (type) {
    case BlockType::q4_0:
      return blocks_of_32<4, false>(blocks, count, levels, floats, biases);
    case BlockType::q4_1:
      return blocks_of_32<4, true>(blocks, count, levels, floats, biases);
    case BlockType::q5_0:
      return blocks_of_32<5, false>(blocks, count, levels, floats, biases);
    case BlockType::q5_1:
      return blocks_of_32<5, true>(blocks, count, levels, floats, biases);
    case BlockType::q8_0:
      return blocks_of_32<8, false>(blocks, count, levels, floats, biases);
    case BlockType::q4_k:
      return blocks_of_256<4>(blocks, count, levels, floats, biases);
    case BlockType::q5_k:
      return blocks_of_256<5>(blocks, count, levels, floats, biases);
    case BlockType::q6_k:
      return blocks_of_six_bits(
          blocks, count, levels, static_cast<std::uint8_t*>(scales), static_cast<std::uint8_t*>(offsets));
  }
}

}  // namespace

}  // namespace kernels::PROCESSOR

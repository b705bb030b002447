// An MLP's activation between layers with LoRA's factors: SwiGLU or GeGLU of
//
//   gate | up = base + low * factors     side by side, [rows, 2 * inner]
//
// with base [rows, 2 * inner], low [rows, RANKS] and factors [RANKS, 2 * inner]. The sum stays in registers:
// written down, as by a product that adds, it would be read and written once more. RANKS is even.
//
// A warp has COLUMNS columns of gate and the same of up, and goes down ROWS rows; a block has WARPS of
// them side by side. Products by tensor cores, in float32.

#include "elementwise.cuh"
#include "tensor_cores.cuh"

namespace gated {

using elementwise::Activated;
using elementwise::load;
using elementwise::store;
using elementwise::Vector;
using elementwise::WIDTH;

constexpr int COLUMNS = 32, ROWS = 64, WARPS = 4;
constexpr int TILES = COLUMNS / 8;

__device__ constexpr int steps(int ranks) {
  return ranks > 16 ? (ranks + 15) / 16 : 1;
}

// Right sides of a warp's products, by step of 16 ranks and tile of 8 columns. Column n of tile j is
// WIDTH * (n / 2) + 2 * j + n % 2 of the warp's, so that a thread's results in all tiles are WIDTH columns
// beside one another.
template <int RANKS>
struct Factors {
  uint32_t values[steps(RANKS)][TILES][2];
};

__device__ __forceinline__ uint32_t both(uint32_t first, uint32_t second) {
  return first | second << 16;
}

// From factors [RANKS, pitch], of which `width` columns are there.
template <int RANKS, typename T>
__device__ __forceinline__ void load_factors(
    Factors<RANKS>& b, const T* factors, int first, int width, int pitch) {
  const int n = threadIdx.x % 32 / 4, k = threadIdx.x % 4 * 2, column = first + n / 2 * WIDTH;
#pragma unroll
  for (int step = 0; step < steps(RANKS); ++step) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int rank = 16 * step + 8 * half + k;
      Vector<unsigned short> lines[2] = {};
      if (rank < RANKS && column < width) {
        const auto from = reinterpret_cast<const unsigned short*>(factors) + column;
        lines[0] = load(from + static_cast<int64_t>(rank) * pitch);
        lines[1] = load(from + static_cast<int64_t>(rank + 1) * pitch);
      }
#pragma unroll
      for (int j = 0; j < TILES; ++j) {
        const uint32_t even = both(lines[0].values[2 * j], lines[1].values[2 * j]);
        const uint32_t odd = both(lines[0].values[2 * j + 1], lines[1].values[2 * j + 1]);
        b.values[step][j][half] = n % 2 ? odd : even;
      }
    }
  }
}

// From factors [width, RANKS], turned.
template <int RANKS, typename T>
__device__ __forceinline__ void load_turned(
    Factors<RANKS>& b, const T* factors, int first, int width) {
  const int n = threadIdx.x % 32 / 4, k = threadIdx.x % 4 * 2;
#pragma unroll
  for (int step = 0; step < steps(RANKS); ++step) {
#pragma unroll
    for (int j = 0; j < TILES; ++j) {
      const int column = first + n / 2 * WIDTH + 2 * j + n % 2;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int rank = 16 * step + 8 * half + k;
        const T* from = factors + static_cast<int64_t>(column) * RANKS + rank;
        b.values[step][j][half] =
            rank < RANKS && column < width ? *reinterpret_cast<const uint32_t*>(from) : 0;
      }
    }
  }
}

// What a thread gets of a product: WIDTH columns of the tile's rows lane / 4 and lane / 4 + 8.
struct Products {
  float values[TILES][4];

  __device__ __forceinline__ float at(int half, int i) const {
    return values[i / 2][2 * half + i % 2];
  }
};

// Rows `row` to `row + 16` of low [rows, RANKS], multiplied.
template <int RANKS, int COUNT, typename T>
__device__ __forceinline__ void multiply_rows(
    Products (&c)[COUNT], const T* low, int row, int rows, const Factors<RANKS> (&b)[COUNT]) {
  const int k = threadIdx.x % 4 * 2;
#pragma unroll
  for (int one = 0; one < COUNT; ++one) {
#pragma unroll
    for (int j = 0; j < TILES; ++j) {
      c[one].values[j][0] = c[one].values[j][1] = c[one].values[j][2] = c[one].values[j][3] = 0.0f;
    }
  }
#pragma unroll
  for (int step = 0; step < steps(RANKS); ++step) {
    uint32_t a[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = row + threadIdx.x % 32 / 4 + i % 2 * 8, rank = 16 * step + i / 2 * 8 + k;
      const T* from = low + static_cast<int64_t>(at) * RANKS + rank;
      a[i] = at < rows && rank < RANKS ? *reinterpret_cast<const uint32_t*>(from) : 0;
    }
#pragma unroll
    for (int one = 0; one < COUNT; ++one) {
#pragma unroll
      for (int j = 0; j < TILES; ++j) {
        tensor_cores::multiply<T>(
            c[one].values[j], a, b[one].values[step][j][0], b[one].values[step][j][1]);
      }
    }
  }
}

// out [rows, inner]
template <Activated (*ACTIVATION)(float), int RANKS, typename T>
__device__ void activated(
    const T* base, const T* low, const T* factors, T* out, int inner, int rows) {
  const int lane = threadIdx.x % 32, first = (blockIdx.x * WARPS + threadIdx.x / 32) * COLUMNS;
  const int column = first + lane % 4 * WIDTH, begin = blockIdx.y * ROWS;
  if (first >= inner) {
    return;
  }
  Factors<RANKS> b[2]; // of gate and of up
  load_factors(b[0], factors, first, inner, 2 * inner);
  load_factors(b[1], factors + inner, first, inner, 2 * inner);
  for (int row = begin; row < min(rows, begin + ROWS); row += 16) {
    Products added[2];
    multiply_rows(added, low, row, rows, b);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t at = row + lane / 4 + 8 * half;
      if (at < rows && column < inner) {
        const T* from = base + at * 2 * inner + column;
        const Vector<T> g = load(from), u = load(from + inner);
        Vector<T> result;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
          const float gate = static_cast<float>(g.values[i]) + added[0].at(half, i);
          const float up = static_cast<float>(u.values[i]) + added[1].at(half, i);
          result.values[i] = static_cast<T>(ACTIVATION(gate).value * up);
        }
        store(out + at * inner + column, result);
      }
    }
  }
}

// d_whole [rows, 2 * inner], the gradients by gate and up, and `out` once more, from
// d_out = d_base + d_low * last^T: d_base [rows, inner], d_low [rows, LAST_RANKS], last [inner, LAST_RANKS].
// Without factors of the last layer LAST_RANKS is 0.
template <Activated (*ACTIVATION)(float), int RANKS, int LAST_RANKS, typename T>
__device__ void gradients(
    const T* base, const T* low, const T* factors, const T* d_base, const T* d_low, const T* last,
    T* d_whole, T* out, int inner, int rows) {
  const int lane = threadIdx.x % 32, first = (blockIdx.x * WARPS + threadIdx.x / 32) * COLUMNS;
  const int column = first + lane % 4 * WIDTH, begin = blockIdx.y * ROWS;
  if (first >= inner) {
    return;
  }
  Factors<RANKS> b[2];
  load_factors(b[0], factors, first, inner, 2 * inner);
  load_factors(b[1], factors + inner, first, inner, 2 * inner);
  Factors<LAST_RANKS> of_last[1] = {};
  if constexpr (LAST_RANKS > 0) {
    load_turned(of_last[0], last, first, inner);
  }
  for (int row = begin; row < min(rows, begin + ROWS); row += 16) {
    Products added[2], d_added[1] = {};
    multiply_rows(added, low, row, rows, b);
    if constexpr (LAST_RANKS > 0) {
      multiply_rows(d_added, d_low, row, rows, of_last);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t at = row + lane / 4 + 8 * half;
      if (at < rows && column < inner) {
        const int64_t place = at * 2 * inner + column;
        const Vector<T> g = load(base + place), u = load(base + place + inner),
                        d = load(d_base + at * inner + column);
        Vector<T> of_gate, of_up, result;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
          const Activated bent = ACTIVATION(static_cast<float>(g.values[i]) + added[0].at(half, i));
          const float up = static_cast<float>(u.values[i]) + added[1].at(half, i);
          const float d_out = static_cast<float>(d.values[i]) + d_added[0].at(half, i);
          of_gate.values[i] = static_cast<T>(d_out * up * bent.slope);
          of_up.values[i] = static_cast<T>(d_out * bent.value);
          result.values[i] = static_cast<T>(bent.value * up);
        }
        store(d_whole + place, of_gate);
        store(d_whole + place + inner, of_up);
        store(out + at * inner + column, result);
      }
    }
  }
}

} // namespace gated

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
using elementwise::Vector;
using elementwise::WIDTH;
using tensor_cores::pack;
using tensor_cores::unpack;

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

// WIDTH values of half precision, two a word.
struct alignas(16) Words {
  uint32_t values[WIDTH / 2];
};

template <typename T>
__device__ __forceinline__ Words load(const T* from) {
  return *reinterpret_cast<const Words*>(from);
}

template <typename T>
__device__ __forceinline__ void store(T* to, const Words& words) {
  *reinterpret_cast<Words*>(to) = words;
}

__device__ __forceinline__ uint32_t paired(uint32_t first, uint32_t second) {
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
        lines[0] = elementwise::load(from + static_cast<int64_t>(rank) * pitch);
        lines[1] = elementwise::load(from + static_cast<int64_t>(rank + 1) * pitch);
      }
#pragma unroll
      for (int j = 0; j < TILES; ++j) {
        const uint32_t even = paired(lines[0].values[2 * j], lines[1].values[2 * j]);
        const uint32_t odd = paired(lines[0].values[2 * j + 1], lines[1].values[2 * j + 1]);
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

// A thread's share of low [rows, RANKS] in a tile of 16 rows.
template <int RANKS>
struct Low {
  uint32_t values[steps(RANKS)][4];

  template <typename T>
  __device__ __forceinline__ void load(const T* low, int row, int rows) {
#pragma unroll
    for (int step = 0; step < steps(RANKS); ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = row + threadIdx.x % 32 / 4 + i % 2 * 8;
        const int rank = 16 * step + i / 2 * 8 + threadIdx.x % 4 * 2;
        const T* from = low + static_cast<int64_t>(at) * RANKS + rank;
        values[step][i] =
            at < rows && rank < RANKS ? *reinterpret_cast<const uint32_t*>(from) : 0;
      }
    }
  }
};

// What a thread gets of a product: WIDTH columns of the tile's rows lane / 4 and lane / 4 + 8.
struct Products {
  float values[TILES][4];

  // Two of them added to two of a word.
  template <typename T>
  __device__ __forceinline__ float2 added(const Words& words, int half, int i) const {
    const float2 pair = unpack<T>(words.values[i]);
    return {pair.x + values[i][2 * half], pair.y + values[i][2 * half + 1]};
  }
};

template <typename T, int RANKS>
__device__ __forceinline__ Products product(const Low<RANKS>& a, const Factors<RANKS>& b) {
  Products c = {};
#pragma unroll
  for (int step = 0; step < steps(RANKS); ++step) {
#pragma unroll
    for (int j = 0; j < TILES; ++j) {
      tensor_cores::multiply<T>(
          c.values[j], a.values[step], b.values[step][j][0], b.values[step][j][1]);
    }
  }
  return c;
}

// Where a thread's columns are, and which rows a warp goes down.
struct Place {
  int first, column, begin, end;

  __device__ __forceinline__ Place(int rows) {
    first = (blockIdx.x * WARPS + threadIdx.x / 32) * COLUMNS;
    column = first + threadIdx.x % 4 * WIDTH;
    begin = blockIdx.y * ROWS;
    end = min(rows, begin + ROWS);
  }
};

// A thread's words in a tile of an array [rows, pitch]: rows lane / 4 and lane / 4 + 8. What is not there is
// not looked at.
struct Tile {
  Words rows[2];

  template <typename T>
  __device__ __forceinline__ void load(
      const T* from, int row, int column, int end, int width, int pitch) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = row + threadIdx.x % 32 / 4 + 8 * half;
      if (at < end && column < width) {
        rows[half] = gated::load(from + static_cast<int64_t>(at) * pitch + column);
      }
    }
  }

  template <typename T>
  __device__ __forceinline__ void store(
      T* to, int row, int column, int end, int width, int pitch) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = row + threadIdx.x % 32 / 4 + 8 * half;
      if (at < end && column < width) {
        gated::store(to + static_cast<int64_t>(at) * pitch + column, rows[half]);
      }
    }
  }
};

// Gate and up, tile by tile: base + low * factors.
template <int RANKS, typename T>
struct GateAndUp {
  Factors<RANKS> of_gate, of_up;
  Tile gate, up;
  Products to_gate, to_up;

  __device__ __forceinline__ GateAndUp(const T* factors, const Place& place, int inner) {
    load_factors(of_gate, factors, place.first, inner, 2 * inner);
    load_factors(of_up, factors + inner, place.first, inner, 2 * inner);
  }

  __device__ __forceinline__ void load(const T* base, int row, int column, int rows, int inner) {
    gate.load(base, row, column, rows, inner, 2 * inner);
    up.load(base + inner, row, column, rows, inner, 2 * inner);
  }

  __device__ __forceinline__ void multiply(const T* low, int row, int rows) {
    Low<RANKS> a;
    a.load(low, row, rows);
    to_gate = product<T>(a, of_gate);
    to_up = product<T>(a, of_up);
  }

  __device__ __forceinline__ float2 gate_at(int half, int i) const {
    return to_gate.template added<T>(gate.rows[half], half, i);
  }

  __device__ __forceinline__ float2 up_at(int half, int i) const {
    return to_up.template added<T>(up.rows[half], half, i);
  }
};

// out [rows, inner]
template <Activated (*ACTIVATION)(float), int RANKS, typename T>
__device__ void activated(
    const T* base, const T* low, const T* factors, T* out, int inner, int rows) {
  const Place place(rows);
  if (place.first >= inner) {
    return;
  }
  GateAndUp<RANKS, T> both(factors, place, inner);
  for (int row = place.begin; row < place.end; row += 16) {
    both.load(base, row, place.column, rows, inner);
    both.multiply(low, row, rows);
    Tile result;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < WIDTH / 2; ++i) {
        const float2 g = both.gate_at(half, i), u = both.up_at(half, i);
        result.rows[half].values[i] =
            pack<T>(ACTIVATION(g.x).value * u.x, ACTIVATION(g.y).value * u.y);
      }
    }
    result.store(out, row, place.column, rows, inner, inner);
  }
}

// d_whole [rows, 2 * inner], the gradients by gate and up, and `out` once more, from
// d_out = d_base + d_low * last^T: d_base [rows, inner], d_low [rows, LAST_RANKS], last [inner, LAST_RANKS].
// Without factors of the last layer LAST_RANKS is 0.
template <Activated (*ACTIVATION)(float), int RANKS, int LAST_RANKS, typename T>
__device__ void gradients(
    const T* base, const T* low, const T* factors, const T* d_base, const T* d_low, const T* last,
    T* d_whole, T* out, int inner, int rows) {
  const Place place(rows);
  if (place.first >= inner) {
    return;
  }
  GateAndUp<RANKS, T> both(factors, place, inner);
  Factors<LAST_RANKS> of_last;
  if constexpr (LAST_RANKS > 0) {
    load_turned(of_last, last, place.first, inner);
  }
  for (int row = place.begin; row < place.end; row += 16) {
    Tile d_out, result;
    both.load(base, row, place.column, rows, inner);
    d_out.load(d_base, row, place.column, rows, inner, inner);
    both.multiply(low, row, rows);
    Products to_d = {};
    if constexpr (LAST_RANKS > 0) {
      Low<LAST_RANKS> d_a;
      d_a.load(d_low, row, rows);
      to_d = product<T>(d_a, of_last);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < WIDTH / 2; ++i) {
        const float2 g = both.gate_at(half, i), u = both.up_at(half, i);
        const float2 d = to_d.added<T>(d_out.rows[half], half, i);
        const Activated x = ACTIVATION(g.x), y = ACTIVATION(g.y);
        // In their place, as registers are what there is least of.
        both.gate.rows[half].values[i] = pack<T>(d.x * u.x * x.slope, d.y * u.y * y.slope);
        both.up.rows[half].values[i] = pack<T>(d.x * x.value, d.y * y.value);
        result.rows[half].values[i] = pack<T>(x.value * u.x, y.value * u.y);
      }
    }
    both.gate.store(d_whole, row, place.column, rows, inner, 2 * inner);
    both.up.store(d_whole + inner, row, place.column, rows, inner, 2 * inner);
    result.store(out, row, place.column, rows, inner, inner);
  }
}

} // namespace gated

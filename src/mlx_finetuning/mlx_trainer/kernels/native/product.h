// Matrix products in one thread: tiles of C that stay in registers, from rows of A and panels of B
// copied to where the caches want them (Goto and van de Geijn 2008). Both may have more than one part
// along the depth, so that what a layer's factors add needs no second pass over C.
//
// The width of a vector and the tile are this processor's; what is computed for an element of C, and
// in which order, hangs on neither the tile nor the other rows.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels.h"
#include "vectors.h"

namespace kernels::PROCESSOR {

namespace {

#if defined(__AVX512F__)
constexpr int tile_rows = 14;  // of 32 registers 28 for sums, 2 for B, 1 for A
#elif defined(__AVX2__)
constexpr int tile_rows = 6;  // 12 of 16
#elif defined(__aarch64__)
constexpr int tile_rows = 12;  // 24 of 32
#else
constexpr int tile_rows = 6;
#endif
constexpr int panel = 2 * lanes;  // columns of a tile
constexpr int deepest = 512;      // of a panel: 64 KB with AVX-512
constexpr int row_stride = deepest + 16;  // of a tile's copied rows: no power of two, for the cache's sake
constexpr int columns_at_once = 384;

// Memory that a thread keeps, since to ask for it anew costs as much as a small product.
class Room {
 public:
  ~Room() { std::free(data_); }

  float* of(std::size_t count) {
    if (count > count_) {
      std::free(data_);
      data_ = static_cast<float*>(std::aligned_alloc(64, (sizeof(float) * count + 63) / 64 * 64));
      count_ = count;
    }
    return data_;
  }

 private:
  float* data_ = nullptr;
  std::size_t count_ = 0;
};

// Element (i, j) at data[i * row + j * column]; one of both steps is 1. Of B it may have two bytes, and
// becomes float32 where B is copied.
struct Matrix {
  const void* data;
  std::int64_t row;
  std::int64_t column;
  NumberType type = NumberType::float32;

  template <typename Number>
  const Number* at(std::int64_t i, std::int64_t j) const {
    return static_cast<const Number*>(data) + i * row + j * column;
  }

  Matrix from_column(std::int64_t first) const {
    const int bytes = type == NumberType::float32 ? 4 : 2;
    return {static_cast<const char*>(data) + first * column * bytes, row, column, type};
  }
};

inline Matrix rows_of(const void* data, std::int64_t stride, NumberType type = NumberType::float32) {
  return {data, stride, 1, type};
}

inline Matrix transposed(const void* data, std::int64_t stride, NumberType type = NumberType::float32) {
  return {data, 1, stride, type};
}

// a [m, depth] b [depth, n].
struct Part {
  Matrix a;
  Matrix b;
  int depth;
};

// --- tiles ------------------------------------------------------------------------------------

// c [rows, vectors * lanes] = a [rows, depth] b [depth, vectors * lanes], or added to it.
template <int rows, int vectors>
void tile(
    const float* a, const float* b, std::int64_t b_stride, int depth, float* c, std::int64_t stride, bool adds) {
  Vector sums[rows][vectors] = {};
  for (int k = 0; k < depth; ++k, ++a, b += b_stride) {
    Vector right[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      right[v] = load(b + v * lanes);
    }
#pragma GCC unroll 16
    for (int row = 0; row < rows; ++row) {
      const Vector left = a[row * row_stride] - Vector{};
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        sums[row][v] += left * right[v];
      }
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      float* to = c + row * stride + v * lanes;
      store(to, adds ? load(to) + sums[row][v] : sums[row][v]);
    }
  }
}

using Tile = decltype(&tile<1, 1>);

template <int vectors, int... number>
Tile tile_of(int rows, std::integer_sequence<int, number...>) {
  static constexpr Tile tiles[] = {tile<number + 1, vectors>...};
  return tiles[rows - 1];
}

Tile tile_for(int rows, int columns) {
  constexpr auto numbers = std::make_integer_sequence<int, tile_rows>();
  return columns > lanes ? tile_of<2>(rows, numbers) : tile_of<1>(rows, numbers);
}

// --- copies -----------------------------------------------------------------------------------

template <int step, int... i>
inline void exchange_pair(Vector& low, Vector& high, std::integer_sequence<int, i...>) {
  const Vector a = low, b = high;
#if defined(__clang__) || __GNUC__ >= 12
  low = __builtin_shufflevector(a, b, ((i & step) ? lanes + (i ^ step) : i)...);
  high = __builtin_shufflevector(a, b, ((i & step) ? lanes + i : (i ^ step))...);
#else
  ((low[i] = (i & step) ? b[i ^ step] : a[i], high[i] = (i & step) ? b[i] : a[i ^ step]), ...);
#endif
}

// Of a square's rows: what is `step` above the diagonal for what is below it.
template <int step>
inline void exchange(Vector* rows) {
  if constexpr (step < lanes) {
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) {
      if (!(i & step)) {
        exchange_pair<step>(rows[i], rows[i | step], std::make_integer_sequence<int, lanes>());
      }
    }
  }
}

// The first `columns` columns of a square of `lanes` rows.
template <typename Number>
inline void transpose_square(
    const Number* from, std::int64_t from_stride, float* to, std::int64_t to_stride, int columns) {
  Vector rows[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) {
    rows[i] = load(from + i * from_stride);
  }
  exchange<1>(rows);
  exchange<2>(rows);
  exchange<4>(rows);
  exchange<8>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) {
    if (i < columns) {
      store(to + i * to_stride, rows[i]);
    }
  }
}

// to [columns, rows] = from' [rows, columns]; `readable` columns of `from` may be read.
template <typename Number>
void transpose(
    const Number* from, std::int64_t from_stride, int rows, int columns, int readable, float* to, std::int64_t to_stride) {
  for (int i = 0; i < rows; i += lanes) {
    for (int j = 0; j < columns; j += lanes) {
      const Number* source = from + i * from_stride + j;
      float* target = to + j * to_stride + i;
      const int height = smaller(lanes, rows - i), width = smaller(lanes, columns - j);
      if (height == lanes && j + lanes <= readable) {
        transpose_square(source, from_stride, target, to_stride, width);
        continue;
      }
      for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
          target[x * to_stride + y] = number(source[y * from_stride + x]);
        }
      }
    }
  }
}

// A product's parts, and what of their common depth is computed at once: from `begin` to `end`.
struct Slab {
  const Part* parts;
  int count;
  int begin;
  int end;

  int depth() const { return end - begin; }

  // Calls visit(part, first, length, at): `length` of a part from its `first` on, which lie at `at`.
  template <typename Visit>
  inline void for_each(Visit visit) const {
    int start = 0;
    for (int i = 0; i < count; start += parts[i++].depth) {
      const int first = larger(begin - start, 0), last = smaller(end - start, parts[i].depth);
      if (first < last) {
        visit(parts[i], first, last - first, start + first - begin);
      }
    }
  }
};

// `rows` of A from `row` of m on, each at row_stride.
void copy_rows(const Slab& slab, int row, int rows, int m, float* copied) {
  slab.for_each([&](const Part& part, int first, int length, int at) {
    const float* from = part.a.at<float>(row, first);
    if (part.a.column != 1) {
      transpose(from, part.a.column, length, rows, m - row, copied + at, row_stride);
      return;
    }
    for (int i = 0; i < rows; ++i) {
      std::memcpy(copied + i * row_stride + at, from + i * part.a.row, sizeof(float) * length);
    }
  });
}

// `columns` of b from `column` on, its rows from `first` on, as [length, panel].
template <typename Number>
void copy_columns(const Matrix& b, int first, int length, int column, int columns, float* to) {
  const Number* from = b.at<Number>(first, column);
  if (b.column != 1) {
    transpose(from, b.column, columns, length, length, to, panel);
    return;
  }
  for (int k = 0; k < length; ++k, from += b.row, to += panel) {
    if (columns == panel) {
      store(to, load(from));
      store(to + lanes, load(from + lanes));
      continue;
    }
    for (int j = 0; j < columns; ++j) {
      to[j] = number(from[j]);
    }
  }
}

// `columns` of B from `column` on, as [depth, panel], zero behind them.
void copy_panel(const Slab& slab, int column, int columns, float* copied) {
  if (columns < panel) {
    std::memset(copied, 0, sizeof(float) * panel * slab.depth());
  }
  slab.for_each([&](const Part& part, int first, int length, int at) {
    float* to = copied + at * panel;
    switch (part.b.type) {
      case NumberType::float32:
        return copy_columns<float>(part.b, first, length, column, columns, to);
      case NumberType::float16:
        return copy_columns<Float16>(part.b, first, length, column, columns, to);
      case NumberType::bfloat16:
        return copy_columns<BFloat16>(part.b, first, length, column, columns, to);
    }
  });
}

// --- the whole --------------------------------------------------------------------------------

// A tile that ends before its panel does: c [rows, columns].
void narrow_tile(const float* a, const float* b, int depth, float* c, std::int64_t stride, int rows, int columns, bool adds) {
  float whole[tile_rows * panel];
  tile_for(rows, columns)(a, b, panel, depth, whole, panel, false);
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      float& to = c[i * stride + j];
      to = (adds ? to : 0.0f) + whole[i * panel + j];
    }
  }
}

// c [m, n] = the sum of the parts' products, or added to it.
void multiply(const Part* parts, int count, int m, int n, float* c, std::int64_t stride, bool adds) {
  static thread_local Room room;
  float* const right = room.of(deepest * columns_at_once + tile_rows * row_stride);
  float* const left = right + deepest * columns_at_once;
  std::int64_t depth = 0;
  for (int i = 0; i < count; ++i) {
    depth += parts[i].depth;
  }
  const int slabs = (depth + deepest - 1) / deepest;
  const std::int64_t tiles = (m + tile_rows - 1) / tile_rows;
  // Of what is used once or twice a copy is not worth it.
  const bool is_float = parts->b.type == NumberType::float32;
  const bool in_place = count == 1 && is_float && parts->b.column == 1 && tiles <= 2;
  for (int start = 0; start < n; start += columns_at_once) {
    const int columns = smaller(columns_at_once, n - start);
    for (int number = 0; number < slabs; ++number) {
      const int begin = depth * number / slabs, end = depth * (number + 1) / slabs;
      const Slab slab{parts, count, begin, end};
      for (int j = 0; j < columns; j += panel) {
        if (!in_place || columns - j < panel) {
          copy_panel(slab, start + j, smaller(panel, columns - j), right + j * slab.depth());
        }
      }
      for (int at = 0; at < tiles; ++at) {
        const int row = m * at / tiles, rows = m * (at + 1) / tiles - row;
        copy_rows(slab, row, rows, m, left);
        for (int j = 0; j < columns; j += panel) {
          const float* b = right + j * slab.depth();
          float* to = c + row * stride + start + j;
          const bool adds_here = adds || number > 0;
          if (columns - j < panel) {
            narrow_tile(left, b, slab.depth(), to, stride, rows, columns - j, adds_here);
          } else if (in_place) {
            b = parts->b.at<float>(begin, start + j);
            tile_for(rows, panel)(left, b, parts->b.row, slab.depth(), to, stride, adds_here);
          } else {
            tile_for(rows, panel)(left, b, panel, slab.depth(), to, stride, adds_here);
          }
        }
      }
    }
  }
}

void multiply(const Part& part, int m, int n, float* c, std::int64_t stride, bool adds = false) {
  multiply(&part, 1, m, n, c, stride, adds);
}

}  // namespace

}  // namespace kernels::PROCESSOR

#include "gguf_arrays.h"

#include <cstring>
#include <stdexcept>

#include "kernels.h"
#include "mlx/allocator.h"

namespace kernels {

namespace {

struct Block {
  BlockType type;
  int values;
  int bytes;
  int bits;  // of a level
};

constexpr Block packable[] = {
    {BlockType::q4_0, 32, 18, 4},
    {BlockType::q4_1, 32, 20, 4},
    {BlockType::q5_0, 32, 22, 5},
    {BlockType::q5_1, 32, 24, 5},
    {BlockType::q8_0, 32, 34, 8},
    {BlockType::q4_k, 256, 144, 4},
    {BlockType::q5_k, 256, 176, 5},
    {BlockType::q6_k, 256, 210, 6},
};

const Block& block_of(int type) {
  for (const auto& block : packable) {
    if (static_cast<int>(block.type) == type) {
      return block;
    }
  }
  throw std::invalid_argument("No type that can be packed.");
}

mx::array unfilled(const RowNumbers& rows, std::int64_t columns, mx::Dtype kind) {
  const auto count = static_cast<std::int64_t>(rows.size());
  return mx::array(
      mx::allocator::malloc(count * columns * kind.size()),
      {static_cast<int>(count), static_cast<int>(columns)},
      kind);
}

// Calls work(stored row, number of the row made of it) of each, while Python goes on.
template <typename Work>
void each_row(const StoredRows& stored, const RowNumbers& rows, Work work) {
  const auto count = static_cast<std::int64_t>(stored.shape(0)), width = static_cast<std::int64_t>(stored.shape(1));
  const auto* numbers = rows.data();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (numbers[i] < 0 || numbers[i] >= count) {
      throw std::out_of_range("No such row.");
    }
  }
  nb::gil_scoped_release other_threads;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    work(stored.data() + numbers[i] * width, static_cast<std::int64_t>(i));
  }
}

}  // namespace

std::vector<mx::array> packed(int type, const StoredRows& stored, const RowNumbers& rows) {
  const auto& block = block_of(type);
  if (stored.shape(1) % block.bytes) {
    throw std::invalid_argument("A row ends within a block.");
  }
  const auto blocks = static_cast<std::int64_t>(stored.shape(1)) / block.bytes;
  const bool is_six_bit = block.bits == 6;
  const auto groups = blocks * block.values / (is_six_bit ? 16 : 32);
  auto levels = unfilled(rows, blocks * block.values * block.bits / 32, mx::uint32);
  auto scales = unfilled(rows, groups, is_six_bit ? mx::int8 : mx::float32);
  auto offsets = unfilled(rows, is_six_bit ? blocks : groups, is_six_bit ? mx::float16 : mx::float32);
  const auto rows_of = [](mx::array& array) {
    return [first = array.data<std::uint8_t>(), width = array.shape(1) * array.itemsize()](std::int64_t row) {
      return first + row * width;
    };
  };
  each_row(
      stored,
      rows,
      [=, a = rows_of(levels), b = rows_of(scales), c = rows_of(offsets)](
          const std::uint8_t* from, std::int64_t row) {
        chosen().pack(block.type, from, blocks, a(row), b(row), c(row));
      });
  return {levels, scales, offsets};
}

mx::array dequantized(
    const StoredRows& stored, const RowNumbers& rows, int columns, std::uintptr_t to_float) {
  const auto convert = reinterpret_cast<void (*)(const void*, float*, std::int64_t)>(to_float);
  auto values = unfilled(rows, columns, mx::float32);
  each_row(stored, rows, [=, to = values.data<float>()](const std::uint8_t* from, std::int64_t row) {
    convert(from, to + row * columns, columns);
  });
  return values;
}

mx::array halves(const StoredRows& stored, const RowNumbers& rows, bool is_float16) {
  const auto width = static_cast<std::int64_t>(stored.shape(1));
  if (width % 2) {
    throw std::invalid_argument("A row ends within a number.");
  }
  auto values = unfilled(rows, width / 2, is_float16 ? mx::float16 : mx::bfloat16);
  each_row(stored, rows, [=, to = values.data<std::uint8_t>()](const std::uint8_t* from, std::int64_t row) {
    std::memcpy(to + row * width, from, width);
  });
  return values;
}

}  // namespace kernels

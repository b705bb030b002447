// Matrices of a GGUF file as MLX's arrays, whose memory is written once.

#pragma once

#include <nanobind/ndarray.h>

#include <cstdint>
#include <vector>

#include "mlx/array.h"

namespace kernels {

namespace mx = mlx::core;
namespace nb = nanobind;

// [rows, bytes], and which of the rows are wanted, in their order.
using StoredRows = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using RowNumbers = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Levels, scales and biases; of Q6_K levels, scales and the blocks' scales. type: llama.cpp's number of one
// that gguf_blocks.py packs.
std::vector<mx::array> packed(int type, const StoredRows& stored, const RowNumbers& rows);

// float32 [rows, columns]; to_float: the address of ggml's function for the type.
mx::array dequantized(
    const StoredRows& stored, const RowNumbers& rows, int columns, std::uintptr_t to_float);

// The rows as they are, of numbers of two bytes: float16, or else bfloat16.
mx::array halves(const StoredRows& stored, const RowNumbers& rows, bool is_float16);

}  // namespace kernels

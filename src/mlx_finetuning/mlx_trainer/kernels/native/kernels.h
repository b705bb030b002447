// Forward and backward passes on float32 arrays whose rows lie one behind the other. They know nothing
// of MLX, and each runs in the thread that calls it.

#pragma once

#include <cstdint>

namespace kernels {

// Of a row of examples, none of which sees another: queries [tokens, heads, size], keys and values
// [tokens, groups, size], heads a multiple of groups.
struct AttentionShape {
  const int* lengths;  // of the examples; their sum is `tokens`
  int examples;
  int heads;
  int groups;
  int size;
  float scale;
  int window;  // positions that a query sees, its own included; 0 is all before it
};

enum class NumberType { float32, float16, bfloat16 };

// y [tokens, out] of x [tokens, in], by weights [out, in] and factors a [in, rank], b [rank, out], whose
// product is multiplied by `scale`; rank 0 for a layer without factors. Weights may be of `type`; they
// become float32, which is exact, piece by piece.
struct LinearShape {
  int tokens;
  int in;
  int out;
  int rank;
  float scale;
  NumberType type;
};

// Types of ggml's whose blocks can be packed, by llama.cpp's numbers.
enum class BlockType { q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8, q4_k = 12, q5_k = 13, q6_k = 14 };

// All of them, as they are best computed by one kind of processor.
struct Kernels {
  // low [tokens, rank], what the factor b is multiplied with.
  void (*linear_down)(const LinearShape& shape, const float* x, const float* a, float* low);

  // Of y the columns from `first` on, `count` of them.
  void (*linear_up)(
      const LinearShape& shape,
      int first,
      int count,
      const float* x,
      const void* w,
      const float* b,
      const float* low,
      float* y);

  // d_x may be null, where nobody asks for it.
  void (*linear_gradient)(
      const LinearShape& shape,
      const void* w,
      const float* a,
      const float* b,
      const float* d_y,
      float* d_low,
      float* d_x);

  void (*factor_gradients)(
      const LinearShape& shape,
      const float* x,
      const float* low,
      const float* d_y,
      const float* d_low,
      float* d_a,
      float* d_b);

  // o like q; log_sums [tokens, heads] of each query's exponentials.
  void (*attention)(
      const AttentionShape& shape,
      const float* q,
      const float* k,
      const float* v,
      float* o,
      float* log_sums);

  void (*attention_gradient)(
      const AttentionShape& shape,
      const float* q,
      const float* k,
      const float* v,
      const float* o,
      const float* log_sums,
      const float* d_o,
      float* d_q,
      float* d_k,
      float* d_v);

  // silu(gate) * up.
  void (*swiglu)(const float* gate, const float* up, float* out, std::int64_t count);

  void (*swiglu_gradient)(
      const float* gate,
      const float* up,
      const float* upstream,
      float* d_gate,
      float* d_up,
      std::int64_t count);

  // x * Phi(x), by the approximation with a tanh that Gemma was trained with.
  void (*gelu)(const float* x, float* out, std::int64_t count);

  void (*gelu_gradient)(const float* x, const float* upstream, float* d_x, std::int64_t count);

  // x [rows, width] divided by the root of its rows' mean square, times weight [width].
  void (*rms_norm)(
      const float* x, const float* weight, float* out, std::int64_t rows, std::int64_t width, float eps);

  // d_weight may be null, where the weight is not trained.
  void (*rms_norm_gradient)(
      const float* x,
      const float* weight,
      const float* upstream,
      float* d_x,
      float* d_weight,
      std::int64_t rows,
      std::int64_t width,
      float eps);

  // The first 2 * half numbers of each head of x [tokens, heads, size] turned by a position's angles,
  // cosines and sines [tokens, half]; direction -1 turns back.
  void (*rotary)(
      const float* x,
      const float* cosines,
      const float* sines,
      float* out,
      std::int64_t tokens,
      std::int64_t heads,
      std::int64_t size,
      std::int64_t half,
      float direction);

  // Nats of targets [rows] under logits [rows, width], and the logarithm of each row's exponentials.
  void (*cross_entropy)(
      const float* logits,
      const std::int32_t* targets,
      float* losses,
      float* log_sums,
      std::int64_t rows,
      std::int64_t width);

  // d_logits may be logits.
  void (*cross_entropy_gradient)(
      const float* logits,
      const std::int32_t* targets,
      const float* log_sums,
      const float* upstream,
      float* d_logits,
      std::int64_t rows,
      std::int64_t width);

  // Blocks of ggml's as MLX's packed form: levels, and of every 32 a float32 of scales and of offsets. Of Q6_K
  // an int8 of scales for every 16 levels, and a float16 of offsets, the block's own scale.
  void (*pack)(
      BlockType type,
      const std::uint8_t* blocks,
      std::int64_t count,
      std::uint8_t* levels,
      void* scales,
      void* offsets);
};

// Those for the processor at hand, or for a lesser one: avx512, avx2, any, or the best of them. False for one
// that this machine is not.
const Kernels& chosen();
bool choose(const char* processor);

}  // namespace kernels

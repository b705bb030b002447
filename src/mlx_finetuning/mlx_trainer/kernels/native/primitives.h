// The kernels as MLX primitives: lazily evaluated, with derivatives, on the CPU and in float32 only, but for
// the weights of linear layers.

#pragma once

#include <vector>

#include "mlx/array.h"

namespace kernels {

namespace mx = mlx::core;

// x [tokens, in] w' [out, in]; w is frozen, of float32, float16 or bfloat16.
mx::array linear(const mx::array& x, const mx::array& w);

// The same, and behind it scale (x a) b with factors a [in, rank], b [rank, out].
mx::array linear_with_factors(
    const mx::array& x, const mx::array& w, const mx::array& a, const mx::array& b, float scale);

// q [1, heads, tokens, size], k and v [1, groups, tokens, size] of examples that do not see each
// other; like q. window: positions that a query sees, its own included; 0 is all before it.
mx::array attention(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const std::vector<int>& lengths,
    float scale,
    int window);

// silu(gate) * up.
mx::array swiglu(const mx::array& gate, const mx::array& up);

mx::array gelu(const mx::array& x);

// x [..., width], weight [width].
mx::array rms_norm(const mx::array& x, const mx::array& weight, float eps);

// x [1, heads, tokens, size]; cosines and sines [tokens, half] turn the first 2 * half of each row.
mx::array rotary(const mx::array& x, const mx::array& cosines, const mx::array& sines);

// logits [rows, vocabulary], targets [rows]; nats [rows].
mx::array cross_entropy(const mx::array& logits, const mx::array& targets);

}  // namespace kernels

// Small functions over rows, one pass each.

namespace elementwise {

constexpr int WIDTH = 8; // values that a thread reads at once: 16 bytes of half precision

template <typename T>
struct alignas(sizeof(T) * WIDTH) Vector {
  T values[WIDTH];
};

template <typename T>
__device__ __forceinline__ Vector<T> load(const T* from) {
  return *reinterpret_cast<const Vector<T>*>(from);
}

template <typename T>
__device__ __forceinline__ void store(T* to, const Vector<T>& vector) {
  *reinterpret_cast<Vector<T>*>(to) = vector;
}

// Rotary positions: x, out [length, heads, size], of which the first 2 * half are turned, each with that
// half of them away; cosines, sines [length, half]. Back where `sign` is -1. A thread has WIDTH pairs,
// or WIDTH values that are not turned.
template <typename T>
__device__ void rotate(
    const T* x, const float* cosines, const float* sines, T* out, int length, int heads, int size,
    int half, float sign) {
  const int pairs = half / WIDTH, per_head = pairs + (size - 2 * half) / WIDTH;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int part = index % per_head;
  const int64_t row = index / per_head; // of [length * heads]
  if (row >= static_cast<int64_t>(length) * heads) {
    return;
  }
  x += row * size;
  out += row * size;
  if (part >= pairs) {
    const int at = 2 * half + (part - pairs) * WIDTH;
    store(out + at, load(x + at));
    return;
  }
  const int64_t angle = row / heads * half + part * WIDTH;
  Vector<T> first = load(x + part * WIDTH), second = load(x + half + part * WIDTH);
  const Vector<float> cosine = load(cosines + angle), sine = load(sines + angle);
#pragma unroll
  for (int i = 0; i < WIDTH; ++i) {
    const float c = cosine.values[i], s = sine.values[i] * sign;
    const float a = static_cast<float>(first.values[i]), b = static_cast<float>(second.values[i]);
    first.values[i] = static_cast<T>(a * c - b * s);
    second.values[i] = static_cast<T>(a * s + b * c);
  }
  store(out + part * WIDTH, first);
  store(out + half + part * WIDTH, second);
}

// The gradient of RMSNorm by its input: x, d_out, d_x [rows, size], weight [size]. A block of THREADS
// has a row and keeps it in registers.
template <int SIZE, int THREADS, typename T>
__device__ void rms_norm_gradient(
    const T* x, const T* weight, const T* d_out, T* d_x, float eps) {
  constexpr int PARTS = (SIZE + THREADS * WIDTH - 1) / (THREADS * WIDTH), WARPS = THREADS / 32;
  __shared__ float sums[2][WARPS];
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * SIZE;
  float values[PARTS][WIDTH], gradients[PARTS][WIDTH]; // of the normalized values
  float squares = 0.0f, products = 0.0f;
#pragma unroll
  for (int part = 0; part < PARTS; ++part) {
    const int at = (part * THREADS + threadIdx.x) * WIDTH;
    if (at < SIZE) {
      const Vector<T> v = load(x + begin + at), g = load(d_out + begin + at), w = load(weight + at);
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) {
        values[part][i] = static_cast<float>(v.values[i]);
        gradients[part][i] = static_cast<float>(g.values[i]) * static_cast<float>(w.values[i]);
        squares += values[part][i] * values[part][i];
        products += values[part][i] * gradients[part][i];
      }
    }
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    squares += __shfl_xor_sync(0xffffffff, squares, lanes);
    products += __shfl_xor_sync(0xffffffff, products, lanes);
  }
  if (threadIdx.x % 32 == 0) {
    sums[0][threadIdx.x / 32] = squares;
    sums[1][threadIdx.x / 32] = products;
  }
  __syncthreads();
  squares = products = 0.0f;
#pragma unroll
  for (int warp = 0; warp < WARPS; ++warp) {
    squares += sums[0][warp];
    products += sums[1][warp];
  }
  const float inverse = rsqrtf(squares / SIZE + eps);
  const float along = products / SIZE * inverse * inverse * inverse;
#pragma unroll
  for (int part = 0; part < PARTS; ++part) {
    const int at = (part * THREADS + threadIdx.x) * WIDTH;
    if (at < SIZE) {
      Vector<T> result;
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) {
        result.values[i] =
            static_cast<T>(gradients[part][i] * inverse - values[part][i] * along);
      }
      store(d_x + begin + at, result);
    }
  }
}

// An activation's value and its slope.
struct Activated {
  float value;
  float slope;
};

// With fast division: by the exact one, activations would wait for their arithmetic instead of memory.
__device__ __forceinline__ float sigmoid(float x) {
  return __fdividef(1.0f, 1.0f + __expf(-x));
}

__device__ __forceinline__ Activated silu(float x) {
  const float share = sigmoid(x), value = x * share;
  return {value, share + value * (1.0f - share)};
}

// GELU's approximation by tanh: (1 + tanh(u)) / 2 is sigmoid(2 * u).
__device__ __forceinline__ Activated gelu(float x) {
  constexpr float ROOT = 0.7978845608f, CUBIC = 0.044715f; // sqrt(2 / pi)
  const float share = sigmoid(2.0f * ROOT * (x + CUBIC * x * x * x)), value = x * share;
  return {value, share + value * (1.0f - share) * 2.0f * ROOT * (1.0f + 3.0f * CUBIC * x * x)};
}

// silu(gate) * up, and its gradients; vectors of WIDTH values, of which a thread has one.
template <typename T>
__device__ void swiglu(const T* gate, const T* up, T* out, int64_t vectors) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= vectors) {
    return;
  }
  const Vector<T> g = load(gate + at * WIDTH), u = load(up + at * WIDTH);
  Vector<T> result;
#pragma unroll
  for (int i = 0; i < WIDTH; ++i) {
    result.values[i] = static_cast<T>(
        silu(static_cast<float>(g.values[i])).value * static_cast<float>(u.values[i]));
  }
  store(out + at * WIDTH, result);
}

template <typename T>
__device__ void swiglu_gradients(
    const T* gate, const T* up, const T* d_out, T* d_gate, T* d_up, int64_t vectors) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= vectors) {
    return;
  }
  const Vector<T> g = load(gate + at * WIDTH), u = load(up + at * WIDTH),
                  d = load(d_out + at * WIDTH);
  Vector<T> of_gate, of_up;
#pragma unroll
  for (int i = 0; i < WIDTH; ++i) {
    const Activated bent = silu(static_cast<float>(g.values[i]));
    const float upstream = static_cast<float>(d.values[i]);
    of_up.values[i] = static_cast<T>(upstream * bent.value);
    of_gate.values[i] = static_cast<T>(upstream * static_cast<float>(u.values[i]) * bent.slope);
  }
  store(d_gate + at * WIDTH, of_gate);
  store(d_up + at * WIDTH, of_up);
}

// GELU, or with `d_out` its gradient.
template <bool IS_GRADIENT, typename T>
__device__ void gelu_vectors(const T* x, const T* d_out, T* out, int64_t vectors) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= vectors) {
    return;
  }
  Vector<T> v = load(x + at * WIDTH), d = IS_GRADIENT ? load(d_out + at * WIDTH) : v;
#pragma unroll
  for (int i = 0; i < WIDTH; ++i) {
    const Activated bent = gelu(static_cast<float>(v.values[i]));
    v.values[i] = static_cast<T>(
        IS_GRADIENT ? static_cast<float>(d.values[i]) * bent.slope : bent.value);
  }
  store(out + at * WIDTH, v);
}

// Columns of `whole` [rows, the last of `ends`] from or to arrays [rows, columns of each] of their own. A
// thread has a vector.
template <int PARTS, typename T>
__device__ __forceinline__ T* part_of(
    T* const (&parts)[PARTS], const int (&ends)[PARTS], int64_t at) {
  const int column = at % ends[PARTS - 1];
  const int64_t row = at / ends[PARTS - 1];
  T* found = nullptr;
#pragma unroll
  for (int part = 0, begin = 0; part < PARTS; begin = ends[part++]) {
    if (column >= begin && column < ends[part]) {
      found = parts[part] + row * (ends[part] - begin) + column - begin;
    }
  }
  return found;
}

template <int PARTS, typename T>
__device__ void split_columns(
    const T* whole, T* const (&parts)[PARTS], const int (&ends)[PARTS], int64_t vectors) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * WIDTH;
  if (at < vectors * WIDTH) {
    store(part_of(parts, ends, at), load(whole + at));
  }
}

template <int PARTS, typename T>
__device__ void join_columns(
    T* whole, const T* const (&parts)[PARTS], const int (&ends)[PARTS], int64_t vectors) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * WIDTH;
  if (at < vectors * WIDTH) {
    store(whole + at, load(part_of(parts, ends, at)));
  }
}

// `size` values from one place to another, 16 bytes at a time where both lie so.
template <typename T>
__device__ __forceinline__ void copy(const T* from, T* to, int size) {
  const int at = (blockIdx.x * blockDim.x + threadIdx.x) * WIDTH;
  const bool is_aligned = (reinterpret_cast<uint64_t>(from) | reinterpret_cast<uint64_t>(to)) %
          sizeof(Vector<T>) == 0;
  if (is_aligned && at + WIDTH <= size) {
    store(to + at, load(from + at));
    return;
  }
  for (int i = at; i < at + WIDTH && i < size; ++i) {
    to[i] = from[i];
  }
}

} // namespace elementwise

// Causal attention of a sequence that several examples share, each by itself: FlashAttention-2 (Dao 2023,
// "Faster Attention with Better Parallelism and Work Partitioning"), whose symbols the code has: S
// scores, P probabilities, O outputs, D the row sums of dO * O. Blocks of keys that no query of a block
// sees are never loaded, so that work grows with the examples' lengths, not with the sequence's.
//
// q, o [tokens, heads, SIZE]; k, v [tokens, groups, SIZE]; lse, delta [heads, tokens] float32, in powers
// of two. `starts` and `ends` [tokens]: where a token's example begins and ends. A query sees keys from
// its example's start to itself, with a window that many of them. Scores are capped where `cap` is not
// 0. Nothing is added by atomic operations: the same input gives the same bits.
//
// Compute capability 8.0 and later: mma.sync m16n8k16 on bfloat16 or half, cp.async, ldmatrix.

#include "tensor_cores.cuh"

namespace attention {

using tensor_cores::multiply;
using tensor_cores::pack;
using tensor_cores::unpack;

constexpr float LOG2E = 1.4426950408889634f;
constexpr float NOTHING = -1e30f; // the score of a key that is not seen

struct Shape {
  int length;
  int heads;
  int groups;
  float scale;
  float cap;
  int window;
};

// --- shared memory ---------------------------------------------------------------------------

// Rows of a tile lie SIZE + PAD apart: eight rows of 16 bytes then lie in different banks.
constexpr int PAD = 8;

template <typename T>
__device__ __forceinline__ uint32_t address(const T* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

template <bool TRANSPOSED, typename T>
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const T* shared) {
  if constexpr (TRANSPOSED) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address(shared)));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address(shared)));
  }
}

// Rows from `first` of global memory [length, pitch] into a tile [ROWS, SIZE + PAD]; zeros beyond.
template <int ROWS, int SIZE, int THREADS, typename T>
__device__ __forceinline__ void load_tile(
    T* tile, const T* global, int first, int length, int pitch) {
  constexpr int CHUNKS = SIZE / 8;
  for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
    int row = i / CHUNKS, column = i % CHUNKS * 8;
    bool is_inside = first + row < length;
    const T* from = global + static_cast<int64_t>(is_inside ? first + row : 0) * pitch + column;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     address(tile + row * (SIZE + PAD) + column)),
                 "l"(from),
                 "r"(is_inside ? 16 : 0));
  }
}

__device__ __forceinline__ void commit() {
  asm volatile("cp.async.commit_group;");
}

// Tiles of two arrays, one behind the other.
template <int ROWS, int SIZE, int THREADS, typename T>
__device__ __forceinline__ void load_pair(
    T* tiles, const T* one, const T* other, int first, int length, int pitch) {
  load_tile<ROWS, SIZE, THREADS>(tiles, one, first, length, pitch);
  load_tile<ROWS, SIZE, THREADS>(tiles + ROWS * (SIZE + PAD), other, first, length, pitch);
  commit();
}

__device__ __forceinline__ void wait_for_tiles() {
  asm volatile("cp.async.wait_group 0;");
  __syncthreads();
}

// c [16, COLUMNS] = a [16, SIZE] b^T for rows of two tiles: b [COLUMNS, SIZE].
template <int COLUMNS, int SIZE, typename T>
__device__ __forceinline__ void product_with_rows(
    float (&c)[COLUMNS / 8][4], const T* a_rows, const T* b_rows) {
  const int lane = threadIdx.x % 32;
  const T* a_at = a_rows + (lane % 16) * (SIZE + PAD) + lane / 16 * 8;
  const T* b_at = b_rows + (lane % 8 + lane / 16 * 8) * (SIZE + PAD) + lane / 8 % 2 * 8;
#pragma unroll
  for (int j = 0; j < COLUMNS / 8; ++j) {
    c[j][0] = c[j][1] = c[j][2] = c[j][3] = 0.0f;
  }
#pragma unroll
  for (int i = 0; i < SIZE / 16; ++i) {
    uint32_t a[4];
    load_matrices<false>(a, a_at + i * 16);
#pragma unroll
    for (int j = 0; j < COLUMNS / 16; ++j) {
      uint32_t b[4];
      load_matrices<false>(b, b_at + j * 16 * (SIZE + PAD) + i * 16);
      multiply<T>(c[2 * j], a, b[0], b[1]);
      multiply<T>(c[2 * j + 1], a, b[2], b[3]);
    }
  }
}

// c [16, SIZE] += a [16, INNER] b, where b [INNER, SIZE] is a tile and a came out of a product.
template <int INNER, int SIZE, typename T>
__device__ __forceinline__ void add_product(
    float (&c)[SIZE / 8][4], const float (&a)[INNER / 8][4], const T* b_rows) {
  const int lane = threadIdx.x % 32;
  const T* b_at = b_rows + (lane % 16) * (SIZE + PAD) + lane / 16 * 8;
#pragma unroll
  for (int i = 0; i < INNER / 16; ++i) {
    uint32_t rounded[4] = {
        pack<T>(a[2 * i][0], a[2 * i][1]),
        pack<T>(a[2 * i][2], a[2 * i][3]),
        pack<T>(a[2 * i + 1][0], a[2 * i + 1][1]),
        pack<T>(a[2 * i + 1][2], a[2 * i + 1][3])};
#pragma unroll
    for (int j = 0; j < SIZE / 16; ++j) {
      uint32_t b[4];
      load_matrices<true>(b, b_at + i * 16 * (SIZE + PAD) + j * 16);
      multiply<T>(c[2 * j], rounded, b[0], b[1]);
      multiply<T>(c[2 * j + 1], rounded, b[2], b[3]);
    }
  }
}

// Rows `first` + lane / 4 and 8 below it of c [16, SIZE], times a factor each.
template <int SIZE, typename T>
__device__ __forceinline__ void store_rows(
    T* global, const float (&c)[SIZE / 8][4], int first, int length, int pitch, float high, float low) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int row = first + lane / 4 + half * 8;
    float factor = half ? low : high;
    if (row < length) {
      T* to = global + static_cast<int64_t>(row) * pitch + lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < SIZE / 8; ++j) {
        *reinterpret_cast<uint32_t*>(to + j * 8) =
            pack<T>(c[j][2 * half] * factor, c[j][2 * half + 1] * factor);
      }
    }
  }
}

// 2**x; nothing below the smallest normal number.
__device__ __forceinline__ float power_of_two(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

// Of four threads that share two rows.
__device__ __forceinline__ float sum_of_four(float value) {
  value += __shfl_xor_sync(0xffffffff, value, 1);
  return value + __shfl_xor_sync(0xffffffff, value, 2);
}

__device__ __forceinline__ float max_of_four(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffff, value, 2));
}

// --- scores ----------------------------------------------------------------------------------

// The first key that a query sees; beyond the sequence's end itself alone.
__device__ __forceinline__ int first_seen(const int* starts, int query, const Shape& shape) {
  int start = query < shape.length ? starts[query] : query;
  return shape.window ? max(start, query - shape.window + 1) : start;
}

// A product of query and key as a power of two, and its derivative by the scaled product.
__device__ __forceinline__ float score(float product, const Shape& shape, float& slope) {
  float scaled = product * shape.scale;
  slope = 1.0f;
  if (shape.cap != 0.0f) {
    float bent = tanhf(scaled / shape.cap);
    slope = 1.0f - bent * bent;
    scaled = shape.cap * bent;
  }
  return scaled * LOG2E;
}

// --- kernels ---------------------------------------------------------------------------------

// A block of threads has 16 * WARPS queries of one head; grid [blocks of queries, heads].
template <int SIZE, int WARPS, int KEYS, typename T>
__device__ void forward(
    const T* q, const T* k, const T* v, const int* starts, T* o, float* lse, const Shape shape) {
  constexpr int ROWS = 16 * WARPS, THREADS = 32 * WARPS, PITCH = SIZE + PAD;
  extern __shared__ __align__(16) char memory[];
  T* q_tile = reinterpret_cast<T*>(memory);
  T* tiles = q_tile + ROWS * PITCH; // k and v of two blocks of keys

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int head = blockIdx.y, group = head / (shape.heads / shape.groups);
  const int first = blockIdx.x * ROWS;
  const int q_pitch = shape.heads * SIZE, k_pitch = shape.groups * SIZE;
  q += head * SIZE;
  k += group * SIZE;
  v += group * SIZE;

  const int row = first + warp * 16 + lane / 4;
  const int rows[2] = {row, row + 8};
  const int from[2] = {first_seen(starts, row, shape), first_seen(starts, row + 8, shape)};
  const int stop = min(first + ROWS, shape.length);
  float acc[SIZE / 8][4] = {};
  float m[2] = {NOTHING, NOTHING}, l[2] = {0.0f, 0.0f};

  int key = first_seen(starts, first, shape) / KEYS * KEYS;
  load_tile<ROWS, SIZE, THREADS>(q_tile, q, first, shape.length, q_pitch);
  load_pair<KEYS, SIZE, THREADS>(tiles, k, v, key, shape.length, k_pitch);
  for (int stage = 0; key < stop; key += KEYS, stage = 1 - stage) {
    wait_for_tiles(); // this stage is there, and nobody needs the other any more
    const T* k_tile = tiles + stage * 2 * KEYS * PITCH;
    const T* v_tile = k_tile + KEYS * PITCH;
    if (key + KEYS < stop) {
      load_pair<KEYS, SIZE, THREADS>(
          tiles + (1 - stage) * 2 * KEYS * PITCH, k, v, key + KEYS, shape.length, k_pitch);
    }
    float s[KEYS / 8][4];
    product_with_rows<KEYS, SIZE>(s, q_tile + warp * 16 * PITCH, k_tile);
    float highest[2] = {m[0], m[1]};
#pragma unroll
    for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int at = key + j * 8 + lane % 4 * 2 + e % 2;
        float slope;
        bool is_seen = at <= rows[e / 2] && at >= from[e / 2];
        s[j][e] = is_seen ? score(s[j][e], shape, slope) : NOTHING;
        highest[e / 2] = fmaxf(highest[e / 2], s[j][e]);
      }
    }
    float base[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float highest_of_row = max_of_four(highest[half]);
      base[half] = highest_of_row == NOTHING ? 0.0f : highest_of_row;
      float shrunk = power_of_two(m[half] - base[half]);
      m[half] = highest_of_row;
      l[half] *= shrunk;
#pragma unroll
      for (int j = 0; j < SIZE / 8; ++j) {
        acc[j][2 * half] *= shrunk;
        acc[j][2 * half + 1] *= shrunk;
      }
    }
#pragma unroll
    for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[j][e] = power_of_two(s[j][e] - base[e / 2]);
        l[e / 2] += s[j][e];
      }
    }
    add_product<KEYS, SIZE>(acc, s, v_tile);
  }
  l[0] = sum_of_four(l[0]);
  l[1] = sum_of_four(l[1]);
  store_rows<SIZE>(
      o + head * SIZE, acc, first + warp * 16, shape.length, q_pitch, 1.0f / l[0], 1.0f / l[1]);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (lane % 4 == 0 && rows[half] < shape.length) {
      lse[static_cast<int64_t>(head) * shape.length + rows[half]] = m[half] + log2f(l[half]);
    }
  }
}

// dQ, and D for `backward_keys`. A block of threads has 16 * WARPS queries of one head; grid [blocks of
// queries, heads].
template <int SIZE, int WARPS, int KEYS, typename T>
__device__ void backward_queries(
    const T* q, const T* k, const T* v, const int* starts, const T* o, const float* lse,
    const T* d_o, T* d_q, float* delta, const Shape shape) {
  constexpr int ROWS = 16 * WARPS, THREADS = 32 * WARPS, PITCH = SIZE + PAD;
  extern __shared__ __align__(16) char memory[];
  T* q_tile = reinterpret_cast<T*>(memory);
  T* d_o_tile = q_tile + ROWS * PITCH;
  T* tiles = d_o_tile + ROWS * PITCH; // k and v of two blocks of keys

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int head = blockIdx.y, group = head / (shape.heads / shape.groups);
  const int first = blockIdx.x * ROWS;
  const int q_pitch = shape.heads * SIZE, k_pitch = shape.groups * SIZE;
  k += group * SIZE;
  v += group * SIZE;

  const int row = first + warp * 16 + lane / 4;
  const int rows[2] = {row, row + 8};
  const int from[2] = {first_seen(starts, row, shape), first_seen(starts, row + 8, shape)};
  const int stop = min(first + ROWS, shape.length);
  int key = first_seen(starts, first, shape) / KEYS * KEYS;
  load_tile<ROWS, SIZE, THREADS>(q_tile, q + head * SIZE, first, shape.length, q_pitch);
  load_tile<ROWS, SIZE, THREADS>(d_o_tile, d_o + head * SIZE, first, shape.length, q_pitch);
  load_pair<KEYS, SIZE, THREADS>(tiles, k, v, key, shape.length, k_pitch);

  float row_lse[2], d[2]; // D
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    bool is_inside = rows[half] < shape.length;
    int64_t at = static_cast<int64_t>(head) * shape.length + rows[half];
    row_lse[half] = is_inside ? lse[at] : 0.0f;
    d[half] = 0.0f;
    if (is_inside) {
      int64_t begin = static_cast<int64_t>(rows[half]) * q_pitch + head * SIZE;
      for (int column = lane % 4 * 8; column < SIZE; column += 32) {
        uint4 left = *reinterpret_cast<const uint4*>(o + begin + column);
        uint4 right = *reinterpret_cast<const uint4*>(d_o + begin + column);
        const uint32_t lefts[4] = {left.x, left.y, left.z, left.w};
        const uint32_t rights[4] = {right.x, right.y, right.z, right.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float2 one = unpack<T>(lefts[i]), other = unpack<T>(rights[i]);
          d[half] += one.x * other.x + one.y * other.y;
        }
      }
    }
    d[half] = sum_of_four(d[half]);
    if (is_inside && lane % 4 == 0) {
      delta[at] = d[half];
    }
  }

  float acc[SIZE / 8][4] = {};
  for (int stage = 0; key < stop; key += KEYS, stage = 1 - stage) {
    wait_for_tiles();
    const T* k_tile = tiles + stage * 2 * KEYS * PITCH;
    const T* v_tile = k_tile + KEYS * PITCH;
    if (key + KEYS < stop) {
      load_pair<KEYS, SIZE, THREADS>(
          tiles + (1 - stage) * 2 * KEYS * PITCH, k, v, key + KEYS, shape.length, k_pitch);
    }
    float s[KEYS / 8][4], d_p[KEYS / 8][4];
    product_with_rows<KEYS, SIZE>(s, q_tile + warp * 16 * PITCH, k_tile);
    product_with_rows<KEYS, SIZE>(d_p, d_o_tile + warp * 16 * PITCH, v_tile);
#pragma unroll
    for (int j = 0; j < KEYS / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int at = key + j * 8 + lane % 4 * 2 + e % 2;
        bool is_seen = at <= rows[e / 2] && at >= from[e / 2];
        float slope, p = power_of_two(score(s[j][e], shape, slope) - row_lse[e / 2]);
        s[j][e] = is_seen ? p * (d_p[j][e] - d[e / 2]) * slope : 0.0f; // dS
      }
    }
    add_product<KEYS, SIZE>(acc, s, k_tile);
  }
  store_rows<SIZE>(
      d_q + head * SIZE, acc, first + warp * 16, shape.length, q_pitch, shape.scale, shape.scale);
}

// dK and dV, or one of both, of 16 * WARPS keys of one group; what is computed is transposed, keys by
// queries.
template <bool HAS_K, bool HAS_V, int SIZE, int WARPS, int QUERIES, typename T>
__device__ void backward_of_keys(
    const T* q, const T* k, const T* v, const int* starts, const int* ends, const float* lse,
    const T* d_o, const float* delta, T* d_k, T* d_v, const Shape shape) {
  constexpr int ROWS = 16 * WARPS, THREADS = 32 * WARPS, PITCH = SIZE + PAD;
  extern __shared__ __align__(16) char memory[];
  T* k_tile = reinterpret_cast<T*>(memory);
  T* v_tile = k_tile + ROWS * PITCH;
  T* tiles = v_tile + ROWS * PITCH; // q and dO of two blocks of queries
  __shared__ float lses[2][QUERIES], deltas[2][QUERIES];
  __shared__ int froms[2][QUERIES];

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int group = blockIdx.y, heads = shape.heads / shape.groups;
  const int first = blockIdx.x * ROWS;
  const int q_pitch = shape.heads * SIZE, k_pitch = shape.groups * SIZE;
  const int last = min(first + ROWS, shape.length) - 1;
  const int stop = shape.window ? min(ends[last], last + shape.window) : ends[last];
  const int begin = first / QUERIES * QUERIES;
  const int blocks = (stop - begin + QUERIES - 1) / QUERIES; // of queries, of each head

  // Of a step, which is a block of queries of a head of the group.
  auto prefetch = [&](int step) {
    const int head = group * heads + step / blocks, query = begin + step % blocks * QUERIES;
    const int stage = step % 2;
    for (int i = threadIdx.x; i < QUERIES; i += THREADS) {
      bool is_inside = query + i < shape.length;
      int64_t at = static_cast<int64_t>(head) * shape.length + query + i;
      lses[stage][i] = is_inside ? lse[at] : 0.0f;
      deltas[stage][i] = is_inside ? delta[at] : 0.0f;
      // Beyond the sequence's end a query sees nothing of it.
      froms[stage][i] = is_inside ? first_seen(starts, query + i, shape) : shape.length;
    }
    load_pair<QUERIES, SIZE, THREADS>(
        tiles + stage * 2 * QUERIES * PITCH, q + head * SIZE, d_o + head * SIZE, query,
        shape.length, q_pitch);
  };
  load_tile<ROWS, SIZE, THREADS>(k_tile, k + group * SIZE, first, shape.length, k_pitch);
  if constexpr (HAS_K) {
    load_tile<ROWS, SIZE, THREADS>(v_tile, v + group * SIZE, first, shape.length, k_pitch);
  }
  prefetch(0);

  float k_acc[HAS_K ? SIZE / 8 : 1][4] = {}, v_acc[HAS_V ? SIZE / 8 : 1][4] = {};
  for (int step = 0; step < heads * blocks; ++step) {
    wait_for_tiles(); // this step's are there, and nobody needs the former's any more
    if (step + 1 < heads * blocks) {
      prefetch(step + 1);
    }
    const int stage = step % 2, query = begin + step % blocks * QUERIES;
    const T* q_tile = tiles + stage * 2 * QUERIES * PITCH;
    const T* d_o_tile = q_tile + QUERIES * PITCH;
    float s[QUERIES / 8][4], d_p[QUERIES / 8][4];
    product_with_rows<QUERIES, SIZE>(s, k_tile + warp * 16 * PITCH, q_tile);
    if constexpr (HAS_K) {
      product_with_rows<QUERIES, SIZE>(d_p, v_tile + warp * 16 * PITCH, d_o_tile);
    }
#pragma unroll
    for (int j = 0; j < QUERIES / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int key = first + warp * 16 + lane / 4 + e / 2 * 8;
        int i = j * 8 + lane % 4 * 2 + e % 2;
        bool is_seen = key <= query + i && key >= froms[stage][i];
        float slope, p = power_of_two(score(s[j][e], shape, slope) - lses[stage][i]);
        s[j][e] = is_seen ? p : 0.0f;
        if constexpr (HAS_K) {
          d_p[j][e] = is_seen ? p * (d_p[j][e] - deltas[stage][i]) * slope : 0.0f; // dS
        }
      }
    }
    if constexpr (HAS_V) {
      add_product<QUERIES, SIZE>(v_acc, s, d_o_tile);
    }
    if constexpr (HAS_K) {
      add_product<QUERIES, SIZE>(k_acc, d_p, q_tile);
    }
  }
  const int row = first + warp * 16;
  if constexpr (HAS_K) {
    store_rows<SIZE>(
        d_k + group * SIZE, k_acc, row, shape.length, k_pitch, shape.scale, shape.scale);
  }
  if constexpr (HAS_V) {
    store_rows<SIZE>(d_v + group * SIZE, v_acc, row, shape.length, k_pitch, 1.0f, 1.0f);
  }
}

// Grid [blocks of keys, groups, 1]; [.., 2] where registers are too few for both gradients at once.
template <int SIZE, int WARPS, int QUERIES, bool APART, typename T>
__device__ void backward_keys(
    const T* q, const T* k, const T* v, const int* starts, const int* ends, const float* lse,
    const T* d_o, const float* delta, T* d_k, T* d_v, const Shape shape) {
  if constexpr (!APART) {
    backward_of_keys<true, true, SIZE, WARPS, QUERIES>(
        q, k, v, starts, ends, lse, d_o, delta, d_k, d_v, shape);
  } else if (blockIdx.z == 0) {
    backward_of_keys<true, false, SIZE, WARPS, QUERIES>(
        q, k, v, starts, ends, lse, d_o, delta, d_k, d_v, shape);
  } else {
    backward_of_keys<false, true, SIZE, WARPS, QUERIES>(
        q, k, v, starts, ends, lse, d_o, delta, d_k, d_v, shape);
  }
}

} // namespace attention

// Products of small matrices by tensor cores: mma.sync m16n8k16 on bfloat16 or half (8.0 and later).

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace tensor_cores {

template <typename T>
constexpr bool IS_BFLOAT = false;
template <>
constexpr bool IS_BFLOAT<__nv_bfloat16> = true;

template <typename T>
__device__ __forceinline__ uint32_t pack(float low, float high) {
  uint32_t both;
  if constexpr (IS_BFLOAT<T>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  }
  return both;
}

template <typename T>
__device__ __forceinline__ float2 unpack(uint32_t both) {
  if constexpr (IS_BFLOAT<T>) {
    return __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(both));
  } else {
    return __half22float2(reinterpret_cast<const __half2&>(both));
  }
}

// c [16, 8] += a [16, 16] b [16, 8].
template <typename T>
__device__ __forceinline__ void multiply(
    float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (IS_BFLOAT<T>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

} // namespace tensor_cores

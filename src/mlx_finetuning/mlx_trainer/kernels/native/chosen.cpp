// The one choice among what processor.cpp was compiled to, so that the library may travel.

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "kernels.h"

namespace kernels {

namespace any {
extern const Kernels table;
}

#if defined(__x86_64__)
namespace avx2 {
extern const Kernels table;
}

namespace avx512 {
extern const Kernels table;
}
#endif

namespace {

#if defined(__x86_64__)
// Whether half precision is converted; the compilers' own question has no name for it before GCC 11.
bool has_f16c() {
  unsigned int a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

const Kernels* table_for(const char* processor) {
  const auto is = [=](const char* name) { return std::strcmp(processor, name) == 0; };
#if defined(__x86_64__)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2") && has_f16c();
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && (is("avx512") || is("best"))) {
    return &avx512::table;
  }
  if (has_avx2 && (is("avx2") || is("best"))) {
    return &avx2::table;
  }
#endif
  return is("any") || is("best") ? &any::table : nullptr;
}

const Kernels* current = table_for("best");

}  // namespace

const Kernels& chosen() { return *current; }

bool choose(const char* processor) {
  const Kernels* found = table_for(processor);
  current = found ? found : current;
  return found;
}

}  // namespace kernels

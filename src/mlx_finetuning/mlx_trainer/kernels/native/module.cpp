// What Python sees of the kernels.

#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include "gguf_arrays.h"
#include "kernels.h"
#include "primitives.h"

namespace nb = nanobind;
using namespace nb::literals;

NB_MODULE(mlx_finetuning_native, module) {
  module.def("choose", &kernels::choose);
  module.def("linear", &kernels::linear);
  module.def("linear_with_factors", &kernels::linear_with_factors);
  module.def("attention", &kernels::attention);
  module.def("swiglu", &kernels::swiglu);
  module.def("gelu", &kernels::gelu);
  module.def("rms_norm", &kernels::rms_norm);
  module.def("rotary", &kernels::rotary);
  module.def("cross_entropy", &kernels::cross_entropy);
  // Whole matrices are never copied to fit.
  module.def("packed", &kernels::packed, "type"_a, "stored"_a.noconvert(), "rows"_a.noconvert());
  module.def(
      "dequantized",
      &kernels::dequantized,
      "stored"_a.noconvert(),
      "rows"_a.noconvert(),
      "columns"_a,
      "to_float"_a);
  module.def("halves", &kernels::halves, "stored"_a.noconvert(), "rows"_a.noconvert(), "is_float16"_a);
}

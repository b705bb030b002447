// What Python sees of the kernels.

#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include "kernels.h"
#include "primitives.h"

namespace nb = nanobind;

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
}

// All kernels for one kind of processor. Compiled once for each, with what it can as the compiler's
// options and its name as PROCESSOR. Nothing here is a function that the linker could put in the place of
// another kind's: no templates of the standard library.

#include "attention.h"
#include "elementwise.h"
#include "gguf_blocks.h"
#include "kernels.h"
#include "linear.h"

namespace kernels::PROCESSOR {

extern const Kernels table;

const Kernels table = {
    linear_down,
    linear_up,
    linear_gradient,
    factor_gradients,
    attention,
    attention_gradient,
    swiglu,
    swiglu_gradient,
    gelu,
    gelu_gradient,
    rms_norm,
    rms_norm_gradient,
    rotary,
    cross_entropy,
    cross_entropy_gradient,
    pack,
};

}  // namespace kernels::PROCESSOR

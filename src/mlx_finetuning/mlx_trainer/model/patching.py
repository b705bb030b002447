"""Replacing parts of mlx, mlx-lm and loaded models while a block of code runs.

mlx-lm's model classes are used as they are; what an update computes otherwise is put in the place
of a function or a module and taken back. Functions are replaced for the whole process, so each of
them stands in `FUNCTIONS`; modules are replaced in one model, by a `Proxy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import mlx.nn as nn

VERSIONS = {"mlx": "0.32.4", "mlx-lm": "0.32.2"}
"""For which `FUNCTIONS` was written; with another one, look whether each is still called so."""
MASK = "create_attention_mask"
ATTENTION = "scaled_dot_product_attention"
POSITION_SCALE = "_get_llama_4_attn_scale"
SWIGLU = "swiglu"
ROPE = "rope"
RMS_NORM = "rms_norm"
GELU = "gelu_approx"
CALL = "__call__"
AS_LINEAR = "as_linear"

FUNCTIONS = {
    MASK: "mlx_lm.models.*: masks of sequences that several examples share",
    ATTENTION: "mlx_lm.models.*: each example of a sequence attends to itself; a faster CPU kernel",
    POSITION_SCALE: "mlx_lm.models.ministral3: queries grow with the position in their example",
    SWIGLU: "mlx_lm.models.*, switch_layers: MLX's exponential takes 9 ns a value on the CPU",
    ROPE: "mlx.core.fast: its derivative takes several passes on the CPU",
    RMS_NORM: "mlx.core.fast: likewise",
    GELU: "mlx.nn: MLX's hyperbolic tangent takes 15 ns a value on the CPU",
    CALL: "mlx.nn.Linear: products with frozen weights by our own kernel on the CPU",
    AS_LINEAR: "mlx.nn.Embedding: likewise, where it is the head",
}
"""Every function of mlx or mlx-lm that is replaced for the whole process, and why.

What is replaced while a library is imported is not here, since processes without MLX import transformers,
too: `utils.mlx_lm_import.STAND_INS`, and the two functions of `utils.transformers_import.change`.
"""


class Proxy(nn.Module):  # type: ignore[misc]
    """Stands for a module: has its attributes, and computes `call` instead of it.

    is_parent: whether a walk over parameters finds those of the module behind its proxy.
    """

    def __init__(
        self, module: nn.Module, call: Callable[..., Any], *, is_parent: bool = False
    ) -> None:
        super().__init__()
        # Not as an item, which would be a child.
        self.__dict__["_module"] = module
        self.__dict__["_call"] = call
        if is_parent:
            self["module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)

    def __call__(self, *values: Any, **named: Any) -> Any:
        return self.__dict__["_call"](*values, **named)

    def release(self) -> None:
        """Let go of the module, so that its weights can be freed."""
        self.__dict__["_module"] = nn.Module()


def computed(blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """Those that no proxy stands for: one whose outputs are known computes nothing."""
    return [block for block in blocks if not isinstance(block, Proxy)]


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` inside; where it has no such name, nothing happens."""
    assert name in FUNCTIONS or not isinstance(owner, ModuleType), f"not in FUNCTIONS: {name}"
    before = getattr(owner, name, None)
    if before is None:
        yield
        return
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def replaced_block(blocks: list[nn.Module], index: int, value: nn.Module) -> Iterator[None]:
    """`blocks[index]` is `value` inside."""
    before = blocks[index]
    blocks[index] = value
    try:
        yield
    finally:
        blocks[index] = before

"""Spares every job what mlx-lm imports for its own command line: transformers and huggingface-hub.

mlx-lm takes names from both when it is imported, as types, as the base of a class, or to call them in its
`load`, which nothing of ours does: `mlx_trainer.model.load` brings tokenizers of its own. So while
mlx-lm is imported, stand-ins have those names; whoever imports either library later gets the real one.
Where transformers is there already, nothing happens. Imports nothing itself.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

MODULE = "mlx_lm"
PARTS = ("mlx_lm.generate", "mlx_lm.tuner.utils")
"""Of mlx-lm, imported with it: the others take no names from those libraries."""
STAND_INS = {
    "transformers": ("AutoTokenizer", "PreTrainedTokenizer", "PreTrainedTokenizerFast"),
    "transformers.tokenization_utils_base": ("PreTrainedTokenizerBase",),
    "huggingface_hub": ("snapshot_download",),
}
"""What mlx-lm takes from other libraries when it is imported."""


def spare() -> None:
    """Call before anything imports mlx-lm; later, or repeated, calls change nothing."""
    if MODULE not in sys.modules and not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds mlx-lm as Python does, and has the stand-ins in place while it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == MODULE else None
        if spec is None or spec.loader is None or "transformers" in sys.modules:
            return spec
        loader: Any = spec.loader
        execute: Callable[[ModuleType], None] = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            present = {name: sys.modules[name] for name in STAND_INS if name in sys.modules}
            sys.modules.update({name: _stand_in(name) for name in STAND_INS})
            try:
                execute(module)
                for part in PARTS:
                    importlib.import_module(part)
            finally:
                for name in STAND_INS:
                    del sys.modules[name]
                sys.modules.update(present)

        loader.exec_module = exec_module
        return spec


def _stand_in(name: str) -> ModuleType:
    module = ModuleType(name)
    for item in STAND_INS[name]:
        setattr(module, item, type(item, (_Absent,), {"__module__": name}))
    return module


class _Absent:
    """Stands for a class or a function that nobody uses."""

    apply_chat_template = None
    """As `FolderTokenizer` has it: mlx-lm compares both, to find tokenizers that render by themselves."""

    @staticmethod
    def register(*_: Any, **__: Any) -> None:
        """mlx-lm adds a tokenizer of its own to those that transformers' `AutoTokenizer` knows."""

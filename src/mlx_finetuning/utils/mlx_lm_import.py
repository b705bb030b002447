"""Spares every job what mlx-lm imports for its own command line: transformers, huggingface-hub and rich.

mlx-lm takes names from them when it is imported, as types, as the base of a class, or to call them in its
`load` and in its own training, which nothing of ours does in the same process: `mlx_trainer.model.load` brings
tokenizers of its own. So while mlx-lm is imported, stand-ins have those names; whoever imports one of them later
gets the real one.
Where transformers is there already, it is taken. And mlx-lm's wish for 4,096 open files at most, which it
makes when it is imported, is not an error where a process may have fewer, as in some containers.
"""

from __future__ import annotations

import importlib
import resource
import sys
from types import ModuleType
from typing import Any

from mlx_finetuning.utils import import_hook

MODULE = "mlx_lm"
PARTS = ("mlx_lm.generate", "mlx_lm.tuner.utils")
"""Of mlx-lm, imported with it: the others take no names from those libraries."""
STAND_INS = {
    "transformers": ("AutoTokenizer", "PreTrainedTokenizer", "PreTrainedTokenizerFast"),
    "transformers.tokenization_utils_base": ("PreTrainedTokenizerBase",),
    "huggingface_hub": ("snapshot_download",),
    "mlx_lm.cli_ui": ("TrainUI", "rprint"),  # the face of its own training, made with rich
}
"""What mlx-lm takes from other libraries when it is imported."""


def spare() -> None:
    """Call before anything imports mlx-lm; later, or repeated, calls change nothing."""
    import_hook.around(MODULE, _with_stand_ins)


def _with_stand_ins(module: ModuleType, execute: import_hook.Execute) -> None:
    stand_ins = {} if "transformers" in sys.modules else STAND_INS
    present = {name: sys.modules[name] for name in stand_ins if name in sys.modules}
    for name, items in stand_ins.items():
        sys.modules[name] = stand_in = ModuleType(name)
        for item in items:
            setattr(stand_in, item, type(item, (_Absent,), {"__module__": name}))
    setrlimit, resource.setrlimit = resource.setrlimit, lambda *_: None
    try:
        execute(module)
        for part in PARTS if stand_ins else ():
            importlib.import_module(part)
    finally:
        resource.setrlimit = setrlimit
        for name in stand_ins:
            del sys.modules[name]
        sys.modules.update(present)


class _Absent:
    """Stands for a class or a function that nobody uses."""

    apply_chat_template = None
    """As `FolderTokenizer` has it: mlx-lm compares both, to find tokenizers that render by themselves."""

    @staticmethod
    def register(*_: Any, **__: Any) -> None:
        """mlx-lm adds a tokenizer of its own to those that transformers' `AutoTokenizer` knows."""

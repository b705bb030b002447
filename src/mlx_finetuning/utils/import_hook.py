"""Has a part in the import of another library's module. Imports nothing itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

Execute = Callable[[ModuleType], None]
"""Runs a module's code."""


def around(name: str, change: Callable[[ModuleType, Execute], None]) -> None:
    """When `name` is imported, `change(module, execute)` runs in place of `execute(module)`.

    Call before anything imports it; later, or repeated, calls change nothing.
    """
    known = any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path)
    if name not in sys.modules and not known:
        sys.meta_path.insert(0, _Finder(name, change))


class _Finder:
    """Finds the one module as Python does."""

    def __init__(self, name: str, change: Callable[[ModuleType, Execute], None]) -> None:
        self.name = name
        self._change = change

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == self.name else None
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        execute: Execute = loader.exec_module
        loader.exec_module = lambda module: self._change(module, execute)
        return spec

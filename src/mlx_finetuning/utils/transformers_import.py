"""Spares every process half a second of `import transformers`.

transformers looks through the source of all its model classes for their `__all__` when it is
imported, line by line, and mlx-lm has it do so a second time: the results of the first are kept in
too small a cache. `hasten` has it look from the last `__all__` on, and keep what it found. What is found
is the same. Imports nothing itself.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

MODULE = "transformers.utils.import_utils"


def hasten() -> None:
    """Call before anything imports transformers; later, or repeated, calls change nothing."""
    if MODULE not in sys.modules and not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds the one module as Python does, and changes it when it has been loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module)

        loader.exec_module = exec_module
        return spec


def change(module: Any) -> None:
    """Replace the two functions in transformers' module, which looks them up at each call."""
    scan = module.create_import_structure_from_path.__wrapped__
    module.create_import_structure_from_path = functools.cache(scan)
    fetch: Callable[[str], list[str]] = module.fetch__all__

    @functools.wraps(fetch)
    def fetch_from_last(text: str) -> list[str]:
        return fetch(text[max(text.rfind("\n__all__"), 0) :])

    module.fetch__all__ = fetch_from_last

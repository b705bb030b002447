"""Spares every process half a second of `import transformers`.

transformers looks through the source of all its model classes for their `__all__` when it is
imported, line by line, and mlx-lm has it do so a second time: the results of the first are kept in
too small a cache. `hasten` has it look from the last `__all__` on, and keep what it found. What is found
is the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mlx_finetuning.utils import import_hook

MODULE = "transformers.utils.import_utils"


def hasten() -> None:
    """Call before anything imports transformers; later, or repeated, calls change nothing."""
    import_hook.around(MODULE, _changed)


def _changed(module: ModuleType, execute: import_hook.Execute) -> None:
    execute(module)
    change(module)


def change(module: Any) -> None:
    """Replace the two functions in transformers' module, which looks them up at each call."""
    scan = module.create_import_structure_from_path.__wrapped__
    module.create_import_structure_from_path = functools.cache(scan)
    fetch: Callable[[str], list[str]] = module.fetch__all__

    @functools.wraps(fetch)
    def fetch_from_last(text: str) -> list[str]:
        return fetch(text[max(text.rfind("\n__all__"), 0) :])

    module.fetch__all__ = fetch_from_last

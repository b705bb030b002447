"""Parameters of which `make test` takes a telling part."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def sweep(cases: Iterable[Any], always: Container[Any]) -> list[Any]:
    """For `parametrize`: all `cases`, those that are not in `always` as `long` ones."""
    return [
        case
        if case in always
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.long)
        for case in cases
    ]

"""Files that come with the project outside the package's code: catalogue, sample data.

In a checkout they lie at the repository's root; in a built wheel under `shipped/`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(relative: str) -> Path:
    """The path of `relative` ("config/models.yaml"), whichever way the project was installed."""
    packaged = _PACKAGE / "shipped" / relative
    return packaged if packaged.exists() else _PACKAGE.parents[1] / relative

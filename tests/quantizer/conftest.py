"""What the tests of single families share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_finetuning.quantizer.write.export import export_gguf


@pytest.fixture(scope="module")
def written(folder: Path) -> Path:
    """The module's small model as an unquantized GGUF file."""
    path = folder.parent / "m.gguf"
    export_gguf(folder, None, {"F32": path})
    return path

"""How the interface is served: the script that draws it, behind the gate."""

from __future__ import annotations

from pathlib import Path

from starlette.middleware import Middleware

from mlx_finetuning.ui.gate import Gate
from mlx_finetuning.ui.language import InJapanese

SCRIPT = Path(__file__).parent / "entry" / "main.py"
MIDDLEWARE = (Middleware(Gate), Middleware(InJapanese))


def show_uncaught(error: Exception) -> bool:
    """Show in Japanese what no page has caught: trouble in a callback or in the frame itself."""
    from mlx_finetuning.ui.frame import show_unexpected

    show_unexpected(error)
    return True

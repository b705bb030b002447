"""What all pages share: the Studio of the workspace, and how trouble is caught.

`errors_shown` is the interface's one broad `except`; fragments use it again, because Streamlit
runs them on their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mlx_finetuning.errors import StudioError
from mlx_finetuning.studio import Studio
from mlx_finetuning.ui.components.errors import show_error
from mlx_finetuning.utils.redaction import appended, traceback_of
from mlx_finetuning.workspace import Workspace


def studio() -> Studio:
    """The Studio of the workspace that the server was started for."""
    return Studio(Workspace.locate())


@contextlib.contextmanager
def errors_shown() -> Iterator[None]:
    """Show what goes wrong inside the block in Japanese; the page stays usable."""
    try:
        yield
    except StudioError as error:
        show_error(error)
    except Exception as error:
        show_unexpected(error)


def show_unexpected(error: Exception) -> None:
    """Show an error nobody foresaw, and keep its traceback in `logs/ui.log`."""
    unexpected = appended(error, Workspace.locate().logs / "ui.log")
    show_error(unexpected, detail=traceback_of(error))

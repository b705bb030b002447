"""What all pages share: the Studio of the workspace, and how an error is shown.

`errors_shown` is the interface's one broad `except`; fragments use it again, because Streamlit
runs them on their own.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from datetime import datetime

import streamlit as st

from mlx_finetuning import files
from mlx_finetuning.errors import StudioError, UnexpectedError
from mlx_finetuning.messages_ja import describe
from mlx_finetuning.studio import Studio
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
        _show(error)
    except Exception as error:
        _show(_recorded(error))


def _show(error: StudioError) -> None:
    message = describe(error)
    st.error(f"**{message.what}**\n\n{message.why}", icon=":material/error:")
    st.markdown(f"次にすること: {message.next_step}")
    st.caption(f"コード: {error.code}")


def _recorded(error: Exception) -> UnexpectedError:
    """Keep the traceback in `logs/ui.log` and say where."""
    log = Workspace.locate().logs / "ui.log"
    with contextlib.suppress(OSError):
        files.make_folder(log.parent)
        with log.open("a", encoding="utf-8") as stream:
            stamp = datetime.now().isoformat(timespec="seconds")
            stream.write(f"--- {stamp}\n{''.join(traceback.format_exception(error))}\n")
    return UnexpectedError(kind=type(error).__name__, reason=str(error), log=str(log))

"""What stands where there is nothing yet: what is missing, and the way to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import streamlit as st

from mlx_finetuning.language import _
from mlx_finetuning.ui import sitemap

Deleted = TypeVar("Deleted")


def empty_state(text: str, page: str | None = None) -> None:
    """Say what is missing, with a link to the sitemap's `page`, where the next step is done."""
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown(f":gray[:material/inbox:]　{text}", width="content")
        if page is not None:
            entry = sitemap.ENTRIES[page]
            st.page_link(
                sitemap.page(page), label=_("{title}へ").format(title=entry.title), icon=entry.icon
            )


def shown_trash(deleted: Sequence[Deleted]) -> Sequence[Deleted]:
    """What is in the trash, below how it is emptied."""
    if deleted:
        st.caption(_("空にするには、「設定」の「使用量と片付け」を使ってください。"))
    else:
        empty_state(_("ゴミ箱は空です。"))
    return deleted

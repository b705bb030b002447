"""データセット: from a file to a saved dataset, and a look at saved ones."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import Inspection
from mlx_finetuning.data_processor.readers.columns import ROLE_JA
from mlx_finetuning.errors import StudioError
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import datasets, views
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.errors import show_error
from mlx_finetuning.ui.components.views import choose_view
from mlx_finetuning.ui.dataset import cleaning, findings, reading, saved, saving, source, trash
from mlx_finetuning.ui.dataset.choices import Choices
from mlx_finetuning.ui.frame import studio

NEW, SAVED, TRASH = "new", "saved", "trash"
VIEWS = {NEW: "新しく作る", SAVED: "保存したもの", TRASH: "ゴミ箱"}


@st.cache_data(max_entries=4, show_spinner="ファイルを調べています…")
def inspected(
    path: str, settings: PrepareConfig, mapping: tuple[tuple[str, str], ...]
) -> Inspection:
    return studio().data.inspect(Path(path), mapping=dict(mapping) or None, settings=settings)


def draw_new() -> None:
    st.header("1. ファイル")
    path = source.choose_source()
    if path is None:
        return
    choices = Choices(path.parent.name)
    settings, mapping = choices.settings(), choices.mapping(tuple(ROLE_JA))
    try:
        found = inspected(str(path), settings, mapping)
    except StudioError as error:
        reading.draw_encoding(choices, None)
        show_error(error)
        return
    draw_found(choices, path, found, settings, dict(mapping))


def draw_found(
    choices: Choices,
    path: Path,
    found: Inspection,
    settings: PrepareConfig,
    mapping: dict[str, str],
) -> None:
    reading.draw_encoding(choices, found)
    reading.draw_preview(found)
    st.header("2. 列の対応")
    reading.draw_columns(choices, found)
    st.header("3. 検査の結果")
    findings.draw_findings(choices, path, found)
    st.header("4. 文章の整え方")
    cleaning.draw_cleaning(choices, found)
    st.header("5. 分けて保存")
    final = saving.draw_split(choices, found, settings)
    name = saving.draw_saving(choices, path, final, mapping)
    if name is not None:
        st.switch_page(
            sitemap.page("dataset"), query_params={views.PARAMETER: SAVED, datasets.PARAMETER: name}
        )


def draw_saved() -> None:
    entries = studio().data.list()
    if not entries:
        empty_state(
            "保存したデータセットはまだありません。「新しく作る」でファイルを選んでください。"
        )
        return
    chosen = saved.choose_dataset(entries)
    if chosen.manifest is None:
        st.error(
            "このデータセットの記録は壊れていて読めません。作り直してください。",
            icon=":material/broken_image:",
        )
        trash.draw_deletion(chosen.name, TRASH)
        return
    saved.draw_summary(chosen.manifest)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(
            sitemap.page("training"),
            label="このデータセットで学習する",
            icon=":material/model_training:",
            query_params={datasets.PARAMETER: chosen.name},
        )
        trash.draw_deletion(chosen.name, TRASH)
    st.header("学習で実際に使われる文面")
    saved.draw_preview(chosen.name)


st.title("データセット")
view = choose_view(VIEWS, NEW)
if view == SAVED:
    draw_saved()
elif view == TRASH:
    trash.draw_trash(SAVED)
else:
    draw_new()

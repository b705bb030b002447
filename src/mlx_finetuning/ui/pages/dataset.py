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
from mlx_finetuning.ui.dataset import cleaning, findings, reading, saved, saving, source
from mlx_finetuning.ui.dataset.choices import Choices
from mlx_finetuning.ui.frame import studio

NEW, SAVED, TRASH = "new", "saved", "trash"
VIEWS = {NEW: "新しく作る", SAVED: "保存したもの", TRASH: "ゴミ箱"}


@st.cache_data(max_entries=4, show_spinner="ファイルを調べています…")
def cached_inspection(
    path: str, settings: PrepareConfig, mapping: tuple[tuple[str, str], ...]
) -> Inspection:
    """What reading and checking the file gave, with these choices."""
    return studio().data.inspect(Path(path), mapping=dict(mapping) or None, settings=settings)


def draw_new() -> None:
    """From a file to a saved dataset, in five steps."""
    st.header("1. ファイル")
    path = source.choose_source()
    if path is None:
        return
    choices = Choices(path.parent.name)
    settings, mapping = choices.settings(), choices.mapping(tuple(ROLE_JA))
    try:
        inspection = cached_inspection(str(path), settings, mapping)
    except StudioError as error:
        reading.draw_encoding(choices, None)
        reading.draw_table(choices, None)
        show_error(error)
        return
    reading.draw_encoding(choices, inspection)
    reading.draw_table(choices, inspection)
    reading.draw_preview(inspection)
    reading.draw_speaker(choices, inspection)
    st.header("2. 列の対応")
    is_confirmed = reading.draw_columns(choices, inspection)
    st.header("3. 検査の結果")
    findings.draw_findings(choices, path, inspection)
    st.header("4. 文章の整え方")
    cleaning.draw_cleaning(choices, inspection)
    st.header("5. 分けて保存")
    settings = saving.draw_split(choices, inspection, settings)
    if not is_confirmed:
        st.info(
            "保存する前に、「2. 列の対応」で、自信のない列が合っているか確かめてください。",
            icon=":material/fact_check:",
        )
        return
    name = saving.draw_saving(choices, path, settings, dict(mapping))
    if name is not None:
        st.switch_page(
            sitemap.page("dataset"), query_params={views.PARAMETER: SAVED, datasets.PARAMETER: name}
        )


def draw_saved() -> None:
    """What is in a saved dataset, and what can be done with it."""
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
        saved.draw_deletion(chosen.name, TRASH)
        return
    saved.draw_summary(chosen.manifest)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(
            sitemap.page("training"),
            label="このデータセットで学習する",
            icon=":material/model_training:",
            query_params={datasets.PARAMETER: chosen.name},
        )
        saved.draw_deletion(chosen.name, TRASH)
    st.header("学習で実際に使われる文面")
    saved.draw_preview(chosen.name)


st.title("データセット")
view = choose_view(VIEWS, NEW)
if view == SAVED:
    draw_saved()
elif view == TRASH:
    saved.draw_trash(SAVED)
else:
    draw_new()

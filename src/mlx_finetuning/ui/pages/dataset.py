"""データセット: from a file to a saved dataset, and a look at saved ones."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.data_processor.examine import source_names
from mlx_finetuning.data_processor.readers.columns import ROLE_JA
from mlx_finetuning.data_processor.readers.encoding import CODECS
from mlx_finetuning.errors import StudioError
from mlx_finetuning.language import _
from mlx_finetuning.studio.data import DatasetEntry
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import datasets, tuning, views
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.errors import show_error
from mlx_finetuning.ui.components.views import choose_view
from mlx_finetuning.ui.dataset import (
    cleaning,
    editing,
    findings,
    goal,
    reading,
    rewording,
    saved,
    saving,
    source,
)
from mlx_finetuning.ui.dataset.choices import Choices
from mlx_finetuning.ui.documents import handed, making, pairs
from mlx_finetuning.ui.frame import studio

NEW, DOCUMENTS, SAVED, EDIT, TRASH = "new", "documents", "saved", "edit", "trash"
VIEWS = {
    NEW: _("新しく作る"),
    DOCUMENTS: _("文書から作る"),
    SAVED: _("保存したもの"),
    EDIT: _("保存したものを直す"),
    TRASH: _("ゴミ箱"),
}


def draw_new() -> None:
    """From a file to a saved dataset, in six steps."""
    st.header(_("1. ファイル"))
    path = source.choose_source()
    if path is None:
        return
    choices = Choices(path.parent.name)
    settings, mapping = choices.settings(), choices.mapping(tuple(ROLE_JA))
    work = editing.begin(path, path, settings)
    try:
        inspection = editing.inspected(work, mapping)
    except StudioError as error:
        reading.draw_encoding(choices, None)
        reading.draw_table(choices, None)
        show_error(error)
        editing.draw_undo(work)
        return
    if inspection.encoding in CODECS:  # a workbook has none
        reading.draw_encoding(choices, inspection)
    reading.draw_table(choices, inspection)
    reading.draw_preview(inspection)
    reading.draw_speaker(choices, inspection)
    if inspection.kind is not None:
        st.header(_("2. 目的"))
        goal.draw_goal(choices, inspection)
    st.header(_("3. 列の対応"))
    is_confirmed = reading.draw_columns(choices, inspection)
    st.header(_("4. 検査の結果"))
    findings.draw_findings(choices, work, inspection)
    st.header(_("5. 文章の整え方"))
    cleaning.draw_cleaning(choices, inspection)
    st.header(_("6. 分けて保存"))
    chosen = saving.draw_split(choices, inspection, settings)
    if chosen is None:
        return
    if not is_confirmed:
        st.info(
            _("保存する前に、「3. 列の対応」で、自信のない列が合っているか確かめてください。"),
            icon=":material/fact_check:",
        )
        return
    name = saving.draw_saving(choices, path, chosen, dict(mapping), work.edits)
    if name is not None:
        show_saved(name)


def draw_documents() -> None:
    """From documents to pairs, and from those to a dataset."""
    st.header(_("1. 文書"))
    paths = handed.choose_documents()
    documents = handed.read(paths) if paths else None
    if documents is not None:
        handed.draw_documents(documents)
        st.header(_("2. 質問と回答を作る"))
        making.draw_making(paths)
    st.header(_("作った質問と回答"))
    pairs.draw_pairs()


def show_saved(name: str) -> None:
    """Go on to the saved dataset."""
    query = {views.PARAMETER: SAVED, datasets.PARAMETER: name}
    st.switch_page(sitemap.page("dataset"), query_params=query)


def choose_saved() -> DatasetEntry | None:
    """A dataset that can be read; None where there is none, which is said."""
    entries = studio().data.list()
    if not entries:
        empty_state(
            _("保存したデータセットはまだありません。「新しく作る」でファイルを選んでください。")
        )
        return None
    chosen = saved.choose_dataset(entries)
    if chosen.manifest is None:
        st.error(
            _("このデータセットの記録は壊れていて読めません。作り直してください。"),
            icon=":material/broken_image:",
        )
        saved.draw_deletion(chosen.name, TRASH)
        return None
    return chosen


def draw_saved() -> None:
    """What is in a saved dataset, and what can be done with it."""
    chosen = choose_saved()
    if chosen is None:
        return
    name = chosen.name
    saved.draw_summary(chosen.manifest or {})
    saved.draw_journey(name)
    with st.container(horizontal=True, vertical_alignment="center", key="dataset-links"):
        st.page_link(
            sitemap.page("training"),
            label=_("このデータセットで学習する"),
            icon=":material/model_training:",
            query_params={datasets.PARAMETER: name},
        )
        st.page_link(
            sitemap.page("dataset"),
            label=_("行を直す"),
            icon=":material/edit:",
            query_params={views.PARAMETER: EDIT, datasets.PARAMETER: name},
        )
        saved.draw_downloads(name)
        saved.draw_deletion(name, TRASH)
    tuning.draw_latest()
    st.header(_("学習で実際に使われる文面"))
    saved.draw_preview(name)
    made = rewording.draw_made_rows(name)
    if made is not None:
        show_saved(made)


def draw_edit() -> None:
    """The rows of a saved dataset's source with what is found in them, and the saving of a new
    version."""
    chosen = choose_saved()
    if chosen is None:
        return
    name = chosen.name
    recorded = studio().data.manifest(name)
    recorded.require_sources()
    sources = dict(zip(source_names(recorded.sources), recorded.sources, strict=True))
    file = ""
    if len(sources) > 1:
        file = st.selectbox(_("直すファイル"), list(sources), key=f"edit-file-of-{name}")
    work = editing.begin(name, sources[file], recorded.settings, recorded.edits, file)
    st.header(_("検査の結果"))
    if file:
        st.caption(
            _("このファイルだけの検査です。保存するときに、全てのファイルを合わせて調べます。")
        )
    try:
        inspection = editing.inspected(work, tuple(recorded.mapping.items()))
    except StudioError as error:
        show_error(error)
        editing.draw_undo(work)
        return
    findings.draw_findings(None, work, inspection)
    st.header(_("保存"))
    made = saving.draw_new_version(name, work.edits, is_changed=work.edits != recorded.edits)
    if made is not None:
        show_saved(made)


st.title(_("データセット", "page"))
view = choose_view(VIEWS, NEW)
if view == SAVED:
    draw_saved()
elif view == DOCUMENTS:
    draw_documents()
elif view == EDIT:
    draw_edit()
elif view == TRASH:
    saved.draw_trash(SAVED)
else:
    draw_new()

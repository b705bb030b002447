"""Base models: those of the catalogue fetched from the hub, and those that are here."""

from __future__ import annotations

import contextlib
from pathlib import Path

import streamlit as st

from mlx_finetuning.errors import ModelError
from mlx_finetuning.language import _
from mlx_finetuning.models import CatalogueEntry, FoundFile, InstalledModel
from mlx_finetuning.models.found_files import ENDING
from mlx_finetuning.models.wording_ja import reach_ja, twin_ja
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import views
from mlx_finetuning.ui.components.jobs import draw_job, latest
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.memory_monitor import read_memory
from mlx_finetuning.utils.units import size

DOWNLOAD = "download_model"
MODEL = "model"
"""The address's key for the model that was chosen here."""
UNFINISHED = ("failed", "cancelled", "interrupted")


def draw_models() -> None:
    """The models that are here, downloads that go on, and the choice of another one."""
    st.header(_("使えるモデル"))
    installed = studio().models.list()
    for model in installed:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container():
                st.markdown(f"**{plain(model.name)}**　{size(model.size)}")
                st.caption(_("内蔵") if model.built_in else plain(str(model.path)))
            if not model.built_in:
                _draw_deletion(model)
    _draw_found()
    st.header(_("モデルを追加"))
    _draw_own_file()
    # Downloads that go on, and the last one where it failed or was stopped.
    app, last, downloading = studio(), latest("", (DOWNLOAD,)), set()
    for job in (job for job in app.jobs.list("") if job.kind == DOWNLOAD):
        name = str(app.jobs.settings("", job.name).get("name", ""))
        is_last = last is not None and job.name == last.name
        if job.status.is_living or (is_last and job.status.state in UNFINISHED):
            draw_job("", job, name)
        if job.status.is_living:
            downloading.add(name)
    with errors_shown():
        _draw_choice({model.name for model in installed}, downloading)


def _draw_found() -> None:
    """Files that other programs keep, to train on where they lie."""
    found = found_files(str(studio().workspace.root))
    if not found:
        return
    st.header(_("このマシンで見つかったモデル"))
    st.caption(
        _("Ollamaなどが置いているファイルから、コピーせずに学習できます。ファイルは変わりません。")
    )
    for file in found:
        _draw_file(file)


def _draw_file(file: FoundFile) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container():
            st.markdown(f"**{plain(shown_name(file.name))}**　{size(file.size)}")
            facts = (file.source, file.family, file.quant, file.refusal)
            st.caption(plain("　".join(fact for fact in facts if fact)))
        if not file.refusal and st.button(_("これを使う"), key=f"use-{file.name}"):
            chosen = {views.PARAMETER: "new", MODEL: file.name}
            st.switch_page(sitemap.page("training"), query_params=chosen)


def _draw_own_file() -> None:
    """A file that no program keeps, by its path."""
    path = st.text_input(
        _("手元のGGUFファイルの場所"),
        key="own-file",
        placeholder="~/Downloads/model.gguf",
        help=_("ダウンロードしたモデルなど、どこにあるファイルからでも学習できます。"),
    ).strip()
    if not path:
        return
    with errors_shown():
        file = studio().models.file(path)
        if file is None:
            st.warning(_("名前が .gguf で終わるファイルを指定してください。"))
        else:
            _draw_file(file)


@st.cache_data(ttl=10, show_spinner=False)
def found_files(root: str) -> list[FoundFile]:
    """Those of this machine; of the workspace `root` only what is remembered depends on it."""
    return studio().models.found()


def trainable_names(asked: str = "") -> list[str]:
    """Models that are here: installed ones, then files of other programs, then the file `asked`."""
    found = found_files(str(studio().workspace.root))
    names = [
        *(model.name for model in studio().models.list()),
        *(file.name for file in found if not file.refusal),
    ]
    with contextlib.suppress(ModelError):
        file = studio().models.file(asked) if asked not in names else None
        names += [file.name] if file is not None and not file.refusal else []
    return names


def shown_name(name: str) -> str:
    """Of a file its name, without the folders."""
    return Path(name).name if name.lower().endswith(ENDING) else name


def _draw_deletion(model: InstalledModel) -> None:
    with st.popover(_("消す"), icon=":material/delete:"):
        using = sum(run.model == model.name for run in studio().runs.list())
        st.markdown(
            _("{name} を消します。もう一度ダウンロードできます。").format(name=plain(model.name))
        )
        if using:
            st.caption(
                _(
                    "このモデルで学習した実験が {using} 件あります。消している間は、成果を確かめたり、軽くしたり、MLXで対話したりできません。"
                ).format(using=using)
            )
        if st.button(_("消す"), type="primary", key=f"delete-{model.name}"):
            with errors_shown():
                studio().models.delete(model.name)
                st.toast(
                    _("{name} を消しました。").format(name=plain(model.name)),
                    icon=":material/check:",
                )
                st.rerun()


def _draw_choice(installed: set[str], downloading: set[str]) -> None:
    offered = {
        entry.name: entry for entry in studio().models.catalogue() if entry.name not in installed
    }
    titles = {
        name: _("{group}｜{title}（{size_gb:g} GB）").format(
            group=_(entry.group), title=_(entry.title), size_gb=entry.size_gb
        )
        for name, entry in offered.items()
    }
    name = st.selectbox(
        _("おすすめから選ぶか、Hugging FaceのIDを書いてください"),
        list(offered),
        format_func=lambda name: titles.get(name, name),
        accept_new_options=True,
        key="download-name",
        placeholder=_("選択"),
    )
    if name in offered:
        _draw_entry(offered[name])
    st.caption(
        _(
            "インターネットのHugging Faceから取得します。画面を閉じても続き、止めても途中から再開できます。"
        )
    )
    waits = not name or name in downloading
    if st.button(_("ダウンロード"), type="primary", icon=":material/download:", disabled=waits):
        studio().models.download(str(name))
        st.rerun()


def _draw_entry(entry: CatalogueEntry) -> None:
    """Size, strengths and licence; and what to take instead where memory is short."""
    memory_gb = read_memory().total / 1e9
    figures = {
        _("ダウンロード"): f"{entry.size_gb:g} GB",
        _("学習に必要なメモリー"): _("{needed_gb:.0f} GB から").format(
            needed_gb=studio().models.needed_gb(entry)
        ),
        _("このマシンのメモリー"): f"{memory_gb:.0f} GB",
    }
    with st.container(horizontal=True):
        for label, value in figures.items():
            st.metric(label, value, border=True)
    st.markdown(plain(f"○ {_(entry.strong)}　△ {_(entry.weak)}"))
    st.caption(plain(_("使える先: {reach}").format(reach=reach_ja(studio().models.reach(entry)))))
    st.caption(
        plain(
            _("ライセンス: {licence}（配布元で確かめてください）").format(licence=_(entry.licence))
        )
    )
    fit, twin = studio().models.fit(entry), plain(twin_ja(entry))
    if fit == "fits":
        st.caption(twin)
    else:
        text = _("このマシンのメモリーでは、学習できない見込みです。")
        if fit == "fits_4bit":
            text = _("このマシンのメモリーでは、そのままでは学習できない見込みです。{twin}").format(
                twin=twin
            )
        st.warning(text, icon=":material/memory:")
    if entry.gated:
        st.info(
            _(
                "このモデルは、配布元のページ（huggingface.co/{name}）で利用に同意し、「設定」にトークンを入れると、ダウンロードできます。"
            ).format(name=plain(entry.name)),
            icon=":material/key:",
        )

"""人に渡す: what a run made, as a folder, a ZIP file, or a repository on the hub."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.language import N_, _, name_in
from mlx_finetuning.ui.components.jobs import draw_latest
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.units import size

WAYS_JA = {"folder": N_("フォルダー"), "zip": N_("ZIPファイル"), "hub": N_("Hugging Faceに送る")}


def draw_sharing(run: Run) -> None:
    """The choice of a place and the button, the work while it goes on, and what it came to."""
    if not studio().runs.is_trained(run):
        return
    at_work = draw_latest(run.run_id, ("share",))
    with st.popover(_("人に渡す"), icon=":material/ios_share:", disabled=at_work):
        st.markdown(
            _(
                "アダプター、軽くして確かめたモデル、結果の説明書き（日本語と英語）をまとめます。"
                "学習データと報告書は入りません。"
            )
        )
        way = st.segmented_control(
            _("渡し方"),
            list(WAYS_JA),
            format_func=name_in(WAYS_JA),
            default="folder",
            required=True,
            key=f"share-way-{run.run_id}",
        )
        with errors_shown():
            if way == "hub":
                _draw_publishing(run.run_id)
            else:
                _draw_writing(run.run_id, ".zip" if way == "zip" else "")
    with errors_shown():
        shared = studio().records.last_shared(run.run_id)
        if shared is not None and not at_work:
            told = _("渡せる形にしました（{files_count}ファイル、{size_bytes}）。").format(
                files_count=len(shared.files), size_bytes=size(shared.size_bytes)
            )
            st.caption(plain(" ".join([told, *shared.notes])))
            st.code(shared.place, language=None, wrap_lines=True)


def _draw_writing(run_id: str, ending: str) -> None:
    place = st.text_input(
        _("書き出す場所"),
        str(studio().workspace.exports / f"{run_id}{ending}"),
        key=f"share-place-{run_id}{ending}",
        help=_("同じ名前のものがあれば、置き換えます。"),
    )
    if st.button(_("書き出す"), type="primary", key=f"share-{run_id}", disabled=not place.strip()):
        studio().records.share(run_id, Path(place.strip()))
        st.rerun()


def _draw_publishing(run_id: str) -> None:
    st.markdown(
        _(
            "インターネットのHugging Faceに送ります。押すまで、何も外に出ません。"
            "環境変数 HF\\_TOKEN に、書き込みのできるトークンを設定して起動しておきます。"
        )
    )
    repository = st.text_input(
        _("送り先（ユーザー名/名前）"),
        key=f"share-repository-{run_id}",
        placeholder=_("例: tanaka/faq-model"),
    )
    public = st.checkbox(
        _("だれでも見られるようにする"),
        key=f"share-public-{run_id}",
        help=_("選ばなければ、自分だけに見えます。"),
    )
    if public:
        st.warning(
            _(
                "世界中のだれでも、ダウンロードできるようになります。"
                "アダプターから、学習に使った文章が引き出されることがあります。"
            ),
            icon=":material/public:",
        )
    label = _("公開して送る") if public else _("自分だけに見える形で送る")
    if st.button(label, type="primary", key=f"publish-{run_id}", disabled=not repository.strip()):
        studio().records.publish(run_id, repository.strip(), public=public)
        st.rerun()

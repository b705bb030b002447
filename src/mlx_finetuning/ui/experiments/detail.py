"""One run: its report, its note, and what can be done with it."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.language import N_, _
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import datasets, views
from mlx_finetuning.ui.components.certificate import draw_certificate
from mlx_finetuning.ui.components.jobs import draw_latest, show_end, state_badge
from mlx_finetuning.ui.components.runs import PARAMETER, resume_button
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.experiments import continuing, merging, sharing
from mlx_finetuning.ui.experiments.report import draw_first_line, draw_report
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.settings_ja import CHOICES_JA
from mlx_finetuning.utils.units import duration

NEXT_PAGES = {
    "more_wordings": ("dataset", N_("データに聞き方を足す")),
    "more_rows": ("dataset", N_("データに行を足す")),
    "judge_answers": ("chat", N_("答えに○×を付ける")),
}
"""Where what an outcome asks for is done, with the words of the way there; other actions are here."""


def draw_run(run: Run, trash: str) -> None:
    """`trash` is the view that a deleted run is found in."""
    run_id = run.run_id
    with st.container(horizontal=True, vertical_alignment="center"):
        state_badge("damaged" if run.problems else run.status.state, run.simulated)
        elapsed = f"　{duration(run.status.elapsed_s)}" if run.status.elapsed_s else ""
        st.caption(plain(f"{run.title}　{run_id}{elapsed}"), width="content")
    resume_button(run)
    show_end(run.status)
    if run.parent:
        st.caption(plain(_("{parent} の続きです。").format(parent=run.parent)))
    if run.merged:
        st.caption(
            plain(
                _("{merged} のアダプターから作りました。").format(merged=_("、").join(run.merged))
            )
        )
    if run.imported:
        st.caption(
            plain(
                _("ほかの道具（{imported}）で学習したアダプターを取り込みました。").format(
                    imported=run.imported
                )
            )
        )
    st.subheader(_("学習の成果"))
    with errors_shown():
        _draw_outcome(run)
    with st.expander(_("名前とメモ"), icon=":material/edit_note:"), errors_shown():
        note = studio().runs.note(run_id)
        pinned = st.toggle(_("一覧の先頭に固定する"), note.pinned, key=f"pin-{run_id}")
        if pinned != note.pinned:
            studio().runs.pin(run_id, pinned)
        with st.form(f"note-{run_id}", border=False):
            name = st.text_input(
                _("名前"),
                note.name,
                key=f"name-{run_id}",
                placeholder=_("例: 料金の言い回しを足した回"),
            )
            text = st.text_area(
                _("メモ"), note.text, height=90, placeholder=_("気付いたこと、次に試すこと")
            )
            tags = st.text_input(
                _("タグ（空白で区切る）"),
                " ".join(note.tags),
                key=f"tags-{run_id}",
                placeholder=_("例: 本番 料金"),
            )
            if st.form_submit_button(_("メモを保存"), icon=":material/save:"):
                studio().runs.save_note(run_id, text, [tags], name)
                st.toast(_("メモを保存しました。"), icon=":material/check:")
    st.subheader(_("書き出しと削除"))
    with errors_shown():
        sharing.draw_sharing(run)
        with st.container(horizontal=True):
            _draw_exports(run_id)
            trashing = st.popover(_("ゴミ箱に移す"), icon=":material/delete:")
        with trashing:
            st.markdown(
                _("記録、学習したアダプター、書き出したモデルを移します。あとで元に戻せます。")
            )
            if st.button(_("移す"), type="primary", key="delete-run"):
                with errors_shown():
                    studio().runs.delete(run_id)
                    page = sitemap.page("experiments")
                    st.switch_page(page, query_params={views.PARAMETER: trash})


def _draw_actions(run: Run, action: str = "") -> None:
    """What can be made of the run, and where else it is looked at. action: its next step."""
    run_id = run.run_id
    with st.container(horizontal=True, vertical_alignment="center"):
        training = sitemap.page("training")
        if action in NEXT_PAGES:
            page, label = NEXT_PAGES[action]
            query = {PARAMETER: run_id, views.PARAMETER: "test"}
            if page == "dataset":
                query = {datasets.PARAMETER: run.dataset, views.PARAMETER: "saved"}
            with st.container(key="next-action", width="content"):
                st.page_link(
                    sitemap.page(page),
                    label=_(label),
                    icon=":material/arrow_forward:",
                    query_params=query,
                )
        with errors_shown():
            continuing.draw_continuation(run, is_next=action == "more_updates")
        tip = _("設定、データ、元のモデルが学習したときと同じかを確かめてから始めます。")
        if st.button(_("同じ設定で再実行"), icon=":material/replay:", help=tip, key="rerun"):
            with errors_shown():
                again = studio().training.rerun(run.run_id)
                st.switch_page(training, query_params={PARAMETER: again})
        with errors_shown():
            if studio().runs.is_trained(run):
                merging.draw_merge([run_id])
        st.page_link(
            training,
            label=_("曲線と記録"),
            icon=":material/show_chart:",
            query_params={PARAMETER: run_id},
        )


def _draw_outcome(run: Run) -> None:
    """Report and certificate, where there are any, and the button that makes the report."""
    run_id = run.run_id
    at_work = draw_latest(run_id, ("evaluate",))
    report = studio().evaluation.report(run.run_id)
    if report is not None:
        draw_first_line(report)
        outcome = report.outcome
        _draw_actions(run, outcome.action if outcome is not None else "")
        draw_report(run_id, report)
    with errors_shown():
        certificate = studio().evaluation.certificate(run_id)
        if certificate is not None:
            st.markdown(_("**学習の証明**"))
            draw_certificate(certificate)
    if not studio().runs.is_trained(run):
        st.caption(_("この実験には、調べられる学習の結果がありません。"))
        if report is None:
            _draw_actions(run)
        return
    label = _("成果を確かめる") if report is None else _("もう一度確かめる")
    tip = _("学習の前と後のモデルに質問して比べ、報告書を作ります。画面を閉じても続きます。")
    in_prompt = st.checkbox(
        _("学習しない場合とも比べる"),
        help=_(
            "元のモデルに、データを質問に添えて答えさせ、学習が必要だったかを判定します。時間は長くなります。"
        ),
    )
    if st.button(
        label,
        icon=":material/grading:",
        help=tip,
        type="primary" if report is None else "secondary",
        disabled=at_work,
    ):
        studio().evaluation.start(run.run_id, EvaluateConfig(in_prompt=in_prompt))
        st.rerun()
    if report is None:
        _draw_actions(run)


def _draw_exports(run_id: str) -> None:
    """The records for other programs."""
    app = studio()
    st.download_button(
        _("表計算ソフト用（CSV）"),
        lambda: app.records.csv(run_id),
        file_name=f"{run_id}.zip",
        mime="application/zip",
        icon=":material/table_view:",
        on_click="ignore",
    )
    for form, name in CHOICES_JA["trackers"].items():
        if form in app.records.formats() and st.button(
            _("{name}へ").format(name=_(name)), icon=":material/upload:"
        ):
            written = app.records.write(run_id, form, app.workspace.exports)
            st.success(_("書き出しました: {written}").format(written=plain(str(written[0]))))

"""What was written from a run: files with their verification, and the certificate over all."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.language import N_, _
from mlx_finetuning.quantizer.verify.written import WrittenModel
from mlx_finetuning.ui import downloads
from mlx_finetuning.ui.components.certificate import draw_certificate
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units import percent, size

NAMES = {
    "gguf-lora": N_("GGUFのアダプター"),
    "peft": N_("PEFTのアダプター"),
    "mlx": N_("MLXのフォルダ"),
}
FOLDER = N_("Hugging Face形式のフォルダ")


def draw_written(run_id: str, models: list[WrittenModel], at_work: bool) -> None:
    """Each model with what was proven of it."""
    for model in models:
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center"):
                title = model.quant or _(NAMES.get(model.format, FOLDER))
                st.markdown(f"**{plain(title)}**　{size(model.size_bytes)}", width="content")
                if model.proven:
                    st.badge(_("検証済み"), icon=":material/verified:", color="green")
                elif model.proven is False:
                    st.badge(_("違いあり"), icon=":material/error:", color="red")
                elif model.format == "gguf":
                    st.badge(_("検証の記録なし"), icon=":material/help:", color="gray")
                else:
                    # These are compared before they get their name, and leave no report.
                    st.badge(_("書き出すときに検証済み"), icon=":material/verified:", color="green")
                if model.format == "gguf" and st.button(
                    _("検証し直す"),
                    icon=":material/fact_check:",
                    help=_("今のファイルを、学習したモデルと比べ直します。"),
                    disabled=at_work,
                    key=f"verify-{model.path.name}",
                ):
                    studio().exports.verify(model.path, run_id)
                    st.rerun()
                if model.path.is_file():
                    st.link_button(
                        _("ファイルを保存"),
                        downloads.address(run_id, model.path.name),
                        icon=":material/download:",
                    )
            if model.agreement is not None:
                st.markdown(
                    _("学習したモデルと **{agreement}一致**").format(
                        agreement=percent(model.agreement)
                    )
                )
            if model.verdict:
                st.caption(plain(model.verdict))
            with st.expander(_("ファイルの場所"), icon=":material/folder:"):
                st.code(str(model.path), language=None, wrap_lines=True)


def draw_proof(run_id: str, at_work: bool) -> None:
    """The certificate over all written models, and the button that makes it."""
    certificate = studio().evaluation.certificate(run_id)
    st.caption(
        _("書き出した全てのモデルに同じ質問をして、学習したモデルと同じ答えを返すかを確かめます。")
    )
    if certificate is not None:
        draw_certificate(certificate)
    label = _("証明する") if certificate is None else _("証明し直す")
    if st.button(label, icon=":material/verified:", disabled=at_work, key="certify"):
        studio().evaluation.certify(run_id)
        st.rerun()

"""The file a dataset is made from: handed in, kept in the workspace, named in the address.

So that a reload, or a second tab, goes on with the same file.
"""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from mlx_finetuning.data_processor import SAMPLE_DATA
from mlx_finetuning.language import _
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units import size

PARAMETER = "file"
MAX_UPLOAD_MB = 200

# Streamlit's uploader speaks English only; its words are covered by these.
UPLOADER = """<style>
[data-testid="stFileUploaderDropzone"] button p { font-size: 0; }
[data-testid="stFileUploaderDropzone"] button p::after { content: "CHOOSE"; font-size: 0.95rem; }
[data-testid="stFileUploaderDropzoneInstructions"] span { font-size: 0; }
[data-testid="stFileUploaderDropzoneInstructions"] span::after {
  content: "DROP"; font-size: 0.9rem;
}
/* There is nothing to drop on a phone. */
@media (max-width: 640px) { [data-testid="stFileUploaderDropzoneInstructions"] span::after { content: none; } }
[data-testid="stFileChip"] [role="alert"] { font-size: 0; }
[data-testid="stFileChip"] { flex-wrap: wrap; height: auto; max-width: 100%; }
[data-testid="stFileChip"][aria-invalid="true"]::after {
  content: "REFUSED";
  font-size: 0.9rem; flex-basis: 100%; white-space: normal;
}
</style>"""


def uploader_style() -> str:
    """What puts the uploader's words into those of the pages."""
    refused = _(
        "受け取れませんでした。{most} MBより大きいか、途中で切れています。小さく分けるか、もう一度選んでください。"
    ).format(most=MAX_UPLOAD_MB)
    return (
        UPLOADER.replace("CHOOSE", _("ファイルを選ぶ"))
        .replace("DROP", _("ここにファイルを置くこともできます"))
        .replace("REFUSED", refused)
    )


def choose_source() -> Path | None:
    """The file to work on; None while there is none."""
    digest, path = st.query_params.get(PARAMETER, ""), None
    # The address is not trusted with a path.
    if re.fullmatch(r"[0-9a-f]{16}", digest):
        path = next(studio().workspace.uploads.joinpath(digest).glob("[!.]*"), None)
    if path is not None:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f":material/description:　**{path.name}**　{size(path.stat().st_size)}")
            if st.button(_("別のファイルにする"), icon=":material/swap_horiz:"):
                st.query_params.pop(PARAMETER, None)
                st.rerun()
        return path
    st.caption(
        _(
            "Excel（.xlsx、.xls）・ODS・CSV・TSV・JSON・JSONL・Parquet・テキストを、下の枠に置くか選んでください（{max_upload_mb} MBまで）。"
            "元のファイルは書き換えません。"
        ).format(max_upload_mb=MAX_UPLOAD_MB)
    )
    st.html(uploader_style())
    # Any ending comes through: the readers say in Japanese what they don't read, the uploader in English.
    handed = st.file_uploader(
        _("ファイル"), max_upload_size=MAX_UPLOAD_MB, label_visibility="collapsed"
    )
    if handed is not None:
        _go_on_with(studio().data.keep_upload(handed.name, handed.getvalue()))
    others = st.container(horizontal=True)
    with others.popover(_("表を貼り付ける"), icon=":material/content_paste:"):
        pasted = st.text_area(
            _("表計算ソフトで見出しから最後の行までを選んでコピーし、ここに貼り付けてください。"),
            key="pasted",
        )
        # Never disabled: the Tab key leads to it before the text has arrived, else out of here.
        if st.button(_("貼り付けた表を使う")):
            if pasted.strip():
                _go_on_with(studio().data.keep_pasted(pasted.encode("utf-8", "replace")))
            st.warning(_("上の欄に、表を貼り付けてください。"), icon=":material/content_paste:")
    if others.button(_("サンプルのデータを使う"), icon=":material/lightbulb:"):
        _go_on_with(studio().data.keep_upload(SAMPLE_DATA.name, SAMPLE_DATA.read_bytes()))
    return None


def _go_on_with(path: Path) -> None:
    st.query_params[PARAMETER] = path.parent.name
    st.rerun()

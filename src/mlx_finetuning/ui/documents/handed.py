"""Documents that were handed in: kept in the workspace, named in the address, read by a job."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from mlx_finetuning.documents.chunks import Chunk, chunks_of
from mlx_finetuning.documents.document import Document
from mlx_finetuning.documents.plan import ReadDocuments
from mlx_finetuning.ui.components.jobs import draw_job
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.dataset.source import UPLOADER_IN_JAPANESE
from mlx_finetuning.ui.frame import studio

PARAMETER = "documents"
MAX_UPLOAD_MB = 200
SHOWN_CHUNKS = 50
FORMATS_JA = {
    "pdf": "PDF",
    "docx": "Word",
    "pptx": "PowerPoint",
    "workbook": "表計算",
    "html": "HTML",
    "markdown": "Markdown",
    "text": "テキスト",
}


def choose_documents() -> list[Path]:
    """The documents to work on; none while nothing was handed in."""
    digests = [
        digest
        for digest in st.query_params.get(PARAMETER, "").split(".")
        if re.fullmatch(r"[0-9a-f]{16}", digest)  # the address is not trusted with a path
    ]
    found = [next(studio().workspace.uploads.joinpath(one).glob("[!.]*"), None) for one in digests]
    paths = [path for path in found if path is not None]
    if paths:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            names = "　".join(f":material/description: **{plain(path.name)}**" for path in paths)
            st.markdown(names)
            if st.button("別の文書にする", icon=":material/swap_horiz:"):
                st.query_params.pop(PARAMETER, None)
                st.rerun()
        return paths
    st.caption(
        "PDF・Word（.docx）・PowerPoint（.pptx）・表計算・HTML・Markdown・テキストを、下の枠に置くか選んでください"
        f"（1つ{MAX_UPLOAD_MB} MBまで、いくつでも）。文書の中のプログラムは動かさず、外からは何も読み込みません。"
    )
    st.html(UPLOADER_IN_JAPANESE)
    handed = st.file_uploader(
        "文書",
        accept_multiple_files=True,
        max_upload_size=MAX_UPLOAD_MB,
        label_visibility="collapsed",
    )
    if handed:
        kept = [studio().data.keep_upload(one.name, one.getvalue()) for one in handed]
        st.query_params[PARAMETER] = ".".join(dict.fromkeys(path.parent.name for path in kept))
        st.rerun()
    return []


def read(paths: list[Path]) -> tuple[Document, ...] | None:
    """What stands in them, once the job that reads them is done; None while it is not, or failed."""
    wanted, listed = [str(path.absolute()) for path in paths], studio().jobs
    reading = (job for job in listed.list("") if job.kind == "read_documents")
    job = next(
        (job for job in reading if listed.settings("", job.name).get("documents") == wanted), None
    )
    if job is None:
        studio().documents.read(paths)
        st.rerun()
    if job.status.state == "done":
        return studio().jobs.result("", job.name, ReadDocuments).documents
    draw_job("", job, "、".join(path.name for path in paths))
    if not job.status.is_living and st.button("もう一度読む", icon=":material/refresh:"):
        studio().documents.read(paths)
        st.rerun()
    return None


def draw_documents(documents: tuple[Document, ...]) -> None:
    """Each document with its chunks."""
    for document in documents:
        chunks = chunks_of(document)
        pages = f"{document.pages}ページ　" if document.pages else ""
        title = f"{plain(document.name)}　{FORMATS_JA[document.format]}　{pages}{len(chunks)}か所"
        if document.scanned_pages:
            numbers = "、".join(map(str, document.scanned_pages[:20]))
            st.warning(
                f"{plain(document.name)} の{numbers}ページは、文字のない画像です。読めていません。"
                "複合機やPDFソフトのOCRで文字を付けると読めます。",
                icon=":material/scan:",
            )
        with st.expander(title, icon=":material/description:"):
            for chunk in chunks[:SHOWN_CHUNKS]:
                _draw_chunk(chunk)
            if len(chunks) > SHOWN_CHUNKS:
                st.caption(f"ほか{len(chunks) - SHOWN_CHUNKS}か所")


def _draw_chunk(chunk: Chunk) -> None:
    first, last = chunk.pages
    pages = f"{first}ページ" if first == last else f"{first}〜{last}ページ"
    above = " ＞ ".join(chunk.headings)
    parts = (f"{chunk.number}か所目", pages if first else "", f"{len(chunk.text)}文字", above)
    st.caption(plain("　".join(part for part in parts if part)))
    for block in chunk.blocks:
        if block.rows:
            header, *rows = block.rows
            # Columns need names that differ.
            names = [name or f"（{at}）" for at, name in enumerate(header, 1)]
            names = [
                f"{name}（{at}）" if name in names[: at - 1] else name
                for at, name in enumerate(names, 1)
            ]
            st.dataframe([dict(zip(names, row, strict=False)) for row in rows], hide_index=True)
        elif block.kind == "heading":
            st.markdown(f"**{plain(block.text)}**")
        else:
            st.markdown(("- " if block.kind == "item" else "") + plain(block.text))

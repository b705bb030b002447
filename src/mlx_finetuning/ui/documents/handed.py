"""Documents that were handed in: kept in the workspace, named in the address, read by a job."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from mlx_finetuning.documents.chunks import Chunk, chunks_of
from mlx_finetuning.documents.document import Document
from mlx_finetuning.documents.plan import ReadDocuments
from mlx_finetuning.language import N_, _
from mlx_finetuning.ui.components.jobs import draw_job
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.dataset.source import uploader_style
from mlx_finetuning.ui.frame import studio

PARAMETER = "documents"
MAX_UPLOAD_MB = 200
SHOWN_CHUNKS = 50
FORMATS_JA = {
    "pdf": "PDF",
    "docx": "Word",
    "pptx": "PowerPoint",
    "workbook": N_("表計算"),
    "html": "HTML",
    "markdown": "Markdown",
    "text": N_("テキスト"),
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
            if st.button(_("別の文書にする"), icon=":material/swap_horiz:"):
                st.query_params.pop(PARAMETER, None)
                st.rerun()
        return paths
    st.caption(
        _(
            "PDF・Word（.docx）・PowerPoint（.pptx）・表計算・HTML・Markdown・テキストを、下の枠に置くか選んでください（1つ{max_upload_mb} MBまで、いくつでも）。"
            "文書の中のプログラムは動かさず、外からは何も読み込みません。"
        ).format(max_upload_mb=MAX_UPLOAD_MB)
    )
    st.html(uploader_style())
    handed = st.file_uploader(
        _("文書"),
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
    draw_job("", job, _("、").join(path.name for path in paths))
    if not job.status.is_living and st.button(_("もう一度読む"), icon=":material/refresh:"):
        studio().documents.read(paths)
        st.rerun()
    return None


def draw_documents(documents: tuple[Document, ...]) -> None:
    """Each document with its chunks."""
    for document in documents:
        chunks = chunks_of(document)
        pages = _("{pages}ページ　").format(pages=document.pages) if document.pages else ""
        title = _("{name}　{formats}　{pages}{chunks_count}か所").format(
            name=plain(document.name),
            formats=_(FORMATS_JA[document.format]),
            pages=pages,
            chunks_count=len(chunks),
        )
        if document.scanned_pages:
            numbers = _("、").join(map(str, document.scanned_pages[:20]))
            st.warning(
                _(
                    "{name} の{numbers}ページは、文字のない画像です。読めていません。複合機やPDFソフトのOCRで文字を付けると読めます。"
                ).format(name=plain(document.name), numbers=numbers),
                icon=":material/scan:",
            )
        with st.expander(title, icon=":material/description:"):
            for chunk in chunks[:SHOWN_CHUNKS]:
                _draw_chunk(chunk)
            if len(chunks) > SHOWN_CHUNKS:
                st.caption(
                    _("ほか{chunks_count}か所").format(chunks_count=len(chunks) - SHOWN_CHUNKS)
                )


def _draw_chunk(chunk: Chunk) -> None:
    first, last = chunk.pages
    pages = (
        _("{first}ページ").format(first=first)
        if first == last
        else _("{first}〜{last}ページ").format(first=first, last=last)
    )
    above = _(" ＞ ").join(chunk.headings)
    parts = (
        _("{number}か所目").format(number=chunk.number),
        pages if first else "",
        _("{text_count}文字").format(text_count=len(chunk.text)),
        above,
    )
    st.caption(plain("　".join(part for part in parts if part)))
    for block in chunk.blocks:
        if block.rows:
            header, *rows = block.rows
            # Columns need names that differ.
            names = [name or _("（{at}）").format(at=at) for at, name in enumerate(header, 1)]
            names = [
                _("{name}（{at}）").format(name=name, at=at) if name in names[: at - 1] else name
                for at, name in enumerate(names, 1)
            ]
            st.dataframe([dict(zip(names, row, strict=False)) for row in rows], hide_index=True)
        elif block.kind == "heading":
            st.markdown(f"**{plain(block.text)}**")
        else:
            st.markdown(("- " if block.kind == "item" else "") + plain(block.text))

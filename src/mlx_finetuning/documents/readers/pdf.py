"""PDF, by PDFium: pages one by one, then blocks over all of them.

Scripts, forms, attachments and links are not looked at. A page without text that holds an image is
named as scanned.
"""

from __future__ import annotations

from pathlib import Path

from mlx_finetuning.documents.document import Document
from mlx_finetuning.documents.readers.limits import STAGE, require_size, unreadable
from mlx_finetuning.documents.readers.page_blocks import blocks_of, without_running_heads
from mlx_finetuning.documents.readers.page_layout import PageLayout
from mlx_finetuning.documents.readers.pdf_page import page_of
from mlx_finetuning.documents.readers.pdf_streams import require_unpackable
from mlx_finetuning.documents.readers.wording import numbered_as_items
from mlx_finetuning.errors import DocumentEncrypted
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, Step


def read_pdf(path: Path, progress: Progress) -> Document:
    """The blocks of all pages. Raises DocumentUnreadable, DocumentEncrypted."""
    import pypdfium2

    require_unpackable(path)
    try:
        pdf = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise DocumentEncrypted(path=str(path)) from error
        raise unreadable(path, error) from error
    layouts: list[PageLayout] = []
    scanned, characters = [], 0
    with pdf:
        for number in range(len(pdf)):
            progress(Step(_(STAGE), number, len(pdf), path.name))
            try:
                layout, has_image = page_of(pdf, number, path)
            except pypdfium2.PdfiumError as error:
                raise unreadable(path, error) from error
            layouts.append(layout)
            characters += sum(len(line.text) for line in layout.lines)
            require_size(characters, path)
            if has_image and not layout.lines and not layout.tables:
                scanned.append(number + 1)
    blocks = tuple(numbered_as_items(list(blocks_of(without_running_heads(layouts)))))
    return Document(path.name, "pdf", blocks, len(layouts), tuple(scanned))

"""A file → a `Document`, by the ending of its name.

Encodings and workbooks are read by whoever calls: `decode` gives the text of a file, `sheets` the
filled rows of a workbook's visible sheets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mlx_finetuning.documents.document import Block, Document, table
from mlx_finetuning.documents.readers import markup, office, pdf, plain
from mlx_finetuning.documents.readers.limits import require_size
from mlx_finetuning.errors import DocumentEmpty, DocumentScanned, SourceUnsupported
from mlx_finetuning.progress import Progress, silent

Decode = Callable[[Path], str]
Sheets = Callable[[Path], Iterable[tuple[str, Sequence[Sequence[str]]]]]
"""Names of sheets with their rows of cells."""

_BINARY = {".pdf": pdf.read_pdf, ".docx": office.read_docx, ".pptx": office.read_pptx}
_TEXTS = {
    **dict.fromkeys((".html", ".htm", ".xhtml"), markup.read_html),
    **dict.fromkeys((".md", ".markdown"), markup.read_markdown),
    ".txt": plain.read_text,
}
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")
ENDINGS = (*_BINARY, *_TEXTS, *_WORKBOOKS)


def read_document(
    path: Path, decode: Decode, sheets: Sheets, progress: Progress = silent
) -> Document:
    """The document in a file. Raises DataError: SourceUnsupported, DocumentUnreadable,
    DocumentEncrypted, DocumentScanned, DocumentEmpty, and what `decode` and `sheets` raise."""
    ending = path.suffix.lower()
    if ending in _BINARY:
        document = _BINARY[ending](path, progress)
    elif ending in _TEXTS:
        text = decode(path)
        require_size(len(text), path)
        document = _TEXTS[ending](text, path)
    elif ending in _WORKBOOKS:
        filled = [(name, rows) for name, rows in sheets(path) if rows]
        blocks = ((Block("heading", name, level=1), table(rows)) for name, rows in filled)
        document = Document(path.name, "workbook", tuple(itertools.chain.from_iterable(blocks)))
    else:
        raise SourceUnsupported(path=str(path), ending=ending, supported=list(ENDINGS))
    if not document.text.strip():
        if document.scanned_pages:
            raise DocumentScanned(path=str(path), pages=len(document.scanned_pages))
        raise DocumentEmpty(path=str(path))
    return document

"""What studio and tasks ask for a document: its file, read with the encodings and workbooks that
`data_processor` knows. Loads NumPy and the libraries of formats when it is first asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mlx_finetuning.documents.document import Document
from mlx_finetuning.progress import Progress, Step, silent


def read(path: Path, progress: Progress = silent) -> Document:
    """The document in a file. Raises DataError, and what `progress` raises."""
    from mlx_finetuning.data_processor.readers.encoding import decode
    from mlx_finetuning.data_processor.readers.source import check_source, read_source
    from mlx_finetuning.documents.readers.read import read_document

    def text_of(path: Path) -> str:
        return decode(read_source(path), path).text

    def sheets_of(path: Path) -> Iterator[tuple[str, Sequence[Sequence[str]]]]:
        from mlx_finetuning.data_processor.readers import workbook
        from mlx_finetuning.data_processor.stage_progress import StageProgress

        reading = StageProgress(progress, "表を読む")
        _, sheets = workbook.open_packed(path, path.read_bytes(), reading)
        for sheet in sheets:
            if not sheet.is_hidden:
                content = sheet.read(None)
                workbook.fill_merged(content, path)
                yield sheet.name, [cells for _, cells in content.rows]

    check_source(path)
    progress(Step("文書を読む", 0, 0, path.name))
    return read_document(path, text_of, sheets_of, progress)

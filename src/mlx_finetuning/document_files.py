"""What studio and tasks ask for documents and the pairs made of them: files read with the encodings and
workbooks that `data_processor` knows, and datasets made of pairs. Loads libraries when it is first asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.documents.document import Document
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, Step, silent
from mlx_finetuning.workspace import Workspace

if TYPE_CHECKING:
    from mlx_finetuning.data_processor import DatasetSummary
    from mlx_finetuning.data_processor.edits import Edit


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

        reading = StageProgress(progress, _("表を読む"))
        __, sheets = workbook.open_packed(path, path.read_bytes(), reading)
        for sheet in sheets:
            if not sheet.is_hidden:
                content = sheet.read(None)
                workbook.fill_merged(content, path)
                yield sheet.name, [cells for __, cells in content.rows]

    check_source(path)
    progress(Step(_("文書を読む"), 0, 0, path.name))
    return read_document(path, text_of, sheets_of, progress)


def prepare_pairs(
    workspace: Workspace, name: str, source: Path, used: Collection[int], progress: Progress
) -> DatasetSummary:
    """The dataset of the pairs in `source` whose rows are `used`, in the place of one that was made
    of them before; rows that were changed by hand stay as they are. Raises DataError, DiskFull."""
    from mlx_finetuning import data_processor
    from mlx_finetuning.data_processor import examine
    from mlx_finetuning.data_processor.edits import DeleteRow, EditedTable

    paths = workspace.dataset(name)
    settings = PrepareConfig()
    kept: list[Edit] = []
    if paths.manifest.is_file():
        recorded = data_processor.read_manifest(paths.manifest)
        if [path.resolve() for path in recorded.sources] == [source.resolve()]:
            settings = recorded.settings
            kept = [edit for edit in recorded.edits if not isinstance(edit, DeleteRow)]
    rows = EditedTable(examine.open_source(source, settings, progress).table, kept)
    for row in sorted(rows.values.keys() - used):
        rows.delete(row)
    return data_processor.prepare(
        source,
        name,
        paths,
        settings,
        None,
        progress,
        replace=True,
        edits=rows.edits,
        trash=workspace.deleted_datasets,
    )

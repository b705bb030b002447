"""A source file as a table, with how it was read: bytes, encoding, format, message trees."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers import (
    chat_logs,
    choices,
    comparisons,
    flat_messages,
    one_cell,
    parquet,
    tables,
    trees,
    workbook,
)
from mlx_finetuning.data_processor.readers.encoding import AUTO, CERTAIN, decode
from mlx_finetuning.data_processor.readers.html_tables import as_markdown, of_office_xml, open_html
from mlx_finetuning.data_processor.readers.limits import ANY, TableOptions
from mlx_finetuning.data_processor.readers.source import check_source, read_source
from mlx_finetuning.data_processor.readers.tables import Table
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.errors import SourceEmpty, SourceHeaderOnly, SourceMalformed, SourceUnsupported
from mlx_finetuning.language import _


@dataclass(frozen=True)
class Reading:
    """A source file, read."""

    path: Path
    size_bytes: int
    sha256: str
    encoding: str
    confidence: float
    reason: str
    """Japanese: how the encoding was found."""
    table: Table
    findings: tuple[Finding, ...]
    speakers: tuple[str, ...] = ()
    """Of a log of people's chat: who speaks, the most frequent first."""


def read(
    path: Path,
    encoding: str = AUTO,
    progress: StageProgress = SILENT,
    *,
    options: TableOptions = ANY,
    assistant: str = "",
) -> Reading:
    """assistant: of a log of people's chat, whose words are the answers.

    Raises the Source… and Encoding… errors of `errors`, CellTooLong, InvalidSettings.
    """
    check_source(path)
    ending = path.suffix.lower()
    if ending in parquet.ENDINGS:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            size = stream.tell()
        table = parquet.read_parquet(path)
        reading = Reading(path, size, sha256, "parquet", 1.0, _("Parquetの形式です"), table, ())
    elif ending in workbook.ENDINGS:
        reading = _read_workbook(path, encoding, progress, options)
    else:
        reading = _read_text(path, encoding, progress, options, assistant)
    table, speakers = trees.unfold(reading.table), reading.speakers
    if not assistant:  # where all roles are known nobody has to be chosen
        table = flat_messages.unfold(table)
    if not speakers:
        table, speakers = chat_logs.unfold(table, assistant)
    table = flat_messages.unfold(table)
    table = one_cell.unfold(choices.unfold(comparisons.unfold(table)))
    if not table.records and not table.columns:
        raise SourceEmpty(path=str(path))
    if not table.records:
        raise SourceHeaderOnly(path=str(path), columns=list(table.columns))
    link = [finding("SYMLINK", target=str(path.resolve()))] if path.is_symlink() else []
    findings = (*link, *reading.findings, *table.findings)
    return replace(reading, table=table, findings=findings, speakers=speakers)


def _read_workbook(
    path: Path, encoding: str, progress: StageProgress, options: TableOptions
) -> Reading:
    """A workbook, or the text that hides under its name."""
    with path.open("rb") as stream:
        start = stream.read(8)
        if not workbook.is_packed(start):
            return _read_text(path, encoding, progress, options)
        raw = start + stream.read()
    size, sha256 = len(raw), hashlib.sha256(raw).hexdigest()
    progress.check_cancelled()
    name, sheets = workbook.open_packed(path, raw, progress)
    table = workbook.table_of(name, sheets, path, progress, options)
    return Reading(path, size, sha256, name, 1.0, _("表計算のブックです"), table, ())


def _read_text(
    path: Path,
    encoding: str,
    progress: StageProgress,
    options: TableOptions,
    assistant: str = "",
) -> Reading:
    progress.check_cancelled()
    raw = read_source(path, encoding)
    progress.check_cancelled()
    size, sha256 = len(raw), hashlib.sha256(raw).hexdigest()
    progress.check_cancelled()
    decoded = decode(raw, path, encoding)
    del raw  # a large file is not held twice
    progress.check_cancelled()
    findings: tuple[Finding, ...] = ()
    if decoded.confidence < CERTAIN:
        findings = (finding("LOW_CONFIDENCE", encoding=decoded.encoding),)
    ending = path.suffix.lower()
    is_book = ending in (*workbook.ENDINGS, ".xml")
    is_office = is_book and workbook.is_office_xml(decoded.text)
    if is_office or (is_book and (ending in _PAGES or workbook.is_html(decoded.text))):
        page = of_office_xml(decoded.text) if is_office else decoded.text
        sheets = open_html(page, path, progress)
        if sheets or is_office:
            table = workbook.table_of("html", sheets, path, progress, options)
        else:
            table = _questions_of_page(page, path, progress)
        log = None
    else:
        if ending not in tables.ENDINGS:
            supported = list(ENDINGS)
            raise SourceUnsupported(path=str(path), ending=ending or _("なし"), supported=supported)
        is_text = ending in _LOG_ENDINGS and options == ANY
        log = chat_logs.in_text(decoded.text) if is_text else None
        table = log.table(assistant) if log else tables.parse(decoded.text, path, progress, options)
    how = (decoded.encoding, decoded.confidence, decoded.reason)
    return Reading(path, size, sha256, *how, table, findings, log.speakers if log else ())


def _questions_of_page(page: str, path: Path, progress: StageProgress) -> Table:
    """The headings of a page that ask, with what stands below each. Raises SourceMalformed for others."""
    table = tables.READERS[".md"](as_markdown(page), path, progress)
    if table.columns != ("text",):
        return replace(table, format="html")
    if not table.records:
        raise SourceEmpty(path=str(path))
    reason = _("表も、用語の一覧も、質問の形の見出しもないページです。")
    raise SourceMalformed(path=str(path), line=1, reason=reason)


ENDINGS = (
    *dict.fromkeys((*tables.DELIMITED, *workbook.ENDINGS, *parquet.ENDINGS, *tables.READERS)),
)
"""All that can be read."""
_PAGES = (".html", ".htm")
_LOG_ENDINGS = (".txt", ".md")

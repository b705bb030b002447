"""The dataset stage: a source file is inspected, or becomes a dataset. Composes the other modules;
the source is only read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_finetuning import files
from mlx_finetuning.config import PrepareConfig, as_dict
from mlx_finetuning.data_processor import columns as column_roles
from mlx_finetuning.data_processor.check import check
from mlx_finetuning.data_processor.clean import CleaningStep, clean
from mlx_finetuning.data_processor.columns import ColumnMap
from mlx_finetuning.data_processor.encoding import CERTAIN, Decoded, decode
from mlx_finetuning.data_processor.examples import Example, as_text, build
from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.formats import Table, parse
from mlx_finetuning.data_processor.source import read_source
from mlx_finetuning.data_processor.split import SPLITS, Leakage, Split, split
from mlx_finetuning.data_processor.store import new_folder, write_rows
from mlx_finetuning.errors import ColumnsNotFound, NoUsableRows, SourceEmpty, SourceHeaderOnly
from mlx_finetuning.progress import Progress, Step, silent
from mlx_finetuning.workspace import DatasetPaths

STAGE = "データの準備"
PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 200
MAX_RECORDED_ROWS = 1000
"""Row numbers kept per finding in the manifest; `count` says how many there are."""


@dataclass(frozen=True)
class Inspection:
    """What a source file holds."""

    path: str
    format: str
    size_bytes: int
    sha256: str
    encoding: str
    encoding_confidence: float
    encoding_reason: str
    kind: str | None
    """`chat`, `text` or `preference`; None if the columns suffice for none."""
    columns: tuple[str, ...]
    mapping: tuple[column_roles.ColumnChoice, ...]
    unmapped: tuple[str, ...]
    source_rows: int
    usable_rows: int
    cleaning: tuple[CleaningStep, ...]
    findings: tuple[Finding, ...]
    preview: tuple[dict[str, str], ...]
    """The first rows as read, by column, cut to 200 characters a cell."""


@dataclass(frozen=True)
class DatasetSummary:
    """What was written, and what was found on the way."""

    name: str
    folder: str
    kind: str
    counts: dict[str, int]
    """Rows of train, valid and test."""
    source_rows: int
    usable_rows: int
    groups: int
    leakage: Leakage
    encoding: str
    encoding_confidence: float
    mapping: dict[str, str]
    """Role → column."""
    unmapped: tuple[str, ...]
    cleaning: tuple[CleaningStep, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Examined:
    """A source file, read and judged."""

    path: Path
    raw_size: int
    sha256: str
    decoded: Decoded
    table: Table
    columns: ColumnMap
    usable: Sequence[Example]
    cleaning: tuple[CleaningStep, ...]
    findings: tuple[Finding, ...]


def inspect(
    source: Path, encoding: str = "auto", mapping: Mapping[str, str] | None = None
) -> Inspection:
    """What `source` holds, without writing anything. Raises DataError for a file that cannot be
    read; columns that do not suffice are a finding."""
    found = _examine(source, encoding, mapping, "", silent)
    return Inspection(
        path=str(found.path),
        format=found.table.format,
        size_bytes=found.raw_size,
        sha256=found.sha256,
        encoding=found.decoded.encoding,
        encoding_confidence=found.decoded.confidence,
        encoding_reason=found.decoded.reason,
        kind=found.columns.kind,
        columns=found.table.columns,
        mapping=found.columns.choices,
        unmapped=found.columns.unmapped,
        source_rows=len(found.table.rows),
        usable_rows=len(found.usable),
        cleaning=found.cleaning,
        findings=found.findings,
        preview=_preview(found.table),
    )


def prepare(
    source: Path,
    name: str,
    paths: DatasetPaths,
    config: PrepareConfig,
    mapping: Mapping[str, str] | None = None,
    progress: Progress = silent,
    replace: bool = False,
) -> DatasetSummary:
    """Write the dataset `name` from `source`. The folder appears whole or not at all.

    Raises DataError, DatasetExists (unless `replace`), DiskFull, Interrupted.
    """
    found = _examine(source, config.encoding, mapping, config.system, progress)
    if found.columns.kind is None:
        missing, columns = list(found.columns.missing), list(found.table.columns)
        raise ColumnsNotFound(path=str(source), missing=missing, columns=columns)
    if not found.usable:
        reasons = [item.message for item in found.findings if item.severity == "error"]
        raise NoUsableRows(path=str(source), reasons=reasons)
    progress(Step(STAGE, 3, 5, "学習・検証・テストに分けています"))
    parts = split(found.usable, config)
    summary = _summary(name, paths, found, parts)
    progress(Step(STAGE, 4, 5, "書き込んでいます"))
    with new_folder(paths, replace=replace) as new:
        _write(new, found, parts, config, summary)
    progress(Step(STAGE, 5, 5, f"{len(found.usable)}行"))
    return summary


def _examine(
    source: Path,
    encoding: str,
    mapping: Mapping[str, str] | None,
    system: str,
    progress: Progress,
) -> _Examined:
    progress(Step(STAGE, 0, 5, "読み込んでいます"))
    raw = read_source(source, encoding)
    decoded = decode(raw, source, encoding)
    progress(Step(STAGE, 1, 5, f"文字コードは {decoded.encoding} です"))
    table = parse(decoded.text, source)
    _refuse_empty(table, source)
    columns = column_roles.choose(table.columns, mapping)
    notes = [*_reading_notes(source, decoded, columns), *table.findings]
    examples, bad = build(table, columns, system) if columns.kind else ([], [])
    progress(Step(STAGE, 2, 5, "行を調べています"))
    cleaned, cleaning = clean(examples)
    usable, problems = check(cleaned)
    return _Examined(
        path=source,
        raw_size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        decoded=decoded,
        table=table,
        columns=columns,
        usable=usable,
        cleaning=cleaning,
        findings=(*notes, *bad, *problems),
    )


def _refuse_empty(table: Table, source: Path) -> None:
    if not table.rows and not table.columns:
        raise SourceEmpty(path=str(source))
    if not table.rows:
        raise SourceHeaderOnly(path=str(source), columns=list(table.columns))


def _reading_notes(source: Path, decoded: Decoded, columns: ColumnMap) -> list[Finding]:
    notes = []
    if source.is_symlink():
        notes.append(finding("SYMLINK", target=str(source.resolve())))
    if decoded.confidence < CERTAIN:
        notes.append(finding("LOW_CONFIDENCE", encoding=decoded.encoding))
    if columns.kind is None:
        notes.append(finding("COLUMNS_NOT_FOUND", missing="、".join(columns.missing)))
    elif columns.unmapped:
        notes.append(finding("UNMAPPED_COLUMN", columns="、".join(columns.unmapped)))
    return notes


def _preview(table: Table) -> tuple[dict[str, str], ...]:
    return tuple(
        {
            name: _printable(as_text(value)[:PREVIEW_CHARACTERS])
            for name, value in zip(table.columns, values, strict=True)
        }
        for _, values in table.rows[:PREVIEW_ROWS]
    )


def _printable(text: str) -> str:
    """Without halves of surrogate pairs, which no terminal and no JSON file takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _summary(name: str, paths: DatasetPaths, found: _Examined, parts: Split) -> DatasetSummary:
    counts = Counter(parts.assigned)
    return DatasetSummary(
        name=name,
        folder=str(paths.folder),
        kind=str(found.columns.kind),
        counts={split_name: counts[split_name] for split_name in SPLITS},
        source_rows=len(found.table.rows),
        usable_rows=len(found.usable),
        groups=len(set(parts.groups)),
        leakage=parts.leakage,
        encoding=found.decoded.encoding,
        encoding_confidence=found.decoded.confidence,
        mapping=found.columns.columns,
        unmapped=found.columns.unmapped,
        cleaning=found.cleaning,
        findings=(*found.findings, *parts.findings),
    )


def _write(
    paths: DatasetPaths,
    found: _Examined,
    parts: Split,
    config: PrepareConfig,
    summary: DatasetSummary,
) -> None:
    rows = list(zip(found.usable, parts.assigned, parts.groups, strict=True))
    for name in SPLITS:
        chosen = (example.to_row(group) for example, at, group in rows if at == name)
        write_rows(paths.split(name), chosen)
    files.write_json(paths.manifest, _manifest(found, config, summary))


def _manifest(found: _Examined, config: PrepareConfig, summary: DatasetSummary) -> dict[str, Any]:
    """Everything needed to make the same dataset again."""
    record = asdict(summary)
    del record["folder"]  # a dataset may be moved
    return {
        **record,
        "source": {
            "path": str(found.path.absolute()),
            "size_bytes": found.raw_size,
            "sha256": found.sha256,
            "format": found.table.format,
        },
        "config": as_dict(config),
        "findings": [_recorded(item) for item in summary.findings],
    }


def _recorded(item: Finding) -> dict[str, Any]:
    rows = list(item.rows[:MAX_RECORDED_ROWS])
    return {**asdict(item), "rows": rows, "count": len(item.rows)}

"""The dataset stage: a source file is inspected, or files become a dataset. The sources are only
read."""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx_finetuning
from mlx_finetuning import files
from mlx_finetuning.config import PrepareConfig, as_dict
from mlx_finetuning.data_processor.clean import CleaningStep
from mlx_finetuning.data_processor.examine import Examined, Source, examine
from mlx_finetuning.data_processor.examples import Example, as_text
from mlx_finetuning.data_processor.findings import Finding
from mlx_finetuning.data_processor.readers.columns import ColumnChoice, missing_columns
from mlx_finetuning.data_processor.readers.tables import Table
from mlx_finetuning.data_processor.settings import weights, with_whole_paths
from mlx_finetuning.data_processor.split import SPLITS, Leakage, Split, order, split
from mlx_finetuning.data_processor.store import new_folder, write_rows
from mlx_finetuning.data_processor.watching import Tick, ticker, watched
from mlx_finetuning.errors import DatasetNotReproduced, NoUsableRows
from mlx_finetuning.progress import Progress, Step, silent
from mlx_finetuning.workspace import DatasetPaths

STAGE = "データの準備"
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
    mapping: tuple[ColumnChoice, ...]
    unmapped: tuple[str, ...]
    source_rows: int
    usable_rows: int
    cleaning: tuple[CleaningStep, ...]
    findings: tuple[Finding, ...]
    preview: tuple[dict[str, str], ...]
    """The first rows as read, by column, cut to 200 characters a cell."""


@dataclass(frozen=True)
class SourceSummary:
    """One of a dataset's files."""

    path: str
    sha256: str
    size_bytes: int
    format: str
    encoding: str
    encoding_confidence: float
    mapping: dict[str, str]
    """Role → column."""
    unmapped: tuple[str, ...]
    rows: int
    weight: float
    """How many times its training rows are written."""


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
    """Of the first source, like the next three."""
    encoding_confidence: float
    mapping: dict[str, str]
    unmapped: tuple[str, ...]
    sources: tuple[SourceSummary, ...]
    cleaning: tuple[CleaningStep, ...]
    dropped: dict[str, int]
    """Rows left out on request, by the code of the finding."""
    findings: tuple[Finding, ...]


def inspect(
    source: Path,
    encoding: str = "auto",
    mapping: Mapping[str, str] | None = None,
    config: PrepareConfig | None = None,
    progress: Progress = silent,
) -> Inspection:
    """What `source` holds, without writing anything; `config` previews other cleaning steps.

    Raises DataError for a file that cannot be read; columns that do not suffice are a finding.
    """
    settings = config or PrepareConfig(encoding=encoding)
    with _uncollected():
        found = examine([source], settings, mapping or {}, progress)
    reading, columns = found.sources[0].reading, found.sources[0].columns
    return Inspection(
        path=str(reading.path),
        format=reading.table.format,
        size_bytes=reading.size_bytes,
        sha256=reading.sha256,
        encoding=reading.encoding,
        encoding_confidence=reading.confidence,
        encoding_reason=reading.reason,
        kind=columns.kind,
        columns=reading.table.columns,
        mapping=columns.choices,
        unmapped=columns.unmapped,
        source_rows=found.sources[0].rows,
        usable_rows=len(found.usable),
        cleaning=found.cleaning,
        findings=found.findings,
        preview=_preview(reading.table),
    )


def prepare(
    source: Path | Sequence[Path],
    name: str,
    paths: DatasetPaths,
    config: PrepareConfig,
    mapping: Mapping[str, str] | None = None,
    progress: Progress = silent,
    replace: bool = False,
    expected: Mapping[str, str] | None = None,
) -> DatasetSummary:
    """Write the dataset `name` from one source or several. The folder appears whole or not at all.

    With `expected` (SHA-256 of each split), only if these are its bytes. Raises DataError, DatasetExists (unless `replace`), InvalidSettings, DiskFull, Interrupted.
    """
    sources = [source] if isinstance(source, Path) else list(source)
    share = weights(config, len(sources))
    roles = {**(mapping or {}), **({"category": config.stratify} if config.stratify else {})}
    with _uncollected():
        found = examine(sources, config, roles, progress)
        _refuse_useless(found)
        parts = split(found.usable, found.keys, found.near, config, ticker(progress, "分割"))
        times = _repetitions(found, parts, share, config)
        summary = _summary(name, paths, found, parts, times, share)
        with new_folder(paths, replace=replace) as new:
            made = _write(new, found, parts, times, ticker(progress, "書き込み"))
            _refuse_unexpected(name, made, expected or made)
            files.write_json(new.manifest, _manifest(config, mapping or {}, summary, made))
    progress(Step(STAGE, 1, 1, f"{len(found.usable)}行"))
    return summary


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles: millions of small tuples make none, and it would walk them
    again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _refuse_useless(found: Examined) -> None:
    for source in found.sources:
        if source.columns.kind is None:
            table = source.reading.table
            raise missing_columns(source.reading.path, table.columns, source.columns)
    if not found.usable:
        reasons = [item.message for item in found.findings if item.severity == "error"]
        raise NoUsableRows(path=str(found.sources[0].reading.path), reasons=reasons)


def _repetitions(
    found: Examined, parts: Split, share: Sequence[float], config: PrepareConfig
) -> list[int]:
    """How many times each row is written: held-out rows once, training rows by their weight."""
    if all(weight == 1 for weight in share):
        return [1] * len(found.usable)
    by_name = {source.name: weight for source, weight in zip(found.sources, share, strict=True)}
    return [
        _times(by_name[example.source], config.seed, found.keys.questions[at])
        if parts.assigned[at] == "train"
        else 1
        for at, example in enumerate(found.usable)
    ]


def _times(weight: float, seed: int, question: str) -> int:
    """The weight rounded up or down, by a number drawn for the question."""
    drawn = int.from_bytes(order(seed, f"weight:{question}")[:4], "big") / 2**32
    return int(weight) + (drawn < weight - int(weight))


def _preview(table: Table) -> tuple[dict[str, str], ...]:
    return tuple(
        {
            name: _printable(as_text(value)[:PREVIEW_CHARACTERS])
            for name, value in zip(table.columns, values, strict=True)
        }
        for _, values in table.rows
    )


def _printable(text: str) -> str:
    """Without halves of surrogate pairs, which no terminal and no JSON file takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _summary(
    name: str,
    paths: DatasetPaths,
    found: Examined,
    parts: Split,
    times: Sequence[int],
    share: Sequence[float],
) -> DatasetSummary:
    counts: Counter[str] = Counter()
    for split_name, repeated in zip(parts.assigned, times, strict=True):
        counts[split_name] += repeated
    pairs = zip(found.sources, share, strict=True)
    sources = tuple(_source_summary(source, weight) for source, weight in pairs)
    return DatasetSummary(
        name=name,
        folder=str(paths.folder),
        kind=str(found.kind),
        counts={split_name: counts[split_name] for split_name in SPLITS},
        source_rows=sum(source.rows for source in sources),
        usable_rows=len(found.usable),
        groups=len(set(parts.groups)),
        leakage=parts.leakage,
        encoding=sources[0].encoding,
        encoding_confidence=min(source.encoding_confidence for source in sources),
        mapping=sources[0].mapping,
        unmapped=sources[0].unmapped,
        sources=sources,
        cleaning=found.cleaning,
        dropped=found.dropped,
        findings=(*found.findings, *parts.findings),
    )


def _source_summary(source: Source, weight: float) -> SourceSummary:
    reading = source.reading
    return SourceSummary(
        path=str(reading.path.absolute()),
        sha256=reading.sha256,
        size_bytes=reading.size_bytes,
        format=reading.table.format,
        encoding=reading.encoding,
        encoding_confidence=reading.confidence,
        mapping=source.columns.columns,
        unmapped=source.columns.unmapped,
        rows=source.rows,
        weight=weight,
    )


def _write(
    paths: DatasetPaths, found: Examined, parts: Split, times: Sequence[int], tick: Tick
) -> dict[str, str]:
    """Write the splits; the SHA-256 of each."""
    made = {}
    for name in SPLITS:
        chosen = [at for at, assigned in enumerate(parts.assigned) if assigned == name]
        rows = (
            row
            for at in watched(chosen, tick)
            for row in _rows(found.usable[at], parts.groups[at], times[at])
        )
        write_rows(paths.split(name), rows)
        with paths.split(name).open("rb") as stream:
            made[name] = hashlib.file_digest(stream, "sha256").hexdigest()
        tick(0, 0)
    return made


def _rows(example: Example, group: str, times: int) -> Iterable[dict[str, Any]]:
    return [example.to_row(group)] * times


def _refuse_unexpected(name: str, made: Mapping[str, str], expected: Mapping[str, str]) -> None:
    different = [f"{split}.jsonl" for split in SPLITS if made[split] != expected.get(split)]
    if different:
        raise DatasetNotReproduced(name=name, files=different)


def _manifest(
    config: PrepareConfig,
    mapping: Mapping[str, str],
    summary: DatasetSummary,
    made: Mapping[str, str],
) -> dict[str, Any]:
    """Everything needed to make the same dataset again."""
    record = asdict(summary)
    del record["folder"]  # a dataset may be moved
    return {
        **record,
        "config": as_dict(with_whole_paths(config)),
        "requested_mapping": dict(mapping),
        "files": dict(made),
        "made_by": mlx_finetuning.__version__,
        "findings": [_recorded(item) for item in summary.findings],
    }


def _recorded(item: Finding) -> dict[str, Any]:
    rows = list(item.rows[:MAX_RECORDED_ROWS])
    return {**asdict(item), "rows": rows, "count": len(item.rows)}

"""The dataset stage: a source file is inspected, or files become a dataset. The sources are only
read."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import mlx_finetuning
from mlx_finetuning import files
from mlx_finetuning.config import PrepareConfig, as_dict
from mlx_finetuning.data_processor.clean import CleaningStep
from mlx_finetuning.data_processor.corrections import Correction
from mlx_finetuning.data_processor.edits import Edit
from mlx_finetuning.data_processor.examine import Examined, examine
from mlx_finetuning.data_processor.findings import Finding
from mlx_finetuning.data_processor.readers.columns import ColumnChoice, missing_columns
from mlx_finetuning.data_processor.readers.encoding import AUTO
from mlx_finetuning.data_processor.readers.read import Reading
from mlx_finetuning.data_processor.readers.tables import cell_text
from mlx_finetuning.data_processor.settings import weights, with_absolute_paths
from mlx_finetuning.data_processor.split import (
    SPLITS,
    Leakage,
    Split,
    order,
    split,
    with_one_answer,
    wordings_by_answer,
)
from mlx_finetuning.data_processor.stage_progress import StageProgress
from mlx_finetuning.data_processor.store import new_folder, write_lines
from mlx_finetuning.errors import DatasetNotReproduced, NoUsableRows
from mlx_finetuning.language import N_, _, n_
from mlx_finetuning.progress import Progress, Step, silent
from mlx_finetuning.workspace import DatasetPaths

STAGE = N_("データの準備")
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
    """`chat`, `text`, `preference` or `judged`; None if the columns suffice for none."""
    columns: tuple[str, ...]
    mapping: tuple[ColumnChoice, ...]
    unmapped: tuple[str, ...]
    source_rows: int
    usable_rows: int
    cleaning: tuple[CleaningStep, ...]
    findings: tuple[Finding, ...]
    preview: tuple[dict[str, str], ...]
    """The first rows as read, by column, cut to 200 characters a cell."""
    speakers: tuple[str, ...] = ()
    """Of a log of people's chat: who speaks."""
    sheet: str = ""
    """Of a workbook: the one that was read."""
    sheets: tuple[str, ...] = ()
    """Of a workbook: all there are."""
    goal: str = ""
    """What a model would be trained on it for, a key of `utils.goals`."""
    goal_reason: str = ""
    """In Japanese: why."""
    reworded_facts: int = 0
    """Of a FAQ, answers that are asked for in two wordings or more, so that one can be held out."""


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
    """What was written, and the findings on the way."""

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
    edits: tuple[Edit, ...] = ()
    """What was changed in the sources' rows, in this order."""
    corrections: tuple[Correction, ...] = ()
    """Answers that were put right in conversations, in this order."""
    goal: str = ""
    """What a model is trained on it for, a key of `utils.goals`; it decided the split."""
    goal_reason: str = ""
    """In Japanese: why."""


@dataclass(frozen=True)
class Decided:
    """What the record of a dataset says was found in its files; another version may find something else."""

    kind: str = ""
    columns: tuple[Mapping[str, str], ...] = ()
    """Role → column, of each file."""


def inspect(
    source: Path | Reading,
    encoding: str = AUTO,
    mapping: Mapping[str, str] | None = None,
    config: PrepareConfig | None = None,
    progress: Progress = silent,
    edits: Sequence[Edit] = (),
) -> Inspection:
    """What `source` holds after `edits`, without writing anything; `config` previews other cleaning
    steps. A file that is looked at again and again is read once, by `open_source`.

    Raises DataError for a file that cannot be read; columns that do not suffice are a finding.
    """
    settings = config or PrepareConfig(encoding=encoding)
    with _without_garbage_collector():
        examined = examine([source], settings, mapping or {}, progress, edits)
    (file,) = examined.sources
    reading, table, columns = file.reading, file.reading.table, file.columns
    facts: list[list[list[int]]] = []
    if examined.goal.goal == "faq":
        near = with_one_answer(examined.keys, examined.near)
        facts = wordings_by_answer(examined.usable, examined.keys, near)
    return Inspection(
        path=str(reading.path),
        format=table.format,
        size_bytes=reading.size_bytes,
        sha256=reading.sha256,
        encoding=reading.encoding,
        encoding_confidence=reading.confidence,
        encoding_reason=reading.reason,
        kind=columns.kind,
        columns=table.columns,
        mapping=columns.choices,
        unmapped=columns.unmapped,
        source_rows=file.rows,
        usable_rows=len(examined.usable),
        cleaning=examined.cleaning,
        findings=examined.findings,
        preview=tuple(
            {
                # Without halves of surrogate pairs, which no terminal and no JSON file takes.
                name: cell_text(value)[:PREVIEW_CHARACTERS].encode("utf-8", "replace").decode()
                for name, value in zip(table.columns, values, strict=True)
            }
            for __, values in table.records
        ),
        speakers=reading.speakers,
        sheet=table.sheet,
        sheets=table.sheets,
        goal=examined.goal.goal,
        goal_reason=examined.goal.reason,
        reworded_facts=sum(len(wordings) > 1 for wordings in facts),
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
    edits: Sequence[Edit] = (),
    trash: Path | None = None,
    corrections: Sequence[Correction] = (),
    decided: Decided | None = None,
) -> DatasetSummary:
    """Write the dataset `name` from one source or several. The folder appears whole or not at all.

    With `expected` (SHA-256 of each split), only if these are its bytes; of a dataset that is made
    again, `decided` is held to, or DatasetNotReproduced is raised. What is replaced goes to
    `trash`, where that is given. Raises DataError, DatasetExists (unless `replace`), InvalidSettings,
    DiskFull, Interrupted.
    """
    sources = [source] if isinstance(source, Path) else list(source)
    source_weights = weights(config, len(sources))
    roles = {**(mapping or {}), **({"category": config.stratify} if config.stratify else {})}
    with _without_garbage_collector():
        columns = decided.columns if decided else ()
        examined = examine(sources, config, roles, progress, edits, corrections, columns)
        _require_usable(examined)
        if decided and decided.kind not in ("", examined.kind):
            raise DatasetNotReproduced(name=name, files=[f"{each}.jsonl" for each in SPLITS])
        # The record says what was decided, so that another version makes the same of it.
        config = dataclasses.replace(config, goal=examined.goal.goal)
        parts = split(
            examined.usable,
            examined.keys,
            examined.near,
            config,
            StageProgress(progress, _("分割", "stage")),
        )
        repetitions = _repetitions(examined, parts, source_weights, config)
        summary = _summary(name, paths, examined, parts, repetitions, source_weights)
        summary = dataclasses.replace(summary, edits=tuple(edits), corrections=tuple(corrections))
        with new_folder(paths, replace=replace, trash=trash) as new:
            stage = StageProgress(progress, _("書き込み"))
            sha256 = _write_splits(new, examined, parts, repetitions, stage)
            if expected:
                differing = [each for each in SPLITS if sha256[each] != expected.get(each)]
                if differing:
                    raise DatasetNotReproduced(
                        name=name, files=[f"{each}.jsonl" for each in differing]
                    )
            files.write_json(new.manifest, _manifest(config, mapping or {}, summary, sha256))
    rows = len(examined.usable)
    progress(Step(_(STAGE), 1, 1, n_("{rows:,}行", rows).format(rows=rows)))
    return summary


@contextmanager
def _without_garbage_collector() -> Iterator[None]:
    """Millions of small tuples make no cycles, and the collector would walk them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _require_usable(examined: Examined) -> None:
    """Raises ColumnsNotFound, HeaderMojibake, NoUsableRows."""
    for source in examined.sources:
        if source.columns.kind is None:
            columns = source.reading.table.columns
            raise missing_columns(source.reading.path, columns, source.columns)
    if not examined.usable:
        by_severity = {
            severity: [item.message for item in examined.findings if item.severity == severity]
            for severity in ("error", "warning")
        }
        # Cells that run into one another are what leaves others empty.
        loose = [item.message for item in examined.findings if item.code == "LOOSE_QUOTES"]
        # Rows that were marked as bad are left out with a warning.
        errors = by_severity["error"]
        reasons = [*errors, *loose] if errors else by_severity["warning"]
        raise NoUsableRows(path=str(examined.sources[0].reading.path), reasons=reasons)


def _repetitions(
    examined: Examined, parts: Split, source_weights: Sequence[float], config: PrepareConfig
) -> list[int]:
    """How many times each example is written: held-out ones once, trained ones as often as their
    source says, by its weight, rounded up or down by a number drawn for the question."""
    repetitions = [
        example.times if split == "train" else 1
        for example, split in zip(examined.usable, parts.assigned, strict=True)
    ]
    if all(weight == 1 for weight in source_weights):
        return repetitions
    names = [source.name for source in examined.sources]
    weight_of = dict(zip(names, source_weights, strict=True))
    for at, example in enumerate(examined.usable):
        if parts.assigned[at] == "train":
            weight = weight_of[example.source] * example.times
            key = order(config.seed, f"weight:{examined.keys.questions[at]}")
            drawn = int.from_bytes(key[:4], "big") / 2**32
            repetitions[at] = int(weight) + (drawn < weight - int(weight))
    return repetitions


def _summary(
    name: str,
    paths: DatasetPaths,
    examined: Examined,
    parts: Split,
    repetitions: Sequence[int],
    source_weights: Sequence[float],
) -> DatasetSummary:
    counts = dict.fromkeys(SPLITS, 0)
    for split_name, times in zip(parts.assigned, repetitions, strict=True):
        counts[split_name] += times
    sources = tuple(
        SourceSummary(
            path=str(source.reading.path.absolute()),
            sha256=source.reading.sha256,
            size_bytes=source.reading.size_bytes,
            format=source.reading.table.format,
            encoding=source.reading.encoding,
            encoding_confidence=source.reading.confidence,
            mapping=source.columns.columns,
            unmapped=source.columns.unmapped,
            rows=source.rows,
            weight=weight,
        )
        for source, weight in zip(examined.sources, source_weights, strict=True)
    )
    return DatasetSummary(
        name=name,
        folder=str(paths.folder),
        kind=str(examined.kind),
        counts=counts,
        source_rows=sum(source.rows for source in sources),
        usable_rows=len(examined.usable),
        groups=len(set(parts.groups)),
        leakage=parts.leakage,
        encoding=sources[0].encoding,
        encoding_confidence=min(source.encoding_confidence for source in sources),
        mapping=sources[0].mapping,
        unmapped=sources[0].unmapped,
        sources=sources,
        cleaning=examined.cleaning,
        dropped=examined.dropped,
        findings=(*examined.findings, *parts.findings),
        goal=examined.goal.goal,
        goal_reason=examined.goal.reason,
    )


def _write_splits(
    paths: DatasetPaths,
    examined: Examined,
    parts: Split,
    repetitions: Sequence[int],
    progress: StageProgress,
) -> dict[str, str]:
    """Write the splits; the SHA-256 of each."""
    sha256 = {}
    for name in SPLITS:
        indices = [at for at, assigned in enumerate(parts.assigned) if assigned == name]
        lines = (
            line
            for at in progress.over(indices)
            for line in [examined.usable[at].to_line(parts.groups[at])] * repetitions[at]
        )
        sha256[name] = write_lines(paths.split(name), lines)
        progress.check_cancelled()
    return sha256


def _manifest(
    config: PrepareConfig,
    mapping: Mapping[str, str],
    summary: DatasetSummary,
    sha256: Mapping[str, str],
) -> dict[str, object]:
    """Everything needed to make the same dataset again."""
    record = asdict(summary)
    del record["folder"]  # a dataset may be moved
    del record["goal_reason"]  # made again, the goal is no guess
    findings = [
        {**asdict(item), "rows": list(item.rows[:MAX_RECORDED_ROWS]), "count": len(item.rows)}
        for item in summary.findings
    ]
    return {
        **record,
        "config": as_dict(with_absolute_paths(config)),
        "requested_mapping": dict(mapping),
        "files": dict(sha256),
        "made_by": mlx_finetuning.__version__,
        "findings": findings,
    }

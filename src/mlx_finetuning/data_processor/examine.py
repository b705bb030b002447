"""Source files read and judged: from paths to usable examples with everything found on the way.

Composes the other modules; writes nothing. `prepare` and `inspect` are its two callers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor.checks import duplicates, evaluation, near, row_checks
from mlx_finetuning.data_processor.checks.groups import Labels
from mlx_finetuning.data_processor.checks.keys import Keys, keys_of
from mlx_finetuning.data_processor.clean import CleaningStep, clean, steps_named
from mlx_finetuning.data_processor.examples import Example, build
from mlx_finetuning.data_processor.findings import Finding, finding, findings_at
from mlx_finetuning.data_processor.readers.columns import ColumnMap, choose, missing_columns
from mlx_finetuning.data_processor.readers.read import Reading, read
from mlx_finetuning.data_processor.settings import codes_to_drop, paths_of
from mlx_finetuning.data_processor.watching import Tick, ticker
from mlx_finetuning.errors import InvalidMapping, SourceKindsDiffer
from mlx_finetuning.progress import Progress

PREVIEW_ROWS = 5
"""Rows kept of each table, to be shown."""


@dataclass(frozen=True)
class Source:
    """One file: how it was read and what its columns are. Its rows have become examples."""

    name: str
    """What its examples carry as `source`."""
    reading: Reading
    columns: ColumnMap
    rows: int


@dataclass(frozen=True)
class Examined:
    sources: tuple[Source, ...]
    usable: list[Example]
    keys: Keys
    near: Labels
    """Groups of nearly equal questions among `usable`."""
    cleaning: tuple[CleaningStep, ...]
    findings: tuple[Finding, ...]
    dropped: dict[str, int]
    """Rows left out on request, by code."""

    @property
    def kind(self) -> str | None:
        return self.sources[0].columns.kind


def examine(
    paths: Sequence[Path], config: PrepareConfig, mapping: Mapping[str, str], progress: Progress
) -> Examined:
    """Raises DataError, InvalidSettings, Interrupted."""
    steps, unwanted = steps_named(config.clean), codes_to_drop(config)
    asked_of = _evaluation_sets(config, progress)
    found: list[Finding] = []
    sources, examples = _gathered(paths, config, mapping, progress, found)
    cleaned, cleaning, notes = clean(examples, steps, ticker(progress, "整形"))
    del examples
    found += notes
    usable, notes = row_checks.usable(cleaned, ticker(progress, "行の検査"))
    found += notes
    keys = keys_of(usable, ticker(progress, "重複の検査"))
    usable, keys = _without_duplicates(usable, keys, found)
    labels, notes, rows = _looked_at(usable, keys, asked_of, progress)
    found += notes
    usable, keys, labels, dropped = _dropped(usable, keys, labels, rows, unwanted)
    return Examined(sources, usable, keys, labels, cleaning, tuple(found), dropped)


def _gathered(
    paths: Sequence[Path],
    config: PrepareConfig,
    mapping: Mapping[str, str],
    progress: Progress,
    found: list[Finding],
) -> tuple[tuple[Source, ...], list[Example]]:
    """The examples of all files, one file after the other, so that one table is held at a time."""
    names = _names(paths)
    sources: list[Source] = []
    examples: list[Example] = []
    lacking: list[set[str]] = []
    for path, name in zip(paths, names, strict=True):
        reading = read(path, config.encoding, ticker(progress, "読み込み"))
        known = reading.table.columns
        here, absent = _mapping_for(known, mapping, several=len(paths) > 1)
        lacking.append(absent)
        columns = choose(known, here)
        notes = [*reading.findings, *_column_notes(columns)]
        if columns.kind:
            tick = ticker(progress, "行の組み立て")
            made, bad = build(reading.table, columns, config.system, name, tick)
            examples += made
            notes += bad
        found += [replace(note, source=name) for note in notes]
        rows = len(reading.table.rows)
        sources.append(Source(name, _shortened(reading), columns, rows))
    _refuse_unknown(mapping, lacking, sources)
    _refuse_mixed(sources)
    return tuple(sources), examples


def _names(paths: Sequence[Path]) -> list[str]:
    """What tells the files of a dataset apart; nothing for a single one."""
    if len(paths) == 1:
        return [""]
    names = [path.name for path in paths]
    return [
        name if names.count(name) == 1 else f"{number}:{name}"
        for number, name in enumerate(names, 1)
    ]


def _mapping_for(
    columns: Sequence[str], mapping: Mapping[str, str], *, several: bool
) -> tuple[dict[str, str], set[str]]:
    """The part of the mapping that is about these columns, and what is about other files'."""
    if not several:
        return dict(mapping), set()
    absent = {name for name in mapping.values() if name and name not in columns}
    return {role: name for role, name in mapping.items() if name not in absent}, absent


def _refuse_unknown(
    mapping: Mapping[str, str], lacking: Sequence[set[str]], sources: Sequence[Source]
) -> None:
    nowhere = set.intersection(*lacking) if lacking else set()
    if nowhere:
        columns = [name for source in sources for name in source.reading.table.columns]
        problems = [
            f"「{name}」という列は、どのファイルにもありません。" for name in sorted(nowhere)
        ]
        raise InvalidMapping(problems=problems, columns=columns)


def _refuse_mixed(sources: Sequence[Source]) -> None:
    kinds = {source.columns.kind for source in sources}
    if len(kinds) > 1:
        found = [f"{source.reading.path.name}: {source.columns.kind}" for source in sources]
        raise SourceKindsDiffer(kinds=found)


def _shortened(reading: Reading) -> Reading:
    """With the first rows only; the others live on as examples."""
    table = replace(reading.table, rows=reading.table.rows[:PREVIEW_ROWS])
    return replace(reading, table=table)


def _column_notes(columns: ColumnMap) -> list[Finding]:
    if columns.kind is None:
        return [finding("COLUMNS_NOT_FOUND", missing="、".join(columns.missing))]
    if columns.unmapped:
        return [finding("UNMAPPED_COLUMN", columns="、".join(columns.unmapped))]
    return []


def _evaluation_sets(
    config: PrepareConfig, progress: Progress
) -> tuple[evaluation.EvaluationSet, ...]:
    """The known sets and those of the settings."""
    tick = ticker(progress, "評価セットの読み込み")
    given = [_evaluation_set(path, tick) for path in paths_of(config.evaluation_sets)]
    return (*evaluation.known(), *given)


def _evaluation_set(path: Path, tick: Tick) -> evaluation.EvaluationSet:
    table = read(path, tick=tick).table
    columns = choose(table.columns)
    if columns.kind is None:
        raise missing_columns(path, table.columns, columns)
    examples, _ = build(table, columns, "")
    first = ("user", "prompt", "text")
    asked = (turn.content for example in examples for turn in example.turns if turn.role in first)
    return evaluation.sketched(path.name, asked)


def _without_duplicates(
    examples: list[Example], keys: Keys, found: list[Finding]
) -> tuple[list[Example], Keys]:
    kept, doubles = duplicates.without_duplicates(keys)
    if not doubles:
        return examples, keys
    found += findings_at("DUPLICATE", (examples[at] for at in doubles))
    return [examples[at] for at in kept], keys.at(kept)


def _looked_at(
    examples: list[Example],
    keys: Keys,
    sets: Sequence[evaluation.EvaluationSet],
    progress: Progress,
) -> tuple[Labels, list[Finding], dict[str, set[int]]]:
    """Groups of nearly equal questions, and what deserves a look, with the rows' indices."""
    groups = near.near_groups(keys.questions, tick=ticker(progress, "似た質問の検査"))
    found, rows = row_checks.look(examples, ticker(progress, "文面の検査"))
    rows["CONFLICT"] = set(duplicates.conflicts(examples, keys))
    tick = ticker(progress, "似た行の検査")
    rows["NEAR_DUPLICATE"] = set(duplicates.near_duplicates(examples, keys, groups.labels, tick))
    for code in ("CONFLICT", "NEAR_DUPLICATE"):
        found += findings_at(code, (examples[at] for at in sorted(rows[code])))
    if not groups.exact:
        found.append(finding("NEAR_APPROXIMATE"))
    rows["EVALUATION_SET"] = set()
    tick = ticker(progress, "評価セットとの照合")
    for one in sets:
        hits = evaluation.rows_of(one, keys.questions, tick)
        rows["EVALUATION_SET"].update(hits)
        found += findings_at("EVALUATION_SET", (examples[at] for at in hits), name=one.name)
    found += [*row_checks.imbalance(examples), *row_checks.reasoning(examples)]
    return groups.labels, found, rows


def _dropped(
    examples: list[Example],
    keys: Keys,
    labels: Labels,
    rows: Mapping[str, set[int]],
    codes: Sequence[str],
) -> tuple[list[Example], Keys, Labels, dict[str, int]]:
    """What is left without the rows of the given codes; the groups keep together."""
    bad = set().union(*(rows[code] for code in codes))
    if not bad:
        return examples, keys, labels, dict.fromkeys(codes, 0)
    kept = [at for at in range(len(examples)) if at not in bad]
    _, first, position = np.unique(labels[kept], return_index=True, return_inverse=True)
    counts = {code: len(rows[code]) for code in codes}
    return [examples[at] for at in kept], keys.at(kept), first[position], counts

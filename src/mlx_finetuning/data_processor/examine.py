"""Source files read and judged: from paths to usable examples with all findings on the way.

Composes the other modules; writes nothing. `prepare` and `inspect` are its two callers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import corrections as correcting
from mlx_finetuning.data_processor import downloads
from mlx_finetuning.data_processor import edits as editing
from mlx_finetuning.data_processor.checks import (
    characters,
    duplicates,
    evaluation,
    example_checks,
    near,
)
from mlx_finetuning.data_processor.checks.characters import Flags
from mlx_finetuning.data_processor.checks.grams import gram_sets
from mlx_finetuning.data_processor.checks.groups import Labels
from mlx_finetuning.data_processor.checks.keys import Keys, keys_of
from mlx_finetuning.data_processor.clean import CleaningStep, clean
from mlx_finetuning.data_processor.corrections import Correction
from mlx_finetuning.data_processor.edits import Edit
from mlx_finetuning.data_processor.examples import Example, build, findings_at
from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.columns import (
    ColumnMap,
    as_recorded,
    choose,
    missing_columns,
)
from mlx_finetuning.data_processor.readers.goal_columns import for_goal
from mlx_finetuning.data_processor.readers.read import Reading, read
from mlx_finetuning.data_processor.settings import (
    cleaning_steps,
    codes_to_drop,
    evaluation_files,
    table_options,
)
from mlx_finetuning.data_processor.stage_progress import StageProgress
from mlx_finetuning.errors import InvalidMapping, SourceKindsDiffer
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress
from mlx_finetuning.utils.goals import SAMPLE, Guess, QuestionAnswer, guess

PREVIEW_RECORDS = 5
"""Records kept of each table, to be shown."""


@dataclass(frozen=True)
class Source:
    """One file: how it was read and what its columns are. Its records have become examples."""

    name: str
    """What its examples carry as `source`."""
    reading: Reading
    """With the first few records only."""
    columns: ColumnMap
    rows: int
    """How many records were read."""


@dataclass(frozen=True)
class Examined:
    """What source files hold, judged."""

    sources: tuple[Source, ...]
    usable: list[Example]
    keys: Keys
    near: Labels
    """Groups of nearly equal questions among `usable`."""
    cleaning: tuple[CleaningStep, ...]
    findings: tuple[Finding, ...]
    dropped: dict[str, int]
    """Rows left out on request, by code."""
    goal: Guess
    """What the model is for: as it was said, or as the examples look."""

    @property
    def kind(self) -> str | None:
        """`chat`, `text`, `preference` or `judged`; None if the columns suffice for none."""
        return self.sources[0].columns.kind


def open_source(path: Path, config: PrepareConfig, progress: Progress) -> Reading:
    """A file as these settings ask to read it. Raises DataError, InvalidSettings."""
    stage = StageProgress(progress, _("読み込み"))
    options, speaker = table_options(config), config.assistant_speaker
    reading = read(path, config.encoding, stage, options=options, assistant=speaker)
    return replace(reading, table=downloads.restored(reading.table))


def examine(
    opened: Sequence[Path | Reading],
    config: PrepareConfig,
    mapping: Mapping[str, str],
    progress: Progress,
    edits: Sequence[Edit] = (),
    corrections: Sequence[Correction] = (),
    decided: Sequence[Mapping[str, str]] = (),
) -> Examined:
    """`opened`: files, or what reading them with these settings gave. `decided`: of a dataset that is
    made again, the roles that its record says of each file.

    Raises DataError, InvalidSettings, Interrupted.
    """
    steps, codes = cleaning_steps(config), codes_to_drop(config)
    evaluation_sets = _evaluation_sets(config, progress)
    sources, examples, findings = _read_all(opened, config, mapping, progress, edits, decided)
    cleaned, cleaning, notes, flags = clean(examples, steps, StageProgress(progress, _("整形")))
    del examples
    findings += notes
    if corrections:
        corrected = correcting.as_examples(corrections, sources[0].name)
        corrected = clean(corrected, steps, StageProgress(progress, _("整形")))[0]
        cleaned, notes = correcting.merged(cleaned, corrected)
        findings += notes
        flags = characters.flags_of_examples(cleaned, StageProgress(progress, _("整形")))
    kept, notes = example_checks.usable(cleaned, flags, StageProgress(progress, _("行の検査")))
    findings += notes
    usable, flags = [cleaned[at] for at in kept], flags[kept]
    del cleaned
    keys = keys_of(usable, StageProgress(progress, _("重複の検査")))
    first, repeated = duplicates.without_duplicates(keys)
    if repeated:
        findings += findings_at("DUPLICATE", (usable[at] for at in repeated))
        usable, keys, flags = [usable[at] for at in first], keys.at(first), flags[first]
    labels, notes, indices = _check(usable, keys, flags, evaluation_sets, progress)
    for code in ("DRAFT", "LOW_RATED", "STRUCK_OUT"):  # found when the file was read
        marked = {(each.source, row) for each in findings if each.code == code for row in each.rows}
        indices[code] = {at for at, each in enumerate(usable) if (each.source, each.row) in marked}
    findings += notes
    dropped = {code: len(indices[code]) for code in codes}
    unwanted = set().union(*(indices[code] for code in codes))
    if unwanted:
        rest = [at for at in range(len(usable)) if at not in unwanted]
        usable, keys = [usable[at] for at in rest], keys.at(rest)
        # Groups keep together: the label is the first of those that are left.
        __, first_of_group, position = np.unique(
            labels[rest], return_index=True, return_inverse=True
        )
        labels = first_of_group[position]
    goal = _goal(config, sources[0].columns.kind, usable)
    return Examined(sources, usable, keys, labels, cleaning, tuple(findings), dropped, goal)


def _goal(config: PrepareConfig, kind: str | None, examples: Sequence[Example]) -> Guess:
    if config.goal != "auto":
        return Guess(config.goal, _("指定されたものです"))
    exchanges = []
    if kind == "chat":
        for example in examples[:: max(len(examples) // SAMPLE, 1)]:
            *asked, answer = (turn for turn in example.turns if turn.role != "system")
            question = asked[-1].content if asked else ""
            exchanges.append(QuestionAnswer(question, answer.content, len(asked) + 1))
    return guess(str(kind), exchanges, len(examples))


def _read_all(
    opened: Sequence[Path | Reading],
    config: PrepareConfig,
    mapping: Mapping[str, str],
    progress: Progress,
    edits: Sequence[Edit],
    decided: Sequence[Mapping[str, str]],
) -> tuple[tuple[Source, ...], list[Example], list[Finding]]:
    """The examples of all files, one file after the other, so that no two tables pile up.

    Raises InvalidMapping, SourceKindsDiffer.
    """
    sources: list[Source] = []
    examples: list[Example] = []
    findings: list[Finding] = []
    absent: list[set[str]] = []
    paths = [each.path if isinstance(each, Reading) else each for each in opened]
    for each, name in zip(opened, source_names(paths), strict=True):
        reading = each if isinstance(each, Reading) else open_source(each, config, progress)
        table = editing.apply(reading.table, edits, name)
        # Of several files each may have some of the mapped columns only.
        others = set(mapping.values()) - {"", *table.columns} if len(paths) > 1 else set()
        absent.append(others)
        requested = {role: column for role, column in mapping.items() if column not in others}
        columns = choose(table.columns, requested, table.records)
        goal = "preference" if downloads.is_ours(table) and config.goal == "auto" else config.goal
        columns = for_goal(
            columns, table.records, table.columns, goal, text_asked="text" in requested
        )
        recorded = decided[len(sources)] if len(sources) < len(decided) else {}
        asked = as_recorded(table.columns, columns, recorded)
        if asked is not None:
            columns = choose(table.columns, {**asked, **requested}, table.records)
            is_text = "text" in recorded
            columns = for_goal(columns, table.records, table.columns, goal, text_asked=is_text)
        notes = [*reading.findings, *editing.findings_of(edits, name), *columns.findings]
        if columns.kind is not None:
            stage = StageProgress(progress, _("行の組み立て"))
            built, unusable = build(table, columns, config.system, name, stage, config.several)
            built = _as_added(built, editing.added_rows(edits, name))
            if downloads.is_ours(table):
                built, marks = downloads.with_marks(table, built)
                notes += marks
            examples += built
            notes += unusable
        findings += [replace(note, source=name) for note in notes]
        preview = replace(table, records=table.records[:PREVIEW_RECORDS])
        shortened = replace(reading, table=preview)
        sources.append(Source(name, shortened, columns, len(table.records)))
    nowhere = sorted(set.intersection(*absent))
    if nowhere:
        names = [column for source in sources for column in source.reading.table.columns]
        problems = [
            _("「{column}」という列は、どのファイルにもありません。").format(column=column)
            for column in nowhere
        ]
        raise InvalidMapping(problems=problems, columns=names)
    if len({source.columns.kind for source in sources}) > 1:
        kinds = [f"{source.reading.path.name}: {source.columns.kind}" for source in sources]
        raise SourceKindsDiffer(kinds=kinds)
    return tuple(sources), examples, findings


def _as_added(examples: list[Example], added: editing.AddedRows) -> list[Example]:
    """The examples with what steps say of their rows: their group, split, and whether they refuse."""
    if added == editing.NOTHING_ADDED:
        return examples
    groups = {one.row: one.group or f"{one.row}行目の聞き方" for one in examples}
    marked = []
    for one in examples:
        first = added.first_wording.get(one.row)
        group = one.group if first is None else groups.get(first, f"{first}行目の聞き方")
        split = added.splits.get(one.row, one.split)
        marked.append(
            replace(
                one,
                group=group,
                split=split,
                refusal=one.row in added.refusals,
                is_wording=first not in (None, one.row),
            )
        )
    return marked


def source_names(paths: Sequence[Path]) -> list[str]:
    """What tells the files of a dataset apart; nothing for a single one."""
    if len(paths) == 1:
        return [""]
    names = [path.name for path in paths]
    return [
        name if names.count(name) == 1 else f"{number}:{name}"
        for number, name in enumerate(names, 1)
    ]


def _evaluation_sets(
    config: PrepareConfig, progress: Progress
) -> tuple[evaluation.EvaluationSet, ...]:
    """The bundled sets and those of the settings."""
    stage = StageProgress(progress, _("評価セットの読み込み"))
    sets = list(evaluation.bundled())
    for path in evaluation_files(config):
        table = read(path, progress=stage).table
        columns = choose(table.columns, None, table.records)
        if columns.kind is None:
            raise missing_columns(path, table.columns, columns)
        examples, __ = build(table, columns, "")
        questions = (
            turn.content
            for example in examples
            for turn in example.turns
            if turn.role in ("user", "prompt", "text")
        )
        sets.append(evaluation.sketched(path.name, questions))
    return tuple(sets)


def _check(
    examples: list[Example],
    keys: Keys,
    flags: Flags,
    evaluation_sets: Sequence[evaluation.EvaluationSet],
    progress: Progress,
) -> tuple[Labels, list[Finding], dict[str, set[int]]]:
    """Groups of nearly equal questions, findings about examples that deserve a look, and the
    indices of those examples by code."""
    stage = StageProgress(progress, _("似た質問の検査"))
    grams = gram_sets(keys.questions, stage)
    groups = near.near_groups(grams, progress=stage)
    stage = StageProgress(progress, _("文面の検査"))
    findings, indices = example_checks.wording(examples, flags, stage)
    indices["CONFLICT"] = set(duplicates.conflicts(examples, keys))
    stage = StageProgress(progress, _("似た行の検査"))
    indices["NEAR_DUPLICATE"] = set(
        duplicates.near_duplicates(examples, keys, groups.labels, stage)
    )
    indices["NO_QUESTION"] = set(example_checks.without_question(examples))
    for code in ("CONFLICT", "NEAR_DUPLICATE", "NO_QUESTION"):
        findings += findings_at(code, (examples[at] for at in sorted(indices[code])))
    if not groups.exact:
        findings.append(finding("NEAR_APPROXIMATE"))
    indices["EVALUATION_SET"] = set()
    stage = StageProgress(progress, _("評価セットとの照合"))
    digests = evaluation.digests(keys.questions)
    for each in evaluation_sets:
        hits = evaluation.matches(each, digests, grams, stage)
        indices["EVALUATION_SET"].update(hits)
        findings += findings_at("EVALUATION_SET", (examples[at] for at in hits), name=each.name)
    looks = (example_checks.imbalance, example_checks.swapped, example_checks.marked)
    for look in (*looks, example_checks.reasoning):
        findings += look(examples)
    return groups.labels, findings, indices

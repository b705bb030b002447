"""Rows that a job makes part by part: what is made stays, whatever ends the job, and the same parts
are made once.

`made.jsonl` in the job's folder has a line for each finished part. A job that was stopped and is started
again goes on behind them; with the same model and seed it comes to the same rows as one that never
stopped, because a part is asked for as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from mlx_finetuning import files
from mlx_finetuning.data_processor.wordings.made import Known, MadeRow
from mlx_finetuning.errors import Interrupted, NothingToReword
from mlx_finetuning.files import Record
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.language import _
from mlx_finetuning.progress import Step
from mlx_finetuning.tokenization.rows import read_rows
from mlx_finetuning.utils.japanese_utils import comparison_key
from mlx_finetuning.utils.text_generator import Tick

SPLITS = ("train", "valid", "test")
Part = TypeVar("Part")


@dataclass(frozen=True)
class _Line:
    part: int
    rows: tuple[dict[str, object], ...]


def in_parts(
    context: TaskContext,
    stage: str,
    parts: Sequence[Sequence[Part]],
    kind: type[Record],
    make: Callable[[Sequence[Part]], Sequence[Record]],
) -> list[Record]:
    """The rows of all parts, in order; `make` is called for those that are not there yet.

    stage: what is done, in Japanese; progress counts the units of all parts. Raises what `make` does.
    """
    path = context.paths.made
    done = {line.part: line.rows for line in files.read_records(path, _Line)}
    total = sum(map(len, parts))
    rows: list[Record] = []
    finished = 0
    with files.LineLog(path) as log:
        for number, part in enumerate(parts):
            context.progress(
                Step(stage, finished, total, _("{count:,}件", "rows").format(count=len(rows)))
            )
            if number not in done:
                made = [asdict(row) for row in make(part)]  # type: ignore[call-overload]
                log.append({"part": number, "rows": made})
                done[number] = tuple(made)
            rows += [files.decode(row, kind, path) for row in done[number]]
            finished += len(part)
    context.progress(Step(stage, total, total, _("{count:,}件", "rows").format(count=len(rows))))
    return rows


def tick_of(context: TaskContext) -> Tick:
    """What tells a generator to stop when the job is asked to. Raises Interrupted."""

    def tick() -> None:
        if context.paths.stop_request.exists():
            raise Interrupted()

    return tick


def known_of(context: TaskContext, dataset: str) -> list[Known]:
    """The questions of a dataset with one answer each, in the order of the source. Raises
    NothingToReword, DatasetDamaged."""
    paths = context.workspace.dataset(dataset)
    known: dict[tuple[str, int, str], Known] = {}
    for split in SPLITS:
        for row in read_rows(paths.split(split)):
            turns = [turn for turn in row.get("messages", ()) if turn["role"] != "system"]
            if [turn["role"] for turn in turns] != ["user", "assistant"]:
                continue
            question, answer = (str(turn["content"]) for turn in turns)
            if "\n" in question.strip():
                continue  # a text to be worked on, not a question
            source, number = row.get("source", ""), row["row"]
            known[source, number, question] = Known(
                number, question, answer, source, bool(row.get("refusal"))
            )
    if not any(not one.is_refusal for one in known.values()):
        raise NothingToReword(name=dataset)
    return sorted(known.values(), key=lambda one: (one.source, one.row))


def marked_repeats(rows: Sequence[MadeRow]) -> tuple[MadeRow, ...]:
    """The rows, those whose question an earlier one that passed has too with that as a problem."""
    seen: set[str] = set()
    marked = []
    for row in rows:
        key = comparison_key(row.question)
        is_repeated = not row.problems and key in seen
        seen |= set() if row.problems else {key}
        marked.append(replace(row, problems=(_("前と同じ質問です"),)) if is_repeated else row)
    return tuple(marked)

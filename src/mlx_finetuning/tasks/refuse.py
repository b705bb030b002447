"""Questions that look like a dataset's own and that it does not answer, each with a refusal. Nothing
is written into the dataset: people accept or reject what was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mlx_finetuning import files
from mlx_finetuning.data_processor.wordings import near_misses, prompts
from mlx_finetuning.data_processor.wordings.checks import Checker
from mlx_finetuning.data_processor.wordings.made import Known, MadeRow, MadeRows, RefuseConfig
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.language import N_, _
from mlx_finetuning.tasks import made_rows
from mlx_finetuning.tasks.reword import AT_ONCE, generator_of
from mlx_finetuning.utils.text_generator import ask

STAGE = N_("データにない質問の生成")


def run(context: TaskContext) -> MadeRows:
    """config: RefuseConfig. Raises NothingToReword, ModelError, OllamaError, RuntimeNotAnswering,
    Interrupted."""
    settings = files.decode(context.config, RefuseConfig, context.paths.job)
    known = made_rows.known_of(context, settings.dataset)
    answered = [one for one in known if not one.is_refusal]
    checker = Checker(known)
    refusal = settings.refusal or near_misses.refusal_text([one.answer for one in answered])
    there = len(known) - len(answered)
    wanted = max(round(len(answered) * settings.share / (1 - settings.share)) - there, 1)
    tick = made_rows.tick_of(context)
    with generator_of(context, settings) as generator:
        by_rules = wanted if generator is None else wanted // 2 if settings.rules else 0
        rows = near_misses.near_misses(known, by_rules, refusal, settings.seed)

        def by_model(part: Sequence[Known]) -> list[MadeRow]:
            assert generator is not None
            requests = [
                prompts.near_miss(
                    one, sorted(answered, key=partial(_distance, one)), settings.seed + at
                )
                for at, one in enumerate(part)
            ]
            found = ask(generator, requests, prompts.Asked, tick)
            made = []
            for one, read in zip(part, found, strict=True):
                question = "" if read.value is None else read.value.question.strip()
                problems = (
                    [read.problem]
                    if read.value is None
                    else checker.problems_of_near_miss(question, one)
                )
                row = MadeRow(one.row, "near_miss", question, refusal, settings.generator.model)
                split = near_misses.split_of(question, settings.seed)
                made.append(replace(row, problems=tuple(problems), source=one.source, split=split))
            return made

        if generator is not None:
            count = wanted - len(rows)
            # Spread over all rows, again and again where there are fewer.
            turns = max(count, len(answered))
            asked = [answered[at * len(answered) // turns % len(answered)] for at in range(count)]
            parts = [asked[at : at + AT_ONCE] for at in range(0, len(asked), AT_ONCE)]
            rows += made_rows.in_parts(context, _(STAGE), parts, MadeRow, by_model)
    return MadeRows(settings.dataset, made_rows.marked_repeats(rows))


def _distance(one: Known, other: Known) -> tuple[bool, int]:
    """What stands next to a row in its source says most of what is known about the same thing."""
    return other.source != one.source, abs(other.row - one.row)

"""Other wordings of a dataset's questions, by rules and by a model, each checked. Nothing is written
into the dataset: people accept or reject what was made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlx_finetuning import files
from mlx_finetuning.data_processor.wordings import prompts, rules
from mlx_finetuning.data_processor.wordings.checks import Checker
from mlx_finetuning.data_processor.wordings.kinds import Wording
from mlx_finetuning.data_processor.wordings.made import (
    Known,
    MadeRow,
    MadeRows,
    RefuseConfig,
    RewordConfig,
)
from mlx_finetuning.experiment_tracker.evaluation.rightness import RIGHT, rightness
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.language import N_, _
from mlx_finetuning.progress import Step
from mlx_finetuning.tasks import made_rows, text_generators
from mlx_finetuning.utils.text_generator import TextGenerator, Tick, ask

STAGE = N_("言い換えの生成")
AT_ONCE = 16
"""Questions of a part. A number of its own: what is made must not depend on the engine's."""
LOADING = N_("モデルの読み込み")


def run(context: TaskContext) -> MadeRows:
    """config: RewordConfig. Raises NothingToReword, ModelError, OllamaError, RuntimeNotAnswering,
    Interrupted."""
    settings = files.decode(context.config, RewordConfig, context.paths.job)
    known = made_rows.known_of(context, settings.dataset)
    wanted = [one for one in known if not one.is_refusal]
    parts = [wanted[at : at + AT_ONCE] for at in range(0, len(wanted), AT_ONCE)]
    with generator_of(context, settings) as generator:
        maker = _Maker(settings, Checker(known), generator, made_rows.tick_of(context))
        rows = made_rows.in_parts(context, _(STAGE), parts, MadeRow, maker.rows)
    return MadeRows(settings.dataset, made_rows.marked_repeats(rows))


@contextlib.contextmanager
def generator_of(
    context: TaskContext, settings: RewordConfig | RefuseConfig
) -> Iterator[TextGenerator | None]:
    """The chosen model; None where rules alone are asked for."""
    if not settings.generator.model:
        yield None
        return
    context.progress(Step(_(LOADING), 0, 0))
    with text_generators.opened(settings.generator, context.workspace) as generator:
        yield generator


class _Maker:
    """What makes the rows of a part."""

    def __init__(
        self,
        settings: RewordConfig,
        checker: Checker,
        generator: TextGenerator | None,
        tick: Tick,
    ) -> None:
        self._settings = settings
        self._checker = checker
        self._generator = generator
        self._tick = tick

    def rows(self, known: Sequence[Known]) -> list[MadeRow]:
        """Of each question its wordings, by rules first."""
        settings = self._settings
        by_rules = [
            self._row(wording, one)
            for one in known
            for wording in rules.wordings(
                one.question, settings.kinds, settings.per_kind, settings.seed
            )
            if settings.rules
        ]
        rows = [*by_rules, *self._by_model(known)]
        order = {(one.source, one.row): at for at, one in enumerate(known)}
        return sorted(rows, key=lambda row: order[row.source, row.row])

    def _row(self, wording: Wording, of: Known, made_by: str = "") -> MadeRow:
        row = MadeRow(
            of.row,
            wording.kind,
            wording.text,
            of.answer,
            problems=tuple(self._checker.problems_of_wording(wording, of)),
            source=of.source,
        )
        return replace(row, made_by=made_by) if made_by else row

    def _by_model(self, known: Sequence[Known]) -> list[MadeRow]:
        if self._generator is None:
            return []
        settings, name = self._settings, self._settings.generator.model
        requests = [
            prompts.reword(one, settings.kinds, settings.seed + turn)
            for one in known
            for turn in range(settings.per_kind)
        ]
        asked = [one for one in known for __ in range(settings.per_kind)]
        found = ask(self._generator, requests, prompts.Reworded, self._tick)
        rows: list[MadeRow] = []
        for one, read in zip(asked, found, strict=True):
            wordings = [] if read.value is None else read.value.as_wordings()
            problem = read.problem or _("頼んだ形の言い換えがありません")
            if not wordings:
                failed = MadeRow(one.row, settings.kinds[0], "", one.answer, name, (problem,))
                rows.append(replace(failed, source=one.source))
            rows += [self._row(wording, one, name) for wording in wordings]
        return self._answered(rows, known) if settings.check else rows

    def _answered(self, rows: Sequence[MadeRow], known: Sequence[Known]) -> list[MadeRow]:
        """With what the model answers to the wordings that have passed, given the original."""
        assert self._generator is not None
        of = {(one.source, one.row): one for one in known}
        passed = [row for row in rows if not row.problems]
        requests = [prompts.same_answer(of[row.source, row.row], row.question) for row in passed]
        answers = iter(self._generator.generate(requests, self._tick))
        checked = []
        for row in rows:
            problems = row.problems
            if not problems:
                given = next(answers)
                if rightness(given, row.answer, row.question) not in RIGHT:
                    problems = (
                        _("モデルは、元の答えと違うことを答えました（{given}）").format(
                            given=given[:60]
                        ),
                    )
            checked.append(replace(row, problems=problems))
        return checked

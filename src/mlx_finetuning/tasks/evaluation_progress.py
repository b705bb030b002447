"""How long a whole evaluation takes yet, from its first rows on.

Losses and answers are timed apart: an answer takes as long as many losses. Before the first answer is
there, it is taken to be as long as the settings allow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from mlx_finetuning.config import EvaluateConfig
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.inference import grade
from mlx_finetuning.progress import Progress, Step

FADING = 0.5
"""What a set of rows still weighs once the next one is done: a tuned model answers more shortly than its
base, and a machine is now slower, now faster."""


class EvaluationProgress:
    """A `Progress` that passes steps on with the seconds left of all that both models are shown."""

    def __init__(
        self,
        progress: Progress,
        rows: Mapping[bool, int],
        settings: EvaluateConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """rows: how many both models are shown in all, by whether they are asked."""
        self._progress = progress
        self._settings = settings
        self._clock = clock
        self._left = {grade.LOSSES: sum(rows.values()), grade.ANSWERS: rows[True]}
        self._spent_s = dict.fromkeys(self._left, 0.0)
        self._done = dict.fromkeys(self._left, 0.0)
        self._losses_an_answer = max(1.0, settings.max_tokens / settings.batch_size)
        self._waited_s = 0.0
        """Since a row was last done: answers of one batch end together."""
        self._last = Step("", 0, 0)
        self._last_s = clock()

    def __call__(self, step: Step) -> None:
        now_s = self._clock()
        kind = next((kind for kind in self._left if step.stage.endswith(_(kind))), "")
        if step.stage != self._last.stage:
            self._waited_s = 0.0
        elif kind:
            self._waited_s += now_s - self._last_s
            if step.done > self._last.done:
                self._spent_s[kind] += self._waited_s
                self._done[kind] += step.done - self._last.done
                self._waited_s = 0.0
        self._last, self._last_s = step, now_s
        done = step.done if kind else 0  # a beginning that is read counts no rows
        self._progress(replace(step, remaining_s=self._remaining_s(kind, done)))

    def finish(self, rows: int, *, ask: bool) -> None:
        """A set of rows is graded, or was kept from an earlier evaluation."""
        self._left[grade.LOSSES] -= rows
        self._left[grade.ANSWERS] -= rows if ask else 0
        for kind in self._left:
            self._spent_s[kind] *= FADING
            self._done[kind] *= FADING

    def apart(self, rows: int) -> EvaluationProgress:
        """Of so many further rows, all asked, that are of another length: timed by themselves, and told
        with what is left of the others."""

        def told(step: Step) -> None:
            others_s, own_s = self._remaining_s(), step.remaining_s
            whole_s = None if others_s is None or own_s is None else round(others_s + own_s, 1)
            self._progress(replace(step, remaining_s=whole_s))

        return EvaluationProgress(told, {True: rows}, self._settings, self._clock)

    def _remaining_s(self, kind: str = grade.LOSSES, done: int = 0) -> float | None:
        if not self._done[grade.LOSSES]:
            return None
        loss_s = self._spent_s[grade.LOSSES] / self._done[grade.LOSSES]
        answer_s = self._losses_an_answer * loss_s
        if self._done[grade.ANSWERS]:
            answer_s = self._spent_s[grade.ANSWERS] / self._done[grade.ANSWERS]
        of_this = loss_s if kind == grade.LOSSES else answer_s
        left_s = self._left[grade.LOSSES] * loss_s + self._left[grade.ANSWERS] * answer_s
        return round(max(0.0, left_s - done * of_this), 1)

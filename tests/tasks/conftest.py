"""Fixtures of several kinds of jobs."""

from __future__ import annotations

import pytest

from mlx_finetuning.experiment_tracker.evaluation import general_questions


@pytest.fixture
def few_general(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixth of the general questions: enough to judge by."""
    some = general_questions.questions()[::6]
    monkeypatch.setattr(general_questions, "questions", lambda: some)

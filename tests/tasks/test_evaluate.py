"""What is said of runs that learned, learned nothing, learned nonsense, or broke."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning import errors, files
from mlx_finetuning.cli.evaluate import _shown
from mlx_finetuning.config import EvaluateConfig, PrepareConfig, TrainConfig
from mlx_finetuning.data_processor import SAMPLE_DATA, read_rows
from mlx_finetuning.experiment_tracker.evaluation import general_questions
from mlx_finetuning.experiment_tracker.evaluation.results import Report
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.mlx_trainer.inference.grade import Grade
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.progress import Progress, Step, silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import evaluate
from mlx_finetuning.tasks.base_grades import BaseGrades
from mlx_finetuning.tasks.evaluation_progress import EvaluationProgress
from mlx_finetuning.workspace import Workspace
from support.helpers import with_template, write_facts
from support.recorded_run import rows, tiny_folder
from support.small_models import edit_json
from support.sweeps import sweep

pytestmark = pytest.mark.usefixtures("jobs_in_process")
QUICK = {"max_rows": 6, "max_tokens": 8}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    studio = Studio(Workspace(tmp_path_factory.mktemp("evaluate")))
    for name in ("facts", "shuffled"):
        studio.data.prepare(SAMPLE_DATA, name, PrepareConfig(hold_out="paraphrase"))
    _shuffle(studio.workspace.dataset("shuffled").train)
    yield studio


def _shuffle(path: Path) -> None:
    rows = read_rows(path)
    answers = [row["messages"][-1] for row in rows]
    random.Random(1).shuffle(answers)
    for row, answer in zip(rows, answers, strict=True):
        row["messages"][-1] = answer
    write_rows(path, rows)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    files.make_folder(path.parent)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def trained(studio: Studio, dataset: str, **settings: Any) -> str:
    settings = {"iterations": 8, "validate_every": 1000, "sample_every": 0, **settings}
    run_id = studio.training.start(TrainConfig(dataset=dataset, **settings))
    studio.runs.follow(run_id, silent)
    return run_id


def evaluated(studio: Studio, run_id: str, progress: Progress = silent, **settings: int) -> Report:
    """As the worker does it, without a process of its own."""
    workspace = studio.workspace
    paths = workspace.run(run_id).later_job("evaluate-1")
    given = {**QUICK, **settings}
    return evaluate.run(
        TaskContext(workspace, paths, run_id, given, progress, lambda *_, **__: None)
    )


@pytest.fixture(scope="module")
def right(studio: Studio) -> str:
    return trained(studio, "facts")


@pytest.fixture(scope="module")
def report(studio: Studio, right: str) -> Report:
    # As many tokens as the answers to general questions take.
    settings = EvaluateConfig(**{**QUICK, "max_tokens": 12})
    with pytest.MonkeyPatch.context() as patch:
        # A third of them: enough to tell wear from forgetting.
        every = general_questions.questions
        patch.setattr(general_questions, "questions", lambda name="ja": every(name)[::3])
        return studio.evaluation.start(right, settings).follow()


@pytest.fixture(scope="module")
def short(studio: Studio) -> str:
    return trained(studio, "facts", iterations=4)


def test_a_run_on_right_answers_has_learned_and_not_forgotten(report: Report) -> None:
    assert report.verdict.learned, report.verdict
    assert report.verdict.text.startswith("学習できています")
    assert report.forgetting.state in ("kept", "worn"), report.forgetting
    assert report.forgetting.could >= 17
    assert not report.adapter.is_zero
    assert len(report.adapter.layers) == 6
    assert all(layer.norm > 0 for layer in report.adapter.layers)


def test_report_has_what_is_needed_to_make_it_again(
    studio: Studio, right: str, report: Report
) -> None:
    origin = report.origin
    assert origin.dataset_sha256 == studio.runs.show(right).dataset_sha256
    assert not origin.dataset_changed
    assert origin.training["iterations"] == 8
    assert origin.seed == 42
    assert {"mlx", "mlx-finetuning", "python"} <= origin.versions.keys()
    assert studio.evaluation.report(right) == report
    page = studio.workspace.run(right).report_html.read_text(encoding="utf-8")
    assert report.first_line.text in page


@pytest.mark.usefixtures("few_general")
def test_base_is_asked_once_for_all_its_runs(
    studio: Studio, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(studio.workspace.base_grades, ignore_errors=True)
    first = evaluated(studio, short, max_rows=2, max_tokens=2)
    asked: list[str] = []
    given = evaluate.grade.grade

    def noted(loaded: Any, rows: Any, config: Any, progress: Any, stage: str, **how: Any) -> Any:
        asked.append(stage)
        return given(loaded, rows, config, progress, stage, **how)

    monkeypatch.setattr(evaluate.grade, "grade", noted)
    again = evaluated(studio, short, max_rows=2, max_tokens=2)
    assert asked and all(stage.startswith("学習後のモデル") for stage in asked)
    assert (again.splits, again.forgetting) == (first.splits, first.forgetting)


@pytest.mark.usefixtures("few_general")
def test_the_base_is_asked_with_the_data_in_its_question(studio: Studio, short: str) -> None:
    found = evaluated(studio, short, max_rows=2, max_tokens=2, in_prompt=True).necessity
    assert found is not None
    assert found.questions == 2
    # tiny-ja reads too little for all rows.
    assert (
        0
        < found.whole_rows
        < found.of_rows
        == len(read_rows(studio.workspace.dataset("facts").train))
    )
    assert "質問に近い行" in "".join(found.evidence)
    steps: list[Step] = []
    again = evaluated(studio, short, steps.append, max_rows=2, max_tokens=2, in_prompt=True)
    assert again.necessity == found
    assert not [step for step in steps if "元のモデル" in step.stage]


def test_kept_grades_are_those_of_the_same_model_rows_template_and_settings(
    tmp_path: Path, tiny: LoadedModel
) -> None:
    folder = shutil.copytree(tiny_folder(), tmp_path / "base")
    workspace, two = Workspace(tmp_path), rows(2)
    grades = [Grade(1.5, 3, "はい。", True, "考え"), Grade(0.25, 2)]
    computed: list[int] = []

    def compute() -> list[Grade]:
        computed.append(1)
        return grades

    def is_kept(shown: Any = two, base: Any = tiny, ask: bool = True, **settings: int) -> bool:
        before = len(computed)
        kept = BaseGrades(workspace, folder, base, EvaluateConfig(**settings))
        assert kept.of(shown, compute, ask=ask) == grades
        return len(computed) == before

    assert not is_kept() and is_kept()
    assert not is_kept(ask=False)
    assert not is_kept(max_tokens=7)
    assert not is_kept(two[::-1])
    assert not is_kept(
        base=with_template(tiny, "{% for m in messages %}{{ m.content }}\n{% endfor %}")
    )
    for path in workspace.base_grades.iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert not is_kept() and is_kept()
    edit_json(folder / "generation_config.json", eos_token_id=3)
    assert not is_kept()


def watching(
    told: list[float | None], now: list[float], rows: dict[bool, int], max_tokens: int
) -> EvaluationProgress:
    """Which tells of the seconds left, by a clock that stands at `now`."""
    return EvaluationProgress(
        lambda step: told.append(step.remaining_s),
        rows,
        EvaluateConfig(max_tokens=max_tokens, batch_size=32),
        lambda: now[0],
    )


def test_time_left_is_told_from_the_first_rows_and_kept_grades_take_none() -> None:
    now, told = [0.0], []
    watched = watching(told, now, {True: 20, False: 10}, max_tokens=64)

    def step(stage: str, done: int, seconds: float) -> float | None:
        now[0] += seconds
        watched(Step(stage, done, 10))
        return told[-1]

    assert step("元の質問：損失", 0, 5.0) is None
    # A loss takes a second, and an answer is taken to be worth two: 29 losses and 20 answers.
    assert step("元の質問：損失", 1, 1.0) == 29 + 20 * 2
    assert step("元の質問：答え", 0, 9.0) == 30 + 20 * 2
    assert step("元の質問：答え", 2, 1.0) == 30 + 18 * 0.5
    watched.finish(10, ask=True)
    watched.finish(10, ask=False)
    assert step("次の質問：損失", 0, 7.0) == 10 + 10 * 0.5
    assert step("次の質問：答え", 0, 3.0) == 10 + 10 * 0.5
    assert step("次の質問：答え", 0, 6.0) == 10 + 10 * 0.5  # nobody's answer has ended yet
    # Answers take two seconds now: the former two weigh no more than half of one.
    assert step("次の質問：答え", 5, 4.0) == pytest.approx(10 + 5 * 10.25 / 5.5, abs=0.1)


def test_questions_with_the_data_in_them_do_not_lengthen_what_is_left_of_the_others() -> None:
    now, told = [0.0], []
    watched = watching(told, now, {True: 20, False: 0}, max_tokens=32)
    long = watched.apart(4)
    for to, stage, done, seconds in (
        (long, "添えて：損失", 0, 0.0),
        (long, "添えて：損失", 1, 50.0),  # nobody knows yet what the others take
        (watched, "元の質問：損失", 0, 0.0),
        (watched, "元の質問：損失", 1, 1.0),
        (long, "添えて：損失", 2, 50.0),
    ):
        now[0] += seconds
        to(Step(stage, done, 10))
    assert told[1] is None
    # Of 20 losses and as many answers none are finished; of the long ones two
    # and four, at 101 seconds for two.
    assert told[-2:] == [39.0, 40.0 + (2 + 4) * 50.5]


def test_reading_what_questions_share_is_not_taken_for_rows() -> None:
    now, told = [0.0], []
    watched = watching(told, now, {True: 20, False: 0}, max_tokens=32)
    for stage, done, seconds in (
        ("共通の部分の読み込み", 0, 0.0),
        ("共通の部分の読み込み", 2048, 30.0),
        ("損失", 0, 5.0),
        ("損失", 1, 1.0),
        ("共通の部分の読み込み", 0, 9.0),
    ):
        now[0] += seconds
        watched(Step(f"添えて：{stage}", done, 10))
    assert told == [None, None, None, 19.0 + 20, 20.0 + 20]


@pytest.mark.usefixtures("few_general")
def test_losses_are_those_of_the_training_loop(studio: Studio) -> None:
    run_id = trained(studio, write_facts(studio.workspace, "few"), iterations=2)
    report = evaluated(studio, run_id, max_rows=500, max_tokens=1)
    valid = [line.valid_loss for line in studio.runs.metrics(run_id) if line.valid_loss is not None]
    split = report.splits["valid"]
    assert split.base.loss == pytest.approx(valid[0], rel=1e-4)
    assert split.tuned.loss == pytest.approx(valid[-1], rel=1e-4)
    assert report.splits["train"].rows == 12


@pytest.mark.usefixtures("few_general")
def test_learning_rate_zero_is_judged_as_not_learned(studio: Studio) -> None:
    report = evaluated(studio, trained(studio, "facts", iterations=1, learning_rate=0.0))
    assert not report.verdict.learned
    assert report.verdict.text.startswith("学習していません")
    assert report.adapter.is_zero
    assert report.splits["test"].change.value == 0
    assert report.forgetting.still_can == report.forgetting.could > 0


@pytest.mark.usefixtures("few_general")
def test_shuffled_answers_are_not_judged_as_learned(studio: Studio) -> None:
    report = evaluated(studio, trained(studio, "shuffled"))
    # The loss alone would say that it learned.
    assert report.splits["test"].change.high < 0
    assert report.verdict.state == "unlinked", report.verdict
    assert not report.verdict.learned


@pytest.mark.usefixtures("few_general")
def test_an_absurd_learning_rate_is_judged_as_diverged_and_forgetting(studio: Studio) -> None:
    report = evaluated(studio, trained(studio, "facts", learning_rate=0.3, iterations=5))
    assert report.verdict.state == "diverged", report.verdict
    assert report.verdict.text.startswith("発散しました")
    assert report.forgetting.state == "forgot"


def test_a_cancelled_evaluation_leaves_no_report(studio: Studio, short: str) -> None:
    def stop(step: Step) -> None:
        if "答え" in step.stage:
            raise errors.Interrupted()

    paths = studio.workspace.run(short)
    paths.report.unlink(missing_ok=True)
    paths.report_html.unlink(missing_ok=True)
    with pytest.raises(errors.Interrupted):
        evaluated(studio, short, stop)
    assert not paths.report.exists()
    assert not paths.report_html.exists()


# --- other rows than conversations -------------------------------------------------------

POLITE, BLUNT = "はい、お調べしてお答えします。", "知らない。自分で調べて。"


@pytest.fixture(scope="module")
def pairs(studio: Studio) -> str:
    """A dataset of preferences: polite answers are the better ones."""
    rows = [
        {"prompt": f"{n}番の商品について教えてください。", "chosen": POLITE, "rejected": BLUNT}
        for n in range(20)
    ]
    dataset = studio.workspace.dataset("pairs")
    for path, split in (
        (dataset.train, rows[:12]),
        (dataset.valid, rows[12:16]),
        (dataset.test, rows[16:]),
    ):
        write_rows(path, split)
    return "pairs"


@pytest.mark.usefixtures("few_general")
@pytest.mark.parametrize("objective", sweep(("dpo", "orpo", "simpo"), ("dpo",)))
def test_a_run_on_pairs_is_judged_by_what_it_trains(
    studio: Studio, pairs: str, objective: str
) -> None:
    run_id = trained(studio, pairs, objective=objective, iterations=4, batch_size=4, beta=0.5)
    report = evaluated(studio, run_id)
    assert report.verdict.state == "learned", report.verdict
    assert "よい答えとの差" in report.verdict.text
    found, line = report.splits["valid"].preference, studio.runs.metrics(run_id)[-1]
    # The training loop's own marks; DPO measures from the base on.
    shown = {
        "dpo": (found.widened, found.change.value),
        "orpo": (found.tuned_accuracy, found.tuned_margin),
        "simpo": (found.tuned_accuracy, found.tuned_margin),
    }
    accuracy, margin = shown[objective]
    assert accuracy == pytest.approx(line.valid_accuracy)
    assert 0.5 * margin == pytest.approx(line.valid_margin, rel=1e-3)
    assert {item.expected for item in report.splits["test"].answers} == {POLITE}
    assert "よい答えのほうが出やすい組" in _shown(report)
    page = studio.workspace.run(run_id).report_html.read_text(encoding="utf-8")
    assert "<h2>よい答えとよくない答え</h2>" in page


@pytest.mark.usefixtures("few_general")
def test_a_run_on_judged_answers_is_judged_by_what_it_trains(studio: Studio) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{n // 2}号店は開いていますか。"},
                {"role": "assistant", "content": "知らん。" if n % 2 else POLITE},
            ],
            "label": n % 2 == 0,
            "row": n + 2,
        }
        for n in range(28)
    ]
    dataset = studio.workspace.dataset("marked")
    for path, split in (
        (dataset.train, rows[:16]),
        (dataset.valid, rows[16:22]),
        (dataset.test, rows[22:]),
    ):
        write_rows(path, split)
    run_id = trained(studio, "marked", iterations=6, batch_size=4)
    report = evaluated(studio, run_id)
    assert report.verdict.state == "learned", report.verdict
    found = report.splits["test"].preference
    assert found.pairs == 3 * 3  # each good answer with each bad one
    assert found.widened > 0.9
    assert found.change.value == pytest.approx(found.tuned_margin - found.base_margin)
    assert {item.expected for item in report.splits["test"].answers} == {POLITE}


@pytest.mark.usefixtures("few_general")
def test_a_run_on_text_is_judged_by_its_loss(studio: Studio) -> None:
    rows = [{"text": f"みどり商店の{n}号店は、{n}丁目にあります。"} for n in range(24)]
    dataset = studio.workspace.dataset("text")
    for path, split in ((dataset.train, rows[:14]), (dataset.valid, rows[14:]), (dataset.test, [])):
        write_rows(path, split)
    report = evaluated(studio, trained(studio, "text", iterations=4, batch_size=4))
    assert report.verdict.state == "learned", report.verdict
    assert report.splits["valid"].preference is None
    assert report.stopping.state == "unknown"
    assert "よい答え" not in _shown(report)


# --- again -------------------------------------------------------------------------------


def test_a_rerun_gives_the_same_losses_to_the_last_bit(studio: Studio, short: str) -> None:
    again = studio.training.rerun(short)
    studio.runs.follow(again, silent)
    found = studio.runs.compare_losses(short, again)
    assert found.is_exact, found
    assert found.compared >= 6


def test_a_rerun_says_what_has_changed_since(studio: Studio) -> None:
    studio.data.prepare(SAMPLE_DATA, "moving")
    run_id = trained(studio, "moving", engine="simulation", iterations=1)
    studio.data.prepare(SAMPLE_DATA, "moving", PrepareConfig(seed=7), replace=True)
    with pytest.raises(errors.RerunSourceChanged) as caught:
        studio.training.rerun(run_id)
    assert caught.value.data["changed"] == ["データセット「moving」"]


def test_a_run_on_edited_rows_is_rerun_until_they_are_edited_again(studio: Studio) -> None:
    studio.data.prepare(SAMPLE_DATA, "edited")

    def edit(row: int) -> None:
        table = studio.data.edited("edited")
        answer = next(name for name in table.columns if name in ("回答", "answer"))
        table.set(row, answer, f"{row}行目の、直した答えです。")
        studio.data.edit("edited", table.edits)

    edit(2)
    run_id = trained(studio, "edited", engine="simulation", iterations=2)
    again = studio.training.rerun(run_id)
    studio.runs.follow(again, silent)
    assert studio.runs.compare_losses(run_id, again).is_exact
    edit(3)
    with pytest.raises(errors.RerunSourceChanged):
        studio.training.rerun(run_id)

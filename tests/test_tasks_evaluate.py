"""What is said of runs that learned, learned nothing, learned nonsense, or broke."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning import errors
from mlx_finetuning.config import EvaluateConfig, PrepareConfig, TrainConfig
from mlx_finetuning.data_processor import SAMPLE_DATA, read_rows
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

QUICK = EvaluateConfig(max_rows=16, max_tokens=16)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    studio = Studio(Workspace(tmp_path_factory.mktemp("evaluate")))
    for name in ("facts", "shuffled"):
        studio.prepare_data(SAMPLE_DATA, name, PrepareConfig(hold_out="paraphrase"))
    _shuffle(studio.workspace.dataset("shuffled").train)
    yield studio


def _shuffle(path: Path) -> None:
    rows = read_rows(path)
    answers = [row["messages"][-1] for row in rows]
    random.Random(1).shuffle(answers)
    for row, answer in zip(rows, answers, strict=True):
        row["messages"][-1] = answer
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def trained(studio: Studio, dataset: str, **settings: Any) -> str:
    settings = {"iterations": 30, "validate_every": 1000, "sample_every": 0, **settings}
    run_id = studio.start_training(TrainConfig(dataset=dataset, **settings))
    studio.watch(run_id, silent)
    return run_id


@pytest.fixture(scope="module")
def right(studio: Studio) -> str:
    return trained(studio, "facts")


@pytest.fixture(scope="module")
def report(studio: Studio, right: str) -> dict[str, Any]:
    return studio.evaluate(right, QUICK)


def test_a_run_on_right_answers_has_learned_and_not_forgotten(report: dict[str, Any]) -> None:
    assert report["verdict"]["learned"], report["verdict"]
    assert report["verdict"]["text"].startswith("学習できています")
    assert report["forgetting"]["state"] in ("kept", "worn"), report["forgetting"]
    assert report["forgetting"]["could"] >= 50
    assert not report["adapter"]["is_zero"]
    assert len(report["adapter"]["layers"]) == 6
    assert all(layer["norm"] > 0 for layer in report["adapter"]["layers"])


def test_report_has_what_is_needed_to_make_it_again(
    studio: Studio, right: str, report: dict[str, Any]
) -> None:
    origin = report["origin"]
    assert origin["dataset_sha256"] == studio.run(right).dataset_sha256
    assert not origin["dataset_changed"]
    assert origin["training"]["iterations"] == 30
    assert origin["seed"] == 42
    assert {"mlx", "mlx-finetuning", "python"} <= origin["versions"].keys()
    assert studio.report(right)["verdict"] == report["verdict"]  # type: ignore[index]
    page = studio.workspace.run(right).report_html.read_text(encoding="utf-8")
    assert report["verdict"]["text"] in page


def test_losses_are_those_of_the_training_loop(studio: Studio, right: str) -> None:
    report = studio.evaluate(right, EvaluateConfig(max_tokens=1))
    valid = [line["valid_loss"] for line in studio.metrics(right) if "valid_loss" in line]
    split = report["splits"]["valid"]
    assert split["base"]["loss"] == pytest.approx(valid[0], rel=1e-4)
    assert split["tuned"]["loss"] == pytest.approx(valid[-1], rel=1e-4)
    assert report["splits"]["train"]["rows"] == 48


def test_learning_rate_zero_is_judged_as_not_learned(studio: Studio) -> None:
    report = studio.evaluate(trained(studio, "facts", iterations=2, learning_rate=0.0), QUICK)
    assert not report["verdict"]["learned"]
    assert report["verdict"]["text"].startswith("学習していません")
    assert report["adapter"]["is_zero"]
    assert report["splits"]["test"]["change"]["value"] == 0
    assert report["forgetting"]["state"] == "kept"


def test_shuffled_answers_are_not_judged_as_learned(studio: Studio) -> None:
    report = studio.evaluate(trained(studio, "shuffled"), QUICK)
    # The loss alone would say that it learned.
    assert report["splits"]["test"]["change"]["high"] < 0
    assert report["verdict"]["state"] == "unlinked", report["verdict"]
    assert not report["verdict"]["learned"]


def test_an_absurd_learning_rate_is_judged_as_diverged_and_forgetting(studio: Studio) -> None:
    run_id = trained(studio, "facts", learning_rate=0.3, iterations=12)
    report = studio.evaluate(run_id, QUICK)
    assert report["verdict"]["state"] == "diverged", report["verdict"]
    assert report["verdict"]["text"].startswith("発散しました")
    assert report["forgetting"]["state"] == "forgot"


def test_a_cancelled_evaluation_leaves_no_report(studio: Studio, tmp_path: Path) -> None:
    run_id = trained(studio, "facts", iterations=1)

    def stop(step: Step) -> None:
        if "損失" in step.stage:
            raise errors.Interrupted()

    with pytest.raises(errors.Interrupted):
        studio.evaluate(run_id, QUICK, stop)
    assert not studio.workspace.run(run_id).report.exists()
    assert not studio.workspace.run(run_id).report_html.exists()


def test_a_rerun_gives_the_same_losses_to_the_last_bit(studio: Studio, right: str) -> None:
    again = studio.rerun(right)
    studio.watch(again, silent)
    found = studio.compare_losses(right, again)
    assert found.is_exact, found
    assert found.compared >= 32


def test_a_rerun_says_what_has_changed_since(studio: Studio) -> None:
    studio.prepare_data(SAMPLE_DATA, "moving")
    run_id = trained(studio, "moving", iterations=1)
    studio.prepare_data(SAMPLE_DATA, "moving", PrepareConfig(seed=7), replace=True)
    with pytest.raises(errors.RerunSourceChanged) as caught:
        studio.rerun(run_id)
    assert caught.value.data["changed"] == ["データセット「moving」"]

"""What pages are made of: curves, presets, metrics as they grow, texts of users."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_finetuning.config import GOALS, TrainConfig
from mlx_finetuning.data_processor.findings import KINDS
from mlx_finetuning.data_processor.settings import DROPPABLE
from mlx_finetuning.errors import StudioError
from mlx_finetuning.jobs.metrics import Metrics
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.messages import catalogue
from mlx_finetuning.presets import presets
from mlx_finetuning.ui.components.charts import smoothed, thinned_indices
from mlx_finetuning.ui.components.errors import described
from mlx_finetuning.ui.components.jobs import LOOKS
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.dataset.findings import REMEDIES
from mlx_finetuning.ui.messages_ja import FIXES_JA, NEXT_STEPS_JA
from mlx_finetuning.ui.training.setup import CHOSEN_ABOVE, CHOSEN_ELSEWHERE, GROUPS
from support import ui_workspaces


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.9, 0.98])
def test_smoothing_is_the_weighted_mean_of_all_values_before(weight: float) -> None:
    values = np.random.default_rng(0).normal(size=50).tolist()
    made = smoothed(values, weight)
    for end in range(1, 51):
        weights = weight ** np.arange(end)[::-1]
        assert made[end - 1] == pytest.approx(np.average(values[:end], weights=weights))


def test_a_value_that_is_no_number_leaves_the_curve_where_it_was() -> None:
    assert smoothed([1.0, math.nan, math.inf], 0.5) == [1.0, 1.0, 1.0]
    assert math.isnan(smoothed([math.nan], 0.5)[0])


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 50_000])
def test_thinning_keeps_both_ends_and_spreads_evenly(count: int) -> None:
    at = thinned_indices(count, 1000)
    assert len(at) == min(count, 1000)
    assert at == sorted(set(at))
    if count:
        assert (at[0], at[-1]) == (0, count - 1)
    assert max(np.diff(at), default=0) <= math.ceil(count / 999)


def test_metrics_are_read_as_they_grow(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path)
    metrics.refresh()
    assert metrics.latest("loss") is None
    ui_workspaces.write_metrics(path, 100)
    metrics.refresh()
    assert list(metrics.trained["update"]) == list(range(1, 101))
    assert list(metrics.validated[0]) == [0, 50, 100]
    line = json.dumps(ui_workspaces.update_line(101, 0.25))
    with path.open("a") as stream:
        stream.write(line[:20])
    metrics.refresh()
    assert len(metrics.trained["update"]) == 100
    with path.open("a") as stream:
        stream.write(line[20:] + "\n")
    metrics.refresh()
    assert metrics.latest("loss") == 0.25
    best = metrics.best_valid
    assert best is not None
    assert best[0] == 100


def test_metrics_of_a_resumed_run_are_those_after_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    ui_workspaces.write_metrics(path, 100)
    metrics = Metrics(path)
    metrics.refresh()
    ui_workspaces.write_metrics(path, 40)  # shorter: read anew
    metrics.refresh()
    assert metrics.trained["update"][-1] == 40
    ui_workspaces.write_metrics(path, 100)
    with path.open("a") as stream:  # grown past where we were, with updates done again
        stream.write(json.dumps(ui_workspaces.update_line(60, 0.5)) + "\n")
    metrics.refresh()
    assert metrics.trained["update"][-1] == 60
    assert list(metrics.trained["update"]) == sorted(set(metrics.trained["update"]))


@pytest.mark.parametrize("update", ["1e999", "-1e999", "NaN", "9" * 400, "[" * 50_000])
def test_impossible_update_is_passed_over(tmp_path: Path, update: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"update": {update}, "valid_loss": 1}}\n{{"update": 1, "valid_loss": 2}}\n')
    metrics = Metrics(path)
    metrics.refresh()
    assert metrics.best_valid == (1, 2.0)


def test_damaged_lines_of_metrics_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'[]\n{"update": "x"}\n\xff\n{"loss": 1}\n{"update": 1, "loss": null}\n')
    metrics = Metrics(path)
    metrics.refresh()
    assert metrics.latest("loss") is None


@pytest.mark.parametrize("rows", [0, 1, 5, 48, 1000, 100_000])
def test_presets_grow_in_length_and_fit_the_data(rows: int) -> None:
    trial, usual, thorough = presets(TrainConfig(dataset="faq"), rows)
    assert trial.settings.iterations <= 30
    assert trial.settings.iterations <= usual.settings.iterations < thorough.settings.iterations
    for preset in (trial, usual, thorough):
        assert 1 <= preset.settings.batch_size <= max(rows, 1)
        assert preset.settings.warmup < max(preset.settings.iterations, 1)
        assert f"{preset.settings.iterations:,}回" in preset.reason


def test_usual_preset_trains_the_sample_as_the_demo_does() -> None:
    _, usual, _ = presets(TrainConfig(), 48)
    assert (usual.settings.iterations, usual.settings.learning_rate) == (150, 1e-3)


def test_presets_train_facts_longer_and_preferences_more_slowly() -> None:
    usual = {goal: presets(TrainConfig(), 48, goal=goal)[1].settings for goal in ("", *GOALS)}
    assert usual["faq"].iterations == 2 * usual[""].iterations
    assert usual["preference"].iterations < usual[""].iterations
    assert usual["preference"].learning_rate == pytest.approx(usual[""].learning_rate / 10)


def test_many_facts_get_a_higher_rank_in_a_narrow_model() -> None:
    def rank(rows: int, width: int, goal: str) -> tuple[int, float]:
        usual = presets(TrainConfig(), rows, width, goal)[1].settings
        return usual.rank, usual.alpha

    assert rank(240, 256, "faq") == (64, 128.0)
    few, wide, other, unknown = (
        (100, 256, "faq"),
        (240, 576, "faq"),
        (240, 256, "style"),
        (240, 0, "faq"),
    )
    assert {rank(*one) for one in (few, wide, other, unknown)} == {(16, 32.0)}
    assert presets(TrainConfig(), 240, 256, "faq")[2].settings.rank == 64


def test_full_tuning_gets_a_tenth_of_the_rate() -> None:
    lora, full = (
        presets(TrainConfig(method=method, model="example/large"), 48, 2048)[1].settings
        for method in ("lora", "full")
    )
    assert full.learning_rate == pytest.approx(lora.learning_rate / 10)


@pytest.mark.parametrize(
    ("width", "rate"), [(576, 1e-3), (2048, 4.9e-4), (4096, 2.9e-4), (8192, 1.7e-4), (0, 2e-4)]
)
def test_presets_train_wide_models_more_slowly(width: int, rate: float) -> None:
    for preset in presets(TrainConfig(model="example/large", replay=0), 48, width):
        assert preset.settings.learning_rate == rate


def test_what_is_replayed_beside_the_rows_asks_for_three_times_the_rate_where_that_was_measured() -> (
    None
):
    def rate(width: int, goal: str = "faq", **changes: Any) -> float:
        own = TrainConfig(model="example/small", **changes)
        return presets(own, 48, width, goal)[1].settings.learning_rate

    assert rate(576) == 3 * rate(576, replay=0) == 3e-3
    assert rate(1024) == rate(1024, replay=0)  # not measured
    assert rate(576, "text") == rate(576, "text", replay=0)  # nothing is replayed
    assert rate(576, method="full") == rate(576, method="full", replay=0)
    built_in = presets(TrainConfig(), 48, 256, "faq")[1].settings
    assert built_in.learning_rate == TrainConfig().learning_rate


def test_every_setting_of_a_run_can_be_chosen() -> None:
    shown = [name for names in GROUPS.values() for name in names]
    fields = {item.name for item in dataclasses.fields(TrainConfig)}
    assert sorted(shown) == sorted(fields - {*CHOSEN_ABOVE, *CHOSEN_ELSEWHERE})


def test_markdown_of_users_stays_text() -> None:
    assert plain("**太字** [x](http://y) $1$ `c`") == r"\*\*太字\*\* \[x\](http://y) \$1\$ \`c\`"


def test_every_state_has_its_look() -> None:
    assert LOOKS.keys() == set(JobState)


COMMANDS = re.compile(r"mlx-finetuning \w|--[a-z]|data prepare|\b(train|chat|export) --")
OF_THE_TERMINAL = {
    *("SERVER_RUNNING", "SERVER_FAILED", "PORT_TAKEN"),
    *("SOURCE_CHANGED", "DATASET_NOT_REPRODUCED", "DATASET_OF_SEVERAL_SOURCES"),
}
"""Errors that no page can meet."""


@pytest.mark.parametrize("code", sorted(catalogue().keys() - OF_THE_TERMINAL))
def test_next_step_after_an_error_is_on_the_pages(code: str) -> None:
    assert not COMMANDS.search(described(StudioError.registry[code]()).next_step)


def test_every_next_step_of_the_pages_belongs_to_an_error() -> None:
    assert NEXT_STEPS_JA.keys() <= catalogue().keys()


def test_what_to_do_about_a_finding_is_on_the_pages() -> None:
    """Those with a button of their own show it instead of words."""
    for code in KINDS.keys() - {item.upper() for item in DROPPABLE} - REMEDIES.keys():
        assert not COMMANDS.search(FIXES_JA.get(code, KINDS[code].fix)), code
    assert FIXES_JA.keys() <= KINDS.keys()

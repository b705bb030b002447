"""The page 実験, through Streamlit's own test driver."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mlx_finetuning import config, files
from mlx_finetuning.config import MergeConfig, TrainConfig
from mlx_finetuning.experiment_tracker.evaluation.outcome import Evidence, judge
from mlx_finetuning.experiment_tracker.evaluation.results import Tally
from mlx_finetuning.experiment_tracker.records import notes
from mlx_finetuning.studio import Studio
from mlx_finetuning.studio.importing import Importing
from mlx_finetuning.studio.merging import Merging
from mlx_finetuning.studio.records import Records
from mlx_finetuning.studio.training import Training
from mlx_finetuning.ui.experiments.comparing import label
from mlx_finetuning.workspace import Workspace
from support import finished_run, ui_workspaces
from support.reports import CERTIFICATE, REPORT
from support.ui_pages import click, open_page, shown_errors, tables, texts


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))


def test_empty_page_leads_to_training() -> None:
    assert "まだ実験がありません" in texts(open_page("experiments"))
    assert "ゴミ箱は空です" in texts(open_page("experiments", view="trash"))


def test_list_shows_state_loss_time_tags_and_note(workspace: Workspace) -> None:
    ui_workspaces.fill(workspace, 200)
    run_id = Studio(workspace).runs.list()[0].run_id
    Studio(workspace).runs.save_note(run_id, "料金が弱い", ["本番"])
    begun_s = time.monotonic()
    page = open_page("experiments")
    assert time.monotonic() - begun_s < 20
    (table,) = page.dataframe
    rows = table.value.to_dict("records")
    assert len(rows) == 200
    assert (rows[0]["実験ID"], rows[0]["タグ"], rows[0]["メモ"]) == (run_id, "本番", "料金が弱い")
    assert rows[0]["最良の損失"] == "0.4549"
    assert rows[0]["時間"] == "1分02秒"
    page.text_input(key="runs-filter").input("本番 料金").run()
    (table,) = page.dataframe
    assert [row["実験ID"] for row in table.value.to_dict("records")] == [run_id]


def test_thirty_like_runs_are_told_apart(workspace: Workspace) -> None:
    app = Studio(workspace)
    paths = [ui_workspaces.add_run(workspace, number) for number in range(30)]
    for number, rank in ((3, 8), (7, 8), (11, 64)):
        record = json.loads(paths[number].job.read_text(encoding="utf-8"))
        record["config"]["rank"] = rank
        files.write_json(paths[number].job, record)
    ids = [path.folder.name for path in paths]
    app.runs.save_note(ids[5], "", name=" 料金の\n言い回し ")
    app.runs.pin(ids[0], True)
    for number, right in ((6, 12), (8, 18), (12, 15)):
        told = judge(Evidence("faq", "learned", taught=Tally(20, right, 0, 0, 0)))
        files.write_json(paths[number].report, asdict(replace(REPORT, outcome=told)))
    page = open_page("experiments")
    assert not page.exception
    (table,) = page.dataframe
    rows = table.value.to_dict("records")
    by_id = {row["実験ID"]: row for row in rows}
    assert rows[0]["実験ID"] == ids[0] and rows[0]["印"] == "固定"
    assert by_id[ids[5]]["名前"] == "料金の 言い回し"
    assert by_id[ids[8]]["正答率"] == 90 and by_id[ids[8]]["印"] == "★最良"
    assert [row["印"] for row in rows].count("★最良") == 1
    assert by_id[ids[11]]["ほかと違う設定"] == "LoRAのランク 64"
    assert [row["ほかと違う設定"] for row in rows].count("") == 27
    page.text_input(key="runs-filter").input("ランク").run()
    assert len(page.dataframe[0].value) == 3
    page.text_input(key="runs-filter").input("").run()
    page.multiselect(key="runs-状態").select("失敗").run()
    assert set(page.dataframe[0].value["状態"]) == {"失敗"}
    detail = open_page("experiments", run=ids[5])
    assert detail.selectbox[0].options[detail.selectbox[0].index].startswith("料金の 言い回し")


def test_columns_are_chosen_and_kept(workspace: Workspace) -> None:
    ui_workspaces.add_run(workspace, 0)
    page = open_page("experiments")
    page.multiselect(key="runs-columns").set_value(["名前", "状態"]).run()
    assert Studio(workspace).preferences.columns() == ("名前", "状態")
    again = open_page("experiments")
    assert again.multiselect(key="runs-columns").value == ["名前", "状態"]


def test_chosen_runs_go_to_the_trash_together(workspace: Workspace) -> None:
    ids = [ui_workspaces.add_run(workspace, number).folder.name for number in range(4)]
    page = open_page("experiments")
    key = f"runs-table-{hash(tuple(ids[::-1]))}"
    page.session_state[key] = {"selection": {"rows": [0, 2], "columns": [], "cells": []}}
    page.run()
    assert "2件を比べる" in [one.label for one in page.get("page_link")]
    click(page, "移す")
    assert [run.run_id for run in Studio(workspace).runs.list()] == [ids[2], ids[0]]


@pytest.mark.parametrize("page_name", ["experiments", "training", "chat", "quantization"])
def test_unknown_run_in_the_address_is_said_and_none_shown_in_its_place(
    workspace: Workspace, page_name: str
) -> None:
    run_id = finished_run.make(workspace)
    view = {"view": "watch"} if page_name == "training" else {}
    page = open_page(page_name, run="20260101-000000-gone-0000", **view)
    assert not page.exception
    assert "見つかりません" in page.warning[0].value
    assert run_id not in texts(page).replace("\\", "")
    Studio(workspace).runs.delete(run_id)
    ui_workspaces.add_run(workspace, 0)
    page = open_page("experiments", run=run_id)
    assert "ゴミ箱にあります" in page.warning[0].value


def test_interrupted_run_is_resumed_where_it_is_seen(workspace: Workspace) -> None:
    ui_workspaces.add_run(workspace, 5)  # its worker is gone
    for page_name, view in (("experiments", "detail"), ("training", "watch")):
        page = open_page(page_name, view=view)
        assert "再開" in [one.label for one in page.button]
        assert "「再開」で続きから" in page.warning[0].value


def test_comparison_shows_curves_and_only_the_differences(workspace: Workspace) -> None:
    paths = [ui_workspaces.add_run(workspace, number) for number in (0, 1, 2)]
    changed = config.as_dict(TrainConfig(dataset="faq", iterations=20, rank=8))
    files.write_text(paths[1].config, json.dumps(changed))
    names = ",".join(path.folder.name for path in paths)
    page = open_page("experiments", view="compare", runs=names)
    assert not page.exception
    figures, differences = tables(page)
    assert len(figures) == 3
    assert figures[0]["検証の損失（最良）"].endswith("（更新 20）")
    (row,) = differences
    assert row.pop("設定") == label("rank")
    assert list(row.values()) == ["16", "8", "16"]
    assert page.get("vega_lite_chart") or page.get("arrow_vega_lite_chart")


def test_equal_runs_are_said_to_be_equal(workspace: Workspace) -> None:
    for number in (0, 1):
        ui_workspaces.add_run(workspace, number)
    page = open_page("experiments", view="compare")
    assert "設定もデータも同じです" in page.success[0].value


def test_one_run_is_not_compared(workspace: Workspace) -> None:
    ui_workspaces.add_run(workspace, 0)
    assert "2つ以上" in open_page("experiments", view="compare").info[0].value


def test_report_and_certificate_are_shown(workspace: Workspace) -> None:
    run = ui_workspaces.add_run(workspace, 0)
    files.write_json(run.report, asdict(REPORT))
    files.write_text(run.report_html, "<html></html>")
    files.write_json(run.certificate, asdict(CERTIFICATE))
    page = open_page("experiments", run=run.folder.name)
    assert not page.exception
    assert not shown_errors(page)
    told = [item.value for item in page.success]
    assert any("学習できたか" in text and "学習できています" in text for text in told)
    assert "全て学習したモデルと同じです。" in told
    shown = " ".join(item.proto.body for item in page.get("html"))
    assert shown.index("学習前") < shown.index("学習後") and "営業時間は？" in shown
    (figures,) = [table for table in tables(page) if "行の種類" in table[0]]
    assert [figures[0][name] for name in ("○ 一字一句同じ", "△ 要点が合う", "× まちがい")] == list(
        "100"
    )
    labels = [item.label for item in page.get("download_button")]
    assert {"まとめ（A4 1枚）を保存", "報告書（全て）を保存"} <= set(labels)


def test_damaged_report_is_said_and_the_rest_stays_usable(workspace: Workspace) -> None:
    run = ui_workspaces.add_run(workspace, 0)
    run.report.write_text("{", encoding="utf-8")
    page = open_page("experiments", run=run.folder.name)
    assert "壊れていて読めません" in shown_errors(page)[0]
    assert "メモを保存" in [item.label for item in page.button]


def test_note_is_saved_from_the_page(workspace: Workspace) -> None:
    run_id = ui_workspaces.add_run(workspace, 0).folder.name
    page = open_page("experiments", run=run_id)
    page.text_area[0].input("夜の質問に弱い")
    page.text_input(key=f"tags-{run_id}").input("#本番、夜")
    click(page, "メモを保存")
    assert Studio(workspace).runs.note(run_id) == notes.Note("夜の質問に弱い", ("本番", "夜"))


def test_run_is_deleted_and_restored_from_the_page(workspace: Workspace) -> None:
    run_id = ui_workspaces.add_run(workspace, 0).folder.name
    click(open_page("experiments", run=run_id), "移す")
    assert Studio(workspace).runs.list() == []
    page = open_page("experiments", view="trash")
    assert run_id in texts(page).replace("\\", "")
    click(page, "元に戻す")
    assert [run.run_id for run in Studio(workspace).runs.list()] == [run_id]


def test_rerun_that_cannot_be_the_same_is_refused_in_words(workspace: Workspace) -> None:
    ui_workspaces.add_dataset(workspace)
    run_id = ui_workspaces.add_run(workspace, 0).folder.name  # its record names other data
    page = open_page("experiments", run=run_id)
    click(page, "同じ設定で再実行")
    assert "もうできません" in shown_errors(page)[0]


def test_simulated_run_is_run_again_from_the_page(workspace: Workspace) -> None:
    ui_workspaces.add_dataset(workspace)
    run_id = ui_workspaces.simulate(workspace)
    click(open_page("experiments", run=run_id), "同じ設定で再実行")
    assert len(Studio(workspace).runs.list()) == 2


def _trained(workspace: Workspace, number: int = 0) -> str:
    """A finished run with a file in the place of its weights."""
    run_id = ui_workspaces.add_run(workspace, number).folder.name
    files.write_text(workspace.adapter(run_id).weights, "-")
    return run_id


def test_finished_run_goes_on_from_the_page_with_what_was_changed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ui_workspaces.add_dataset(workspace)
    run_id = _trained(workspace)
    asked: list[Mapping[str, object]] = []

    def go_on(training: Training, parent: str, changes: Mapping[str, object]) -> str:
        asked.append({**changes, "parent": parent})
        return run_id

    monkeypatch.setattr(Training, "continue_run", go_on)
    page = open_page("experiments", run=run_id)
    page.number_input(key=f"continue-rate-{run_id}").set_value(1e-4)
    click(page, "続きを始める")
    assert asked == [
        {
            "parent": run_id,
            "dataset": "faq",
            "iterations": 20,
            "epochs": 0,
            "learning_rate": 1e-4,
        }
    ]


def test_continuation_that_is_refused_says_why(workspace: Workspace) -> None:
    ui_workspaces.add_dataset(workspace)
    run_id = _trained(workspace)  # of a model with other files
    page = open_page("experiments", run=run_id)
    click(page, "続きを始める")
    assert "続けることはできません" in shown_errors(page)[0]


def test_strength_is_chosen_on_the_page_of_a_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = _trained(workspace)
    asked: list[tuple[object, ...]] = []

    def start(merging: Merging, run_ids: Sequence[str], settings: MergeConfig) -> str:
        asked.append((list(run_ids), settings))
        return run_id

    monkeypatch.setattr(Merging, "start", start)
    page = open_page("experiments", run=run_id)
    page.slider(key=f"merge-{run_id}-strength").set_value(1.2)
    click(page, "作る")
    assert asked == [([run_id], MergeConfig(strength=1.2))]


@pytest.mark.parametrize("view", ["list", "detail", "compare", "trash"])
@pytest.mark.parametrize("fill", [lambda workspace: None, ui_workspaces.damage])
def test_every_view_is_drawn_on_empty_and_damaged_workspaces(
    workspace: Workspace, view: str, fill: Callable[[Workspace], None]
) -> None:
    fill(workspace)
    page = open_page("experiments", view=view)
    assert not page.exception
    assert not any("予期しない" in error for error in shown_errors(page))


def test_settings_have_japanese_names() -> None:
    assert label("rank") == "LoRAのランク"
    assert label("versions.mlx") == "mlx の版"
    assert "データ" in label("dataset_sha256")


def test_adapter_from_elsewhere_becomes_a_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def start(self: Importing, folder: Path, model: str, dataset: str = "") -> str:
        asked.append((folder, model, dataset))
        return finished_run.make(workspace)

    monkeypatch.setattr(Importing, "start", start)
    page = open_page("experiments")
    assert next(one for one in page.button if one.label == "取り込む").disabled
    page.text_input(key="import-folder").input(" /somewhere/adapter ").run()
    click(page, "取り込む")
    assert not page.exception
    assert asked == [(Path("/somewhere/adapter"), "tiny-ja", "")]


def test_what_is_wrong_with_an_adapter_is_said(workspace: Workspace) -> None:
    page = open_page("experiments")
    page.text_input(key="import-folder").input(str(workspace.root / "none")).run()
    click(page, "取り込む")
    (told,) = shown_errors(page)
    assert "取り込めません" in told
    assert "フォルダーがありません" in texts(page)


def test_run_is_shared_as_a_file_or_sent(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = finished_run.make(workspace)
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(Records, "share", lambda self, *given: asked.append(given))
    monkeypatch.setattr(
        Records, "publish", lambda self, *given, public: asked.append((*given, public))
    )
    page = open_page("experiments", run=run_id)
    click(page, "書き出す")
    assert asked.pop() == (run_id, workspace.exports / run_id)
    way = next(one for one in page.get("button_group") if one.label == "渡し方")
    way.set_value("Hugging Faceに送る").run()
    page.text_input(key=f"share-repository-{run_id}").input("me/model").run()
    click(page, "自分だけに見える形で送る")
    assert asked.pop() == (run_id, "me/model", False)
    page.checkbox(key=f"share-public-{run_id}").check().run()
    assert any("世界中" in one.value for one in page.warning)
    click(page, "公開して送る")
    assert asked.pop() == (run_id, "me/model", True)


def test_narrow_screens_get_a_card_for_each_run_that_leads_to_it(workspace: Workspace) -> None:
    ids = [ui_workspaces.add_run(workspace, number).folder.name for number in range(2)]
    Studio(workspace).runs.save_note(ids[0], "", name="料金")
    page = open_page("experiments")
    (cards,) = [html.value for html in page.get("html") if "<table" in str(html.value)]
    assert [f"experiments?run={run_id}" in cards for run_id in ids] == [True, True]
    assert "料金" in cards

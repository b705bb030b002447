"""The page 軽くする, through Streamlit's own test driver and with real exports of a small run."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from mlx_finetuning import files
from mlx_finetuning.config import QUANTIZATIONS
from mlx_finetuning.quantizer.verify import written
from mlx_finetuning.studio import Studio
from mlx_finetuning.ui.quantization.choice import FORMATS, FORMATS_JA, QUANTS_JA
from mlx_finetuning.workspace import Workspace
from support import finished_run, ui_workspaces
from support.helpers import jobs_in_process, wait_until
from support.reports import EXPORT_REPORT
from support.ui_pages import click, open_page, shown_errors, texts


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))


def test_empty_page_leads_to_training(workspace: Workspace) -> None:
    assert "まだありません" in texts(open_page("quantization"))
    ui_workspaces.damage(workspace)  # runs without an adapter
    assert "まだありません" in texts(open_page("quantization"))


def test_every_format_and_type_has_words() -> None:
    assert set(FORMATS_JA) == set(FORMATS)
    assert set(QUANTS_JA) == set(QUANTIZATIONS)


def test_predicted_sizes_are_those_of_the_files(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace, short=True)
    predicted = Studio(workspace).exports.predicted_sizes(run_id)
    assert set(predicted) == set(QUANTIZATIONS)
    with jobs_in_process():
        result = Studio(workspace).exports.start(run_id, quants=("Q8_0", "Q4_K_M")).follow()
    for quant, made in result.files.items():
        assert predicted[quant] == pytest.approx(made.size_bytes, rel=0.03)


def test_run_is_quantized_from_the_page_and_the_result_said_in_plain_words(
    workspace: Workspace,
) -> None:
    run_id = finished_run.make(workspace, short=True)
    page = open_page("quantization", run=run_id)
    assert not page.exception
    assert not shown_errors(page)
    assert "作ったもの" not in [header.value for header in page.header]
    click(page, "軽くする")
    app = Studio(workspace)
    (job,) = app.jobs.list(run_id)
    wait_until(lambda: not app.jobs.status(run_id, job.name).is_living, 60)
    page = open_page("quantization")  # as a reload finds it
    (made,) = app.exports.list(run_id)
    assert made.proven
    assert made.agreement is not None
    assert f"学習したモデルと **{made.agreement * 100:.1f}%一致**" in texts(page)
    assert made.verdict.split("（")[0] in texts(page)
    assert "検証し直す" in [one.label for one in page.button]
    assert "証明する" in [one.label for one in page.button]


def test_failed_job_says_why(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace)
    job = workspace.run(run_id).later_job("export-20260101-000000-0000")
    files.write_json(job.job, {"kind": "export", "workspace": "", "run_id": "", "config": {}})
    files.write_json(job.status, FAILED)
    page = open_page("quantization", run=run_id)
    assert any("学習したモデルと同じ" in error for error in shown_errors(page)), shown_errors(page)


FAILED = {
    **dict.fromkeys(("stage", "detail", "started_at", "ended_at"), ""),
    "state": "failed",
    "created_at": "2026-01-01T00:00:00+00:00",
    "done": 0,
    "total": 0,
    "elapsed_s": 1.0,
    "remaining_s": None,
    "heartbeat_s": 0.0,
    "error": {"code": "EXPORT_NOT_PROVEN", "data": {"path": "x.gguf", "problems": ["差がある"]}},
}


def test_written_models_are_told_apart_by_their_names(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace)
    folder = workspace.gguf_folder(run_id)
    for name in ("m-Q4_K_M.gguf", "m-adapter.gguf", ".tmp-1.gguf", "m-Q8_0.Modelfile"):
        files.write_text(folder / name, "x")
    files.write_text(folder / "m-peft" / "adapter.safetensors", "xyz")
    files.write_json(written.report_path(folder / "m-Q4_K_M.gguf"), asdict(EXPORT_REPORT))
    found = {model.path.name: model for model in Studio(workspace).exports.list(run_id)}
    assert {name: model.format for name, model in found.items()} == {
        "m-Q4_K_M.gguf": "gguf",
        "m-adapter.gguf": "gguf-lora",
        "m-peft": "peft",
    }
    assert found["m-peft"].size_bytes == 3
    assert (found["m-Q4_K_M.gguf"].quant, found["m-Q4_K_M.gguf"].agreement) == ("Q4_K_M", 0.987)
    page = open_page("quantization", run=run_id)
    assert "学習したモデルと **98.7%一致**" in texts(page)
    written.report_path(folder / "m-Q4_K_M.gguf").write_text("{", encoding="utf-8")
    page = open_page("quantization", run=run_id)
    assert not page.exception
    assert "一致**" not in texts(page)


def test_strength_of_what_was_learned_is_chosen_before_it_is_written(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace, short=True)
    page = open_page("quantization", run=run_id)
    with jobs_in_process():
        page.slider(key="export-strength").set_value(0.5)
        click(page, "軽くする")
    assert not page.exception
    assert not shown_errors(page)
    app = Studio(workspace)
    weaker = next(run for run in app.runs.list() if run.merged == (run_id,))
    assert [one.quant for one in app.exports.list(weaker.run_id)] == ["Q4_K_M"]
    assert app.exports.list(run_id) == []
    assert any("学習の強さ 0.5" in item.value for item in page.success)

"""Every record cut at every byte, and of a newer version: shown as such, never a crash, never
rewritten; what else there is stays readable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import mlx.optimizers as optim
import pytest
from streamlit.testing.v1 import AppTest

from mlx_finetuning import cli, files
from mlx_finetuning.data_processor import read_manifest
from mlx_finetuning.errors import (
    AdapterUnusable,
    NewerSchema,
    RecordDamaged,
    RunNotResumable,
    StudioError,
)
from mlx_finetuning.jobs import jobs, queue, runs, status
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.mlx_trainer.training import checkpoints
from mlx_finetuning.runtime.chats import Conversation
from mlx_finetuning.studio import Studio
from mlx_finetuning.ui import sitemap
from mlx_finetuning.workspace import Workspace
from support import finished_run, reports, ui_workspaces
from support.ui_pages import PAGES, SCRIPT

LATER = "export-20260101-000000-0000"
RUN = finished_run.RUN


@pytest.fixture
def full(workspace: Workspace) -> Workspace:
    """A workspace with one of every record."""
    finished_run.make(workspace)
    ui_workspaces.add_dataset(workspace)
    paths, later = workspace.run(RUN), workspace.run(RUN).later_job(LATER)
    jobs.write_status(paths, JobStatus("cancelled", created_at=jobs.now(), elapsed_s=3.0))
    job = {"kind": "train", "workspace": str(workspace.root), "run_id": RUN, "config": {}}
    files.write_json(paths.job, job)
    files.write_text(paths.config, "model: tiny-ja\ndataset: faq\niterations: 20\n")
    ui_workspaces.write_metrics(paths.metrics, 3)
    samples = {"update": 1, "row": 2, "question": "問い", "expected": "答え", "answer": "え"}
    paths.samples.write_text(json.dumps(samples, ensure_ascii=False) + "\n", encoding="utf-8")
    paths.events.write_text('{"time": "2026", "event": "state", "state": "done"}\n')
    files.write_json(paths.report, asdict(reports.REPORT))
    files.write_json(paths.certificate, asdict(reports.CERTIFICATE))
    files.make_folder(later.folder)
    files.write_json(later.job, {**job, "kind": "serve_model"})
    jobs.write_status(later, JobStatus("done"))
    files.write_json(later.result, {"name": "faq", "host": "http://127.0.0.1:11434"})
    files.write_json(later.port, {"address": "http://127.0.0.1:9", "key": "k"})
    Studio(workspace).chat.save(RUN, Conversation("mlx").with_turn("問い", {"tuned": "答え"}))
    Studio(workspace).preferences.save({"iterations": 30})
    Studio(workspace).runs.save_note(RUN, "良い結果", ["本番"])
    gguf = files.make_folder(workspace.gguf_folder(RUN)) / "faq-Q8_0.gguf"
    gguf.write_bytes(b"GGUF")
    files.write_json(gguf.with_suffix(".export_report.json"), asdict(reports.EXPORT_REPORT))
    trash = workspace.trashed("20260101-000000-tiny-ja-0000")
    files.make_folder(trash.run)
    files.write_json(trash.record, {"model": "tiny-ja", "dataset": "faq", "deleted_at": "2026"})
    folder = workspace.adapter(RUN).checkpoints / "0000003"
    files.write_json(files.make_folder(folder) / "state.json", {"identity": "x", "course": {}})
    files.write_json(workspace.logs / "serve.json", {"pid": 1, "url": "http://127.0.0.1:8501"})
    model = files.make_folder(workspace.base_model("other"))
    files.write_json(model / "source.json", {"repo_id": "Org/other", "commit": "0" * 40})
    return workspace


RECORDS = (
    *("job.json", "status.json", "experiment.json", "config.yaml", "metrics.jsonl"),
    *("events.jsonl", "samples.jsonl", "report.json", "certificate.json", "dataset.json"),
    *("result.json", "port.json", "preferences.json", "state.json", "adapter_config.json"),
    *("serve.json", "source.json", "train.jsonl", "notes.json", "faq-Q8_0.export_report.json"),
    "trash.json",
)


def records(workspace: Workspace) -> list[Path]:
    """Every file of a record that the application reads, conversations included."""
    chats = workspace.run(RUN).chats
    found = (path for path in workspace.root.rglob("*") if path.is_file())
    return sorted(path for path in found if path.name in RECORDS or path.parent == chats)


def looks(workspace: Workspace) -> list[Callable[[], object]]:
    """Everything that reads records, and that pages and commands call."""
    studio = Studio(workspace)
    dataset = workspace.dataset("faq")
    return [
        studio.data.list,
        studio.runs.list,
        lambda: studio.runs.show(RUN),
        lambda: studio.runs.metrics(RUN),
        lambda: studio.runs.metrics_reader(RUN).refresh(),
        lambda: studio.runs.samples(RUN),
        lambda: studio.runs.events(RUN),
        lambda: studio.runs.settings(RUN),
        lambda: studio.jobs.list(RUN),
        lambda: studio.evaluation.report(RUN),
        lambda: studio.evaluation.certificate(RUN),
        lambda: studio.chat.list(RUN),
        lambda: studio.runs.note(RUN),
        lambda: studio.exports.list(RUN),
        studio.runs.deleted,
        studio.data.deleted,
        studio.jobs.living,
        lambda: studio.records.csv(RUN),
        lambda: studio.chat.servers(RUN),
        lambda: runs.deployments(workspace, RUN),
        lambda: list(queue.living_jobs(workspace)),
        lambda: checkpoints.latest(workspace.adapter(RUN).checkpoints),
        lambda: read_manifest(dataset.manifest),
        studio.preferences.read,
        studio.machine.disk_usage,
        studio.machine.waste,
        studio.models.list,
    ]


def look_at_all(workspace: Workspace, what: str) -> None:
    """Only errors with Japanese words may come out."""
    for look in looks(workspace):
        try:
            look()
        except StudioError as error:
            assert str(error)
        except FileNotFoundError as error:
            raise AssertionError(what) from error
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error


def test_every_record_is_covered(full: Workspace) -> None:
    assert {path.name for path in records(full)} >= set(RECORDS)
    assert len(records(full)) >= len(RECORDS)


def test_records_cut_at_any_byte_crash_nothing(
    full: Workspace, often: Callable[[int], int]
) -> None:
    step = 40 // often(40) * 5 if often(40) < 40 else 1
    for path in records(full):
        whole = path.read_bytes()
        for size in range(0, len(whole), step):
            path.write_bytes(whole[:size])
            look_at_all(full, f"{path.name} cut at {size} of {len(whole)}")
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["status.json", "experiment.json"])
def test_cut_record_of_a_run_is_damaged_and_the_rest_is_shown(full: Workspace, name: str) -> None:
    path = full.run(RUN).folder / name
    whole = path.read_bytes()
    studio = Studio(full)
    for size in range(len(whole) - 2):  # the line end may go
        path.write_bytes(whole[:size])
        run = studio.runs.show(RUN)
        assert run.state_label == "破損" and run.problems == (name,)
        assert [line.update for line in studio.runs.metrics(RUN) if line.loss is not None] == [
            1,
            2,
            3,
        ]
        assert studio.evaluation.report(RUN)


def test_cut_manifest_leaves_the_rows_usable(full: Workspace) -> None:
    manifest = full.dataset("faq").manifest
    manifest.write_bytes(manifest.read_bytes()[:-5])
    entries = {entry.name: entry.manifest for entry in Studio(full).data.list()}
    assert entries["faq"] is None and "questions" in entries


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 200_000, b"9" * 5000])
def test_pages_and_commands_show_damaged_records(
    full: Workspace,
    content: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in records(full):
        path.write_bytes(content)
    look_at_all(full, repr(content[:9]))
    place = ["--workspace", str(full.root), "--json"]
    assert cli.main(["runs", "list", *place]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["status"]["state"] == "damaged"
    assert cli.main(["runs", "show", RUN, *place]) == 0
    assert json.loads(capsys.readouterr().out)["problems"]
    assert Studio(full).machine.diagnostics()
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(full.root))
    for name in sitemap.ENTRIES if content == b"" else ("experiments",):
        app = AppTest.from_file(str(SCRIPT), default_timeout=30)
        app.query_params["run"] = RUN
        page = app.switch_page(str(PAGES / f"{name}.py")).run()
        assert not page.exception, (name, page.exception)
        assert not any("予期しない" in item.value for item in page.error), name


@pytest.mark.parametrize("content", ["{", '{"schema_version": 99}', '{"repo_id": 3}'])
def test_one_damaged_model_hides_no_other(full: Workspace, content: str) -> None:
    (full.base_model("other") / "source.json").write_text(content)
    assert [model.name for model in Studio(full).models.list()] == ["tiny-ja", "other"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("adapter_config.json", text) for text in ("", "{}", "[1]", '{"num_layers": 4}')),
        ("adapter_config.json", '{"num_layers": "x", "lora_parameters": {"rank": 4}}'),
        *(("adapters.safetensors", text) for text in ("", "x" * 9)),
    ],
)
def test_damaged_adapter_is_named_when_it_is_loaded(
    full: Workspace, name: str, content: str
) -> None:
    adapter = full.adapter(RUN).folder
    (adapter / name).write_text(content)
    with pytest.raises(AdapterUnusable) as caught:
        load(finished_run.base(full), adapter)
    assert str(adapter) in str(caught.value) and "読み込めません" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", '{"identity": "run"}'),
        ("state.json", '{"identity": "run", "course": {"of a newer version": 1}}'),
        ("adapters.safetensors", "cut"),
        ("optimizer.safetensors", ""),
    ],
)
def test_damaged_checkpoint_is_named(
    tmp_path: Path, tiny: LoadedModel, name: str, content: str
) -> None:
    rule = optim.SGD(0.1)
    made = checkpoints.save(
        tmp_path,
        tiny.model,
        {},
        tiny.chat,
        rule,
        checkpoints.TrainingState(1),
        checkpoints.Identity("run"),
    )
    (made / name).write_text(content)
    with pytest.raises(RecordDamaged) as caught:
        checkpoints.restore(made, tiny.model, rule, checkpoints.Identity("run"))
    assert name in str(caught.value)


def test_newer_records_are_never_rewritten(full: Workspace) -> None:
    studio = Studio(full)
    for path in (path for path in records(full) if path.suffix == ".json"):
        record = json.loads(path.read_bytes())
        newer = json.dumps({**record, "schema_version": 99}).encode()
        whole = path.read_bytes()
        path.write_bytes(newer)
        look_at_all(full, path.name)
        with pytest.raises(NewerSchema):
            files.write_json(path, {"state": "done"})
        assert path.read_bytes() == newer, path.name
        path.write_bytes(whole)
    assert studio.runs.show(RUN).status.state == "cancelled"


def test_run_of_a_newer_version_is_neither_resumed_nor_stopped(full: Workspace) -> None:
    studio, path = Studio(full), full.run(RUN).status
    files.write_text(path, json.dumps({"schema_version": 99, "state": "running"}))
    newer = path.read_bytes()
    with pytest.raises(RunNotResumable):
        studio.training.resume(RUN)
    assert studio.runs.stop(RUN).state_label == "新しい版の記録"
    assert path.read_bytes() == newer
    assert not full.run(RUN).stop_request.exists()


def test_settings_of_a_newer_version_are_not_written_over(full: Workspace) -> None:
    files.write_text(full.preferences, json.dumps({"schema_version": 99, "train": {}}))
    before = full.preferences.read_bytes()
    with pytest.raises(NewerSchema):
        Studio(full).preferences.save({"iterations": 7})
    assert full.preferences.read_bytes() == before


def test_worker_of_a_damaged_job_fails_clearly(full: Workspace) -> None:
    paths = full.job("cut")
    jobs.launch(paths, Job("preview", str(full.root), "", {}), cut)
    with pytest.raises(StudioError) as caught:
        jobs.follow(paths, lambda _: None)
    assert caught.value.code == "RECORD_DAMAGED"
    assert status.read(paths).state == "failed"


def cut(folder: Path) -> None:
    path = folder / "job.json"
    path.write_bytes(path.read_bytes()[:-10])

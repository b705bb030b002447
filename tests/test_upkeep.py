"""Disk use, cleaning, own defaults, and the text of the diagnosis."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mlx_finetuning import diagnostics, files, preferences, upkeep
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.doctor import Diagnosis, DiagnosisItem
from mlx_finetuning.errors import InvalidSettings
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

DAY_S = 24 * 3600.0


def put(path: Path, size: int = 10_000, age_s: float = 2 * DAY_S) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def kinds(workspace: Workspace) -> dict[str, upkeep.Waste]:
    return {waste.key: waste for waste in upkeep.find_waste(workspace)}


def finish(workspace: Workspace, run_id: str, state: str) -> Path:
    files.write_json(workspace.run(run_id).status, {"state": state})
    return put(workspace.adapter(run_id).checkpoints / "0000100" / "adapters.safetensors").parents[
        1
    ]


def test_empty_workspace_takes_nothing_and_has_nothing_to_clean(workspace: Workspace) -> None:
    assert sum(part.size for part in upkeep.disk_usage(workspace)) == 0
    assert upkeep.find_waste(workspace) == []


def test_disk_use_counts_blocks_of_files_and_no_links(workspace: Workspace, tmp_path: Path) -> None:
    put(workspace.dataset("a").train, 100_000)
    outside = put(tmp_path / "outside", 1_000_000)
    (workspace.datasets / "link").symlink_to(outside)
    (usage,) = [part for part in upkeep.disk_usage(workspace) if part.size]
    assert usage.name == "データセット"
    assert 100_000 <= usage.size < 200_000


def test_checkpoints_go_only_when_their_run_is_done(workspace: Workspace) -> None:
    done = finish(workspace, "run-done", "done")
    kept = [finish(workspace, f"run-{state}", state) for state in ("cancelled", "running")]
    adapter = put(workspace.adapter("run-done").weights)
    assert kinds(workspace)["checkpoints"].paths == (done,)
    assert upkeep.clean(workspace, "checkpoints") >= 10_000
    assert not done.exists()
    assert adapter.exists()
    assert all(folder.exists() for folder in kept)


def test_uploads_of_datasets_stay_and_young_ones_too(workspace: Workspace) -> None:
    studio = Studio(workspace)
    rows = "質問,回答\n" + "".join(f"質問{n}は？,答え{n}です。\n" for n in range(8))
    used = studio.data.keep_upload("a.csv", rows.encode())
    studio.data.prepare(used, "a")
    unused, young = (workspace.uploads / folder / "b.csv" for folder in ("1" * 16, "2" * 16))
    put(used, len(used.read_bytes()))
    put(unused)
    put(young, age_s=60)
    put(used.with_name(".draft.json"))
    put(workspace.uploads / ("3" * 16) / "edited.csv")
    put(workspace.uploads / ("3" * 16) / ".draft.json", age_s=60)
    assert kinds(workspace)["uploads"].paths == (unused,)


def test_no_upload_goes_while_a_dataset_cannot_be_read(workspace: Workspace) -> None:
    put(workspace.uploads / ("1" * 16) / "b.csv")
    put(workspace.dataset("broken").manifest)
    assert "uploads" not in kinds(workspace)


def test_job_that_still_works_is_not_cleaned(workspace: Workspace) -> None:
    old, living = (put(workspace.job(name).job).parent for name in ("old", "living"))
    lock = files.FileLock(workspace.job("living").lock)
    assert lock.acquire()
    for folder in (old, living):
        os.utime(folder, (time.time() - 2 * DAY_S,) * 2)
    assert kinds(workspace)["jobs"].paths == (old,)
    lock.release()


def test_own_defaults_are_kept_and_the_usual_ones_forgotten(workspace: Workspace) -> None:
    assert preferences.read(workspace) == TrainConfig()
    preferences.save(workspace, {"batch_size": 2, "seed": 42})
    assert preferences.read(workspace) == TrainConfig(batch_size=2)
    assert files.read_json(workspace.preferences)["train"] == {"batch_size": 2}
    preferences.save(workspace, {"batch_size": 8})
    assert preferences.read(workspace) == TrainConfig()


def test_wrong_default_changes_nothing(workspace: Workspace) -> None:
    preferences.save(workspace, {"batch_size": 2})
    with pytest.raises(InvalidSettings):
        preferences.save(workspace, {"batch_size": 0})
    assert preferences.read(workspace).batch_size == 2


def test_diagnosis_holds_no_secret_and_not_the_user_s_name(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary, key = "canary-51f0c2aa", "key-9a8b7c6d"
    monkeypatch.setenv("HF_TOKEN", canary)
    monkeypatch.setenv("SOME_API_KEY", key)
    hub = "hf_" + "a" * 30
    put(workspace.logs / "ui.log")
    (workspace.logs / "ui.log").write_text(f"{canary} {key} {hub} {Path.home()}/x\n", "utf-8")
    text = diagnostics.as_text(
        workspace, Diagnosis((DiagnosisItem("memory", "メモリー", "ok", "8 GB"),))
    )
    assert "メモリー: 8 GB" in text
    assert "~/x" in text
    assert not any(secret in text for secret in (canary, key, hub, str(Path.home()) + "/"))

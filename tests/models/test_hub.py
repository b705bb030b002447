"""Downloads from a hub on loopback: whole, cut, gated, unreachable, hostile."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_finetuning import models
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import (
    DownloadCut,
    DownloadDamaged,
    DownloadRunning,
    HubTokenRejected,
    HubUnreachable,
    Interrupted,
    ModelGated,
    ModelIncomplete,
    ModelNotDownloaded,
    ModelNotFound,
    ModelRunsCode,
    NotEnoughSpace,
)
from mlx_finetuning.models import hub as hub_client
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support.helpers import jobs_in_process, write_facts
from support.hub_server import GOOD_TOKEN, KNOWN_TOKEN_WITHOUT_ACCESS, Hub, Repository, running_hub
from support.small_models import write_quantized

REPO = "Example-Org/Some.Model-0.1B"
SLUG = "example-org-some-model-0-1b"
WEIGHT_BYTES = 3_000_000


def safetensors(payload: bytes) -> bytes:
    header = json.dumps(
        {"w": {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}}
    ).encode()
    return struct.pack("<Q", len(header)) + header + payload


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(hub_client, "RETRY_PAUSE_S", 0.01)
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        payload = bytes(range(256)) * (WEIGHT_BYTES // 256)
        server.repositories[REPO] = Repository(
            {
                "config.json": b'{"model_type": "llama"}',
                "tokenizer.json": b"{}",
                "tokenizer_config.json": b"{}",
                "model.safetensors": safetensors(payload),
                "README.md": b"# readme",
                "pytorch_model.bin": b"pickle",
                "modeling_evil.py": b"import os",
                "onnx/model.safetensors": b"other",
                "consolidated.safetensors": b"duplicate",
            },
            commit="ab" * 20,
        )
        yield server


def weights(hub: Hub) -> bytes:
    return hub.repositories[REPO].files["model.safetensors"]


def test_download_brings_only_what_a_safe_loader_reads(hub: Hub, workspace: Workspace) -> None:
    path = models.download(REPO, workspace, silent)
    assert path == workspace.base_models / SLUG
    assert sorted(file.name for file in path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "source.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (path / "model.safetensors").read_bytes() == weights(hub)
    source = json.loads((path / "source.json").read_text(encoding="utf-8"))
    assert (source["repo_id"], source["commit"]) == (REPO, "ab" * 20)


def test_downloaded_model_is_found_by_id_and_by_folder_name(hub: Hub, workspace: Workspace) -> None:
    path = models.download(REPO, workspace, silent)
    assert models.resolve(REPO, workspace) == path
    assert models.resolve(SLUG, workspace) == path
    asked = len(hub.requests)
    assert models.download(REPO.lower(), workspace, silent) == path
    assert len(hub.requests) == asked
    assert [model.repo_id for model in models.installed(workspace)][-1] == REPO
    models.delete(REPO, workspace)
    assert not path.exists()
    with pytest.raises(ModelNotDownloaded):
        models.resolve(REPO, workspace)


def test_progress_counts_bytes_up_to_the_total(hub: Hub, workspace: Workspace) -> None:
    steps: list[Step] = []
    models.download(REPO, workspace, steps.append)
    done = [step.done for step in steps]
    wanted = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
    total = sum(len(hub.repositories[REPO].files[name]) for name in wanted)
    assert done == sorted(done)
    assert done[-1] == total
    assert {step.total for step in steps} == {total}


def test_connection_that_breaks_is_continued_within_the_download(
    hub: Hub, workspace: Workspace
) -> None:
    hub.cut_after = 1_000_000
    path = models.download(REPO, workspace, silent)
    assert (path / "model.safetensors").read_bytes() == weights(hub)
    assert hub.ranges("model.safetensors") == [
        None,
        "bytes=1000000-",
        "bytes=2000000-",
    ] + [f"bytes={start}-" for start in range(3_000_000, len(weights(hub)), 1_000_000)]


def test_cut_download_continues_where_it_stopped_in_the_next_call(
    hub: Hub, workspace: Workspace
) -> None:
    hub.cut_after = 0
    with pytest.raises(DownloadCut):
        models.download(REPO, workspace, silent)
    hub.cut_after = None

    def stop_midway(step: Step) -> None:
        if step.done > 1_500_000:
            raise Interrupted

    with pytest.raises(Interrupted):
        models.download(REPO, workspace, stop_midway)
    assert not (workspace.base_models / SLUG).exists()
    assert REPO not in [model.name for model in models.installed(workspace)]
    hub.requests.clear()
    path = models.download(REPO, workspace, silent)
    (resumed,) = hub.ranges("model.safetensors")
    assert resumed is not None
    assert int(resumed.removeprefix("bytes=").removesuffix("-")) >= 1_000_000
    assert not [path for _, path, _ in hub.requests if path.endswith("config.json")]
    assert (path / "model.safetensors").read_bytes() == weights(hub)
    assert not list(workspace.base_models.glob(".download-*"))


def test_killed_download_continues_where_it_stopped(hub: Hub, workspace: Workspace) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from mlx_finetuning import models\n"
        "from mlx_finetuning.workspace import Workspace\n"
        "def die(step):\n"
        "    if step.done > 1_500_000: os.kill(os.getpid(), signal.SIGKILL)\n"
        "models.download(sys.argv[1], Workspace(Path(sys.argv[2])), die)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, REPO, str(workspace.root)], check=False)
    assert done.returncode == -9
    hub.requests.clear()
    path = models.download(REPO, workspace, silent)
    assert hub.ranges("model.safetensors") != [None]
    assert (path / "model.safetensors").read_bytes() == weights(hub)


def test_server_without_ranges_sends_the_file_again(hub: Hub, workspace: Workspace) -> None:
    def stop_midway(step: Step) -> None:
        if step.done > 1_500_000:
            raise Interrupted

    with pytest.raises(Interrupted):
        models.download(REPO, workspace, stop_midway)
    hub.ignore_ranges = True
    path = models.download(REPO, workspace, silent)
    assert (path / "model.safetensors").read_bytes() == weights(hub)


def test_new_commit_starts_afresh(hub: Hub, workspace: Workspace) -> None:
    def stop_midway(step: Step) -> None:
        if step.done > 1_500_000:
            raise Interrupted

    with pytest.raises(Interrupted):
        models.download(REPO, workspace, stop_midway)
    hub.repositories[REPO].commit = "cd" * 20
    hub.repositories[REPO].files["model.safetensors"] = safetensors(b"new" * 1000)
    path = models.download(REPO, workspace, silent)
    assert (path / "model.safetensors").read_bytes() == safetensors(b"new" * 1000)
    assert not list(workspace.base_models.glob(".download-*"))


def test_content_that_differs_from_the_announced_hash_is_refused(
    hub: Hub, workspace: Workspace
) -> None:
    hub.corrupt = True
    with pytest.raises(DownloadDamaged):
        models.download(REPO, workspace, silent)
    assert not (workspace.base_models / SLUG).exists()
    hub.corrupt = False
    assert models.download(REPO, workspace, silent).is_dir()


@pytest.mark.parametrize(
    ("token", "state"), [(None, "未設定"), (KNOWN_TOKEN_WITHOUT_ACCESS, "設定済み")]
)
def test_gated_model_says_how_to_get_access(
    hub: Hub,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    state: str,
) -> None:
    hub.repositories[REPO].gated = True
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ModelGated) as caught:
        models.download(REPO, workspace, silent)
    text = str(caught.value)
    assert f"{hub.url}/{REPO}" in text
    assert "HF_TOKEN" in text
    assert state in text
    assert not token or token not in text


def test_token_opens_a_gated_model_and_stays_in_the_environment(
    hub: Hub,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub.repositories[REPO].gated = True
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    with caplog.at_level(0):
        models.download(REPO, workspace, silent)
    sent = {path: headers.get("authorization") for _, path, headers in hub.requests}
    assert sent[f"hub/{REPO}/resolve/{'ab' * 20}/model.safetensors"] == f"Bearer {GOOD_TOKEN}"
    assert sent[f"files/{REPO}/model.safetensors"] is None
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or GOOD_TOKEN.encode() not in file.read_bytes(), file
    output = capfd.readouterr()
    assert GOOD_TOKEN not in output.out + output.err + caplog.text


def test_wrong_token_is_named_as_the_reason(
    hub: Hub, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(HubTokenRejected) as caught:
        models.download(REPO, workspace, silent)
    assert "hf_expired" not in str(caught.value)


def test_unknown_repository_is_answered_with_near_names(hub: Hub, workspace: Workspace) -> None:
    with pytest.raises(ModelNotFound) as caught:
        models.download("Qwen/Qwen3-0.7B", workspace, silent)
    assert "Qwen/Qwen3-0.6B" in str(caught.value)


def test_unreachable_hub_says_how_to_go_on_offline(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as reserved:  # bound but not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{reserved.getsockname()[1]}")
        with pytest.raises(HubUnreachable) as caught:
            models.download(REPO, workspace, silent)
    assert "tiny-ja" in str(caught.value)
    assert "コピー" in str(caught.value)
    assert not workspace.root.exists()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_server_trouble_is_reported_with_its_status(
    hub: Hub, workspace: Workspace, status: int
) -> None:
    hub.status = status
    with pytest.raises(HubUnreachable) as caught:
        models.download(REPO, workspace, silent)
    assert f"HTTP {status}" in str(caught.value)


def test_sign_in_page_of_a_proxy_is_not_taken_for_the_hub(hub: Hub, workspace: Workspace) -> None:
    hub.status = 200
    with pytest.raises(HubUnreachable):
        models.download(REPO, workspace, silent)


def test_repository_that_names_code_is_refused_before_its_weights_are_fetched(
    hub: Hub, workspace: Workspace
) -> None:
    config = {"model_type": "llama", "auto_map": {"AutoModel": "modeling_evil.Model"}}
    hub.repositories[REPO].files["config.json"] = json.dumps(config).encode()
    with pytest.raises(ModelRunsCode):
        models.download(REPO, workspace, silent)
    assert hub.ranges("model.safetensors") == []
    assert not list(workspace.base_models.glob("*/*"))


def test_repository_with_pickles_only_is_refused(hub: Hub, workspace: Workspace) -> None:
    files = hub.repositories[REPO].files
    hub.repositories[REPO].files = {
        name: content for name, content in files.items() if not name.endswith(".safetensors")
    }
    with pytest.raises(ModelIncomplete):
        models.download(REPO, workspace, silent)


def test_file_names_cannot_leave_the_folder(hub: Hub, workspace: Workspace) -> None:
    hub.repositories[REPO].files["../../escaped.safetensors"] = b"x"
    hub.repositories[REPO].files["/etc/escaped.safetensors"] = b"x"
    models.download(REPO, workspace, silent)
    assert not list(workspace.root.rglob("escaped*"))


def test_too_little_space_is_noticed_before_the_transfer(
    hub: Hub, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_finetuning.models import store

    monkeypatch.setattr(store, "_SPARE_BYTES", 10**18)
    with pytest.raises(NotEnoughSpace):
        models.download(REPO, workspace, silent)
    assert hub.ranges("model.safetensors") == []


def test_full_disk_leaves_no_half_model(hub: Hub, workspace: Workspace) -> None:
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from mlx_finetuning import models\n"
        "from mlx_finetuning.errors import DiskFull\n"
        "from mlx_finetuning.progress import silent\n"
        "from mlx_finetuning.workspace import Workspace\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))\n"
        "try: models.download(sys.argv[1], Workspace(Path(sys.argv[2])), silent)\n"
        "except DiskFull: sys.exit(28)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, REPO, str(workspace.root)], check=False)
    assert done.returncode == 28
    assert not (workspace.base_models / SLUG).exists()
    assert models.download(REPO, workspace, silent).is_dir()


def test_second_download_of_the_same_model_is_refused(hub: Hub, workspace: Workspace) -> None:
    refused: list[str] = []

    def download_again(step: Step) -> None:
        if not refused:
            with pytest.raises(DownloadRunning) as caught:
                models.download(REPO, workspace, silent)
            refused.append(caught.value.code)

    models.download(REPO, workspace, download_again)
    assert refused == ["DOWNLOAD_RUNNING"]


def test_ids_that_share_a_folder_name_are_kept_apart(hub: Hub, workspace: Workspace) -> None:
    twin = "example-org/some-model-0.1b"
    hub.repositories[twin] = Repository(dict(hub.repositories[REPO].files), commit="ef" * 20)
    first = models.download(REPO, workspace, silent)
    second = models.download(twin, workspace, silent)
    assert first != second
    assert models.resolve(twin, workspace) == second


@pytest.mark.parametrize("name", ["../../x", "a/b/c", "a\0/b", "-rf/x", "a/..", "a/b;touch x", ""])
def test_names_that_are_no_hub_ids_never_reach_the_network(
    hub: Hub, workspace: Workspace, name: str
) -> None:
    with pytest.raises(ModelNotFound):
        models.download(name, workspace, silent)
    assert hub.requests == []


TWIN = "mlx-community/Tiny-JA-4bit"


def test_quantized_community_repository_is_fetched_by_name_and_trained_with_qlora(
    hub: Hub, workspace: Workspace, tmp_path: Path
) -> None:
    """As `mlx_lm.convert -q` uploads them: two shards, an index, the quantization in config.json."""
    folder = tmp_path / "converted"
    write_quantized(models.resolve(models.BUILT_IN, workspace), folder)
    split_weights(folder)
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.repositories[TWIN] = Repository({**content, ".DS_Store": b"x"}, commit="cd" * 20)
    path = models.download(TWIN, workspace, silent)
    assert sorted(file.name for file in path.glob("*.safetensors*")) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    write_facts(workspace)
    studio = Studio(workspace)
    settings = TrainConfig(
        model=TWIN,
        dataset="facts",
        iterations=4,
        batch_size=4,
        rank=8,
        warmup=0,
        sample_every=0,
    )
    with jobs_in_process():
        run_id = studio.training.start(settings)
    result = studio.runs.follow(run_id, silent)
    assert result.last_valid_loss < result.first_valid_loss
    adapter = load_file(workspace.adapter(run_id).folder / "adapters.safetensors")
    assert adapter and all(name.endswith((".lora_a", ".lora_b")) for name in adapter)
    # The base stays packed: QLoRA, not a dequantized copy.
    assert {
        tensor.dtype for tensor in load_file(path / "model-00002-of-00002.safetensors").values()
    } > {np.dtype("uint32")}


def split_weights(folder: Path) -> None:
    """One file of weights as two shards with their index."""
    single = folder / "model.safetensors"
    weights = load_file(single)
    single.unlink()
    names = sorted(weights)
    shards = {name: 1 + (index >= len(names) // 2) for index, name in enumerate(names)}
    for number in (1, 2):
        part = {name: weights[name] for name in names if shards[name] == number}
        save_file(part, folder / f"model-0000{number}-of-00002.safetensors", {"format": "mlx"})
    index = {
        "metadata": {"total_size": sum(value.nbytes for value in weights.values())},
        "weight_map": {
            name: f"model-0000{number}-of-00002.safetensors" for name, number in shards.items()
        },
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

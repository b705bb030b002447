"""The mlx-lm engine: its settings against mlx-lm's own, its output parsed, and real short runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import sentencepiece
import yaml

from mlx_finetuning import files, models
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import (
    BatchTooLarge,
    Interrupted,
    InvalidSettings,
    MlxLmFailed,
    TokenizerUnreadable,
    TokensDiffer,
)
from mlx_finetuning.jobs import jobs, runs, status
from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.progress import silent
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.trainer import mlx_lm
from mlx_finetuning.workspace import RunPaths, Workspace
from support.helpers import jobs_in_process, wait_until, worker_process
from support.small_models import TEXT, edit_json, write_model, write_tokenizer

PLACES = (Path("/m"), Path("/d"), Path("/a"))


def start(workspace: Workspace, dataset: str, **settings: Any) -> RunPaths:
    small = {"batch_size": 2, "num_layers": 1, "rank": 2, "warmup": 0, "targets": ("attention",)}
    config = TrainConfig(dataset=dataset, engine="mlx-lm", **{**small, **settings})
    model = models.resolve(config.model, workspace)
    return workspace.run(runs.start(workspace, config, model))


def test_short_run_leaves_an_adapter_and_metrics(workspace: Workspace, facts: str) -> None:
    paths = start(workspace, facts, iterations=3, validate_every=2)
    result = JobHandle(paths, TrainResult).follow()
    adapter = workspace.adapter(paths.folder.name)
    assert result.adapter_path == str(adapter.folder)
    assert result.last_valid_loss < result.first_valid_loss
    assert result.peak_memory_gb is not None and 0.05 < result.peak_memory_gb < 5
    assert json.loads(adapter.config.read_text())["adapter_path"] == str(adapter.folder)
    assert adapter.weights.stat().st_size > 1000
    lines = runs.metrics(workspace, paths.folder.name)
    assert [line.update for line in lines if line.loss is not None] == [1, 2, 3]
    # mlx-lm validates before the update that it names.
    assert [line.update for line in lines if line.valid_loss is not None] == [0, 1, 2]
    assert [entry.name for entry in adapter.folder.parent.iterdir()] == [paths.folder.name]


def test_stopped_run_leaves_no_process_and_no_half_adapter(
    workspace: Workspace, facts: str
) -> None:
    paths = start(workspace, facts, iterations=100_000)
    wait_until(lambda: bool(children(paths)))
    trainer = children(paths)[0]
    jobs.request_stop(paths)
    with pytest.raises(Interrupted):
        jobs.follow(paths, silent)
    assert not trainer.is_running()
    assert list(workspace.adapter(paths.folder.name).folder.parent.iterdir()) == []


def test_killed_worker_takes_its_trainer_along(workspace: Workspace, facts: str) -> None:
    paths = start(workspace, facts, iterations=100_000)
    wait_until(lambda: bool(children(paths)))
    trainer = children(paths)[0]
    worker_process(paths).kill()
    wait_until(lambda: not trainer.is_running())
    assert status.read(paths).state == "interrupted"


def children(paths: RunPaths) -> list[psutil.Process]:
    try:
        return worker_process(paths).children()
    except StopIteration:
        return []


def test_failure_shows_what_mlx_lm_said_last(workspace: Workspace, facts: str) -> None:
    paths = start(workspace, facts, num_layers=50)
    with pytest.raises(MlxLmFailed) as caught:
        jobs.follow(paths, silent)
    assert "only has 6 layers" in caught.value.data["tail"]
    assert "\x1b" not in caught.value.data["tail"]
    assert "mlx-lm" in str(caught.value)


def test_fewer_rows_than_a_batch_is_said_before_mlx_lm_fails(
    workspace: Workspace, facts: str
) -> None:
    with jobs_in_process(), pytest.raises(BatchTooLarge) as caught:
        jobs.follow(start(workspace, facts, batch_size=13), silent)
    assert caught.value.data == {"batch_size": 13, "rows": 12}


def test_preference_pairs_are_refused_before_mlx_lm_fails(
    workspace: Workspace, tmp_path: Path
) -> None:
    dataset = workspace.dataset("pairs")
    dataset.folder.mkdir(parents=True)
    row = {"prompt": "あ", "chosen": "い", "rejected": "う"}
    dataset.train.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(InvalidSettings):
        mlx_lm.offered_data(dataset, TrainConfig(batch_size=1), tmp_path)


def test_splits_that_mlx_lm_cannot_use_are_left_out(workspace: Workspace, facts: str) -> None:
    dataset = workspace.dataset(facts)
    for batch_size, splits in ((4, {"train.jsonl", "valid.jsonl"}), (5, {"train.jsonl"})):
        folder = workspace.root / str(batch_size)
        config = TrainConfig(batch_size=batch_size)
        offered = mlx_lm.offered_data(dataset, config, folder)
        assert {path.name for path in offered.iterdir()} == splits
        assert (offered / "train.jsonl").read_bytes() == dataset.train.read_bytes()


DEFAULTS = """
import json
from mlx_lm.lora import CONFIG_DEFAULTS
print(json.dumps(CONFIG_DEFAULTS))
"""


def test_every_setting_is_one_that_mlx_lm_knows() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", DEFAULTS], capture_output=True, text=True, check=True
    ).stdout
    settings = mlx_lm.lora_settings(TrainConfig(), *PLACES)
    assert set(settings) <= set(json.loads(printed))


def test_settings_survive_the_yaml_file(tmp_path: Path) -> None:
    settings = mlx_lm.lora_settings(TrainConfig(learning_rate=1e-5), *PLACES)
    files.write_text(tmp_path / "run.yaml", yaml.safe_dump(settings))
    assert yaml.safe_load((tmp_path / "run.yaml").read_text()) == settings


def test_scale_is_alpha_over_rank() -> None:
    settings = mlx_lm.lora_settings(TrainConfig(rank=8, alpha=32.0), *PLACES)
    assert settings["lora_parameters"] == {"rank": 8, "scale": 4.0, "dropout": 0.0}


def test_targets_are_named_as_mlx_lm_names_them() -> None:
    def keys(*targets: str) -> list[str]:
        settings = mlx_lm.lora_settings(TrainConfig(targets=targets), *PLACES)
        names: list[str] = settings["lora_parameters"]["keys"]
        return names

    assert keys("attention")[0] == "self_attn.q_proj"
    assert keys("q_proj", "down_proj") == ["self_attn.q_proj", "mlp.down_proj"]
    assert keys("linear_attn.out_proj") == ["linear_attn.out_proj"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "    10    3.123 ▼    1,234      5.6k",
            {"update": 10, "loss": 3.123, "tokens_per_second": 1234.0},
        ),
        (
            "  1000    3.123 ▲        6      0.1k",
            {"update": 1000, "loss": 3.123, "tokens_per_second": 6.0},
        ),
        ("     1    val 6.016    1.21s", {"update": 0, "valid_loss": 6.016}),
        (
            "     7      nan ▲       52      0.2k",
            {"update": 7, "loss": None, "tokens_per_second": 52.0},
        ),
        ("  save  0000100_adapters.safetensors", None),
        ("  iter   train_loss     tok/s     tokens", None),
        ("", None),
        ("Trainable parameters: 8.565% (0.393M/4.591M)", None),
    ],
)
def test_printed_line_becomes_a_metrics_line(line: str, expected: dict[str, Any] | None) -> None:
    assert mlx_lm.parse(line) == expected


def test_command_is_a_list_that_runs_mlx_lm_lora() -> None:
    command = mlx_lm.command(Path("/x y/;rm.yaml"))
    assert command[-3:] == ["lora", "--config", "/x y/;rm.yaml"]


def test_folder_that_transformers_rebuilds_otherwise_is_refused_before_training(
    workspace: Workspace, facts: str, tmp_path: Path
) -> None:
    """A GPT2Tokenizer loses its step for digits; our own engine trains on the file's tokens."""
    model = tmp_path / "model"
    write_model(model, "llama 3", num_hidden_layers=1)
    write_tokenizer(model, "smollm")
    edit_json(model / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    with jobs_in_process():
        paths = start(workspace, facts, iterations=1, model=str(model))
        with pytest.raises(TokensDiffer):
            jobs.follow(paths, silent)
        assert not workspace.adapter(paths.folder.name).folder.exists()
        config = TrainConfig(dataset=facts, model=str(model), iterations=1)
        ours = workspace.run(runs.start(workspace, config, model))
    assert JobHandle(ours, TrainResult).follow().updates == 1


def test_tokenizer_files_that_contradict_each_other_are_refused_before_training(
    workspace: Workspace, facts: str, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    write_model(model, "llama 3", num_hidden_layers=1)
    trainer = sentencepiece.SentencePieceTrainer
    trainer.train(
        sentence_iterator=iter(TEXT * 10),
        model_prefix=str(model / "tokenizer"),
        vocab_size=200,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    config = TrainConfig(dataset=facts, model=str(model), iterations=1)
    with jobs_in_process():
        paths = workspace.run(runs.start(workspace, config, model))
    with pytest.raises(TokenizerUnreadable, match="Unigram"):
        jobs.follow(paths, silent)
    assert not workspace.adapter(paths.folder.name).folder.exists()

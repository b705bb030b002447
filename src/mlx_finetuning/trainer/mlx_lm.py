"""The `mlx-lm` engine: mlx-lm's own LoRA trainer as it is, for comparison and as a reference.

Runs `python -m mlx_lm lora` on the same dataset and turns what it prints into the same metrics
file. mlx-lm knows no gradient clipping, keeps the last adapter instead of the best, prints losses
with three decimals, and leaves nothing when it is stopped. Imports no MLX.
"""

from __future__ import annotations

import contextlib
import json
import math
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import BatchTooLarge, InvalidSettings, MlxLmFailed
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.language import N_, _
from mlx_finetuning.progress import Step
from mlx_finetuning.tokenization import foreign, gate, turns
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.trainer.mlx_lm_child import PEAK
from mlx_finetuning.utils import model_settings, processes
from mlx_finetuning.workspace import DatasetPaths

STAGE = N_("学習（mlx-lm）")
PAIRS_REFUSED = N_(
    "engine: mlx-lm は、好みの比較（chosenとrejected）や○×の付いた答えを学習できません。"
    "mlx を選んでください。"
)
TAIL_LINES = 12
_QUIET_S = 0.5
_END_S = 10.0
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")


def run(context: TaskContext, config: TrainConfig, model_folder: Path) -> TrainResult:
    """Train `model_folder` as `config` says. Raises BatchTooLarge, MlxLmFailed, TokensDiffer,
    TokenizerUnreadable, Interrupted.

    The adapter appears whole in the run's adapter folder, or not at all.
    """
    dataset = context.workspace.dataset(config.dataset)
    train_rows = _read_rows(dataset.train)
    # mlx-lm asks transformers for the tokenizer, which rebuilds some.
    encode = foreign.encode_as_rebuilt(model_folder)
    gate.require_own_tokens(model_folder, encode, gate.row_texts(train_rows))
    target = context.workspace.adapter(context.run_id).folder
    draft = files.make_folder(target.with_name(f"{files.TEMPORARY_PREFIX}{target.name}"))
    data = offered_data(dataset, config, context.paths.folder)
    model = offered_model(model_folder, context.paths.folder)
    settings = lora_settings(config, model, data, draft)
    settings_path = context.paths.folder / "mlx_lm.yaml"
    files.write_text(settings_path, yaml.safe_dump(settings, allow_unicode=True, sort_keys=False))
    if config.gradient_clip:
        context.event(
            "warning", text=_("mlx-lm は gradient_clip に対応していないため、無視します。")
        )
    if config.replay > 0:
        context.event("warning", text=_("mlx-lm は replay に対応していないため、無視します。"))
    if any(not turns.is_trained(turn) for row in train_rows for turn in row.get("messages", ())):
        context.event(
            "warning", text=_("mlx-lm は、学習しない印（weight: 0）の付いた回答も学習します。")
        )
    try:
        first, last, peak_memory = _train(context, config, command(settings_path))
        adapter_config = draft / "adapter_config.json"
        record = json.loads(adapter_config.read_text(encoding="utf-8"))
        record["adapter_path"] = str(target)
        text = json.dumps(record, ensure_ascii=False, indent=4)
        files.write_text(adapter_config, f"{text}\n")
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return TrainResult(
        updates=config.iterations,
        first_valid_loss=first,
        last_valid_loss=last,
        adapter_path=str(target),
        peak_memory_gb=None if peak_memory is None else round(peak_memory / 1e9, 3),
    )


def command(settings: Path) -> list[str]:
    """`python -m mlx_lm lora --config settings`, in a process that loads OpenBLAS first."""
    child = "mlx_finetuning.trainer.mlx_lm_child"
    return [sys.executable, "-P", "-m", child, "lora", "--config", str(settings)]


def lora_settings(
    config: TrainConfig, model: Path, data: Path, adapter_folder: Path
) -> dict[str, Any]:
    """mlx-lm's settings for a run; every key is one of its `CONFIG_DEFAULTS`."""
    updates = max(config.iterations - config.warmup, 1)
    schedule, arguments = {
        "cosine": ("cosine_decay", [config.learning_rate, updates]),
        "linear": ("linear_schedule", [config.learning_rate, 0.0, updates]),
        # mlx-lm has warm-up only on a schedule; this one stays where it is.
        "constant": ("linear_schedule", [config.learning_rate, config.learning_rate, updates]),
    }[config.schedule]
    lora: dict[str, Any] = {
        "rank": config.rank,
        "scale": config.alpha / config.rank,
        "dropout": config.dropout,
    }
    if config.targets != ("all-linear",):
        targets = _ATTENTION if config.targets == ("attention",) else config.targets
        # mlx-lm names modules by their path inside a block: `self_attn.q_proj`.
        paths = {name: f"self_attn.{name}" for name in _ATTENTION}
        paths |= {name: f"mlp.{name}" for name in _MLP}
        lora["keys"] = [paths.get(name, name) for name in targets]
    return {
        "model": str(model),
        "train": True,
        "data": str(data),
        "adapter_path": str(adapter_folder),
        "fine_tune_type": "lora",
        "mask_prompt": True,
        "optimizer": "adamw",
        "optimizer_config": {"adamw": {"weight_decay": config.weight_decay}},
        "learning_rate": config.learning_rate,
        "lr_schedule": {"name": schedule, "arguments": arguments, "warmup": config.warmup},
        "lora_parameters": lora,
        "num_layers": config.num_layers,
        "batch_size": config.batch_size,
        "iters": config.iterations,
        "max_seq_length": config.max_length,
        "steps_per_report": 1,
        "steps_per_eval": config.validate_every,
        "val_batches": -1,
        "save_every": config.checkpoint_every,
        "seed": config.seed,
    }


def offered_data(dataset: DatasetPaths, config: TrainConfig, folder: Path) -> Path:
    """A folder of links to the splits that mlx-lm accepts: it fails on less than a whole batch, and
    knows no preference pairs. Raises BatchTooLarge, InvalidSettings."""
    rows = _read_rows(dataset.train)
    if rows and rows[0].keys() & {"chosen", "label"}:
        raise InvalidSettings(problems=[_(PAIRS_REFUSED)])
    if len(rows) < config.batch_size:
        raise BatchTooLarge(batch_size=config.batch_size, rows=len(rows))
    data = files.make_folder(folder / "mlx_lm_data")
    (data / "train.jsonl").symlink_to(dataset.train)
    if len(_read_rows(dataset.valid)) >= config.batch_size:
        (data / "valid.jsonl").symlink_to(dataset.valid)
    return data


def _read_rows(path: Path) -> list[Row]:
    # The data processor's reader is out of reach here: stage packages don't import each other.
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.strip()]


def offered_model(model: Path, folder: Path) -> Path:
    """`model`, or links to it in `folder` beside settings that mlx-lm reads as they are meant."""
    stored = json.loads((model / "config.json").read_text(encoding="utf-8"))
    meant = model_settings.completed(stored, model)
    if meant == stored:
        return model
    offered = files.make_folder(folder / "mlx_lm_model")
    for file in model.iterdir():
        link = offered / file.name
        link.unlink(missing_ok=True)
        if file.name != "config.json":
            link.symlink_to(file.resolve())
    files.write_text(offered / "config.json", json.dumps(meant, ensure_ascii=False, indent=2))
    return offered


def _train(
    context: TaskContext, config: TrainConfig, arguments: list[str]
) -> tuple[float | None, float | None, int | None]:
    """The first and the last validation loss, and the peak memory in bytes."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    valid_losses: list[float | None] = []
    peak_memory = None
    done, detail, started_s = 0, _("モデルを読み込んでいます"), time.monotonic()
    metrics_path = context.workspace.run(context.run_id).metrics
    with files.LineLog(metrics_path) as metrics, _process(arguments) as process:
        for text in _lines(process):
            if text is not None:
                print(text, flush=True)  # noqa: T201  (the worker's log)
                tail.append(text)
                if text.startswith(PEAK):
                    peak_memory = int(text.removeprefix(PEAK))
            line = parse(text or "")
            if line is not None:
                metrics.append({**line, "elapsed_s": round(time.monotonic() - started_s, 3)})
                valid_losses += [line["valid_loss"]] if "valid_loss" in line else []
                done = max(done, int(line["update"] or 0))
                detail = _("損失 {loss}").format(loss=line.get("loss", line.get("valid_loss")))
            context.progress(Step(_(STAGE), done, config.iterations, detail))
        code = process.wait()
    if code:
        raise MlxLmFailed(exit_code=code, tail="\n".join(tail), log=str(context.paths.log))
    first, last = (valid_losses[0], valid_losses[-1]) if valid_losses else (None, None)
    return first, last, peak_memory


_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NUMBER = r"(-?[\d.]+|nan|inf)"
_TRAINED = re.compile(rf"\s*(\d+)\s+{_NUMBER} [▼▲]\s+([\d,]+)\s+[\d.]+k\s*")
_VALIDATED = re.compile(rf"\s*(\d+)\s+val\s+{_NUMBER}\s+[\d.]+s\s*")


def parse(line: str) -> dict[str, float | None] | None:
    """A metrics line from an uncoloured line of mlx-lm's, or None if it says something else."""
    if match := _TRAINED.fullmatch(line):
        update, loss, tokens = match.groups()
        per_second = float(tokens.replace(",", ""))
        return {"update": int(update), "loss": _finite(loss), "tokens_per_second": per_second}
    if match := _VALIDATED.fullmatch(line):
        # mlx-lm validates before it trains update `it`, so this is the model after `it - 1`.
        return {"update": int(match[1]) - 1, "valid_loss": _finite(match[2])}
    return None


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


@contextlib.contextmanager
def _process(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The running child; however the block ends, it is gone afterwards."""
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        processes.end(process, _END_S)


def _lines(process: subprocess.Popen[str]) -> Iterator[str | None]:
    """What the child prints, and None whenever it has been quiet for half a second."""
    stdout = process.stdout
    assert stdout is not None
    printed: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in stdout:
            printed.put(_COLOURS.sub("", line.rstrip("\n")))
        printed.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            text = printed.get(timeout=_QUIET_S)
        except queue.Empty:
            yield None
            continue
        if text is None:
            return
        yield text

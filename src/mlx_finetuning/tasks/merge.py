"""Merging: the adapters of several runs of one base, or one at another strength, as a run's own."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import mlx.core as mx
import numpy as np

from mlx_finetuning import config, files
from mlx_finetuning.config import MergeConfig
from mlx_finetuning.errors import AdapterUnusable, MergeImpossible
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import Check, TrainResult
from mlx_finetuning.language import N_, _, sentences
from mlx_finetuning.mlx_trainer.model import merging
from mlx_finetuning.mlx_trainer.model.adapters import write_arrays
from mlx_finetuning.mlx_trainer.model.merging import Factors
from mlx_finetuning.progress import Step
from mlx_finetuning.tokenization.chat import THINKS
from mlx_finetuning.workspace import AdapterPaths, RunPaths

STAGE = N_("アダプターを合わせています")
_TRAINED = ("best", "checkpoints", "optimizer.safetensors", "adapters.safetensors")
"""Of an adapter's folder, what a merged one has not."""


@dataclass(frozen=True)
class Adapter:
    """One that is merged."""

    paths: AdapterPaths
    arrays: dict[str, mx.array]
    rank: int
    scale: float
    keys: tuple[str, ...]
    """Names of the changed layers within a block."""
    num_layers: int
    thinks: bool

    def factors(self, layer: str) -> Factors | None:
        """Of a layer by its name; None where it is left as it is."""
        if f"{layer}.lora_a" not in self.arrays:
            return None
        a, b = (np.array(self.arrays[f"{layer}.lora_{half}"], np.float32) for half in "ab")
        if a.ndim == 3:  # experts' factors lie the other way round
            a, b = a.swapaxes(-1, -2), b.swapaxes(-1, -2)
        return Factors(a, b, self.scale)


def run(context: TaskContext) -> TrainResult:
    """Writes the run's adapter by its `merge.json`. Raises MergeImpossible, AdapterUnusable, DiskFull,
    Interrupted."""
    record = files.read_record(RunPaths(context.paths.folder).merge, runs.Merge)
    settings = config.load(MergeConfig, record.settings)
    adapters = [_read(context, run_id) for run_id in record.run_ids]
    weights = settings.weights or (1 / len(adapters),) * len(adapters)
    settings = replace(settings, rank=settings.rank or sum(one.rank for one in adapters))
    paths = context.workspace.adapter(context.run_id)
    lost, whole = _write(context, paths, adapters, weights, settings)
    error = math.sqrt(lost / whole) if whole else 0.0
    text = _("{count}個のアダプターを {method} で合わせました（ランク{rank}）。").format(
        count=len(adapters), method=settings.method, rank=settings.rank
    )
    if whole:
        lost_text = _("ランクに収めたときの誤差は、変化全体の大きさの{error:.1%}です。")
        text = sentences(text, lost_text.format(error=error))
    check = Check(kind="merged", passed=True, text_ja=text)
    context.event("check", kind=check.kind, passed=check.passed, text_ja=text)
    return TrainResult(
        updates=0,
        first_valid_loss=None,
        last_valid_loss=None,
        adapter_path=str(paths.folder),
        checks=(check,),
    )


def _read(context: TaskContext, run_id: str) -> Adapter:
    paths = context.workspace.adapter(run_id)
    try:
        record = json.loads(paths.config.read_text(encoding="utf-8"))
        kind = str(record.get("fine_tune_type", "lora"))
        if kind != "lora":
            reason = _("{run_id} は {kind} の学習で、変化を足し合わせられません。").format(
                run_id=run_id, kind=kind
            )
            raise MergeImpossible(run_ids=[run_id], reason=reason)
        parameters = record["lora_parameters"]
        return Adapter(
            paths,
            cast(dict[str, mx.array], mx.load(str(paths.weights))),
            int(parameters["rank"]),
            float(parameters["scale"]),
            tuple(parameters["keys"]),
            int(record["num_layers"]),
            bool(record.get(THINKS)),
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise AdapterUnusable(path=str(paths.folder), reason=str(error)) from error


def _write(
    context: TaskContext,
    target: AdapterPaths,
    adapters: Sequence[Adapter],
    weights: Sequence[float],
    settings: MergeConfig,
) -> tuple[float, float]:
    """The merged adapter's folder, whole or not at all; what was lost, and of what (squared norms)."""
    names = sorted(
        {
            name.removesuffix(".lora_a")
            for one in adapters
            for name in one.arrays
            if name.endswith(".lora_a")
        }
    )
    arrays: dict[str, mx.array] = {}
    lost = whole = 0.0
    for number, name in enumerate(names):
        context.progress(Step(_(STAGE), number, len(names)))
        factors = [one.factors(name) for one in adapters]
        is_stacked = any(one is not None and one.a.ndim == 3 for one in factors)
        is_exact = settings.method == "linear" and settings.rank >= sum(
            one.rank for one in adapters
        )
        if is_stacked and not is_exact:
            reason = _(
                "エキスパート（MoE）の層を学習したアダプターは、linear で、ランクを変えずにだけ合わせられます。"
            )
            raise MergeImpossible(run_ids=[target.folder.name], reason=reason)
        merged = merging.merged(name, factors, weights, settings)
        lost, whole = lost + merged.lost, whole + merged.whole
        for half, values in (("a", merged.a), ("b", merged.b)):
            stored = values.swapaxes(-1, -2) if is_stacked else values
            arrays[f"{name}.lora_{half}"] = mx.array(stored)
    record = {
        "fine_tune_type": "lora",
        "num_layers": max(one.num_layers for one in adapters),
        "lora_parameters": {
            "rank": settings.rank,
            "scale": 1.0,
            "dropout": 0.0,
            "keys": sorted({key for one in adapters for key in one.keys}),
        },
        THINKS: adapters[0].thinks,
    }
    with files.replacing_folder(target.folder) as draft:
        # The chat template and whatever else belongs to an adapter.
        for path in adapters[0].paths.folder.iterdir():
            if path.is_file() and path.name not in _TRAINED:
                shutil.copy2(path, draft / path.name)
        write_arrays(draft / target.weights.name, arrays)
        text = json.dumps(record, ensure_ascii=False, indent=2)
        files.write_text(draft / target.config.name, f"{text}\n")
    return lost, whole

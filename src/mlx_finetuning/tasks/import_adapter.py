"""Import: an adapter that another program made becomes a run's own, in the form that training gives.

What the run holds afterwards is what `train` would have left: the same arrays under the same names, so
that it can be evaluated, certified, exported, talked to and continued.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_finetuning import bases, config, files
from mlx_finetuning.errors import AdapterNotImportable, TargetsNotFound
from mlx_finetuning.jobs import runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import Check, TrainResult
from mlx_finetuning.language import N_, _, sentences
from mlx_finetuning.mlx_trainer.model import adapters, trainable
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.mlx_trainer.training import memory_fit, selfcheck
from mlx_finetuning.progress import Step
from mlx_finetuning.quantizer.formats import foreign_adapters
from mlx_finetuning.quantizer.formats.foreign_adapters import ForeignAdapter, LayerChange
from mlx_finetuning.tokenization import battery
from mlx_finetuning.workspace import RunPaths

STAGE = N_("アダプターの取り込み")
_FACTOR = re.compile(r"(?:.*\.)?layers\.(\d+)\.(.+)\.lora_a")


def run(context: TaskContext) -> TrainResult:
    """config: the run's TrainConfig, whose layers, rank and scale are those of the adapter.

    Raises AdapterNotImportable, ModelError, RunDoesNotFit, DiskFull, Interrupted.
    """
    settings = config.load_of_run(context.config)
    record = files.read_record(RunPaths(context.paths.folder).imported, runs.Import)
    source = Path(record.folder)
    base = bases.resolve(settings.model, context.workspace)
    context.progress(Step(_(STAGE), 0, 0))
    foreign = foreign_adapters.read(source)
    memory_fit.require_loadable(base, settings)
    # A template that lies beside the adapter is the one that it was trained with.
    loaded = load(base, asked_like=source)
    mx.random.seed(settings.seed)  # for layers that the adapter leaves out
    try:
        adapter_config = adapters.attach(loaded.model, settings)
    except TargetsNotFound as error:
        raise _unfit(source, foreign.changes[0]) from error
    scale = settings.alpha / settings.rank
    _put(loaded.model, foreign.changes, scale, source)
    context.progress(Step(_(STAGE), 1, 1))
    target = context.workspace.adapter(context.run_id)
    with files.replacing_folder(target.folder) as draft:
        adapters.save(loaded.model, adapter_config, draft, loaded.chat)
    tokens = loaded.chat.encode("\n".join(battery.TEXTS[:8]))
    reloaded = selfcheck.reloaded(loaded, target.folder, tokens)
    checks = (Check("imported", True, _told(foreign, settings.model)), *filter(None, [reloaded]))
    for check in checks:
        context.event("check", kind=check.kind, passed=check.passed, text_ja=check.text_ja)
    return TrainResult(
        updates=0,
        first_valid_loss=None,
        last_valid_loss=None,
        adapter_path=str(target.folder),
        checks=checks,
    )


def _put(model: nn.Module, changes: Sequence[LayerChange], scale: float, source: Path) -> None:
    """Let the model's adapter be `changes`; layers that they leave out change nothing.

    scale: of the model's layers. Raises AdapterNotImportable.
    """
    trained = trainable.of(model)
    arrays = {name: np.array(value, np.float32) for name, value in trained.arrays().items()}
    found = (_FACTOR.fullmatch(name) for name in arrays)
    modules = {(int(m[1]), m[2]): m[0].removesuffix(".lora_a") for m in found if m}
    for change in changes:
        module = modules.get((change.layer, change.key))
        if module is None:
            raise _unfit(source, change)
        a, b = arrays[f"{module}.lora_a"], arrays[f"{module}.lora_b"]
        # [in, rank] and [rank, out]; of a stack of experts [experts, rank, in] and [experts, out, rank].
        own_a, own_b = (a, b) if a.ndim == 2 else (a.swapaxes(1, 2), b.swapaxes(1, 2))
        given_a, given_b = change.a, change.b
        if given_a.ndim == 3:
            given_a, given_b = given_a.swapaxes(1, 2), given_b.swapaxes(1, 2)
        wanted = (*own_a.shape[:-1], *own_b.shape[:-2], own_b.shape[-1])
        given = (*given_a.shape[:-1], *given_b.shape[:-2], given_b.shape[-1])
        if wanted != given:
            raise _unfit(
                source,
                change,
                _("形が {given} で、ベースモデルは {wanted}").format(given=given, wanted=wanted),
            )
        # A smaller rank than the run's keeps zeros in the rest of b, which then adds nothing.
        own_a[..., : change.rank] = given_a
        own_b[..., : change.rank, :] = given_b * np.float32(change.scale / scale)
        if change.lengths is not None:
            if change.lengths.shape != arrays[f"{module}.m"].shape:
                raise _unfit(source, change, _("DoRAの長さの数が違います"))
            arrays[f"{module}.m"] = change.lengths
    trained.put({name: mx.array(value) for name, value in arrays.items()})


def _unfit(source: Path, change: LayerChange, how: str = "") -> AdapterNotImportable:
    what = _("{layer}番目の層の {key}").format(layer=change.layer, key=change.key)
    reason = (
        _("{what} が、ベースモデルに合いません（{how}）。").format(what=what, how=how)
        if how
        else _("ベースモデルに、{what} がありません。").format(what=what)
    )
    return AdapterNotImportable(path=str(source), reason=reason)


def _told(foreign: ForeignAdapter, model: str) -> str:
    ranks = sorted({change.rank for change in foreign.changes})
    shown = _("、").join(map(str, ranks))
    text = _("{form} の{method}を取り込みました（{count}個の重み、ランク{ranks}）。").format(
        form=foreign.form,
        method=foreign.method.upper().replace("LORA", "LoRA").replace("DORA", "DoRA"),
        count=len(foreign.changes),
        ranks=shown,
    )
    names = [PurePath(name).name.lower() for name in (foreign.base, model)]
    if foreign.base and names[0] != names[1]:
        doubt = _(
            "アダプターには、ベースモデルは {name} と書かれています。同じものか、確かめてください。"
        ).format(name=PurePath(foreign.base).name)
        text = sentences(text, doubt)
    return text

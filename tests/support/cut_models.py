"""tiny-ja with fewer layers, for what costs a model's time without hanging on what it knows."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import cast

import mlx.core as mx

from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.utils import gguf_base
from mlx_finetuning.workspace import Workspace
from support.recorded_run import tiny_folder

WEIGHTS = "model.safetensors"
END_LEADS_BY = 4.0
"""In units of what every token has in common, which stands out from all else."""


def short_folder() -> Path:
    """Its first three layers. Made once for all test processes, and not to be changed."""
    digest = gguf_base.sha256(tiny_folder() / WEIGHTS)[:16]
    folder = Path(tempfile.gettempdir()) / f"mlx-finetuning-tests-{os.getuid()}-{digest}"
    if not folder.exists():
        draft = Path(tempfile.mkdtemp()) / "model"
        _cut(draft, 3)
        try:
            draft.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(draft.parent)
    return folder


def write_curt(workspace: Workspace) -> None:
    """Of the workspace's own tiny-ja the first layer is left, and every answer ends before it begins."""
    folder = workspace.base_model("tiny-ja")
    weights = _cut(folder, 1)
    end = load(tiny_folder(), lazy=True).chat.end_ids[0]
    embedding, norm = weights["model.embed_tokens.weight"], weights["model.norm.weight"]
    embedding[:, 0] = 1.0
    embedding[end, 0] = END_LEADS_BY
    norm[0] = 1.0
    mx.save_safetensors(str(folder / WEIGHTS), weights, {"format": "mlx"})


def _cut(folder: Path, layers: int) -> dict[str, mx.array]:
    """Write the model with its first `layers` layers; returns its weights."""
    shutil.copytree(tiny_folder(), folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    dropped = [f".layers.{layer}." for layer in range(layers, config["num_hidden_layers"])]
    path.write_text(json.dumps({**config, "num_hidden_layers": layers}), encoding="utf-8")
    weights = {
        name: value
        for name, value in cast(dict[str, mx.array], mx.load(str(folder / WEIGHTS))).items()
        if not any(layer in name for layer in dropped)
    }
    mx.save_safetensors(str(folder / WEIGHTS), weights, {"format": "mlx"})
    return weights

"""A base for what costs a model's time without hanging on what it says: one layer, and every answer ends
before it begins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx

from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.workspace import Workspace
from support.recorded_run import tiny_folder

END_LEADS_BY = 4.0
"""In units of what every token has in common, which stands out from all else."""


def write(workspace: Workspace) -> Path:
    """The workspace's own tiny-ja, of which the first layer is left."""
    folder = workspace.base_model("tiny-ja")
    shutil.copytree(tiny_folder(), folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "num_hidden_layers": 1}), encoding="utf-8")
    weights = mx.load(str(folder / "model.safetensors"))
    kept = {
        name: value
        for name, value in weights.items()
        if ".layers." not in name or ".layers.0." in name
    }
    end = load(tiny_folder(), lazy=True).chat.end_ids[0]
    embedding, norm = "model.embed_tokens.weight", "model.norm.weight"
    kept[embedding][:, 0] = 1.0
    kept[embedding][end, 0] = END_LEADS_BY
    kept[norm][0] = 1.0
    mx.save_safetensors(str(folder / "model.safetensors"), kept, {"format": "mlx"})
    return folder

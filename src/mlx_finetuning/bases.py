"""The folder of a base model, whatever its name means: one of the workspace, or a GGUF file.

For a GGUF file a small folder is made once, without weights (`quantizer.base`), and found again by the
file's content, so that a file that was moved or touched is the same base, and another one is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from pathlib import Path

from mlx_finetuning import models
from mlx_finetuning.config import AUTO, TrainConfig
from mlx_finetuning.errors import BaseFileChanged, BaseFileUnusable, NewerSchema, RecordDamaged
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.language import _
from mlx_finetuning.models import ollama_store
from mlx_finetuning.quantizer.base import process
from mlx_finetuning.utils import gguf_base
from mlx_finetuning.workspace import Workspace

_SLUG_LENGTH = 40


def resolve(name: str, workspace: Workspace) -> Path:
    """The checked folder of `name`, made if it is that of a GGUF file.

    Raises ModelNotFound, ModelNotDownloaded, BaseFileUnusable, DiskFull and the refusals of
    `models.check_folder`.
    """
    file = models.gguf_file(name)
    if file is None:
        return models.resolve(name, workspace)
    known = {}
    for folder in sorted(workspace.gguf_bases.glob("[!.]*/")):
        with contextlib.suppress(RecordDamaged, NewerSchema):  # it is made again
            if (base := gguf_base.read(folder)) is not None:
                known[folder] = base
    stat = file.stat()
    place = (str(file), stat.st_size, stat.st_mtime_ns)
    for folder, base in known.items():
        if (base.path, base.size, base.modified_ns) == place:
            return models.check_folder(folder)
    sha256 = gguf_base.sha256(file)
    for folder, base in known.items():
        if base.sha256 == sha256:
            moved = dataclasses.replace(base, path=place[0], modified_ns=place[2])
            gguf_base.write(folder, moved)
            return models.check_folder(folder)
    # The files made of it are called so, too.
    last = name.removeprefix(ollama_store.PREFIX).rsplit("/", 1)[-1].lower().removesuffix(".gguf")
    slug = re.sub(r"[^a-z0-9]+", "-", last).strip("-")[:_SLUG_LENGTH].strip("-")
    target = workspace.gguf_bases / f"{slug or 'model'}-{sha256[:8]}"
    process.write(file, target)
    return models.check_folder(target)


def of_run(run: Run, workspace: Workspace) -> Path:
    """The base of a run that was trained, as it was then. Raises what `resolve` raises, and
    BaseFileChanged for a file with other content."""
    folder = resolve(run.model, workspace)
    base = gguf_base.read(folder)
    if base is not None and run.model_folder and folder.name != Path(run.model_folder).name:
        raise BaseFileChanged(path=base.path, reason=_("学習したときと中身が違います。"))
    return folder


def settled(settings: TrainConfig) -> TrainConfig:
    """The settings with a name that means the same from every folder. Raises ModelNotFound,
    BaseFileUnusable, for engines too that cannot read the file."""
    file = models.gguf_file(settings.model)
    if file is None:
        return settings
    if settings.engine == "mlx-lm":
        reason = _("学習エンジン mlx-lm は、GGUFファイルを読めません（mlx なら学習できます）。")
        raise BaseFileUnusable(path=settings.model, reason=reason)
    if settings.hosts:
        reason = _("いくつもの機械に分ける学習では、GGUFファイルを使えません。")
        raise BaseFileUnusable(path=settings.model, reason=reason)
    is_path = not settings.model.startswith(ollama_store.PREFIX)
    return dataclasses.replace(settings, model=str(file)) if is_path else settings


def quant(asked: str, model: str) -> str:
    """The type of a GGUF file of what was trained on `model`; `asked` but for `config.AUTO`.

    Of a GGUF file Q8_0: its untouched tensors stay as they are, and the others were trained with its
    errors, to which the four bits of Q4_K_M add others (SmolLM2's Q4_1: KL 0.108, with Q8_0 0.008).
    """
    if asked != AUTO:
        return asked
    return "Q8_0" if models.names_gguf_file(model) else "Q4_K_M"


def width(name: str, workspace: Workspace) -> int:
    """Size of the hidden states; 0 where it is not known. Raises ModelError, GgufUnreadable."""
    file = models.gguf_file(name)
    if file is None:
        return models.width(models.resolve(name, workspace))
    from mlx_finetuning.utils import gguf_reader

    fields = gguf_reader.read_before_vocabulary(file)
    size = fields.get(f"{fields.get('general.architecture')}.embedding_length")
    return size if isinstance(size, int) else 0

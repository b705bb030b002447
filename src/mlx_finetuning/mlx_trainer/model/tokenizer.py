"""A model's tokenizer and settings without its weights: enough to encode, too little to compute."""

from __future__ import annotations

from pathlib import Path

import mlx.nn as nn
from mlx_lm import utils

from mlx_finetuning.errors import ModelUnloadable
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, text_settings, wrapped
from mlx_finetuning.tokenization import chat as chats
from mlx_finetuning.utils import model_settings


def load_tokenizer(folder: Path, *, thinks: bool = False) -> LoadedModel:
    """What `load.load` gives, but for the weights.

    Raises ModelUnloadable, TokenizerUnreadable, TemplateHostile, ChatTemplateUnusable.
    """
    chat = chats.load(folder, thinks=thinks)
    try:
        config = text_settings(model_settings.completed(utils.load_config(folder), folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnloadable(folder=str(folder), reason=str(error)) from error
    return LoadedModel(nn.Module(), wrapped(chat, config), chat, config, folder)

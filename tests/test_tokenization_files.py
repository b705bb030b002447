"""A folder's tokenizer is the file's own: compared with `tokenizers` and SentencePiece themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer

from mlx_finetuning.errors import TokenizerUnreadable, TokensDiffer
from mlx_finetuning.tokenization import battery, chat, files, foreign, gate
from small_models import TEXT, edit_json, write_json, write_tokenizer


def train(folder: Path, model_type: str, **settings: Any) -> sentencepiece.SentencePieceProcessor:
    """A `tokenizer.model` in the folder, from a few lines."""
    given: dict[str, Any] = {
        "vocab_size": 480,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "character_coverage": 1.0,
        "hard_vocab_limit": False,
        "minloglevel": 2,
        **settings,
    }
    prefix = str(folder / "tokenizer")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 10), model_prefix=prefix, model_type=model_type, **given
    )
    (folder / "tokenizer.vocab").unlink()
    return sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")

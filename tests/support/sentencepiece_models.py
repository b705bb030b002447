"""Small SentencePiece models, trained on a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sentencepiece

from support.small_models import TEXT


def train_sentencepiece(
    folder: Path, model_type: str, **settings: Any
) -> sentencepiece.SentencePieceProcessor:
    """A `tokenizer.model` in the folder, from a few lines."""
    options: dict[str, Any] = {
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
        sentence_iterator=iter(TEXT * 10), model_prefix=prefix, model_type=model_type, **options
    )
    (folder / "tokenizer.vocab").unlink()
    return sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")

"""mlx-lm's model classes, taking weights under every name that folders give them.

Gemma 3's class knows the names of the hub, not those that transformers 5 saves under; most classes
have no place for an output head that repeats the embedding. Changes no values.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm import utils

from mlx_finetuning.files import JsonObject

HEAD = "lm_head."


def classes(config: JsonObject, *, is_tied: bool) -> tuple[Any, Any]:
    """The classes of model and settings for a `config.json`; raises ValueError as mlx-lm does."""
    model, settings = utils._get_classes(config)
    if config.get("model_type") == "gemma3":
        model = _renaming(model)
    return (_without_head(model) if is_tied else model), settings


def _renaming(model: Any) -> Any:
    class Renaming(model):  # type: ignore[misc]
        def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
            renamed = {_gemma3_name(name): value for name, value in weights.items()}
            return super().sanitize(renamed)  # type: ignore[no-any-return]

    return Renaming


def _gemma3_name(name: str) -> str:
    if name.startswith(HEAD):
        return f"language_model.{name}"
    name = name.replace("model.language_model.", "language_model.model.", 1)
    seeing = ("model.vision_tower.", "model.multi_modal_projector.")
    return name.removeprefix("model.") if name.startswith(seeing) else name


def _without_head(model: Any) -> Any:
    class WithoutHead(model):  # type: ignore[misc]
        def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
            tied = {name: value for name, value in weights.items() if HEAD not in name}
            sanitize = getattr(super(), "sanitize", lambda same: same)
            return sanitize(tied)  # type: ignore[no-any-return]

    return WithoutHead

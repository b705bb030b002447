"""What a run proves about itself: that it learned, on the right tokens, and that its files say so.

Each check gives a `Check`, never an error: a run's result is shown with what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from numpy.typing import NDArray

from mlx_finetuning.jobs.results import Check
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.model import dora, split_head, unpacking
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load_weights
from mlx_finetuning.tokenization import reasoning, turns

AFTER = 3
"""Updates after which every layer must have changed: LoRA's first moves one factor only."""
PROMPT = 48
"""Tokens whose logits are compared."""
LOOKED_AT = 1000
"""Rows whose supervised text is read."""
NAMED = 5
"""Layers or rows that a text names."""


def ranks(agree: bool | None) -> Check | None:
    """Whether all ranks of a distributed run ended with the same adapter."""
    if agree is None:
        return None
    text = _("どの機械の重みも一致しています。") if agree else _("機械によって、重みが違います。")
    return Check("ranks_agree", agree, text)


# --- supervised tokens -------------------------------------------------------------------


def supervision(
    loaded: LoadedModel, rows: Sequence[Mapping[str, Any]], examples: Sequence[Any]
) -> Check | None:
    """Whether the supervised tokens of each example are its assistant's words and ends of turn.

    Of rows that can be told apart and were not cut; None if there is none.
    """
    chats = {row["row"]: row["messages"] for row in rows if "messages" in row and row.get("row")}
    by_row: dict[int, list[Example]] = {}
    for item in examples:
        if item.row in chats:
            by_row.setdefault(item.row, []).append(item)
    whole = [row for row, items in by_row.items() if not any(item.cut for item in items)]
    whole = whole[:LOOKED_AT]
    if not whole:
        return None
    wrong = [row for row in whole if not _are_answers(loaded, by_row[row], chats[row])]
    tokens = sum(item.targets for row in whole for item in by_row[row])
    if not wrong:
        text = _(
            "学習するトークンは、答えのトークンと一致しています（{rows}行、{tokens}トークン）。"
        ).format(rows=len(whole), tokens=tokens)
        return Check("supervision", True, text)
    named = _("、").join(map(str, wrong[:NAMED]))
    text = _(
        "学習するトークンが答えと一致しない行が、{count}行あります（元の行: {rows}）。"
    ).format(count=len(wrong), rows=named)
    return Check("supervision", False, text)


def _are_answers(
    loaded: LoadedModel, examples: Sequence[Example], messages: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether a row's sequences teach its answers, each with one end of turn, and nothing else."""
    ends = set(loaded.chat.end_ids)
    learned = [
        token
        for example in examples
        for token, flag in zip(example.tokens, example.supervised, strict=True)
        if flag
    ]
    answers = [
        dict(turn) for turn in messages if turn["role"] == "assistant" and turns.is_trained(turn)
    ]
    # Tool calls are written in each template's own way.
    calls = any(turn.get("tool_calls") for turn in answers)
    parts = ["".join(part.split()) for turn in answers for part in reasoning.from_message(turn)]
    text = loaded.tokenizer.decode([token for token in learned if token not in ends])
    # Templates trim answers, and put signs around reasoning.
    learned_text = "".join(text.split())
    if loaded.chat.thinks:
        is_said = all(part in learned_text for part in parts)
    else:
        is_said = learned_text == "".join(parts)
    ended = sum(token in ends for token in learned)
    # A call for which the template has no words is not learned.
    return (is_said and ended == len(answers)) or (calls and ended <= len(answers))


# --- the adapter -------------------------------------------------------------------------


def changed(before: Mapping[str, mx.array], after: Mapping[str, mx.array]) -> Check:
    """Whether every layer with something to train is another one than before."""
    moved: dict[str, bool] = {}
    for name, value in after.items():
        layer = name.rsplit(".", 1)[0]
        moved[layer] = moved.get(layer, False) or bool((value != before[name]).any().item())
    still = [layer for layer, has_moved in moved.items() if not has_moved]
    if not still:
        return Check(
            "adapter_changed",
            True,
            _("学習する{count}層の全てが変化しました。").format(count=len(moved)),
        )
    named = _("、").join(still[:NAMED])
    text = _("{total}層のうち{count}層が、学習しても変化していません（{names}）。").format(
        total=len(moved), count=len(still), names=named
    )
    return Check("adapter_changed", False, text)


def reloaded(loaded: LoadedModel, folder: Path, tokens: Sequence[int]) -> Check | None:
    """Whether mlx-lm, reading the adapter in `folder`, gives the trained model's logits.

    The base's arrays are shared, so this takes no second copy of the weights. None for a model
    that was not read from a folder.
    """
    if loaded.folder is None:
        return None
    try:
        plain, __ = load_weights(loaded.folder, lazy=True, outline=True)
        if not unpacking.is_packed(loaded.model):
            unpacking.unpack(plain)
        plain = dora.load_adapter(plain, folder)
        written = mx.load(str(folder / "adapters.safetensors"))
        base = tree_flatten(loaded.model.parameters())
        shared = [(name, value) for name, value in base if name not in written]
        plain.update(tree_unflatten(shared))
        plain.eval()
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = _("保存したアダプターを mlx-lm で読み込めません: {error}").format(error=error)
        return Check("adapter_reloaded", False, text)
    prompt = mx.array([list(tokens[:PROMPT])])
    expected, actual = _logits(loaded.model, prompt), _logits(plain, prompt)
    difference = float(np.abs(actual - expected).max())
    # mlx-lm's layers multiply in float32, ours in the activations' type.
    tolerance = 1e-3 if split_head.norm(loaded.model).weight.dtype == mx.float32 else 5e-2
    passed = bool(difference <= tolerance * float(np.abs(expected).max()))
    text = _(
        "保存したアダプターを mlx-lm で読み込み直すと、違う答えになりました（ロジットの差 {difference:.1e}）。"
    )
    if passed:
        text = _(
            "保存したアダプターを mlx-lm で読み込み直すと、同じ答えになりました（ロジットの差 {difference:.1e}）。"
        )
    text = text.format(difference=difference)
    return Check("adapter_reloaded", passed, text)


def _logits(model: nn.Module, prompt: mx.array) -> NDArray[np.float32]:
    return np.array(model(prompt).astype(mx.float32))

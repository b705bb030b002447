"""What of the rows a model will not learn as it stands in them, in Japanese, before training starts:
answers that lose their end, control tokens inside texts, calls of tools without a place in the template."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlx_finetuning.errors import ConversationRefused
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tokenization import gate, reasoning
from mlx_finetuning.tokenization.rows import Row

SHOWN = 8
"""Row numbers named in a warning."""
_CALLS_TRIED = 50


def lost_ends(cut_answers: int, rows: int, limit: int) -> list[str]:
    """The warning of `cut_answers` rows of which an answer's end does not fit."""
    if not cut_answers:
        return []
    return [
        _(
            "{rows:,}行のうち{cut:,}行は、回答の終わりが上限（max_length {limit:,}トークン）で切れます。"
            "そこで終わることは学ばず、続きも学びません。"
            "max_length を増やすか、回答を短くしてください。"
        ).format(rows=rows, cut=cut_answers, limit=limit)
    ]


def of_texts(loaded: LoadedModel, rows: Sequence[Row]) -> list[str]:
    """Warnings of what is written in the rows."""
    return [*control_tokens(loaded, rows), *swallowed_calls(loaded, rows)]


def control_tokens(loaded: LoadedModel, rows: Sequence[Row]) -> list[str]:
    """Texts that hold a special token of the tokenizer, which becomes the token itself."""
    # Reasoning is written with tokens of its own, and has its place.
    named = [text for text in loaded.chat.control_texts if text.strip() not in reasoning.TAG.marks]
    if not named:
        return []
    pattern = re.compile("|".join(map(re.escape, sorted(named, key=len, reverse=True))))
    found: dict[int, set[str]] = {}
    for row in rows:
        of_row = {token for text in gate.texts_of(row) for token in pattern.findall(text)}
        if of_row:
            found.setdefault(int(row.get("row", 0)), set()).update(of_row)
    if not found:
        return []
    tokens = sorted({token for of_row in found.values() for token in of_row})
    return [
        _(
            "文章の中に、このモデルの制御用の記号（{tokens}）がある行があります（{rows}）。"
            "文字ではなく、発言の区切りなどとして学習されます。"
            "clean に control_tokens を加えると取り除けます。"
        ).format(tokens=_("、").join(tokens[:SHOWN]), rows=_listed(list(found)))
    ]


def swallowed_calls(loaded: LoadedModel, rows: Sequence[Row]) -> list[str]:
    """Calls of tools that the model's template has no words for."""
    calling = [
        row for row in rows if any(turn.get("tool_calls") for turn in row.get("messages", ()))
    ]
    swallowed = []
    for row in calling[:_CALLS_TRIED]:
        try:
            is_swallowed = loaded.chat.swallows_calls(row["messages"], row.get("tools"))
        except ConversationRefused:
            continue  # said, with its row, where the row is encoded
        if is_swallowed:
            swallowed.append(int(row.get("row", 0)))
    if not swallowed:
        return []
    return [
        _(
            "このモデルの書式には、ツールの呼び出しを書く場所がありません（{rows}）。"
            "呼び出しの発言は学習しません。"
            "ツールを使えるモデルを選んでください。"
        ).format(rows=_listed(swallowed, more=len(calling) > _CALLS_TRIED))
    ]


def _listed(rows: Sequence[int], *, more: bool = False) -> str:
    """Some of the rows; more: whether there may be others than these."""
    shown = _("、").join(map(str, rows[:SHOWN]))
    said = _("行 {shown}、全部で{count:,}行")
    if len(rows) > SHOWN:
        said = _("行 {shown} ほか、全部で{count:,}行")
    if more:
        said = _("行 {shown}、全部で{count:,}行 ほか")
    return said.format(shown=shown, count=len(rows))

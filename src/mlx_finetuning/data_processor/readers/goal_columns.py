"""What columns become where the goal, or TRL's names, say more than their roles: judged answers, and
labels of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlx_finetuning.data_processor.readers.column_content import content_of, is_good
from mlx_finetuning.data_processor.readers.column_names import key
from mlx_finetuning.data_processor.readers.columns import ColumnChoice, ColumnMap, Records
from mlx_finetuning.language import _

_TRL = {"prompt", "completion", "label"}
"""Columns of TRL's unpaired preference data."""
_LABELS = frozenset(
    "label labels labeltext labelname class classname クラス ラベル ラベル名 分類ラベル 正解ラベル intent intention 意図 sentiment 感情 "
    "感情ラベル 極性 emotion".split()
)
"""Names of what texts are sorted into; 分類 and カテゴリ stand beside articles as often."""
MOST_LABELS, LONGEST_LABEL, LONGEST_TEXT = 100, 20, 200
"""Different labels, and mean characters of them and of texts, up to which a table is one of labels."""


def for_goal(
    chosen: ColumnMap,
    records: Records,
    names: Sequence[str],
    goal: str,
    *,
    text_asked: bool = False,
) -> ColumnMap:
    """The same columns for what is to be learned of them. text_asked: somebody chose the column of plain
    text, which is then left as it is."""
    if chosen.kind == "chat" and "desirable" in chosen.columns:
        return _judging(chosen, records, names, goal)
    if goal in ("auto", "labels") and not text_asked:
        if chosen.kind == "text":
            return _labelling(chosen, records, names, goal, chosen.columns["text"])
        if chosen.kind is None and "question" in chosen.columns:  # レビュー本文 asks for nothing
            return _labelling(chosen, records, names, goal, chosen.columns["question"])
    return chosen


def _judging(chosen: ColumnMap, records: Records, names: Sequence[str], goal: str) -> ColumnMap:
    """Judged answers, where both good and bad ones occur and are to be learned: because that is the goal,
    or, with the goal left open, because the columns are TRL's for it."""
    is_asked = goal == "preference" or (goal == "auto" and {*map(key, names)} >= _TRL)
    at = names.index(chosen.columns["desirable"])
    kinds = {is_good(values[at]) for __, values in records} - {None}
    return replace(chosen, kind="judged") if is_asked and len(kinds) == 2 else chosen


def _labelling(
    chosen: ColumnMap, records: Records, names: Sequence[str], goal: str, text: str
) -> ColumnMap:
    """Texts as questions and their labels as answers."""
    category = chosen.columns.get("category", "")
    beside = [name for name in names if key(name) in _LABELS and name != text]
    label = next(iter([*beside, *([category] if category and goal == "labels" else [])]), None)
    if label is None or not _are_labels([values[names.index(label)] for __, values in records]):
        return chosen
    if content_of([values[names.index(text)] for __, values in records]).length > LONGEST_TEXT:
        return chosen
    reason = _("「{label}」は、「{text}」の文章の分類のようです").format(label=label, text=text)
    choices = (
        ColumnChoice("question", text, reason, is_doubtful=goal == "auto"),
        ColumnChoice("answer", label, reason, is_doubtful=goal == "auto"),
        *(each for each in chosen.choices if each.column not in (text, label)),
    )
    unmapped = tuple(name for name in chosen.unmapped if name != label)
    return replace(chosen, choices=choices, unmapped=unmapped, kind="chat")


def _are_labels(cells: Sequence[object]) -> bool:
    """Whether the cells are a few short words that come again."""
    texts = [str(cell).strip() for cell in cells if cell is not None]
    texts = [text for text in texts if text]
    different = {*texts}
    return (
        2 <= len(different) <= MOST_LABELS
        and 2 * len(different) <= len(texts)
        and sum(map(len, different)) <= LONGEST_LABEL * len(different)
    )

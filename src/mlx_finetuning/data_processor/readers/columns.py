"""Which column plays which role, by Japanese and English names, with a reason for each choice.

Looks at names only. An unmapped column is listed, never dropped in silence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlx_finetuning.errors import ColumnsNotFound, InvalidMapping

ExampleKind = Literal["chat", "text", "preference"]

# Role → names, best first. A column plays one role; a role takes one column.
NAMES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "会話", "対話"),
    "question": (
        *("質問", "question", "指示", "instruction", "問い", "問題", "prompt", "プロンプト"),
        *(
            "質問文",
            "質問内容",
            "問い合わせ",
            "お問い合わせ",
            "問い合わせ内容",
            "query",
            "q",
            "user",
        ),
        *("ユーザー", "設問", "発話"),
    ),
    "context": ("入力", "input", "文脈", "context", "補足", "参考"),
    "answer": (
        *("回答", "answer", "出力", "output", "答え", "解答", "completion", "response", "応答"),
        *("返答", "回答文", "回答内容", "返信", "answers", "a", "assistant", "アシスタント"),
    ),
    "reasoning": (
        *("reasoning", "reasoningcontent", "thinking", "思考", "思考過程", "思考の過程"),
        *("推論", "推論過程", "考えた過程", "chainofthought", "cot"),
    ),
    "system": ("system", "システム", "システム文", "システムプロンプト", "systemprompt"),
    "chosen": ("chosen", "良い回答", "好ましい回答", "採用"),
    "rejected": ("rejected", "悪い回答", "好ましくない回答", "不採用"),
    "text": ("text", "本文", "テキスト", "文章", "content", "内容"),
    "tools": ("tools", "functions", "ツール", "道具"),
    "category": ("カテゴリ", "カテゴリー", "分類", "種別", "category", "ジャンル", "label"),
    "group": ("グループ", "group", "groupid", "グループid", "話題id", "話題", "topic", "topicid"),
}
ROLE_JA = {
    "messages": "会話",
    "question": "質問",
    "context": "入力（補足）",
    "answer": "回答",
    "reasoning": "考えた過程",
    "system": "システム文",
    "chosen": "良い回答",
    "rejected": "悪い回答",
    "text": "本文",
    "tools": "ツール",
    "category": "カテゴリ",
    "group": "グループ",
}
_PARTS = {"question": ("質問", "問い合わせ", "question"), "answer": ("回答", "返答", "answer")}
_EXTRAS = ("category", "group")
# Kind, roles it cannot do without, roles it can use; the first that fits is taken.
_KINDS: tuple[tuple[ExampleKind, tuple[str, ...], tuple[str, ...]], ...] = (
    ("chat", ("messages",), ("system", "tools", *_EXTRAS)),
    ("preference", ("question", "chosen", "rejected"), ("context", "system", *_EXTRAS)),
    ("chat", ("question", "answer"), ("context", "reasoning", "system", "tools", *_EXTRAS)),
    ("text", ("text",), _EXTRAS),
)


@dataclass(frozen=True)
class ColumnChoice:
    """The column that plays a role."""

    role: str
    column: str
    reason: str
    """Japanese: why this column was taken."""


@dataclass(frozen=True)
class ColumnMap:
    """Which columns are used for what, and which kind of example the records become."""

    choices: tuple[ColumnChoice, ...]
    unmapped: tuple[str, ...]
    kind: ExampleKind | None
    """None if the columns suffice for no kind of example; `missing` says what is lacking."""
    missing: tuple[str, ...] = ()

    @property
    def columns(self) -> dict[str, str]:
        """Role → column."""
        return {choice.role: choice.column for choice in self.choices}


def choose(columns: Sequence[str], explicit: Mapping[str, str] | None = None) -> ColumnMap:
    """A role for each column that has one. `explicit` (role → column) wins; a role given an empty
    column is left out. Raises InvalidMapping."""
    requested = _checked_roles(columns, explicit or {})
    choices = {
        role: ColumnChoice(role, column, "指定されました") for role, column in requested.items()
    }
    # An explicit question or answer speaks against reading whole chats or plain text.
    is_pair = "question" in requested or "answer" in requested
    for choice in _choices_by_name(columns, set(requested.values())):
        if choice.role not in choices and not (is_pair and choice.role in ("messages", "text")):
            choices[choice.role] = choice
    choices = {role: choice for role, choice in choices.items() if choice.column}
    if "question" not in choices and {"answer", "chosen"} & choices.keys():
        # An answer without a question: its input, or its text, is the question.
        stand_in = next((role for role in ("context", "text") if role in choices), None)
        if stand_in:
            column = choices.pop(stand_in).column
            reason = f"質問の列がなく、「{column}」が回答と対になっています"
            choices["question"] = ColumnChoice("question", column, reason)
    return _column_map(columns, choices)


def missing_columns(path: Path, columns: Sequence[str], chosen: ColumnMap) -> ColumnsNotFound:
    """The error for a file of which no kind of example can be made."""
    return ColumnsNotFound(path=str(path), missing=list(chosen.missing), columns=list(columns))


def _checked_roles(columns: Sequence[str], explicit: Mapping[str, str]) -> dict[str, str]:
    """`explicit` with the roles' own names. Raises InvalidMapping."""
    problems, requested = [], {}
    for name, column in explicit.items():
        key = _key(name)
        role = next((role for role, names in NAMES.items() if key == role or key in names), None)
        if role is None:
            problems.append(
                f"「{name}」という役割はありません。使えるのは {', '.join(NAMES)} です。"
            )
        elif column and column not in columns:
            problems.append(f"「{column}」という列はありません。")
        else:
            requested[role] = column
    if problems:
        raise InvalidMapping(problems=problems, columns=list(columns))
    return requested


def _key(name: str) -> str:
    """A header without case, width, spaces, underscores and remarks in brackets."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"\(.*?\)|[\s_\-*:]", "", folded)


def _choices_by_name(columns: Sequence[str], taken: set[str]) -> list[ColumnChoice]:
    """Choices by exact names, best name first, then by names that contain the word."""
    keys = {_key(column): column for column in reversed(columns) if column not in taken}
    choices = []
    for role, names in NAMES.items():
        for name in names:
            if name in keys:
                column = keys.pop(name)
                reason = f"列名「{column}」から{ROLE_JA[role]}と判断しました"
                choices.append(ColumnChoice(role, column, reason))
                break
    chosen = {choice.role for choice in choices}
    for role in _PARTS.keys() - chosen:
        key = next((key for key in keys if any(part in key for part in _PARTS[role])), None)
        if key is not None:
            column = keys.pop(key)
            reason = f"列名「{column}」に{ROLE_JA[role]}を表す語が含まれます"
            choices.append(ColumnChoice(role, column, reason))
    return choices


def _column_map(columns: Sequence[str], choices: Mapping[str, ColumnChoice]) -> ColumnMap:
    """The choices that the first fitting kind of example can use; all, where none fits."""
    kind, roles = next(
        (
            (kind, (*needed, *useful))
            for kind, needed, useful in _KINDS
            if all(role in choices for role in needed)
        ),
        (None, tuple(NAMES)),
    )
    used = tuple(choices[role] for role in roles if role in choices)
    used_columns = {choice.column for choice in used}
    unmapped = tuple(column for column in columns if column not in used_columns)
    lacking = [role for role in ("question", "answer") if role not in choices and kind is None]
    return ColumnMap(used, unmapped, kind, tuple(ROLE_JA[role] for role in lacking))

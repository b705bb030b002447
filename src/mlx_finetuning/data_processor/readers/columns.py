"""Which column plays which role, by its name and by what it holds, with a reason for each choice.

A whole name counts more than part of one, and neither makes a column of dates, marks or staff names an
answer. What was taken for want of better is marked as doubtful. An unmapped column is listed, never
dropped in silence.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.column_content import (
    SAMPLE,
    Content,
    asks,
    content_of,
    is_verdict,
    low_rated,
)
from mlx_finetuning.data_processor.readers.column_names import (
    COUNTED,
    LANGUAGES,
    MEDIA,
    NAMES,
    OTHER_NAMES,
    RATINGS,
    ROLE_JA,
    TITLES,
    WEIGHTS,
    NameMatch,
    base_name,
    is_body,
    is_judgement,
    is_person,
    is_term,
    is_title,
    is_variant,
    key,
    name_match,
    numbered,
    preference,
    speaker,
)
from mlx_finetuning.data_processor.readers.validity import expired, withdrawn
from mlx_finetuning.errors import ColumnsNotFound, HeaderMojibake, InvalidMapping
from mlx_finetuning.language import N_, _
from mlx_finetuning.utils.japanese_utils import is_mojibake

ExampleKind = Literal["chat", "text", "preference", "judged"]
Records = Sequence[tuple[int, Sequence[Any]]]

__all__ = ["NAMES", "ROLE_JA", "ColumnChoice", "ColumnMap", "choose", "missing_columns"]

_LANGUAGE = re.compile("(?<=[a-z])(?:ja|jp|japanese)$")
_EXTRAS = ("category", "group")
_JUDGED = ("question", "answer")
# Kind, roles it cannot do without, roles it can use; the first that fits is taken.
_KINDS: tuple[tuple[ExampleKind, tuple[str, ...], tuple[str, ...]], ...] = (
    # Sets of preferences often hold the chosen conversation once more.
    ("preference", ("question", "chosen", "rejected"), ("context", "system", *_EXTRAS)),
    ("chat", ("messages",), ("system", "tools", "desirable", *_EXTRAS)),
    (
        "chat",
        ("question", "answer"),
        ("context", "reasoning", "system", "tools", "history", "desirable", *_EXTRAS),
    ),
    ("text", ("text",), _EXTRAS),
)


@dataclass(frozen=True)
class ColumnChoice:
    """The column that plays a role."""

    role: str
    column: str
    reason: str
    """Japanese: why this column was taken."""
    more: tuple[str, ...] = ()
    """Further columns of the same role (回答2, 回答3), in order."""
    is_doubtful: bool = False
    """Whether a person had better look."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the role."""
        return (self.column, *self.more)


@dataclass(frozen=True)
class ColumnMap:
    """Which columns are used for what, and which kind of example the records become."""

    choices: tuple[ColumnChoice, ...]
    unmapped: tuple[str, ...]
    kind: ExampleKind | None
    """None if the columns suffice for no kind of example; `missing` says what is lacking."""
    missing: tuple[str, ...] = ()
    title: str = ""
    """Of plain text: the column that stands above it, where the records look like articles."""
    withdrawn: tuple[int, ...] = ()
    """Rows that their table calls a draft, deleted or not to be shown."""
    expired: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Column of last days → rows whose day is over."""
    low_rated: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Column of points → rows that have few."""
    media: tuple[str, ...] = ()
    """Unmapped columns of images or sounds that most rows have."""

    @property
    def columns(self) -> dict[str, str]:
        """Role → column."""
        return {choice.role: choice.column for choice in self.choices}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be said of the choice."""
        notes = []
        if self.kind is None:
            notes.append(finding("COLUMNS_NOT_FOUND", missing=_("、").join(self.missing)))
            if any(map(is_mojibake, self.unmapped)):
                notes.append(finding("HEADER_MOJIBAKE"))
        elif self.unmapped:
            notes.append(finding("UNMAPPED_COLUMN", columns=_("、").join(self.unmapped)))
        doubtful = [choice for choice in self.choices if choice.is_doubtful and self.kind]
        if doubtful:
            named = (
                _("{role}＝「{column}」").format(role=_(ROLE_JA[choice.role]), column=choice.column)
                for choice in doubtful
            )
            reasons = _("。", "reasons").join(dict.fromkeys(choice.reason for choice in doubtful))
            notes.append(finding("COLUMN_DOUBTFUL", columns=_("、").join(named), reasons=reasons))
        for choice in self.choices:
            if choice.role == "answer" and choice.more:
                notes.append(finding("ANSWER_COLUMNS", columns=_("、").join(choice.columns)))
        if self.kind and self.media:
            notes.append(finding("MEDIA_UNUSED", columns=_("、").join(self.media)))
        if self.withdrawn:
            notes.append(finding("DRAFT", self.withdrawn))
        notes += [finding("EXPIRED", rows, column=column) for column, rows in self.expired.items()]
        notes += [
            finding("LOW_RATED", rows, column=column) for column, rows in self.low_rated.items()
        ]
        labels = [choice.column for choice in self.choices if choice.role == "category"]
        if self.kind == "text" and labels:
            text = self.columns["text"]
            notes.append(finding("LABELED_TEXT", text=text, label=labels[0]))
        if self.title:
            notes.append(finding("ARTICLES", title=self.title, text=self.columns["text"]))
        return tuple(notes)


def as_recorded(
    columns: Sequence[str], found: ColumnMap, recorded: Mapping[str, str]
) -> dict[str, str] | None:
    """What to ask `choose` for, so that it gives the roles that a dataset's record says and no others;
    None where it found them, or they cannot be had."""
    if not recorded or found.columns == recorded or not {*recorded.values()} <= {*columns}:
        return None
    return {role: recorded.get(role, "") for role in NAMES}


def choose(
    columns: Sequence[str], explicit: Mapping[str, str] | None = None, records: Records = ()
) -> ColumnMap:
    """A role for each column that has one. `explicit` (role → column) wins; a role given an empty
    column is left out; `records` are looked at where names leave it open. Raises InvalidMapping."""
    requested = _checked_roles(columns, explicit or {})
    table = _Columns(columns, records)
    choices = {
        role: ColumnChoice(role, column, _("指定されました")) for role, column in requested.items()
    }
    # An explicit question or answer speaks against reading whole chats or plain text.
    is_pair = "question" in requested or "answer" in requested
    for choice in _by_name(table, set(requested.values())):
        if choice.role not in choices and not (is_pair and choice.role in ("messages", "text")):
            choices[choice.role] = choice
    choices = {role: choice for role, choice in choices.items() if choice.column}
    _stand_in(choices, table, is_pair=is_pair)
    if not choices.keys() & {"messages", "chosen", "text"} and not choices.keys() >= {*_JUDGED}:
        _two_sides(choices, table)
    if not choices.keys() & {"messages", "chosen", "text", "answer"}:
        _article(choices, table)
    _of_quiz(choices)
    _fall_back(choices, table, requested)
    chosen = _column_map(table, choices)
    rated = {
        name: tuple(low)
        for at, name in enumerate(columns)
        if key(name) in RATINGS and name in chosen.unmapped and (low := low_rated(records, at))
    }
    media = tuple(
        name for name in chosen.unmapped if key(name) in MEDIA and table.content(name).filled > 0.5
    )
    return replace(
        chosen,
        withdrawn=withdrawn(columns, chosen.unmapped, records),
        expired=expired(columns, records),
        low_rated=rated,
        media=media,
    )


def missing_columns(
    path: Path, columns: Sequence[str], chosen: ColumnMap
) -> ColumnsNotFound | HeaderMojibake:
    """The error for a file of which no kind of example can be made."""
    if any(map(is_mojibake, columns)):
        return HeaderMojibake(path=str(path), columns=list(columns))
    return ColumnsNotFound(path=str(path), missing=list(chosen.missing), columns=list(columns))


class _Columns:
    """The columns of a table, with what is in them; looked at once, and only where it matters."""

    def __init__(self, names: Sequence[str], records: Records) -> None:
        self.names = list(names)
        # A sample of the rows: a hundred thousand would be walked for each column.
        self._records = records[:: max(1, math.ceil(len(records) / SAMPLE))]
        self._contents: dict[str, Content] = {}

    def values(self, name: str) -> list[Any]:
        """Some of its cells."""
        at = self.names.index(name)
        return [values[at] for __, values in self._records]

    def content(self, name: str) -> Content:
        """What it holds."""
        if name not in self._contents:
            self._contents[name] = content_of(self.values(name))
        return self._contents[name]


def _checked_roles(columns: Sequence[str], explicit: Mapping[str, str]) -> dict[str, str]:
    """`explicit` with the roles' own names. Raises InvalidMapping."""
    problems, requested = [], {}
    for name, column in explicit.items():
        asked = key(name)
        role = next(
            (role for role, names in NAMES.items() if asked == role or asked in names), None
        )
        if role is None:
            problems.append(
                _("「{name}」という役割はありません。使えるのは {names} です。").format(
                    name=name, names=", ".join(NAMES)
                )
            )
        elif column and column not in columns:
            problems.append(_("「{column}」という列はありません。").format(column=column))
        else:
            requested[role] = column
    if problems:
        raise InvalidMapping(problems=problems, columns=list(columns))
    return requested


def _by_name(table: _Columns, taken: set[str]) -> list[ColumnChoice]:
    """Choices for all roles: those with one name of their own first, then question and answer."""
    free = [column for column in table.names if column not in taken]
    keys = {key(column): column for column in reversed(free)}
    for column in free:  # input_ja stands for input where there is none
        keys.setdefault(_LANGUAGE.sub("", key(column)), column)
    choices = []
    for role, names in NAMES.items():
        if role in _JUDGED:
            continue
        for name in names:
            column = keys.get(name, "")
            if column not in free:
                continue
            if role == "desirable" and not is_verdict(
                table.values(column), is_counted=name in COUNTED, is_weight=name in WEIGHTS
            ):
                continue
            # Marks below 採用 judge the answer; they are none.
            if role in ("chosen", "rejected") and table.content(column).is_nothing:
                continue
            # Of conversations the cells say more than the name.
            content = table.content(column)
            if role in ("messages", "history") and content.filled and not content.structured:
                continue
            choices.append(
                ColumnChoice(
                    role,
                    column,
                    _("列名「{column}」から{role}と判断しました").format(
                        column=column, role=_(ROLE_JA[role])
                    ),
                )
            )
            free.remove(column)
            break
    if not any(choice.role == "desirable" for choice in choices):
        judging = (c for c in free if is_judgement(c) and is_verdict(table.values(c)))
        choices += [
            ColumnChoice(
                "desirable",
                column,
                _("列名「{column}」と中の印から良し悪しと判断しました").format(column=column),
            )
            for column in itertools.islice(judging, 1)
        ]
        free = [column for column in free if column not in {each.column for each in choices}]
    for role in _JUDGED:
        other = _JUDGED[1 - _JUDGED.index(role)]
        choice = _judged(
            table, [c for c in free if name_match(c, role) >= name_match(c, other)], role
        )
        if choice is not None:
            choices.append(choice)
            free = [column for column in free if column not in choice.columns]
    return choices


def _judged(table: _Columns, columns: Sequence[str], role: str) -> ColumnChoice | None:
    """The column that fits a question or an answer best, with its further ones (回答2, 回答3)."""
    # The less a column's name says, the more its cells must.
    needed = {
        NameMatch.PART: "prose",
        NameMatch.WEAK: "prose",
        NameMatch.HEAD: "something",
        NameMatch.EXACT: "",
    }
    rivals = [
        column
        for column in columns
        if (needs := needed.get(name_match(column, role))) is not None
        and (
            needs != "prose"
            or table.content(column).is_prose
            or is_term(column)
            or (role == "question" and table.content(column).is_varied)  # ログインできない
        )
        # Below a name of somebody stands what that one says, or who it is.
        and (needs != "prose" or not speaker(column) or table.content(column).sentences > 0.3)
        and (not needs or not _is_idle(table, column, role))
    ]
    # Whoever speaks gives way to what is said: ユーザー may hold people's names.
    people = [
        column for column in rivals if is_person(column) and not table.content(column).is_prose
    ]
    said = [
        column
        for column in table.names
        if column not in people
        and table.content(column).is_prose
        and (
            name_match(column, role) > NameMatch.NONE
            or (role == "question" and key(column) in NAMES["text"])
        )
    ]
    if said:
        rivals = [column for column in rivals if column not in people]
    rivals.sort(key=lambda column: _rank(table, column, role), reverse=True)
    if not rivals:
        return None
    column = rivals[0]
    level, name = name_match(column, role), numbered(column)
    series = [
        each
        for each in columns
        if each == column
        # Without a number, a remark in brackets (英語) makes it something else.
        or (
            level >= NameMatch.HEAD
            and numbered(each).base == name.base
            and (numbered(each).number or name.number) is not None
        )
        or (level >= NameMatch.HEAD and role == "question" and is_variant(each))
    ]
    series.sort(key=lambda each: (is_variant(each), numbered(each).number or 0))
    others = [each for each in rivals if each not in series]
    named = [
        each
        for each in others
        if name_match(each, role) >= NameMatch.HEAD and not _FURTHER.match(key(each))
    ]
    named += [
        each for each in others if each not in named and preference(each) > preference(column)
    ]
    content = table.content(column)
    doubtful = (
        level is not NameMatch.EXACT
        or content.is_nothing
        or (role == "answer" and content.is_constant)
        or (not content.is_prose and any(table.content(each).is_prose for each in others))
        or bool(named)
        or (column in people and content.sentences == 0)
    )
    reason = _(_REASONS[level]).format(column=series[0], role=_(ROLE_JA[role]))
    if named and doubtful:
        reason = _("{reason}（ほかの候補: {columns}）").format(
            reason=reason, columns=_("、").join(named)
        )
    return ColumnChoice(role, series[0], reason, tuple(series[1:]), doubtful)


_REASONS = {
    NameMatch.EXACT: N_("列名「{column}」から{role}と判断しました"),
    NameMatch.HEAD: N_("列名「{column}」に{role}を表す語が含まれます"),
    NameMatch.PART: N_("列名「{column}」に{role}を表す語が含まれます"),
    NameMatch.WEAK: N_("列名「{column}」と中の文章から{role}と推測しました"),
}


def _is_idle(table: _Columns, column: str, role: str) -> bool:
    """Whether its cells teach nothing. The same question may be asked of many texts."""
    content = table.content(column)
    return content.is_nothing or (role == "answer" and content.is_constant)


def _rank(table: _Columns, column: str, role: str) -> tuple[int, ...]:
    """The higher the better; a whole name with nothing to learn in it gives way to any with prose."""
    is_idle, names = _is_idle(table, column, role), NAMES[role]
    place = names.index(key(column)) if key(column) in names else len(names)
    level = 0 if is_idle else name_match(column, role)
    is_prose = table.content(column).is_prose
    is_named = level >= NameMatch.HEAD
    return (
        not is_idle,
        is_named,
        is_named and preference(column),
        is_named and table.content(column).filled > 0.6,
        level >= NameMatch.HEAD and not is_variant(column),  # 代表質問 before 言い換え1
        level,
        is_prose,
        -place,
        -table.names.index(column),
    )


def _stand_in(choices: dict[str, ColumnChoice], table: _Columns, *, is_pair: bool) -> None:
    """Where one half of a pair is there alone: an input or text that is the other half."""
    if "question" not in choices and {"answer", "chosen"} & choices.keys():
        # An answer without a question: its input, or its text, is the question.
        halves = (role for role in ("context", "text") if role in choices)
        role = next((r for r in halves if table.content(choices[r].column).filled), None)
        column = choices.pop(role).column if role else _text_column(table, choices, is_pair)
        titles = [] if column else [name for name in table.names if key(name) in TITLES]
        titles = titles or [  # of earlier turns, where they are one text
            name
            for name in table.names
            if not column and key(name) in NAMES["history"] and table.content(name).is_prose
        ]
        if not column and not titles:
            used = {choice.column for choice in choices.values()}
            free = (name for name in table.names if name not in used)
            titles = [n for n in free if table.content(n).is_prose and asks(table.values(n))]
        if column or titles:
            column = column or titles[0]
            reason = _("質問の列がなく、「{column}」が回答と対になっています").format(column=column)
            choices["question"] = ColumnChoice("question", column, reason, is_doubtful=bool(titles))
    elif "answer" not in choices and "question" in choices and is_pair and "chosen" not in choices:
        column = _text_column(table, choices, is_pair)
        if column:
            reason = _("回答の列がなく、「{column}」が質問と対になっています").format(column=column)
            choices["answer"] = ColumnChoice("answer", column, reason)


def _two_sides(choices: dict[str, ColumnChoice], table: _Columns) -> None:
    """Two columns that stand for each other, in their order: languages, before and after, or under names
    that nobody knows questions and what is beside them. Which is asked for is to be confirmed."""
    keys = {key(column): column for column in table.names}
    sides = [column for name, column in keys.items() if name in LANGUAGES]
    for before, after in _TURNS:
        sides = sides or [
            side
            for name, column in keys.items()
            if name.endswith(before) and (other := name.removesuffix(before) + after) in keys
            for side in (column, keys[other])
        ]
    if not sides:  # in names that nobody knows
        sides = [
            column
            for column in table.names
            if table.content(column).is_prose
            and min(name_match(column, role) for role in _JUDGED) >= NameMatch.NONE
            and base_name(column) not in OTHER_NAMES
        ]
        bases = {numbered(side).base for side in sides} - {"列"}
        is_pair = [asks(table.values(side)) for side in sides] == [True, False]
        sides = sides if is_pair and len(bases) != 1 else []  # sentence1, sentence2
    known = [(role, choices[role].column) for role in _JUDGED if role in choices]
    if len(sides) == 2 and {*known} <= {*zip(_JUDGED, sides, strict=True)}:
        reason = _("「{}」と「{}」が対になっています（前を質問、後を回答とみました）").format(
            *sides
        )
        for role, column in zip(_JUDGED, sides, strict=True):
            choices[role] = ColumnChoice(role, column, reason, is_doubtful=True)


def _article(choices: dict[str, ColumnChoice], table: _Columns) -> None:
    """The only column that is named as the text of something (記事本文) and holds prose; below a title it is
    no question either."""
    named = [name for name in table.names if is_body(name) and table.content(name).is_prose]
    asked = choices.get("question")
    is_asked = asked is not None and (
        asked.column not in named or not any(map(is_title, table.names))
    )
    if len(named) == 1 and not is_asked:
        choices.pop("question", None)
        reason = _("列名「{column}」と中の文章から本文と推測しました").format(column=named[0])
        choices["text"] = ColumnChoice("text", named[0], reason, is_doubtful=True)


def _fall_back(
    choices: dict[str, ColumnChoice], table: _Columns, requested: Mapping[str, str]
) -> None:
    """Where only some answers were put right, the others are those that there were before."""
    answer, question = choices.get("answer"), choices.get("question")
    if not answer or not question or "answer" in requested or answer.more or question.more:
        return
    content = table.content(answer.column)
    before = [
        column
        for column in table.names
        if name_match(column, "answer") >= NameMatch.HEAD
        and (preference(column) == 0 or _BEFORE.search(column))
        and table.content(column).filled > content.filled
    ]
    if preference(answer.column) <= 0 or content.filled >= _ALL_FILLED or not before:
        return
    reason = _("{reason}。空の行では「{column}」を使います").format(
        reason=answer.reason, column=before[0]
    )
    choices["answer"] = replace(answer, more=(before[0],), reason=reason, is_doubtful=True)


def _of_quiz(choices: dict[str, ColumnChoice]) -> None:
    """Where statements are to be called right or wrong (正誤, 解説), that is the answer, and no verdict on it."""
    mark, answer = choices.get("desirable"), choices.get("answer")
    if not mark or "question" not in choices or key(mark.column) not in _QUIZ:
        return
    if answer and name_match(answer.column, "answer") >= NameMatch.HEAD:
        return
    reason = _("「{column}」は、正しいかまちがいかを答える問題の答えのようです").format(
        column=mark.column
    )
    choices["answer"] = ColumnChoice("answer", mark.column, reason, is_doubtful=True)
    del choices["desirable"]


_QUIZ = frozenset("正誤 正否 ○× 〇× ◯×".split())
_ALL_FILLED = 0.98
_BEFORE = re.compile("前(?:の|$)")
_FURTHER = re.compile("その他|他の|ほかの|別の|other")
"""Names of what stands beside the one that was taken (その他の回答)."""
_TURNS = (("前", "後"), ("before", "after"), ("元", "後"))


def _text_column(table: _Columns, choices: Mapping[str, ColumnChoice], is_pair: bool) -> str | None:
    """A column named like plain text, where a pair was asked for by name."""
    used = {choice.column for choice in choices.values()}
    keys = {key(column): column for column in reversed(table.names) if column not in used}
    return next((keys[name] for name in NAMES["text"] if is_pair and name in keys), None)


def _column_map(table: _Columns, choices: Mapping[str, ColumnChoice]) -> ColumnMap:
    """The choices that the first fitting kind of example can use; all, where none fits."""
    kind, roles = next(
        (
            (kind, (*needed, *useful))
            for kind, needed, useful in _KINDS
            if all(role in choices for role in needed)
        ),
        (None, tuple(NAMES)),
    )
    if kind == "text" and "desirable" in choices:  # nothing is answered that it could judge
        label = choices["desirable"]
        choices = {**choices, "category": replace(label, role="category")}
    used = [choices[role] for role in roles if role in choices]
    used_columns = {column for choice in used for column in choice.columns}
    unmapped = tuple(column for column in table.names if column not in used_columns)
    lacking = [role for role in _JUDGED if role not in choices and kind is None]
    title = ""
    for column in unmapped:
        is_above = key(column) in TITLES or (is_title(column) and table.content(column).is_varied)
        if kind == "text" and not title and is_above:
            title = column
    beside = [c for c in unmapped if kind == "text" and c != title and table.content(c).is_prose]
    if kind == "text" and beside:
        reason = _("ほかの列（{columns}）にも文章があります").format(columns=_("、").join(beside))
        used = [replace(choice, is_doubtful=True, reason=reason) for choice in used]
    elif kind == "text" and "question" in choices:
        used = [replace(choice, is_doubtful=True) for choice in used]
    return ColumnMap(
        tuple(used), unmapped, kind, tuple(_(ROLE_JA[role]) for role in lacking), title
    )

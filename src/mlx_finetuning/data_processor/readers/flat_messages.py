"""Tables with one message a row (role, content) as conversations: one per conversation id, or all of the
file one conversation. Only where every role is known; message trees are the business of `trees`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from mlx_finetuning.data_processor.findings import finding
from mlx_finetuning.data_processor.readers.column_names import NameMatch, key, name_match
from mlx_finetuning.data_processor.readers.roles import PEOPLE, ROLE_KEYS, TEXT_KEYS, role_of
from mlx_finetuning.data_processor.readers.tables import Record, Table

ID_NAMES = frozenset(
    (
        *("conversationid", "conversation", "sessionid", "session", "threadid", "thread", "chatid"),
        *(
            "dialogid",
            "dialogueid",
            "convid",
            *("ticketid", "チケットid", "チケット番号", "caseid", "ケース番号", "問い合わせ番号"),
            "会話id",
            "会話番号",
            "通話id",
            "callid",
            "会話",
            "対話id",
            "スレッド",
            "セッション",
        ),
    )
)


_SIDES = ("区分", "種別", "種類", "qa", "q/a", "type", "kind")
"""Columns that may tell questions and answers apart, where that is all they say."""
_PAIR_WORDS = frozenset(("q", "a", "質問", "回答", "問", "答", "question", "answer"))
LOG_FORMAT = "chat_log"
"""Format of tables that a log of people's chat became."""
_MOST_ROLES = 20
"""Different names below which they can be sides of a conversation."""
_CHAT_ROLES = {"user", "assistant", "system", "tool"}
_SAMPLE = 200
_ORDERS = frozenset(
    ("turn", "turnid", "turnno", "turnnumber", "ターン", "ターン番号", "発話番号", "発言番号")
)


def _role_column(table: Table) -> str | None:
    """The column that says who speaks: by its name, or because all its cells name known sides."""
    named = next((name for name in table.columns if key(name) in ROLE_KEYS), None)
    named = named or next((name for name in table.columns if key(name).endswith(_SIDES)), None)
    are_pairs = all(
        any(name_match(name, role) is NameMatch.EXACT for name in table.columns)
        for role in ("question", "answer")
    )
    if named is not None or are_pairs:
        return named
    for at, name in enumerate(table.columns):
        cells = {str(values[at]) for _, values in table.records[:_SAMPLE]}
        roles = {role_of(cell) for cell in cells} if len(cells) <= _MOST_ROLES else set()
        if {"user", "assistant"} <= roles <= _CHAT_ROLES:
            return name
    return None


def unfold(table: Table) -> Table:
    """`table` itself, or a record per conversation."""
    text = next((name for name in table.columns if key(name) in TEXT_KEYS), None)
    role = None if text is None else _role_column(table)
    if role is None or text is None or len(table.records) < 2:
        return table
    role_at, text_at = table.columns.index(role), table.columns.index(text)
    roles = {str(values[role_at]) for _, values in table.records}
    if table.format == LOG_FORMAT and any(each.strip().casefold() in PEOPLE for each in roles):
        return table
    found = {role_of(each) for each in roles}
    # Of dialogue systems, which answer under that name.
    answers_as = "assistant" if found == {"user", "system"} else ""
    if len(roles) > _MOST_ROLES or not (
        answers_as or {"user", "assistant"} <= found <= _CHAT_ROLES
    ):
        return table
    id_at = next((at for at, name in enumerate(table.columns) if key(name) in ID_NAMES), None)
    order_at = next((at for at, name in enumerate(table.columns) if key(name) in _ORDERS), None)
    # Q and A in turn are pairs; who speaks by name goes on speaking.
    are_pairs = id_at is None and {str(each).strip().casefold() for each in roles} <= _PAIR_WORDS
    rows: defaultdict[str, list[Record]] = defaultdict(list)
    pair = 0
    for record in table.records:
        pair += are_pairs and role_of(record[1][role_at]) == "user"
        rows[str(pair) if id_at is None else str(record[1][id_at])].append(record)
    if order_at is not None and all(
        str(values[order_at]).strip().isdecimal() for _, values in table.records
    ):
        for messages in rows.values():
            messages.sort(key=lambda record: int(str(record[1][order_at])))
    records: list[Record] = []
    for messages in rows.values():
        turns = [{"role": values[role_at], "content": values[text_at]} for _, values in messages]
        if answers_as:
            turns = [
                {**turn, "role": answers_as} if role_of(turn["role"]) == "system" else turn
                for turn in turns
            ]
        records.append((messages[0][0], [turns]))
    note = finding("FLAT_MESSAGES", messages=len(table.records), conversations=len(records))
    # What was said of a log whose speakers nobody knows is no longer true.
    before = [item for item in table.findings if item.code != "CHAT_LOG"]
    return replace(table, columns=("messages",), records=records, findings=(*before, note))

"""Message trees (Open Assistant) as conversations: rows of single messages that name their parent,
or nested replies.

Of several answers to one message the best ranked is taken, so no question gets two; of several
questions each begins a conversation of its own. All of a tree forms one group.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from mlx_finetuning.data_processor.findings import finding
from mlx_finetuning.data_processor.readers.tables import Record, Table

ASSISTANT = ("assistant", "gpt", "bot")
# The Japanese text of a translated set comes first.
_TEXTS = ("text_ja", "text", "content")


class _Node(NamedTuple):
    """A message of a tree."""

    row: int
    role: str
    text: str
    rank: float
    parent: str
    tree: str


def unfold(table: Table) -> Table:
    """`table` itself, or one record per conversation if it holds message trees."""
    columns = set(table.columns)
    if {"message_id", "parent_id", "role"} <= columns and columns & set(_TEXTS):
        return _conversations(table, _flat_nodes(table))
    if "prompt" in columns:
        at = table.columns.index("prompt")
        if any(_is_tree(values[at]) for _, values in table.records):
            return _conversations(table, _nested_nodes(table, at))
    return table


def _flat_nodes(table: Table) -> dict[str, _Node]:
    """Messages that name their parent, by their id."""
    nodes = {}
    text_name = next(name for name in _TEXTS if name in table.columns)
    for row, values in table.records:
        message = dict(zip(table.columns, values, strict=True))
        if message.get("deleted") in (True, "True", "true"):
            continue
        nodes[str(message["message_id"])] = _Node(
            row,
            str(message["role"]),
            str(message[text_name] or ""),
            _rank(message.get("rank")),
            str(message["parent_id"] or ""),
            str(message.get("message_tree_id") or ""),
        )
    return nodes


def _nested_nodes(table: Table, at: int) -> dict[str, _Node]:
    """Messages with their replies inside, by a made-up id; `at` is the position of their column."""
    nodes = {}
    for row, values in table.records:
        pending = [(values[at], "")] if _is_tree(values[at]) else []
        while pending:
            message, parent = pending.pop()
            name = f"{row}:{id(message)}"
            role, rank = str(message.get("role", "")), _rank(message.get("rank"))
            nodes[name] = _Node(row, role, str(message.get("text") or ""), rank, parent, str(row))
            pending += [(reply, name) for reply in message.get("replies") or ()]
    return nodes


def _is_tree(value: Any) -> bool:
    return isinstance(value, dict) and "replies" in value and "text" in value


def _rank(value: Any) -> float:
    """The place among siblings, 0 the best; last if the message has none."""
    try:
        rank = float(value)
    except (TypeError, ValueError):
        return sys.float_info.max
    return rank if rank == rank else sys.float_info.max


def _conversations(table: Table, nodes: dict[str, _Node]) -> Table:
    """A record per path from a root to a last answer, by the order of those answers' rows."""
    replies: defaultdict[str, list[str]] = defaultdict(list)
    for name, node in nodes.items():
        replies[node.parent].append(name)
    records: list[Record] = []
    for root in replies[""]:
        for names in _paths(root, nodes, replies):
            path = [nodes[name] for name in names]
            messages = [{"role": node.role, "content": node.text} for node in path]
            records.append((path[-1].row, [messages, path[0].tree or f"tree{path[0].row}"]))
    records.sort(key=lambda record: record[0])
    findings = [
        *table.findings,
        finding("TREES", messages=len(nodes), conversations=len(records)),
    ]
    orphans = [node.row for node in nodes.values() if node.parent and node.parent not in nodes]
    if orphans:
        findings.append(finding("BAD_TREE", sorted(orphans)))
    columns = ("messages", "group")
    return replace(table, columns=columns, records=records, findings=tuple(findings))


def _paths(
    root: str, nodes: dict[str, _Node], replies: dict[str, list[str]]
) -> Iterator[list[str]]:
    """Paths that end with an answer, without recursion: a tree may be deep."""
    pending = [[root]]
    while pending:
        path = pending.pop()
        names = replies.get(path[-1], ())
        answers = [name for name in names if nodes[name].role in ASSISTANT]
        questions = [name for name in names if nodes[name].role not in ASSISTANT]
        is_answer = nodes[path[-1]].role in ASSISTANT
        if is_answer and not any(replies.get(name) for name in questions):
            yield path
        else:
            best = sorted(answers, key=lambda name: nodes[name].rank)[:1]
            pending += [[*path, name] for name in (*best, *questions)]

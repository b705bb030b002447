"""Made rows as steps over a source's table, so that the dataset can be made again with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from mlx_finetuning.data_processor.edits import EditedTable, messages_in, turn_texts
from mlx_finetuning.data_processor.readers.columns import choose
from mlx_finetuning.data_processor.readers.roles import role_of
from mlx_finetuning.data_processor.readers.tables import cell_text
from mlx_finetuning.data_processor.wordings.made import MadeRow


def add(table: EditedTable, mapping: Mapping[str, str], rows: Sequence[MadeRow]) -> None:
    """Put each row behind the one it was made from: a wording with all of that row's other cells, a
    refusal with its category alone. Raises EditMismatch, CellTooLong."""
    columns = choose(table.columns, mapping, table.records())
    roles = {choice.role: choice.columns for choice in columns.choices}
    for made in rows:
        cells = {
            name: cell_text(value)
            for name, value in zip(table.columns, table.values[made.row], strict=True)
        }
        if "messages" in roles:
            column = roles["messages"][0]
            value = table.values[made.row][table.columns.index(column)]
            written = {column: _conversation(messages_in(value) or (), made)}
        else:
            # Of several questions or answers in a row, only one was made.
            written = dict.fromkeys((*roles["question"], *roles["answer"]), "")
            written |= {roles["question"][0]: made.question, roles["answer"][0]: made.answer}
        kept = cells
        if made.is_refusal:
            kept = {name: cells[name] for name in roles.get("category", ())}
        values = tuple((name, text) for name, text in (kept | written).items() if text)
        table.add(
            made.row,
            values,
            wording_of=0 if made.is_refusal else made.row,
            refusal=made.is_refusal,
            split=made.split,
            made_by=f"{made.made_by}:{made.kind}",
        )


def _conversation(messages: Sequence[Mapping[str, object]], made: MadeRow) -> str:
    """The messages with the last question, and for a refusal the last answer, in other words."""
    roles = [role_of(role) for role, _ in turn_texts(messages)]
    question = max(at for at, role in enumerate(roles) if role == "user")
    texts = {question: made.question} | ({question + 1: made.answer} if made.is_refusal else {})
    changed = []
    for at, message in enumerate(messages):
        text = turn_texts([message])[0][1]
        written = texts.get(at, text)
        changed.append({k: written if v == text else v for k, v in message.items()})
    return json.dumps(changed, ensure_ascii=False)

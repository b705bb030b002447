"""Dataset rows as token ids with what is supervised. The loss sees every assistant turn with one
end-of-turn token, and nothing else; of plain text, everything; of a preference row, both answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.errors import ConversationRefused, NothingToLearn
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tokenization.chat import Encoded
from mlx_finetuning.tokenization.rows import Row

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class CacheSlot:
    """An example's place in the activation cache (`gradient.skipped_work`)."""

    start: int
    """The position of its first token there."""
    is_filled: bool
    """Whether its output is there already."""


@dataclass(frozen=True)
class Example:
    """What training sees of a dataset row: token ids, and which of them are targets."""

    tokens: list[int]
    supervised: list[bool]
    """Per token: whether it is a target of the loss."""
    row: int
    """The row it was made of, by the number of its line in the source; 0 if unknown."""
    cut: int = 0
    """Tokens that did not fit."""
    loses_end: bool = False
    """Whether targets are among them: an answer without its end."""
    cache_slot: CacheSlot | None = None
    """None if the output of its lower blocks is not cached."""
    reference: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    """[targets, d_model]: the base's last hidden states before each target. What the head makes of
    them is learned then, instead of the targets themselves; None for what is learned from a row."""

    @property
    def content(self) -> tuple[object, ...]:
        """All that training depends on."""
        return self.tokens, self.supervised

    @property
    def targets(self) -> int:
        """Tokens that count in the loss: the first of a sequence is never predicted."""
        return sum(self.supervised[1:])

    @property
    def weight(self) -> int:
        """What it counts in the mean of an update: a loss is per token."""
        return self.targets


class Answers(ABC):
    """Whole answers that are one item of an update, told of as one example is."""

    @property
    @abstractmethod
    def answers(self) -> tuple[Example, ...]:
        """Those that a gradient is computed for, with the question in each."""

    @property
    def row(self) -> int:
        """The row they were made of, by the number of its line in the source."""
        return self.answers[0].row

    @property
    def tokens(self) -> list[int]:
        """Of all answers."""
        return [token for answer in self.answers for token in answer.tokens]

    @property
    def supervised(self) -> list[bool]:
        """Per token: whether it is a target."""
        return [is_target for answer in self.answers for is_target in answer.supervised]

    @property
    def content(self) -> tuple[object, ...]:
        """All that training depends on."""
        return self.tokens, self.supervised

    @property
    def cut(self) -> int:
        """Tokens that did not fit."""
        return sum(answer.cut for answer in self.answers)

    @property
    def loses_end(self) -> bool:
        """Whether one of the answers does."""
        return any(answer.loses_end for answer in self.answers)

    @property
    def targets(self) -> int:
        """Tokens that count in the loss."""
        return sum(answer.targets for answer in self.answers)


def encode_rows(
    loaded: LoadedModel, rows: Sequence[Row], max_length: int, supervise: str = "answers"
) -> list[Example]:
    """All rows, cut to `max_length` tokens; plain text is divided instead, and nothing of it is lost.
    Rows whose answers are cut away entirely are left out.

    With `supervise` "all", questions are learned as well. A preference row gives its chosen answer.

    Raises NothingToLearn if no row has a supervised token, ConversationRefused, ChatTemplateMissing.
    """
    limit = min(max_length, loaded.context_length)
    examples = [
        part
        for row in rows
        for whole in sequences(loaded, row, supervise)
        for part in (divided(whole, limit) if "text" in row else [shortened(whole, limit)])
    ]
    usable = [example for example in examples if example.targets]
    if rows and not usable:
        raise NothingToLearn(rows=len(rows), max_length=limit)
    return usable


def sequences(loaded: LoadedModel, row: Row, supervise: str = "answers") -> tuple[Example, ...]:
    """What is trained of a row, uncut. Of a conversation usually one sequence, with all its answers; of
    a preference row the one with the chosen answer.

    Raises ConversationRefused with the row's number, ChatTemplateMissing.
    """
    number = int(row.get("row", 0))
    if "text" in row:
        tokens = [*loaded.tokenizer.encode(row["text"]), loaded.chat.text_end]
        return (Example(tokens, [True] * len(tokens), number),)
    chat = conversations(row)[0]
    learns_all = supervise == "all" and "messages" in row
    try:
        encoded = loaded.chat.sequences(chat, row.get("tools"), everything=learns_all)
        if not encoded:
            tokens = loaded.render(chat, ask=False, tools=row.get("tools"))
            encoded = [Encoded(tokens, [learns_all] * len(tokens), "")]
    except ConversationRefused as error:
        reason = _("{row}行目のデータ: {reason}").format(row=number, reason=error.data["reason"])
        raise ConversationRefused(reason=reason) from error
    return tuple(Example(one.tokens, one.supervised, number) for one in encoded)


def pair(loaded: LoadedModel, row: Row) -> tuple[Example, Example]:
    """A preference row with its chosen and with its rejected answer, uncut."""
    answers: list[Row] = [{**row, "messages": messages} for messages in conversations(row)]
    (chosen,), (rejected,) = (sequences(loaded, answer) for answer in answers)
    return chosen, rejected


def conversations(row: Row) -> list[Messages]:
    """The row's conversation; of a preference row one per answer, of plain text none."""
    if "messages" in row:
        return [row["messages"]]
    answers = [row[name] for name in ("chosen", "rejected") if name in row]
    asked = [{"role": "user", "content": row.get("prompt", "")}]
    if row.get("system"):
        asked.insert(0, {"role": "system", "content": row["system"]})
    return [[*asked, {"role": "assistant", "content": answer}] for answer in answers]


def divided(example: Example, limit: int) -> list[Example]:
    """Parts of at most `limit` tokens. Each begins with the last token of the one before it, so that
    every token but the text's first is predicted once."""
    starts = range(0, max(len(example.tokens) - 1, 1), limit - 1)
    spans = [slice(start, start + limit) for start in starts]
    return [Example(example.tokens[at], example.supervised[at], example.row) for at in spans]


def shortened(example: Example, limit: int) -> Example:
    """Its first `limit` tokens; the others are counted."""
    over = len(example.tokens) - limit
    if over <= 0:
        return example
    loses_end = any(example.supervised[limit:])
    return Example(example.tokens[:limit], example.supervised[:limit], example.row, over, loses_end)

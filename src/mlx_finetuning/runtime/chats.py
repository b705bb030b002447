"""Conversations kept with their run: `experiments/<id>/chats/<chat id>.json`, one file each.

A file is replaced whole. Files that are damaged or of a newer version are passed over, and never
rewritten.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlx_finetuning import files
from mlx_finetuning.errors import NewerSchema, RecordDamaged
from mlx_finetuning.language import _
from mlx_finetuning.tokenization.reasoning import FIELDS
from mlx_finetuning.workspace import checked_name

SIDES = ("tuned", "base")


@dataclass(frozen=True)
class Conversation:
    """A conversation with the tuned model, its base, or both side by side."""

    engine: str
    settings: dict[str, Any] = field(default_factory=dict)
    """GenerateConfig as plain values."""
    talks: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """`tuned` and `base`, as far as they were asked: the messages, without the system text.

    An answer that was thought over has `reasoning_content` too, which is shown and never sent back.
    """
    chat_id: str = field(
        default_factory=lambda: f"{datetime.now():%Y%m%d-%H%M%S-%f}-{secrets.token_hex(2)}"
    )
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def title(self) -> str:
        """The first question."""
        contents = (message["content"] for talk in self.talks.values() for message in talk)
        return next(contents, "")

    def with_turn(
        self, question: str, answers: Mapping[str, str], thoughts: Mapping[str, str] | None = None
    ) -> Conversation:
        """The conversation with one more question and each side's answer to it, and reasoning."""
        talks = {side: list(talk) for side, talk in self.talks.items()}
        for side, answer in answers.items():
            answered = {"role": "assistant", "content": answer}
            if reasoning := (thoughts or {}).get(side):
                answered[FIELDS[0]] = reasoning
            talks.setdefault(side, []).extend([{"role": "user", "content": question}, answered])
        return Conversation(self.engine, self.settings, talks, self.chat_id, self.created_at)


def save(folder: Path, chat: Conversation) -> None:
    """Write or replace a conversation. Raises InvalidName, DiskFull."""
    files.write_json(folder / (checked_name(_("会話"), chat.chat_id) + ".json"), asdict(chat))


def read_all(folder: Path) -> list[Conversation]:
    """The conversations that can be read, the newest first."""
    chats = []
    for path in sorted(folder.glob("[!.]*.json"), reverse=True) if folder.is_dir() else []:
        with contextlib.suppress(FileNotFoundError, RecordDamaged, NewerSchema, KeyError):
            record = files.read_json(path)
            chat = Conversation(**{item.name: record[item.name] for item in fields(Conversation)})
            if _is_sound(chat) and chat.chat_id == path.stem:
                chats.append(chat)
    return chats


def delete(folder: Path, chat_id: str) -> None:
    """Remove a conversation, if it is there."""
    (folder / (checked_name(_("会話"), chat_id) + ".json")).unlink(missing_ok=True)


def _is_sound(chat: Conversation) -> bool:
    """Whether the file held what `talks` promises."""
    if not isinstance(chat.talks, dict) or not set(chat.talks) <= set(SIDES):
        return False
    talks = chat.talks.values()
    return all(
        isinstance(talk, list)
        and all(
            isinstance(turn, dict)
            and all(isinstance(turn.get(key), str) for key in ("role", "content"))
            for turn in talk
        )
        for talk in talks
    )

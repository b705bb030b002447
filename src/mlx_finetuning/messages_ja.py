"""The Japanese wording of errors, from `assets/messages_ja.yaml`. Used by CLI and UI.

No logic beyond filling in the error's data.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_FILE = Path(__file__).parent / "assets" / "messages_ja.yaml"


class Coded(Protocol):
    """What words are looked up for: every `errors.StudioError`."""

    @property
    def code(self) -> str: ...
    @property
    def data(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class ErrorText:
    what: str
    why: str
    next_step: str

    @property
    def text(self) -> str:
        return "\n".join(line for line in (self.what, self.why, self.next_step) if line)


@functools.cache
def catalogue() -> dict[str, ErrorText]:
    """The wording of each code."""
    import yaml  # late: a command that succeeds needs no wording

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    entries = yaml.load(_FILE.read_text(encoding="utf-8"), loader)
    return {code: ErrorText(**entry) for code, entry in entries.items()}


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "不明"


def describe(error: Coded) -> ErrorText:
    """The error's wording with its data filled in."""
    template = catalogue().get(error.code) or catalogue()["UNEXPECTED"]
    data = _Blank()
    for key, value in error.data.items():
        data[key] = "不明" if value is None else value
        if isinstance(value, list | tuple):
            lines = [str(item) for item in value]
            sentences = any(line.endswith(("。", "）")) for line in lines)
            data[key] = ("\n" if sentences else "、").join(lines) or "なし"
    return ErrorText(
        *(part.format_map(data) for part in (template.what, template.why, template.next_step))
    )

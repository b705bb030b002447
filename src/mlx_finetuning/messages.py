"""The wording of errors, from `assets/messages_ja.yaml` and `messages_en.yaml`. Used by CLI and UI.

No logic beyond filling in the error's data.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlx_finetuning.language import JAPANESE, _, language

_ASSETS = Path(__file__).parent / "assets"
# Of a list's items: are they sentences, each gets a line of its own.
_SENTENCE_ENDS = {"ja": ("。", "）"), "en": (".", ")")}


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
def catalogue(language: str = JAPANESE) -> dict[str, ErrorText]:
    """The wording of each code."""
    import yaml  # late: a command that succeeds needs no wording

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (_ASSETS / f"messages_{language}.yaml").read_text(encoding="utf-8")
    entries = yaml.load(text, loader)
    return {code: ErrorText(**entry) for code, entry in entries.items()}


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return _("不明")


def describe(error: Coded) -> ErrorText:
    """The error's wording with its data filled in."""
    texts = catalogue(language())
    template = texts.get(error.code) or texts["UNEXPECTED"]
    data = _Blank()
    for key, value in error.data.items():
        data[key] = _("不明") if value is None else value
        if isinstance(value, list | tuple):
            lines = [str(item) for item in value]
            sentences = any(line.endswith(_SENTENCE_ENDS[language()]) for line in lines)
            data[key] = ("\n" if sentences else _("、")).join(lines) or _("なし")
    return ErrorText(
        *(part.format_map(data) for part in (template.what, template.why, template.next_step))
    )

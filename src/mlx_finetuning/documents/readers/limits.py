"""How large a document may be: what is larger is refused, not read in part."""

from __future__ import annotations

from pathlib import Path

from mlx_finetuning.errors import DocumentUnreadable
from mlx_finetuning.language import N_, _

STAGE = N_("文書を読む")
MAX_CHARACTERS = 20_000_000
"""Of one document."""


def unreadable(path: Path, error: BaseException) -> DocumentUnreadable:
    """The error for what a library could not read, with its words."""
    detail = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:160]}"
    return DocumentUnreadable(
        path=str(path),
        reason=_("壊れているか、途中で切れています（{detail}）。").format(detail=detail),
    )


def require_size(characters: int, path: Path) -> None:
    """Raises DocumentUnreadable for a document that nobody has written by hand."""
    if characters > MAX_CHARACTERS:
        raise DocumentUnreadable(
            path=str(path),
            reason=_("文章が長すぎます（{most:,}文字まで）。").format(most=MAX_CHARACTERS),
        )

"""The source file as bytes: it exists, is a file of text, and is not too large. Never writes."""

from __future__ import annotations

from pathlib import Path

from mlx_finetuning.data_processor.readers.encoding import unmarked_utf16
from mlx_finetuning.errors import (
    SourceBinary,
    SourceEmpty,
    SourceIsFolder,
    SourceNotFound,
    SourceTooLarge,
    SourceUnreadable,
)
from mlx_finetuning.language import N_, _

MAX_BYTES = 2 << 30

_SIGNATURES = (
    (b"PK\x03\x04", N_("ZIP形式のファイル（Excelのブックなど）")),
    (b"PK\x05\x06", N_("空のZIPファイル")),
    (b"\xd0\xcf\x11\xe0", N_("古い形式のOffice文書")),
    (b"%PDF", "PDF"),
    (b"\x1f\x8b", N_("gzipの圧縮ファイル")),
    (b"7z\xbc\xaf", N_("7-Zipの圧縮ファイル")),
    (b"\x89PNG", N_("画像（PNG）")),
    (b"\xff\xd8\xff", N_("画像（JPEG）")),
    (b"GIF8", N_("画像（GIF）")),
    (b"SQLite format 3", N_("データベース（SQLite）")),
    (b"PAR1", N_("Parquet（名前の終わりを .parquet にしてください）")),
    (b"GGUF", N_("モデルのファイル（GGUF）")),
)
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
"""Of UTF-16 and UTF-32."""
# Escape belongs to ISO-2022-JP; form feed and Ctrl-Z (old DOS ends) occur in honest text.
_CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\r\v\f\x1a\x1b\x1d")) + b"\x7f"


def check_source(path: Path) -> None:
    """Raises SourceIsFolder, SourceNotFound, SourceUnreadable, SourceTooLarge."""
    if path.is_dir():
        raise SourceIsFolder(path=str(path))
    if not path.exists():
        raise SourceNotFound(path=str(path))
    if not path.is_file():
        raise SourceUnreadable(path=str(path), reason=_("通常のファイルではありません。"))
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SourceTooLarge(path=str(path), size_mb=size >> 20, limit_mb=MAX_BYTES >> 20)


def read_source(path: Path, encoding: str = "auto") -> bytes:
    """All bytes of a text file that `check_source` lets pass. Raises SourceUnreadable,
    SourceBinary, SourceEmpty."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SourceUnreadable(path=str(path), reason=error.strerror or str(error)) from error
    for signature, kind in _SIGNATURES:
        if raw.startswith(signature):
            raise SourceBinary(path=str(path), kind=_(kind))
    is_wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32"))
    is_marked = raw.startswith(_WIDE_BOMS)
    if not is_wide and not is_marked and not unmarked_utf16(raw):
        if b"\0" in raw:
            raise SourceBinary(path=str(path), kind=_("NUL文字（0のバイト）を含むデータ"))
        controls = len(raw) - len(raw.translate(None, _CONTROLS))
        if controls * 100 > len(raw):
            raise SourceBinary(path=str(path), kind=_("制御文字の多いデータ"))
    if not raw or raw.isspace():
        raise SourceEmpty(path=str(path))
    return raw

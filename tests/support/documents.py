"""Documents for tests, by writers that share no code with the readers, and their text in reading order."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Table

from mlx_finetuning.utils.japanese_utils import rouge_l

WIDTH, HEIGHT = A4
MINCHO, GOTHIC, VERTICAL = "HeiseiMin-W3", "HeiseiKakuGo-W5", "HeiseiMin-Vertical"
pdfmetrics.registerFont(UnicodeCIDFont(MINCHO))
pdfmetrics.registerFont(UnicodeCIDFont(GOTHIC))


class _VerticalFont(UnicodeCIDFont):  # type: ignore[misc]
    """reportlab names a vertical font as the horizontal one, and so takes it for it."""

    def __init__(self) -> None:
        super().__init__(MINCHO, isVertical=True)
        self.name = self.fontName = VERTICAL


pdfmetrics.registerFont(_VerticalFont())


class Pdf:
    """Writes a PDF line by line, as a word processor sets it."""

    def __init__(
        self, path: Path, *, head: str = "", size: float = 10.5, encrypt: Any = None
    ) -> None:
        self.path, self._head, self._size = path, head, size
        self._canvas = Canvas(str(path), pagesize=A4, encrypt=encrypt)
        self._page = 0
        self._left, self._right = 72.0, WIDTH - 72
        self._top()

    def _top(self) -> None:
        self._page += 1
        self._y = HEIGHT - 90
        self._canvas.setFont(MINCHO, 8)
        if self._head:
            self._canvas.drawString(72, HEIGHT - 45, self._head)
            self._canvas.drawCentredString(WIDTH / 2, 36, f"- {self._page} -")

    def _line(self, text: str, font: str, size: float, x: float | None = None) -> None:
        if self._y < 90:
            self.new_page()
        self._canvas.setFont(font, size)
        self._canvas.drawString(self._left if x is None else x, self._y, text)
        self._y -= size * 1.6

    def new_page(self) -> None:
        self._canvas.showPage()
        self._top()

    def heading(self, text: str, size: float = 16) -> None:
        self._y -= 8
        self._line(text, GOTHIC, size)

    def paragraph(self, text: str, indent: float = 1) -> None:
        """Broken where the column ends, with an indented first line."""
        for at, line in enumerate(self._broken(text, indent)):
            self._line(
                line, MINCHO, self._size, self._left + (self._size * indent if at == 0 else 0)
            )

    def _broken(self, text: str, indent: float) -> Iterable[str]:
        line, room = "", self._right - self._left - indent * self._size
        for sign in text:
            if pdfmetrics.stringWidth(line + sign, MINCHO, self._size) > room:
                yield line
                line, room = "", self._right - self._left
            line += sign
        if line:
            yield line

    def lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._line(line, MINCHO, self._size)

    def ruled(self, rows: Sequence[Sequence[str]], spans: Sequence[Any] = ()) -> None:
        style = [
            ("FONT", (0, 0), (-1, -1), MINCHO, self._size),
            ("GRID", (0, 0), (-1, -1), 0.5, "black"),
        ]
        drawn = Table([list(row) for row in rows], style=[*style, *spans])
        _, height = drawn.wrapOn(self._canvas, self._right - self._left, 600)
        self._y -= height
        drawn.drawOn(self._canvas, self._left, self._y + 8)
        self._y -= 16

    def columns(self, rows: Sequence[Sequence[str]], step: float = 130) -> None:
        """A table without ruled lines."""
        for row in rows:
            for at, cell in enumerate(row):
                self._canvas.setFont(MINCHO, self._size)
                self._canvas.drawString(self._left + at * step, self._y, cell)
            self._y -= self._size * 1.6

    def text_columns(self, *texts: str, gutter: float = 28, shift: float = 5) -> None:
        """Text in columns whose lines stand at different heights, each `shift` below those to its left."""
        top, edges = self._y, (self._left, self._right)
        width = (edges[1] - edges[0] + gutter) / len(texts)
        lowest = top
        for at, text in enumerate(texts):
            self._left = edges[0] + at * width
            self._right, self._y = self._left + width - gutter, top - at * shift
            self.paragraph(text)
            lowest = min(lowest, self._y)
        (self._left, self._right), self._y = edges, lowest

    def ruby(self, base: str, reading: str) -> None:
        """A line with a reading in small letters above its first word."""
        self._canvas.setFont(MINCHO, 5)
        self._canvas.drawString(self._left, self._y + self._size, reading)
        self._line(base, MINCHO, self._size)

    def vertical(self, columns: Sequence[str], size: float = 12) -> None:
        for at, column in enumerate(columns):
            self._canvas.setFont(VERTICAL, size)
            self._canvas.drawString(WIDTH - 90 - at * size * 1.8, HEIGHT - 90, column)

    def image(self) -> None:
        """A scanned page: nothing but a picture."""
        from PIL import Image

        self._canvas.drawImage(ImageReader(Image.new("L", (850, 1100), 230)), 0, 0, WIDTH, HEIGHT)

    def save(self) -> Path:
        self._canvas.save()
        return self.path


def docx_with(path: Path, body: str, parts: dict[str, str | bytes] | None = None) -> Path:
    """A document of raw WordprocessingML."""
    from docx import Document

    stream = io.BytesIO()
    Document().save(stream)
    with ZipFile(stream) as source, ZipFile(path, "w", ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "word/document.xml":
                head = content.split(b"<w:body>")[0].decode()
                content = f"{head}<w:body>{body}</w:body></w:document>".encode()
            target.writestr(name, content)
        for name, added in (parts or {}).items():
            target.writestr(name, added)
    return path


def words(text: str) -> str:
    """Text without what layout adds: spaces and the signs between cells."""
    return "".join(sign for sign in text if not sign.isspace() and sign != "|")


def recovered(found: str, expected: str) -> float:
    """Share of the characters of both that stand in both in the same order."""
    return rouge_l(words(found), words(expected))


def sentences(subject: str, count: int) -> str:
    """So many different sentences about something."""
    verbs = itertools.cycle(("申請する", "確認する", "記録する", "報告する", "保管する"))
    places = itertools.cycle(("総務課", "経理課", "本社", "各支店"))
    return "".join(
        f"{subject}の{number}番目の手続きは、{next(places)}で毎月{number}日までに{next(verbs)}ものとする。"
        for number in range(1, count + 1)
    )

"""Documents made to harm: a Japanese error or a progress that can be stopped, in bounded time and memory."""

from __future__ import annotations

import resource
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from reportlab.lib.pdfencrypt import StandardEncryption

from mlx_finetuning import document_files
from mlx_finetuning.errors import (
    DocumentEncrypted,
    DocumentScanned,
    DocumentUnreadable,
    Interrupted,
    SourceUnsupported,
    StudioError,
)
from mlx_finetuning.progress import Step
from support.documents import Pdf, docx_with

MOST_S, MOST_BYTES = 5.0, 1 << 30


def zip_bomb(folder: Path) -> Path:
    return docx_with(folder / "bomb.docx", "<w:p/>", {"word/media/a.xml": b"\0" * (64 << 20)})


def many_tags(folder: Path) -> Path:
    return docx_with(folder / "tags.docx", "<w:p/>" * 12_000_000)


def entities(folder: Path) -> Path:
    """Billion laughs."""
    path = docx_with(folder / "entities.docx", "<w:p/>")
    levels = "".join(
        f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' if n else '<!ENTITY l0 "ha">' for n in range(10)
    )
    with ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    body = (
        parts["word/document.xml"]
        .split(b"?>", 1)[1]
        .replace(b"<w:p/>", b"<w:p><w:r><w:t>&l9;</w:t></w:r></w:p>")
    )
    parts["word/document.xml"] = f"<?xml version='1.0'?><!DOCTYPE d [{levels}]>".encode() + body
    with ZipFile(path, "w", ZIP_DEFLATED) as target:
        for name, content in parts.items():
            target.writestr(name, content)
    return path


def encrypted_pdf(folder: Path) -> Path:
    pdf = Pdf(folder / "locked.pdf", encrypt=StandardEncryption("secret", strength=128))
    pdf.paragraph("秘密の文書です。")
    return pdf.save()


def encrypted_office(folder: Path) -> Path:
    path = folder / "locked.docx"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 4096)
    return path


def cut_pdf(folder: Path) -> Path:
    path = Pdf(folder / "cut.pdf").save()
    path.write_bytes(path.read_bytes()[:200])
    return path


def not_a_pdf(folder: Path) -> Path:
    path = folder / "fake.pdf"
    path.write_bytes(b"MZ" + b"\0" * 1000)
    return path


def stream_bomb(folder: Path) -> Path:
    """A page whose content is packed a thousand times."""
    packer = zlib.compressobj(9)
    block = b" " * (1 << 20)
    content = b"".join(packer.compress(block) for _ in range(200)) + packer.flush()
    return raw_pdf(folder / "stream.pdf", content)


def raw_pdf(path: Path, content: bytes, pages: int = 1) -> Path:
    pack = b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(content), content)
    kids = b" ".join(b"%d 0 R" % number for number in range(4, 4 + pages))
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 3 0 R>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, pages),
        pack,
        *[page] * pages,
    ]
    out, places = [b"%PDF-1.7\n"], []
    for number, body in enumerate(objects, 1):
        places.append(sum(map(len, out[:1])) if number == 1 else places[-1] + len(out[-1]))
        out.append(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
    )
    size = len(objects) + 1
    path.write_bytes(b"".join(out) + end % (size, table, size, places[-1] + len(out[-1])))
    return path


def scanned(folder: Path) -> Path:
    pdf = Pdf(folder / "scan.pdf")
    pdf.image()
    return pdf.save()


def deep_html(folder: Path) -> Path:
    path = folder / "deep.html"
    path.write_text("<div>" * 200_000 + "深い" + "</div>" * 200_000, encoding="utf-8")
    return path


def old_word(folder: Path) -> Path:
    path = folder / "old.doc"
    path.write_bytes(b"\xd0\xcf\x11\xe0" * 100)
    return path


HOSTILE: list[tuple[Callable[[Path], Path], tuple[type[StudioError], ...]]] = [
    (zip_bomb, (DocumentUnreadable,)),
    (many_tags, (DocumentUnreadable,)),
    (entities, (StudioError,)),
    (encrypted_pdf, (DocumentEncrypted,)),
    (encrypted_office, (DocumentEncrypted,)),
    (cut_pdf, (DocumentUnreadable,)),
    (not_a_pdf, (DocumentUnreadable,)),
    (stream_bomb, (StudioError,)),
    (scanned, (DocumentScanned,)),
    (deep_html, (StudioError,)),
    (old_word, (SourceUnsupported,)),
]


@pytest.mark.parametrize(("make", "kinds"), HOSTILE, ids=[make.__name__ for make, _ in HOSTILE])
def test_hostile_document_is_refused_in_time_and_memory(
    make: Callable[[Path], Path], kinds: tuple[type[StudioError], ...], tmp_path: Path
) -> None:
    path = make(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(kinds) as caught:
        document_files.read(path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert any("ぁ" <= sign <= "ん" for sign in str(caught.value))
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MOST_S
    assert (after.ru_maxrss - before.ru_maxrss) * 1024 < MOST_BYTES


def test_ten_thousand_pages_can_be_stopped(tmp_path: Path) -> None:
    path = raw_pdf(tmp_path / "long.pdf", zlib.compress(b" "), 10_000)
    started_s = time.process_time()

    def stop(step: Step) -> None:
        if step.done == 50:
            assert step.total == 10_000
            raise Interrupted()

    with pytest.raises(Interrupted):
        document_files.read(path, stop)
    assert time.process_time() - started_s < MOST_S


def test_nothing_is_fetched_and_no_script_is_text(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<html><head><link rel=stylesheet href='http://127.0.0.1:9/x.css'></head><body><p>本文です。</p>"
        "<script>document.write('罠')</script><iframe src='http://127.0.0.1:9/'>枠</iframe>"
        "<img src='http://127.0.0.1:9/a.png' onerror='x()'></body></html>",
        encoding="utf-8",
    )
    assert document_files.read(page).text == "本文です。"

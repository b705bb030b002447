"""Documents made to harm: a Japanese error or a progress that can be stopped, in bounded time and memory."""

from __future__ import annotations

import base64
import resource
import time
import zlib
from collections.abc import Callable, Iterable
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
    content = b"".join(packer.compress(block) for _ in range(80)) + packer.flush()
    return raw_pdf(folder / "stream.pdf", content)


def packed_twice(folder: Path) -> Path:
    content = zlib.compress(zlib.compress(b" " * (80 << 20), 9))
    return raw_pdf(folder / "twice.pdf", content, filters=b"[/FlateDecode /FlateDecode]")


def end_that_is_none(folder: Path) -> Path:
    """The word that ends a part stands inside it, in a block that is not packed."""
    packer = zlib.compressobj(9)
    bomb = packer.compress(b" " * (80 << 20)) + packer.flush()
    told = b"endstream "
    stored = b"\x78\x01\x00%s%s%s" % (
        len(told).to_bytes(2, "little"),
        (len(told) ^ 0xFFFF).to_bytes(2, "little"),
        told,
    )
    return raw_pdf(folder / "end.pdf", stored + bomb[2:])


def packed_as_letters(folder: Path) -> Path:
    content = base64.a85encode(zlib.compress(b" " * (80 << 20), 9)) + b"~>"
    return raw_pdf(folder / "letters.pdf", content, filters=b"[/ASCII85Decode/FlateDecode]")


def lzw_bomb(folder: Path) -> Path:
    """Spaces, each code of which stands for one more than the one before, until the table is full."""
    codes = [256, 32, *range(258, 4094)] * 12
    return raw_pdf(folder / "lzw.pdf", lzw_codes(codes), filters=b"/LZWDecode")


def lzw_codes(codes: Iterable[int]) -> bytes:
    """Codes as bits: 9 of them after each 256, one more from the entries 511, 1023 and 2047 on."""
    bits, entries = [], 0
    for code in codes:
        width = min(12, max(9, (entries + 1).bit_length()))
        bits.append(f"{code:0{width}b}")
        entries = 257 if code == 256 else entries + 1
    text = "".join(bits)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


def raw_pdf(path: Path, content: bytes, pages: int = 1, filters: bytes = b"/FlateDecode") -> Path:
    pack = b"<</Filter %s/Length %d>>stream\n%s\nendstream" % (filters, len(content), content)
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
    (stream_bomb, (DocumentUnreadable,)),
    (packed_twice, (DocumentUnreadable,)),
    (end_that_is_none, (DocumentUnreadable,)),
    (packed_as_letters, (DocumentUnreadable,)),
    (lzw_bomb, (DocumentUnreadable,)),
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


def test_text_packed_by_lzw_is_read(tmp_path: Path) -> None:
    """By PDFium, which judges whether the codes are right."""
    text = b"BT /F1 12 Tf 50 700 Td (Closed on Wednesdays.) Tj ET"
    codes = [256, *text, 257]
    path = raw_pdf(tmp_path / "a.pdf", lzw_codes(codes), filters=b"/LZWDecode")
    assert "Closed on Wednesdays." in "".join(
        block.text for block in document_files.read(path).blocks
    )


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

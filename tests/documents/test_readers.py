"""Documents are read whole and in order: twelve that the tests make, judged by what was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_finetuning import document_files
from support.documents import Pdf, recovered, sentences
from support.twelve_documents import MAKERS

LEAST = 0.99


@pytest.mark.parametrize("name", MAKERS)
def test_text_tables_and_headings_are_recovered_in_order(name: str, tmp_path: Path) -> None:
    made = MAKERS[name](tmp_path)
    document = document_files.read(made.path)
    assert recovered(document.text, made.text) >= LEAST, document.text
    rows = [row for block in document.blocks for row in block.rows]
    assert rows == list(made.rows)
    headings = [block.text for block in document.blocks if block.kind == "heading"]
    assert [heading for heading in made.headings if heading not in headings] == []
    assert document.scanned_pages == made.scanned


@pytest.mark.parametrize("shift", [5, 0])
def test_three_columns_are_read_one_after_the_other(shift: float, tmp_path: Path) -> None:
    """Between lines over the whole width; also where the columns' lines are of one height."""
    topics = ("社員旅行", "健康診断", "避難訓練")
    texts = [sentences(topic, 9 - at) for at, topic in enumerate(topics)]
    pdf = Pdf(tmp_path / "社内報.pdf", size=9)
    pdf.heading("社内報　冬号")
    first = "この号では、秋から冬にかけての出来事を、部署ごとにまとめてお伝えします。"
    pdf.paragraph(first)
    pdf.text_columns(*texts, gutter=20, shift=shift)
    last = "次の号は三月に出る予定です。取り上げてほしい出来事があれば、広報係までお寄せください。"
    pdf.paragraph(last)
    document = document_files.read(pdf.save())
    assert recovered(document.text, "".join(("社内報 冬号", first, *texts, last))) >= LEAST
    assert not [block for block in document.blocks if block.rows]

"""Documents are read whole and in order: twelve that the tests make, judged by what was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_finetuning import document_files
from support.documents import recovered
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

"""Chunks follow headings, fit their size, lose nothing and repeat a table's header."""

from __future__ import annotations

from mlx_finetuning.documents.chunks import LONGEST, chunks_of
from mlx_finetuning.documents.document import Block, Document, table
from support.documents import sentences


def document(*blocks: Block) -> Document:
    return Document("a.pdf", "pdf", blocks, 3)


def test_chunks_begin_at_headings_and_know_those_above() -> None:
    body = sentences("手続き", 12)
    chunks = chunks_of(
        document(
            Block("heading", "第1章 総則", 1, 1),
            Block("heading", "第1条", 1, 3),
            Block("paragraph", body, 1),
            Block("heading", "第2条", 2, 3),
            Block("paragraph", body, 2),
            Block("heading", "第2章 休暇", 3, 1),
            Block("paragraph", "休暇の章。", 3),
        )
    )
    assert [chunk.headings for chunk in chunks] == [(), ("第1章 総則",), ()]
    assert [chunk.blocks[0].text for chunk in chunks] == ["第1章 総則", "第2条", "第2章 休暇"]
    assert [chunk.pages for chunk in chunks] == [(1, 1), (2, 2), (3, 3)]
    assert [chunk.number for chunk in chunks] == [1, 2, 3]


def test_short_sections_share_a_chunk() -> None:
    blocks = [
        block
        for number in range(5)
        for block in (Block("heading", f"第{number}条", 1, 3), Block("paragraph", "短い。", 1))
    ]
    assert len(chunks_of(document(*blocks))) == 1


def test_long_text_is_divided_between_sentences_and_nothing_is_lost() -> None:
    body = sentences("備品", 120)
    chunks = chunks_of(document(Block("paragraph", body, 1)))
    assert len(chunks) > 3
    assert all(len(chunk.text) <= LONGEST and chunk.text.endswith("。") for chunk in chunks)
    assert "".join(chunk.text for chunk in chunks) == body


def test_long_table_keeps_its_header_in_every_chunk() -> None:
    rows = [("品名", "単価"), *((f"品物の{n}番", f"{n}円") for n in range(200))]
    chunks = chunks_of(document(Block("heading", "価格", 1, 1), table(rows, 1)))
    held = [block.rows for chunk in chunks for block in chunk.blocks if block.rows]
    assert len(held) > 2
    assert {part[0] for part in held} == {rows[0]}
    assert [row for part in held for row in part[1:]] == rows[1:]


def test_headings_alone_make_no_chunk() -> None:
    assert chunks_of(document(Block("heading", "表紙", 1, 1))) == []

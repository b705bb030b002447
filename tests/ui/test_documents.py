"""文書から作る on the page データセット: what was read is shown, pairs are taken and left out."""

from __future__ import annotations

import dataclasses

import pytest

from mlx_finetuning import files
from mlx_finetuning.documents.chunks import chunks_of
from mlx_finetuning.documents.generate import ChunkPairs
from mlx_finetuning.documents.pairs import Pair, Problem
from mlx_finetuning.documents.plan import Plan
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support.ui_pages import click, open_page, shown_errors, texts


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))


PAIRS = tuple(
    Pair(
        f"{thing}の単価はいくらですか。",
        f"{thing}は{price}円です。",
        f"{thing}は{price}円",
        "fact",
        "価格.txt",
        1,
        0,
        found,
    )
    for thing, price, found in (
        ("みかん", 120, ()),
        ("りんご", 200, ()),
        ("ぶどう", 980, ()),
        ("すいか", 700, (Problem("number_missing", "700円"),)),
    )
)


def made(workspace: Workspace) -> None:
    paths = workspace.generated("prices")
    plan = Plan(("価格.txt 00",), "any", "mlx", "", 0, 1.0, False)
    files.write_json(paths.plan, dataclasses.asdict(plan))
    with files.LineLog(paths.pairs) as log:
        log.append(dataclasses.asdict(ChunkPairs("価格.txt", 1, PAIRS)))


def test_document_that_was_handed_in_is_read_and_shown_in_chunks(workspace: Workspace) -> None:
    studio = Studio(workspace)
    text = "# 価格\n\nみかんは120円です。\n\n| 品名 | 単価 |\n|---|---|\n| りんご | 200円 |\n"
    kept = studio.data.keep_upload("価格.md", text.encode())
    read = studio.documents.read([kept]).follow()
    assert len(chunks_of(read.documents[0])) == 1
    page = open_page("dataset", view="documents", documents=kept.parent.name)
    assert not shown_errors(page)
    assert "みかんは120円です。" in texts(page)
    assert list(page.dataframe[0].value.columns) == ["品名", "単価"]
    click(page, "質問と回答を作る")
    assert "モデルを指定" in texts(page)


def test_pairs_are_shown_with_reasons_and_become_a_dataset(workspace: Workspace) -> None:
    made(workspace)
    page = open_page("dataset", view="documents")
    table = page.dataframe[0].value
    assert list(table["使う"]) == [True, True, True, False]
    assert "700円" in table["確かめた結果"].iloc[3]
    assert list(table["根拠の文"]) == [pair.quote for pair in PAIRS]
    click(page, "選んだ3組でデータセットを作る")
    assert not shown_errors(page)
    assert set(Studio(workspace).data.edited("prices").values) == {1, 2, 3}

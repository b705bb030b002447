"""Answers put right: in the place of the wrong ones, trained on, never among what is tested with."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import prepare, read_manifest, reproduce
from mlx_finetuning.data_processor.corrections import TIMES, Correction
from mlx_finetuning.errors import DatasetNotOfChats
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

FAQ = PrepareConfig(goal="faq")
STYLE = PrepareConfig(goal="style")


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """24 questions: two wordings of twelve prices."""
    rows = (
        f"商品{number}の値段は？,商品{number}は{number}00円です。\n"
        f"商品{number}はいくらですか？,商品{number}は{number}00円です。\n"
        for number in range(1, 13)
    )
    path = tmp_path / "prices.csv"
    path.write_text("質問,回答\n" + "".join(rows), encoding="utf-8")
    return path


def rows(workspace: Workspace, name: str) -> dict[str, list[dict[str, object]]]:
    """By split."""
    dataset = workspace.dataset(name)
    return {
        split: [json.loads(line) for line in dataset.split(split).read_text("utf-8").splitlines()]
        for split in ("train", "valid", "test")
    }


def exchanges(split: list[dict[str, object]]) -> list[tuple[str, str]]:
    return [tuple(turn["content"] for turn in row["messages"]) for row in split]  # type: ignore[attr-defined, misc]


@pytest.mark.parametrize("settings", [FAQ, STYLE], ids=["faq", "style"])
def test_corrected_test_question_is_trained_with_its_new_answer_and_tested_no_more(
    workspace: Workspace, sheet: Path, settings: PrepareConfig
) -> None:
    studio = Studio(workspace)
    studio.data.prepare(sheet, "faq", settings)
    before = rows(workspace, "faq")
    asked, answer = exchanges(before["test"])[0]
    summary = studio.data.correct("faq", [Correction((asked,), "わかりかねます。")])
    assert summary.name == "faq-v2"
    after = rows(workspace, "faq-v2")
    assert exchanges(after["train"]).count((asked, "わかりかねます。")) == TIMES
    for split in ("valid", "test"):
        assert asked not in [question for question, _ in exchanges(after[split])]
    assert (asked, answer) not in [pair for split in after.values() for pair in exchanges(split)]
    assert rows(workspace, "faq") == before  # the one that the run was trained on stays
    assert {q for split in after.values() for q, _ in exchanges(split)} == {
        q for split in before.values() for q, _ in exchanges(split)
    }


def test_what_asks_nearly_the_same_is_no_test_either(workspace: Workspace, tmp_path: Path) -> None:
    draw = random.Random(5)
    topics = ["".join(draw.choices("あかさたなはまやらわいきしちに", k=40)) for _ in range(30)]
    lines = [
        f"{topic}は{end},{topic[:5]}です" for topic in topics for end in ("いつですか", "いつか")
    ]
    path = tmp_path / "topics.csv"
    path.write_text("質問,回答\n" + "\n".join(lines), encoding="utf-8")
    studio = Studio(workspace)
    studio.data.prepare(path, "topics", STYLE)
    tested = exchanges(rows(workspace, "topics")["test"])
    assert tested
    for asked, _ in tested:
        name = studio.data.correct("topics", [Correction((asked,), "総務に聞いてください。")]).name
        found = rows(workspace, name)
        held_out = [q for split in ("valid", "test") for q, _ in exchanges(found[split])]
        assert not [question for question in held_out if question[:40] == asked[:40]]


def test_new_question_is_added_with_its_conversation_of_which_only_the_end_is_learned(
    workspace: Workspace, sheet: Path
) -> None:
    studio = Studio(workspace)
    studio.data.prepare(sheet, "faq", replace(FAQ, system="店員です。"))
    prompt = ("こんにちは", "（変な答え）", "駐車場はありますか？")
    studio.data.correct("faq", [Correction(prompt, "3台分あります。")])
    added = [row for row in rows(workspace, "faq-v2")["train"] if row["row"] == 26]
    assert len(added) == TIMES
    assert added[0]["messages"] == [
        {"role": "system", "content": "店員です。"},
        {"role": "user", "content": "こんにちは"},
        {"role": "assistant", "content": "（変な答え）", "weight": 0},
        {"role": "user", "content": "駐車場はありますか？"},
        {"role": "assistant", "content": "3台分あります。"},
    ]


def test_last_correction_wins_and_versions_are_counted_on(
    workspace: Workspace, sheet: Path
) -> None:
    studio = Studio(workspace)
    studio.data.prepare(sheet, "faq", FAQ)
    asked = "商品3の値段は？"
    studio.data.correct("faq", [Correction((asked,), "一"), Correction(("商品３の値段は?",), "二")])
    assert (asked, "二") in exchanges(rows(workspace, "faq-v2")["train"])
    assert studio.data.correct("faq-v2", [Correction((asked,), "三")]).name == "faq-v3"
    found = rows(workspace, "faq-v3")
    assert {a for split in found.values() for q, a in exchanges(split) if q == asked} == {"三"}
    assert studio.data.correct("faq", [Correction((asked,), "四")]).name == "faq-v4"


def test_corrections_are_steps_of_the_record_and_stay_through_edits(
    workspace: Workspace, sheet: Path
) -> None:
    studio = Studio(workspace)
    studio.data.prepare(sheet, "faq", FAQ)
    studio.data.correct("faq", [Correction(("商品3の値段は？",), "非売品です。", "run-1")])
    manifest = workspace.dataset("faq-v2").manifest
    again = reproduce(read_manifest(manifest), "again", workspace.dataset("again"))
    assert again.corrections == (Correction(("商品3の値段は？",), "非売品です。", "run-1"),)
    assert rows(workspace, "again") == rows(workspace, "faq-v2")
    table = studio.data.edited("faq-v2")
    table.set(4, "回答", "商品2は売り切れです。")
    studio.data.edit("faq-v2", table.edits)
    answers = [a for split in rows(workspace, "faq-v2").values() for _, a in exchanges(split)]
    assert {"非売品です。", "商品2は売り切れです。"} <= {*answers}


def test_texts_and_preferences_have_no_answers_to_put_right(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(f'{{"text": "文章その{n}です。"}}\n' for n in range(9)), "utf-8")
    prepare(path, "texts", workspace.dataset("texts"), PrepareConfig())
    with pytest.raises(DatasetNotOfChats):
        Studio(workspace).data.correct("texts", [Correction(("？",), "はい")])

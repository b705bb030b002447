"""Pairs from documents, whole: a server that behaves and misbehaves, stops and kills, the built-in model."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning import errors, models
from mlx_finetuning.documents.pairs import ABSENT_ANSWER
from mlx_finetuning.documents.plan import Generated, GenerateSettings
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.progress import Step
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import generate
from mlx_finetuning.utils.text_generator import GeneratorChoice
from mlx_finetuning.workspace import JobPaths, Workspace
from support.chat_server import ChatServer, chat_server
from support.helpers import worker_process

RULES = """# 経費の規程

## 宿泊費

宿泊費は1泊12,000円を上限とします。領収書を添えて申請します。

## 日当

日当は、国内の出張では2,500円です。海外の出張では6,000円です。

# 休暇の規程

## 有給休暇

有給休暇は、3日前までに所属長へ申請します。半日の取得は年12回までです。

# 設備の規程

## 会議室

会議室の予約は、総務課の田中が受け付けます。内線は115番です。
"""

HOTEL = "宿泊費は1泊12,000円を上限とします。"


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(Workspace(tmp_path / "work"))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@pytest.fixture
def asked(tmp_path: Path, server: ChatServer) -> GenerateSettings:
    document = tmp_path / "規程.md"
    document.write_text(RULES, encoding="utf-8")
    choice = GeneratorChoice("any", "address", server.url)
    return GenerateSettings((str(document),), "rules", choice)


def copying(body: dict[str, Any]) -> str:
    """What a good model would write: of each sentence a question about it, its words as the answer."""
    prompt = body["messages"][-1]["content"]
    if ABSENT_ANSWER in prompt:
        return json.dumps(
            {
                "pairs": [
                    {
                        "question": "社員食堂の営業時間は何時ですか。",
                        "answer": ABSENT_ANSWER,
                        "quote": "",
                    }
                ]
            }
        )
    text = prompt.split("<抜粋>")[1].split("</抜粋>")[0]
    sentences = re.findall(r"[^\n。]+。", text)
    pairs = [
        {
            "question": f"{sentence.split('は')[0]}の決まりを教えてください。",
            "answer": sentence,
            "quote": sentence,
        }
        for sentence in sentences
    ]
    return json.dumps({"pairs": pairs}, ensure_ascii=False)


def run(
    studio: Studio,
    settings: GenerateSettings,
    progress: Callable[[Step], None] = lambda _: None,
) -> Generated:
    """The job's task in this process; what starting and following it adds is tested with a kill."""
    paths = JobPaths(studio.workspace.root / "job")
    config = dataclasses.asdict(settings)
    context = TaskContext(studio.workspace, paths, "", config, progress, lambda name, **data: None)
    return generate.run(context)


def test_document_becomes_a_dataset_whose_rows_name_their_source(
    studio: Studio, server: ChatServer, asked: GenerateSettings
) -> None:
    server.reply = copying
    made = run(studio, asked)
    pairs = studio.documents.pairs("rules")
    assert made.pairs == len(pairs) > 4 and made.dataset
    assert {pair.document for pair in pairs} == {"規程.md"}
    assert all(pair.quote in RULES for pair in pairs)
    sound = [row for row, pair in enumerate(pairs, 1) if pair.is_sound]
    assert made.sound == len(sound) > 2
    rows = [
        json.loads(line)
        for split in ("train", "valid", "test")
        for line in studio.workspace.dataset("rules").split(split).read_text().splitlines()
    ]
    assert sorted(row["row"] for row in rows) == sound
    source = [json.loads(line) for line in Path(made.source).read_text().splitlines()]
    assert [row["根拠"] for row in source] == [pair.quote for pair in pairs]


def test_documents_of_one_name_are_told_apart(
    studio: Studio, server: ChatServer, asked: GenerateSettings, tmp_path: Path
) -> None:
    server.reply = copying
    other = tmp_path / "支店" / "規程.md"
    other.parent.mkdir()
    other.write_text("# 駐車場\n\n駐車場は無料で、12台まで止められます。\n", encoding="utf-8")
    run(studio, replace(asked, documents=(*asked.documents, str(other))))
    of = {pair.quote: pair.document for pair in studio.documents.pairs("rules") if pair.quote}
    assert of[HOTEL] == "1:規程.md"
    assert of["駐車場は無料で、12台まで止められます。"] == "2:規程.md"


def test_pairs_can_be_taken_and_left_out_by_hand(
    studio: Studio, server: ChatServer, asked: GenerateSettings
) -> None:
    server.reply = copying
    made = run(studio, asked)
    chosen = set(range(1, made.pairs + 1)) - {1}
    table = studio.data.edited("rules")
    table.set(2, "回答", "直した回答です。")
    studio.data.edit("rules", table.edits)
    studio.documents.use("rules", chosen)
    rows = studio.data.edited("rules").values
    assert set(rows) == chosen == studio.documents.used("rules")
    assert "直した回答です。" in rows[2]
    run(studio, asked)
    assert studio.documents.used("rules") == chosen


def wrong_language(body: dict[str, Any]) -> str:
    return json.dumps(
        {
            "pairs": [
                {
                    "question": "What is the maximum price of a hotel room?",
                    "answer": "It is twelve thousand yen per night.",
                    "quote": "宿泊費は1泊12,000円を上限とします。",
                }
            ]
        }
    )


def made_up(body: dict[str, Any]) -> str:
    return json.dumps(
        {
            "pairs": [
                {
                    "question": "宿泊費の上限はいくらですか。",
                    "answer": "1泊20,000円です。",
                    "quote": "宿泊費は1泊20,000円です。",
                }
            ]
        }
    )


@pytest.mark.parametrize("reply", [wrong_language, made_up])
def test_no_bad_pair_is_unmarked(
    reply: Callable[[dict[str, Any]], str],
    studio: Studio,
    server: ChatServer,
    asked: GenerateSettings,
) -> None:
    server.reply = reply
    made = run(studio, asked)
    assert made.pairs and not made.sound and not made.dataset
    assert all(pair.problems for pair in studio.documents.pairs("rules"))


@pytest.mark.parametrize(
    "reply",
    [
        "知りません。",
        '{"pairs": [{"question": "宿泊費の上',
        '{"pairs": []}',
        '{"answer": 1}',
        "{" * 5000,
    ],
    ids=["words", "cut", "empty", "other form", "nested"],
)
def test_replies_that_are_no_pairs_end_in_an_error_that_says_so(
    reply: str, studio: Studio, server: ChatServer, asked: GenerateSettings
) -> None:
    server.reply = lambda body: reply
    with pytest.raises(errors.NoPairsGenerated):
        run(studio, asked)


def test_slow_server_can_be_stopped(
    studio: Studio, server: ChatServer, asked: GenerateSettings
) -> None:
    server.reply, server.drip_s = copying, 0.5

    def stop(step: Step) -> None:
        if server.bodies:
            raise errors.Interrupted()

    with pytest.raises(errors.Interrupted):
        run(studio, asked, stop)


def test_stopped_and_killed_generation_comes_to_the_same_pairs(
    studio: Studio, server: ChatServer, asked: GenerateSettings
) -> None:
    server.reply = copying
    run(studio, replace(asked, name="whole"))
    whole = studio.documents.pairs("whole")

    def kill(step: Step) -> None:
        if step.stage.startswith("質問") and step.done >= 1:
            [job] = [job for job in studio.jobs.living() if job.kind == "generate"]
            worker_process(job.paths).send_signal(signal.SIGKILL)

    server.drip_s = 0.004
    with pytest.raises(errors.JobInterrupted):
        studio.documents.generate(asked).follow(kill)
    begun = studio.documents.pairs("rules")
    assert 0 < len(begun) < len(whole) and begun == whole[: len(begun)]
    server.drip_s = 0
    before = len(server.bodies)
    made = studio.documents.generate(asked).follow()
    assert studio.documents.latest("rules") == made
    assert studio.documents.pairs("rules") == whole
    assert len(server.bodies) - before < before


def test_other_settings_are_not_mixed_in(
    studio: Studio, server: ChatServer, asked: GenerateSettings
) -> None:
    server.reply = copying
    run(studio, asked)
    with pytest.raises(errors.GenerationDiffers, match="乱数の種"):
        run(studio, replace(asked, seed=7))
    assert run(studio, replace(asked, seed=7, replaces=True)).dataset


def test_asking_the_model_marks_what_it_answers_otherwise(
    studio: Studio, server: ChatServer, asked: GenerateSettings
) -> None:
    def reply(body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        if "JSON" in prompt:
            return copying(body)
        return "1泊12,000円が上限です。" if "<抜粋>" in prompt else "分かりません。"

    server.reply = reply
    run(studio, replace(asked, asks_model=True))
    found = {
        pair.answer: [one.code for one in pair.problems]
        for pair in reversed(studio.documents.pairs("rules"))
    }
    assert found[HOTEL] == []
    others = [codes for answer, codes in found.items() if answer not in (ABSENT_ANSWER, HOTEL)]
    assert others and all(codes == ["not_answerable"] for codes in others)


def test_built_in_model_is_held_to_the_form_and_each_pair_is_judged(
    studio: Studio, tmp_path: Path
) -> None:
    """In the runtime within, whose grammar leaves no other form. tiny-ja knows nothing of the task."""
    document, gguf = tmp_path / "案内.txt", tmp_path / "tiny.gguf"
    document.write_text("受付は9時に始まります。", encoding="utf-8")
    export_gguf(models.resolve("tiny-ja", studio.workspace), None, {"Q8_0": gguf})
    settings = GenerateSettings((str(document),), "tiny", GeneratorChoice(str(gguf)))
    made = run(studio, settings)
    pairs = studio.documents.pairs("tiny")
    assert made.pairs == len(pairs) > 0
    assert made.sound == sum(pair.is_sound for pair in pairs)
    again = run(studio, replace(settings, name="again"))
    assert again.found == made.found
    assert studio.documents.pairs("again") == pairs

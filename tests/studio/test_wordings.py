"""Rows made by jobs: stopped and gone on with, the same for a seed, and no bad row unmarked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_finetuning.data_processor import SAMPLE_DATA
from mlx_finetuning.data_processor.wordings.made import MadeRows, RefuseConfig, RewordConfig
from mlx_finetuning.errors import (
    DatasetNotFound,
    Interrupted,
    InvalidSettings,
    JobNotFound,
    NothingToReword,
    RuntimeNotAnswering,
)
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.runtime import text_generators
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import refuse, reword
from mlx_finetuning.utils.text_generator import GeneratorChoice
from mlx_finetuning.workspace import Workspace
from support.chat_server import ChatServer, chat_server
from support.sweeps import sweep


@pytest.fixture
def studio(workspace: Workspace) -> Studio:
    made = Studio(workspace)
    made.data.prepare(SAMPLE_DATA, "faq")
    return made


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setattr(text_generators, "PAUSE_S", 0.01)
    with chat_server() as running:
        yield running


def context(studio: Studio, name: str = "job", **config: object) -> TaskContext:
    paths = studio.workspace.job(name)
    paths.folder.mkdir(parents=True, exist_ok=True)
    return TaskContext(
        studio.workspace, paths, "", {"dataset": "faq", **config}, silent, lambda *_, **__: None
    )


def asked(server: ChatServer) -> dict[str, str]:
    return {"model": "some-model", "engine": "address", "address": server.url}


def test_job_makes_rows_that_are_added_as_a_new_dataset(studio: Studio) -> None:
    handle = studio.wordings.reword(RewordConfig("faq", ("polite", "typo")))
    made = handle.follow()
    assert made.rows == studio.wordings.rows(handle.paths.folder.name).rows
    assert [job.kind for job in studio.wordings.jobs("faq")] == ["reword"]
    assert studio.wordings.jobs("other") == []
    summary = studio.wordings.add(made, made.passed, "more")
    assert sum(summary.counts.values()) == 80 + len(made.passed)
    assert summary.leakage.same_questions == 0
    with pytest.raises(InvalidSettings):
        studio.wordings.add(made, (), "none")


def test_settings_that_are_wrong_are_told_at_once(studio: Studio) -> None:
    with pytest.raises(InvalidSettings) as told:
        studio.wordings.reword(RewordConfig("faq", ("loud",), 99, rules=False, check=True))
    assert len(told.value.data["problems"]) == 4
    with pytest.raises(InvalidSettings):
        studio.wordings.refuse(RefuseConfig("faq", share=1.5))
    with pytest.raises(InvalidSettings):
        studio.wordings.refuse(RefuseConfig("faq", generator=GeneratorChoice("x", "address")))
    with pytest.raises(DatasetNotFound):
        studio.wordings.refuse(RefuseConfig("nobody"))
    with pytest.raises(JobNotFound):
        studio.wordings.resume("reword-20260101-000000-0000")


def test_plain_texts_have_nothing_to_reword(studio: Studio, tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": f"むかしむかし、{n}人の人がいました。"}) for n in range(9)]
    source.write_text("\n".join(lines), encoding="utf-8")
    studio.data.prepare(source, "texts")
    with pytest.raises(NothingToReword):
        reword.run(context(studio, dataset="texts"))


def test_where_data_would_go_is_said(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*choice: str) -> str:
        return studio.wordings.leaves_machine(GeneratorChoice(*choice))

    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    assert "example.com" in said("m", "auto", "https://example.com/v1")
    assert said("m", "auto", "http://127.0.0.1:8080/v1") == ""
    assert said("ollama:m") == said("tiny-ja") == said("") == ""
    monkeypatch.setenv("OLLAMA_HOST", "http://gpu.example.com:11434")
    assert "gpu.example.com" in said("ollama:m")


# --- a model's rows ----------------------------------------------------------------------


def test_models_wordings_are_checked_and_say_who_made_them(
    studio: Studio, server: ChatServer
) -> None:
    good = {"wordings": {"丁寧": "恐縮ですが、{}", "くだけた": "答えは水曜日と午前9時です"}}

    def reply(body: dict[str, object]) -> str:
        text = str(body["messages"])
        question = text.split("質問：")[1].split("\\n")[0]
        return json.dumps(good, ensure_ascii=False).replace("{}", question)

    server.reply = reply
    made = reword.run(
        context(studio, kinds=("polite", "casual"), rules=False, generator=asked(server))
    )
    assert {row.made_by for row in made.rows} == {"some-model"}
    assert {row.kind for row in made.passed} == {"polite"}
    assert all(row.question.startswith("恐縮ですが、") for row in made.passed)
    assert all(row.problems for row in made.rows if row.kind == "casual")


BAD_ANSWERS = (
    "わかりました。言い換えますね。",
    '{"wordings": {"丁寧": "ミナモ',
    '{"wordings": ["a", "b"]}',
    '{"wordings": {"丁寧": "What are your business hours today, please?"}}',
    '{"wordings": {"丁寧": "您好请问贵公司的营业时间是什么时候谢谢"}}',
    '{"wordings": {"丁寧": "上記の営業時間は2026年何時ですか？"}}',
    '{"wordings": {}}',
    "\ufffd\ufffd\ufffd",
)


# No JSON, of another shape, in another language, and with what was not asked.
@pytest.mark.parametrize("said", sweep(BAD_ANSWERS, [BAD_ANSWERS[at] for at in (1, 2, 4, 5)]))
def test_no_bad_answer_of_a_server_gets_through_unmarked(
    studio: Studio, server: ChatServer, said: str
) -> None:
    server.reply = lambda body: said
    settings = {"rules": False, "generator": asked(server)}
    made = reword.run(context(studio, kinds=("polite",), **settings))
    assert len(made.rows) == 80
    assert made.passed == ()
    refused = refuse.run(context(studio, "other", **settings))
    assert refused.rows
    assert refused.passed == ()


def test_model_that_answers_otherwise_marks_the_wording(studio: Studio, server: ChatServer) -> None:
    def reply(body: dict[str, object]) -> str:
        text = str(body["messages"])
        if "書き換え方" not in text:
            return "わかりません"
        question = text.split("質問：")[1].split("\\n")[0]
        return json.dumps({"wordings": {"丁寧": f"恐縮ですが、{question}"}}, ensure_ascii=False)

    server.reply = reply
    settings = {"kinds": ("polite",), "rules": False, "generator": asked(server)}
    assert reword.run(context(studio, **settings)).passed
    made = reword.run(context(studio, "other", **settings, check=True))
    assert made.passed == ()
    assert any("モデルは、元の答えと違う" in row.problems[0] for row in made.rows)


# --- stopping and going on ---------------------------------------------------------------


def test_stopped_work_goes_on_behind_what_it_made(studio: Studio, server: ChatServer) -> None:
    """A server that fails in the third part, and one job that is asked to stop: nothing is made twice."""

    def reply(body: dict[str, object]) -> str:
        text = str(body["messages"])
        question = text.split("質問：")[1].split("\\n")[0]
        wording = f"恐縮ですが、{question}（{body['seed']}）"
        return json.dumps({"wordings": {"丁寧": wording}}, ensure_ascii=False)

    server.reply = reply
    settings = {"kinds": ("polite",), "rules": False, "generator": asked(server), "seed": 5}
    whole = reword.run(context(studio, "whole", **settings))
    requests = len(server.bodies)

    def stops(step: Step) -> None:
        if step.done >= 32:
            raise Interrupted()

    job = context(studio, "stopped", **settings)
    with pytest.raises(Interrupted):
        reword.run(TaskContext(job.workspace, job.paths, "", job.config, stops, job.event))
    server.status, server.raw = 500, b"oops"
    with pytest.raises(RuntimeNotAnswering):
        reword.run(job)
    server.status, server.raw = 200, None
    before = len(server.bodies)
    assert reword.run(job) == whole
    # Each once, whatever requests of the job that failed were still under way.
    asked_again = {str(body["messages"]) for body in server.bodies[before:]}
    assert len(asked_again) == requests - 32
    assert reword.run(job) == whole  # and a job that is done asks nobody


def test_stopped_job_is_resumed_by_its_name(studio: Studio, server: ChatServer) -> None:
    server.drip_s = 0.05
    choice = GeneratorChoice("some-model", address=server.url)
    server.reply = lambda body: '{"wordings": {"丁寧": "定休日をお教えください"}}'
    settings = RewordConfig("faq", ("polite",), generator=choice)
    handle = studio.wordings.reword(settings)
    name = handle.paths.folder.name
    while not server.bodies:
        time.sleep(0.05)
    studio.jobs.stop("", name)
    with pytest.raises(Interrupted):
        handle.follow()
    server.drip_s = 0.0
    resumed: MadeRows = studio.wordings.resume(name).follow()
    assert len(resumed.rows) > 80
    assert studio.wordings.resume(name).follow() == resumed

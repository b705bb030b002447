"""`chat` as people use it: the real command, a conversation on standard input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning.config import DeployConfig
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support import finished_run
from support.helpers import jobs_in_process
from support.ollama_server import running_ollama

RUN = finished_run.RUN
COMMAND = str(Path(sys.executable).with_name("mlx-finetuning"))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    workspace = Workspace(tmp_path_factory.mktemp("chat"))
    finished_run.make(workspace, scale=finished_run.OTHER_WORDS)
    studio = Studio(workspace)
    studio.chat.answer(RUN, [{"role": "user", "content": "準備"}])  # loaded once for all tests
    yield studio
    studio.chat.stop_servers(RUN)


def chat(studio: Studio, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "chat", RUN, *words, "--workspace", str(studio.workspace.root)],
        input=said,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=60,
        check=False,
    )


def answer(studio: Studio, *questions: str, base: bool = False) -> str:
    """What the model says to the last question of a conversation."""
    messages: list[dict[str, str]] = []
    for question in questions:
        messages.append({"role": "user", "content": question})
        text: Any = studio.chat.answer(RUN, messages, base=base).text
        messages.append({"role": "assistant", "content": text})
    return messages[-1]["content"]


def test_conversation_is_shown_remembered_and_kept(studio: Studio) -> None:
    done = chat(studio, said="こんにちは\n\nあなたは誰ですか？\n/exit\n無視される\n")
    assert done.returncode == 0
    second = answer(studio, "こんにちは", "あなたは誰ですか？")
    assert second in done.stdout
    (kept,) = studio.chat.list(RUN)
    assert [turn["content"] for turn in kept.talks["tuned"]][::2] == [
        "こんにちは",
        "あなたは誰ですか？",
    ]
    assert kept.talks["tuned"][-1]["content"] == second
    assert kept.chat_id in done.stdout


def test_last_answer_is_marked_and_put_right_while_talking(studio: Studio) -> None:
    done = chat(studio, said="/good\nこんにちは\n/good\n/fix はい、こんにちは。\n")
    assert done.returncode == 0
    said = studio.chat.list(RUN)[0].talks["tuned"][-1]["content"]
    steps = studio.marks.read(RUN).steps
    assert [(step.prompt, step.answer, step.good, step.correction) for step in steps] == [
        (("こんにちは",), said, True, ""),
        (("こんにちは",), said, False, "はい、こんにちは。"),
    ]


def test_tuned_and_base_side_by_side_each_keep_their_own_talk(studio: Studio) -> None:
    done = chat(studio, "--side-by-side", said="こんにちは\nあなたは誰ですか？\n")
    assert "学習後: " in done.stdout and "元のモデル: " in done.stdout
    kept = studio.chat.list(RUN)[0]
    for side in ("tuned", "base"):
        expected = answer(studio, "こんにちは", "あなたは誰ですか？", base=side == "base")
        assert kept.talks[side][-1]["content"] == expected


def test_one_question_is_one_object_and_no_history(studio: Studio) -> None:
    before = studio.chat.list(RUN)
    done = chat(studio, "--prompt", "こんにちは", "--json")
    found = json.loads(done.stdout)
    assert found["text"] == answer(studio, "こんにちは")
    assert {"run_id", "tokens", "ended", "engine"} <= set(found)
    assert studio.chat.list(RUN) == before


def test_system_text_and_temperature_are_settings_of_the_talk(studio: Studio) -> None:
    chat(studio, "--system", "短く。", "--temperature", "0.5", said="こんにちは\n")
    settings = studio.chat.list(RUN)[0].settings
    assert (settings["system"], settings["temperature"]) == ("短く。", 0.5)
    done = chat(studio, "--temperature", "高い", "--prompt", "こんにちは")
    assert done.returncode == 1
    assert "temperature" in done.stderr


def test_models_that_were_loaded_stay_and_others_go(studio: Studio) -> None:
    chat(studio, "--prompt", "こんにちは")
    assert len(studio.chat.servers(RUN)) == 1
    studio.chat.stop_servers(RUN)
    assert chat(studio, "--prompt", "こんにちは").returncode == 0
    assert studio.chat.servers(RUN) == []


def test_model_in_ollama_is_talked_to_and_stopped(studio: Studio, tmp_path: Path) -> None:
    refused = chat(studio, "--engine", "ollama", "--prompt", "こんにちは")
    assert refused.returncode == 1
    assert "RUN_NOT_DEPLOYED" in refused.stderr
    with running_ollama(tmp_path) as ollama:
        settings = DeployConfig(quant="F16", prompts=1)
        with jobs_in_process():
            studio.ollama.deploy(RUN, "shop", settings, ollama.url).follow()
        once = chat(studio, "--engine", "ollama", "--prompt", "こんにちは", "--json")
        assert json.loads(once.stdout)["text"] == answer(studio, "こんにちは")
        talk = chat(studio, "--engine", "ollama", said="こんにちは\nあなたは誰ですか？\n")
        second = answer(studio, "こんにちは", "あなたは誰ですか？")
        assert second in talk.stdout
        kept = studio.chat.list(RUN)[0]
        assert (kept.engine, kept.talks["tuned"][-1]["content"]) == ("ollama", second)
        ollama.models.clear()
        gone = chat(studio, "--engine", "ollama", "--prompt", "こんにちは")
        assert "OLLAMA_MODEL_NOT_FOUND" in gone.stderr
    stopped = chat(studio, "--engine", "ollama", "--prompt", "こんにちは")
    assert stopped.returncode == 1
    assert "OLLAMA_NOT_" in stopped.stderr  # not running, or not even installed


def test_ctrl_c_stops_the_answer_and_not_the_conversation(studio: Studio) -> None:
    command = [COMMAND, "chat", RUN, "--set", "max_tokens=900", "--temperature", "5"]
    with subprocess.Popen(
        [*command, "--workspace", str(studio.workspace.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as talk:
        assert talk.stdin is not None and talk.stdout is not None
        talk.stdin.write("長い話をしてください。\n")
        talk.stdin.flush()
        talk.stdout.read(1)
        talk.send_signal(signal.SIGINT)
        rest, _ = talk.communicate("/exit\n", timeout=60)
    assert talk.returncode == 0
    assert "（止めました）" in rest
    (_, answer) = studio.chat.list(RUN)[0].talks["tuned"]
    assert answer["content"]


@pytest.mark.parametrize("engine", ["mlx", "gguf", "ollama"])
def test_question_that_is_no_text_is_an_error_with_its_reason(studio: Studio, engine: str) -> None:
    broken = "\udc93\udc8f"  # as Python hands on bytes of CP932
    for words in (("--prompt", broken), ("--prompt", "a", "--system", broken)):
        done = chat(studio, *words, "--engine", engine, "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout)["error"]["code"] == "TEXT_UNDECODABLE"
    done = chat(studio, "--engine", engine, said=f"{broken}\n")
    assert (done.returncode, "TEXT_UNDECODABLE" in done.stderr) == (1, True)


def test_note_that_is_no_text_is_an_error_with_its_reason(studio: Studio) -> None:
    words = ["runs", "note", RUN, "\udc93\udc8f", "--workspace", str(studio.workspace.root)]
    done = subprocess.run([COMMAND, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, "TEXT_UNDECODABLE" in done.stderr) == (1, True)

"""A real Ollama, where one answers at OLLAMA_HOST: the whole way in, and what only it can show."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning import cli, ollama_integration, quantizer
from mlx_finetuning.config import DeployConfig
from mlx_finetuning.errors import (
    OllamaArchitectureUnknown,
    OllamaHostInvalid,
    OllamaModelNotFound,
    OllamaNameTaken,
    OllamaRefused,
)
from mlx_finetuning.ollama_integration import Client, deploy
from mlx_finetuning.ollama_integration.deploy import ModelDefinition
from mlx_finetuning.quantizer.write.export import export_gguf
from mlx_finetuning.studio import Studio
from mlx_finetuning.utils import chat_template
from mlx_finetuning.workspace import Workspace
from support import finished_run
from support.chat_formats import FORMATS
from support.gguf_files import rewrite


def answers() -> bool:
    try:
        return ollama_integration.status().problem is None
    except OllamaHostInvalid:
        return False


pytestmark = [
    pytest.mark.ollama,
    pytest.mark.skipif(not answers(), reason="no Ollama answers at OLLAMA_HOST"),
]
SHIPPED = Path(quantizer.__file__).parents[1] / "assets" / "tiny-ja"
NAME = "mlx-finetuning-test"
QUESTION = [{"role": "user", "content": "あなたは誰ですか？"}]
PLAIN = FORMATS["plain"].template


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("real") / "tiny.gguf"
    export_gguf(SHIPPED, None, {"F16": path})
    return path


@pytest.fixture
def talk() -> Iterator[Client]:
    """A client; what a test makes under `NAME` is removed before and after."""
    with ollama_integration.connect() as connected:
        remove_ours(connected)
        yield connected
        remove_ours(connected)


def remove_ours(talk: Client) -> None:
    for model in talk.models():
        if model.name.startswith(NAME):
            talk.delete(model.name)


def definition(gguf: Path, system: str = "") -> ModelDefinition:
    return ModelDefinition(
        NAME, gguf, system, {"num_ctx": 512, "stop": ["<|im_end|>"], "temperature": 0}
    )


def bring(talk: Client, one: ModelDefinition) -> None:
    deploy.create_draft(talk, one)
    deploy.publish(talk, one)


@pytest.mark.parametrize("quant", ["F16", "Q8_0", "Q4_K_M"])
def test_run_is_deployed_and_answers_as_it_was_trained(
    quant: str, workspace: Workspace, talk: Client
) -> None:
    run_id = finished_run.make(workspace)
    studio = Studio(workspace)
    result = studio.ollama.deploy(run_id, NAME, DeployConfig(quant=quant)).follow()
    assert result.compared == 8
    assert result.equal_answers >= (8 if quant == "F16" else 6)
    with pytest.raises(OllamaNameTaken):
        studio.ollama.deploy(run_id, NAME).follow()
    stream = studio.ollama.stream(NAME, QUESTION)
    assert "".join(stream)
    assert stream.answer.ended
    assert studio.ollama.show(NAME)["details"]["format"] == "gguf"
    studio.ollama.copy(NAME, f"{NAME}:copy")
    studio.ollama.delete(NAME)
    assert f"{NAME}:copy" in [model.name for model in studio.ollama.list()]


def test_deployed_run_is_certified_talked_to_and_replaced(
    workspace: Workspace, talk: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = finished_run.make(workspace)
    studio = Studio(workspace)

    def command(*words: str) -> dict[str, Any]:
        cli.main([*words, "--workspace", str(workspace.root), "--json"])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    for quant in ("F16", "Q8_0"):
        studio.ollama.deploy(run_id, NAME, DeployConfig(quant=quant), replace=True).follow()
        assert [one.name for one in talk.models() if one.name.startswith(NAME)] == [
            f"{NAME}:latest"
        ]
        record = command("certify", run_id, "--set", "prompts=6", "--set", "max_tokens=48")
        assert record["passed"], record["problems"]
        row = record["rows"][-1]
        assert (row["label"], row["prompt_ids_equal"]) == (f"Ollama {NAME}", 1.0)
        assert row["answers_equal"] >= (1.0 if quant == "F16" else 0.5)
    question = "こんにちは"
    spoken = command("chat", run_id, "--engine", "ollama", "--prompt", question)
    assert spoken["ended"]
    assert spoken["text"] == command("ollama", "ask", NAME, "--prompt", question)["text"]


def test_settings_are_the_models_own(gguf: Path, talk: Client) -> None:
    bring(talk, definition(gguf, system="短く答えてください。"))
    shown = talk.show(NAME)
    assert shown["system"] == "短く答えてください。"
    settings = dict(line.split(None, 1) for line in shown["parameters"].splitlines())
    assert settings["num_ctx"] == "512"
    assert settings["stop"].strip('"') == "<|im_end|>"
    assert "短く答えてください。" in talk.render(NAME, QUESTION)


def test_protected_template_is_kept_and_a_bare_one_is_not(
    gguf: Path, talk: Client, tmp_path: Path
) -> None:
    """Ollama takes a template of `role: text` lines for ChatML."""

    def renders(template: str) -> str:
        def change(values: dict[str, str]) -> None:
            values["tokenizer.chat_template"] = template

        bring(talk, definition(rewrite(gguf, tmp_path / "changed.gguf", change_metadata=change)))
        return talk.render(NAME, QUESTION)

    assert renders(chat_template.protected(PLAIN)).startswith("user: あなたは誰ですか？")
    assert renders(PLAIN).startswith("<|im_start|>user")


def test_prompt_has_one_token_per_token(gguf: Path, talk: Client) -> None:
    from transformers import AutoTokenizer

    bring(talk, definition(gguf))
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    expected = tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_dict=False
    )
    *_, last = talk.chat(NAME, QUESTION)
    assert last.prompt_tokens == len(expected)


def test_unknown_architecture_is_named(gguf: Path, talk: Client, tmp_path: Path) -> None:
    def change(values: dict[str, object]) -> None:
        values["general.architecture"] = "llama99"

    changed = rewrite(gguf, tmp_path / "changed.gguf", change_metadata=change)
    with pytest.raises(OllamaArchitectureUnknown):
        bring(talk, definition(changed))


def test_file_that_is_no_model_is_refused(talk: Client, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_text("これはモデルではありません", encoding="utf-8")
    with pytest.raises(OllamaRefused):
        bring(talk, definition(path))


def test_missing_model_is_named(talk: Client) -> None:
    for act in (talk.show, talk.delete, lambda name: list(talk.chat(name, QUESTION))):
        with pytest.raises(OllamaModelNotFound):
            act(f"{NAME}:nothing")


def test_stopped_answer_frees_the_server(gguf: Path, talk: Client) -> None:
    bring(talk, definition(gguf))
    endless = talk.chat(NAME, QUESTION, max_tokens=400)
    next(endless)
    endless.close()
    started = time.monotonic()
    assert list(talk.chat(NAME, QUESTION, temperature=0.0))[-1].ended
    assert time.monotonic() - started < 20

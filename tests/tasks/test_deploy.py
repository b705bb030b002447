"""Deployment of a run, with real MLX, a real GGUF file and a server that runs it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_finetuning import cli
from mlx_finetuning.errors import (
    ChatTemplateMissing,
    InvalidSettings,
    OllamaDiffers,
    OllamaNameInvalid,
    OllamaNameTaken,
)
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.ollama_integration import client
from mlx_finetuning.tasks import deploy, export, reference
from mlx_finetuning.utils import chat_template
from mlx_finetuning.workspace import Workspace
from support import finished_run
from support.chat_formats import FORMATS
from support.gguf_files import rewrite
from support.helpers import with_template
from support.ollama_server import Ollama, running_ollama

SYSTEM = "短く答えてください。"


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[Ollama]:
    with running_ollama(tmp_path / "blobs") as running:
        yield running


@pytest.fixture
def unexported(workspace: Workspace) -> str:
    return finished_run.make(workspace, short=True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a run and its file, to be copied."""
    made = Workspace(tmp_path_factory.mktemp("exported"))
    finished_run.make(made, short=True)
    export.run(finished_run.context(made, quant="F16"))
    return made


@pytest.fixture
def run_id(workspace: Workspace, exported: Workspace) -> str:
    """A run whose F16 file is there."""
    shutil.copytree(exported.root, workspace.root, dirs_exist_ok=True)
    return finished_run.RUN


def file_of(workspace: Workspace) -> Path:
    return workspace.gguf_folder(finished_run.RUN) / "tiny-ja-F16.gguf"


def deployed(workspace: Workspace, ollama: Ollama, **config: object) -> dict[str, object]:
    given = {
        "name": "",
        "host": ollama.url,
        "replace": False,
        "quant": "F16",
        "prompts": 3,
        "max_tokens": 32,
    }
    return deploy.run(finished_run.context(workspace, **{**given, **config}))


def test_run_is_exported_registered_and_proven(
    workspace: Workspace, unexported: str, ollama: Ollama
) -> None:
    result = deployed(workspace, ollama)
    name = f"tiny-ja-finetuned-{unexported}"
    assert (result.name, result.compared, result.equal_answers) == (name, 3, 3)
    assert list(ollama.models) == [f"{name}:latest"]
    made = ollama.models[f"{name}:latest"]
    assert "<|im_end|>" in made["parameters"]["stop"]
    assert made["parameters"]["num_ctx"] == 1024  # the model's own limit
    assert "adapters" not in made
    assert made["license"] == "MIT"
    modelfile = Path(str(result.modelfile)).read_text(encoding="utf-8")
    assert "FROM ./tiny-ja-F16.gguf" in modelfile


def test_file_that_is_there_is_used(workspace: Workspace, run_id: str, ollama: Ollama) -> None:
    made = file_of(workspace)
    before = made.stat().st_mtime_ns
    assert deployed(workspace, ollama).path == str(made)
    assert made.stat().st_mtime_ns == before


def test_file_that_ollama_would_change_is_made_again(
    workspace: Workspace, run_id: str, ollama: Ollama, tmp_path: Path
) -> None:
    made = file_of(workspace)

    def unprotect(values: dict[str, str]) -> None:
        template = values["tokenizer.chat_template"]
        values["tokenizer.chat_template"] = template.removesuffix(chat_template.COMMENT)

    rewrite(made, tmp_path / "old.gguf", change_metadata=unprotect).replace(made)
    assert deployed(workspace, ollama).equal_answers == 3


def test_file_from_before_the_run_went_on_is_made_again(
    workspace: Workspace, run_id: str, ollama: Ollama
) -> None:
    made = file_of(workspace)
    before = made.stat().st_mtime_ns
    finished_run.set_scale(workspace.adapter(run_id).folder, 0.4)
    os.utime(workspace.adapter(run_id).weights, ns=(before + 1, before + 1))
    assert deployed(workspace, ollama).equal_answers == 3
    assert made.stat().st_mtime_ns > before


def test_system_text_becomes_the_models_own(
    workspace: Workspace, run_id: str, ollama: Ollama
) -> None:
    result = deployed(workspace, ollama, name="shop", system=SYSTEM)
    assert ollama.models["shop:latest"]["system"] == SYSTEM
    assert result.equal_answers == 3


def test_system_text_of_the_training_is_the_default(
    workspace: Workspace, run_id: str, ollama: Ollama
) -> None:
    dataset = workspace.dataset(finished_run.DATASET)
    for path in (dataset.train, dataset.valid, dataset.test):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            row["messages"].insert(0, {"role": "system", "content": SYSTEM})
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        path.write_text("".join(lines), encoding="utf-8")
    assert deployed(workspace, ollama).system == SYSTEM


@pytest.mark.parametrize(
    ("fault", "said"), [("doubles_bos", "トークン数"), ("never_ends", "終わりません")]
)
def test_model_that_differs_is_removed_again(
    workspace: Workspace, run_id: str, ollama: Ollama, fault: str, said: str
) -> None:
    setattr(ollama, fault, True)
    with pytest.raises(OllamaDiffers, match=said):
        deployed(workspace, ollama)
    assert ollama.models == {}


def test_other_template_is_noticed(
    workspace: Workspace, run_id: str, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ollama, "template_is_swapped", lambda self, name: True)
    with pytest.raises(OllamaDiffers, match="組み立て方"):
        deployed(workspace, ollama)


def test_wrong_requests_are_refused_before_anything_is_made(
    workspace: Workspace, unexported: str, ollama: Ollama
) -> None:
    ollama.models["taken:latest"] = {"files": {"model.gguf": "sha256:0"}}
    ollama.blob("sha256:0").touch()
    with pytest.raises(OllamaNameTaken):
        deployed(workspace, ollama, name="taken")
    with pytest.raises(OllamaNameInvalid):
        deployed(workspace, ollama, name="a b")
    assert not workspace.gguf_folder(unexported).exists()


@pytest.mark.parametrize("form", ["gemma", "mistral"])
def test_system_text_goes_before_the_question_where_the_template_has_no_place(
    tiny: LoadedModel, form: str
) -> None:
    tiny = with_template(tiny, FORMATS[form].template)
    deploy.require_system_role(tiny, SYSTEM)
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "休みは？"}]
    joined = [{"role": "user", "content": f"{SYSTEM}\n\n休みは？"}]
    assert tiny.render_text(turns, ask=True) == tiny.render_text(joined, ask=True)


def test_system_text_that_the_template_cannot_take_is_refused(tiny: LoadedModel) -> None:
    last_only = (
        "{{ messages[-1]['content'].split('\\n')[-1] }}"
        + "{% if messages|length > 1 %} {% endif %}"
    )
    tiny = with_template(tiny, last_only + "<|im_end|>")
    deploy.require_system_role(tiny, "")
    with pytest.raises(InvalidSettings, match="システム文"):
        deploy.require_system_role(tiny, SYSTEM)


def test_licence_travels_with_the_model(tmp_path: Path) -> None:
    assert deploy.licence_of("me/unknown", tmp_path) == ""
    (tmp_path / "LICENSE").write_text("許諾", encoding="utf-8")
    assert deploy.licence_of("tiny-ja", tmp_path) == "許諾"


def test_commands_deploy_and_look_after_models(
    workspace: Workspace, unexported: str, ollama: Ollama, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, dict[str, object]]:
        place = ("--host", ollama.url, "--workspace", str(workspace.root), "--json")
        code = cli.main([*arguments, *place])
        return code, json.loads(capsys.readouterr().out)

    code, result = run(
        "deploy", unexported, "--name", "shop", "--quant", "Q8_0", "--set", "prompts=2"
    )
    assert (code, result["name"], result["compared"]) == (0, "shop", 2)
    assert run("deploy", unexported, "--name", "shop")[1]["error"]["code"] == "OLLAMA_NAME_TAKEN"  # type: ignore[index]
    assert run("ollama", "status")[1]["version"] == ollama.version
    assert run("ollama", "copy", "shop", "second")[0] == 0
    assert {model["name"] for model in run("ollama", "list")[1]["models"]} == {  # type: ignore[union-attr]
        "shop:latest",
        "second:latest",
    }
    assert run("ollama", "ask", "shop", "--prompt", "あなたは誰ですか？")[1]["text"]
    assert run("ollama", "delete", "second")[0] == 0
    assert run("ollama", "show", "second")[1]["error"]["code"] == "OLLAMA_MODEL_NOT_FOUND"  # type: ignore[index]
    assert list(ollama.models) == ["shop:latest"]


def test_run_on_text_is_proven_with_general_questions(
    workspace: Workspace, run_id: str, ollama: Ollama
) -> None:
    finished_run.write_text_dataset(workspace)
    result = deployed(workspace, ollama)
    assert (result.compared, result.equal_answers, result.system) == (3, 3, "")


def test_run_on_preferences_is_proven_with_their_questions(
    workspace: Workspace, run_id: str, ollama: Ollama
) -> None:
    finished_run.write_preference_dataset(workspace)
    asked = reference.conversations(finished_run.context(workspace), finished_run.DATASET)
    assert [turns[0]["content"] for turns in asked] == list(finished_run.QUESTIONS)
    assert deployed(workspace, ollama).equal_answers == 3


def test_model_without_a_chat_template_is_refused_before_anything_is_made(
    workspace: Workspace, unexported: str, ollama: Ollama
) -> None:
    finished_run.forget_template(workspace)
    with pytest.raises(ChatTemplateMissing):
        deployed(workspace, ollama)
    assert not workspace.gguf_folder(unexported).exists()
    assert ollama.received == 0


def test_replaced_model_stays_until_the_new_one_is_proven(
    workspace: Workspace, run_id: str, ollama: Ollama
) -> None:
    deployed(workspace, ollama, name="shop")
    before = ollama.models["shop:latest"]
    ollama.doubles_bos = True
    with pytest.raises(OllamaDiffers):
        deployed(workspace, ollama, name="shop", replace=True, system=SYSTEM)
    assert ollama.models == {"shop:latest": before}
    ollama.doubles_bos = False
    deployed(workspace, ollama, name="shop", replace=True, system=SYSTEM)
    assert ollama.models["shop:latest"]["system"] == SYSTEM
    assert list(ollama.models) == ["shop:latest"]


def test_interrupted_deployment_goes_on(
    workspace: Workspace, run_id: str, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RETRY_PAUSE_S", 0.0)
    ollama.cut_chats = 1
    with pytest.raises(client.OllamaConnectionLost):
        deployed(workspace, ollama)
    sent = ollama.received
    assert ollama.models == {}
    deployed(workspace, ollama)
    assert ollama.received == sent


def test_parameters_of_an_ollama_base_are_kept_where_the_training_needs_no_others() -> None:
    ours = {"num_ctx": 512, "stop": ["<|im_end|>"], "temperature": 0.0, "repeat_penalty": 1.0}
    of_base = {"stop": ["<|im_start|>", "<|im_end|>"], "temperature": 0.7, "top_k": 64}
    assert deploy.with_those_of_base(ours, of_base) == {
        **ours,
        "top_k": 64,
        "stop": ["<|im_end|>", "<|im_start|>"],
    }
    assert deploy.with_those_of_base(ours, {}) == ours

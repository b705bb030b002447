"""A model trained with reasoning, and one without, from the data to every place that asks them."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning.cli.evaluate import _shown
from mlx_finetuning.config import CertifyConfig, DeployConfig, EvaluateConfig, ExportConfig
from mlx_finetuning.experiment_tracker.evaluation import judge
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.progress import silent
from mlx_finetuning.runtime import Client, serve
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import certify, evaluate
from mlx_finetuning.tokenization import chat as chats
from mlx_finetuning.workspace import Workspace
from support import thinking_run
from support.ollama_server import running_ollama
from support.thinking_run import CLOSED, ROWS

pytestmark = pytest.mark.usefixtures("jobs_in_process")
COMMAND = str(Path(sys.executable).with_name("mlx-finetuning"))
QUESTION, REASONING, ANSWER = ROWS[0]
ASKED = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    workspace = Workspace(tmp_path_factory.mktemp("thinking"))
    thinking_run.make_base(workspace)
    return Studio(workspace)


@pytest.fixture(scope="module")
def thinking(studio: Studio) -> Iterator[str]:
    """A run that was trained with reasoning until it knows its rows, and its file."""
    run_id = thinking_run.train(studio, studio.workspace.root, "with", thinks=True, updates=40)
    studio.exports.start(run_id, ExportConfig(quant="F16")).follow()
    yield run_id
    studio.chat.stop_servers(run_id)


@pytest.fixture(scope="module")
def plain(studio: Studio) -> str:
    run_id = thinking_run.train(studio, studio.workspace.root, "without", thinks=False, updates=25)
    studio.exports.start(run_id, ExportConfig(quant="F16")).follow()
    return run_id


def context(studio: Studio, run_id: str, settings: Any) -> TaskContext:
    paths = studio.workspace.run(run_id).later_job("job-1")
    given = dict(vars(settings))
    return TaskContext(studio.workspace, paths, run_id, given, silent, lambda *_, **__: None)


def gguf_of(studio: Studio, run_id: str) -> Path:
    (path,) = studio.workspace.gguf_folder(run_id).glob("[!.]*.gguf")
    return path


# --- asked -------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["mlx", "gguf"])
def test_engines_give_reasoning_and_answer_apart(
    studio: Studio, thinking: str, engine: str
) -> None:
    found = studio.chat.answer(thinking, ASKED, engine=engine)
    assert (found.reasoning, found.text, found.ended) == (REASONING, ANSWER, True)


def test_pieces_of_a_stream_are_one_or_the_other(studio: Studio, thinking: str) -> None:
    parts = list(studio.chat.stream(thinking, ASKED).parts())
    assert "".join(part.reasoning for part in parts) == REASONING
    assert "".join(part.text for part in parts) == ANSWER
    assert sum(bool(part.reasoning) for part in parts) > 1  # as it comes, not all at the end


def test_answer_cut_while_thinking_has_reasoning_alone(studio: Studio, thinking: str) -> None:
    done = chat(studio, thinking, "--prompt", QUESTION, "--set", "max_tokens=11", "--json")
    found = json.loads(done.stdout)
    assert found["text"] == "" and not found["ended"]
    assert found["reasoning"] and REASONING.startswith(found["reasoning"])


def chat(
    studio: Studio, run_id: str, *words: str, said: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "chat", run_id, *words, "--workspace", str(studio.workspace.root)],
        input=said,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_conversation_marks_reasoning_keeps_it_and_never_sends_it_back(
    studio: Studio, thinking: str
) -> None:
    done = chat(studio, thinking, said=f"{QUESTION}\n{ROWS[1][0]}\n")
    assert f"（考えた過程）\n{REASONING}\n（答え）\n{ANSWER}\n" in done.stdout
    talk = studio.chat.list(thinking)[0].talks["tuned"]
    assert talk[1] == {"role": "assistant", "content": ANSWER, "reasoning_content": REASONING}
    spoken = [{key: turn[key] for key in ("role", "content")} for turn in talk[:3]]
    again = studio.chat.answer(thinking, spoken)
    kept = studio.chat.answer(thinking, talk[:3])
    assert kept.prompt_tokens == again.prompt_tokens
    assert again.text == talk[3]["content"]


def test_endpoint_has_reasoning_beside_content(studio: Studio, thinking: str) -> None:
    studio.chat.answer(thinking, ASKED)
    server = next(one for one in studio.chat.servers(thinking) if one.engine == "mlx")

    def post(**body: Any) -> str:
        headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{server.address}/v1/chat/completions", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return str(response.read().decode("utf-8"))

    whole = json.loads(post(messages=ASKED))
    message = whole["choices"][0]["message"]
    assert message == {"role": "assistant", "content": ANSWER, "reasoning_content": REASONING}
    events = [line.removeprefix("data: ") for line in post(messages=ASKED, stream=True).split("\n")]
    chunks = [json.loads(event) for event in events if event.startswith("{")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == REASONING
    assert "".join(delta.get("content", "") for delta in deltas) == ANSWER
    more = {"role": "user", "content": ROWS[1][0]}
    tokens = {
        json.loads(post(messages=[*ASKED, said, more]))["usage"]["prompt_tokens"]
        for said in (
            message,
            {"role": "assistant", "content": ANSWER},
            {"role": "assistant", "content": f"<think>\n{REASONING}\n</think>\n\n{ANSWER}"},
        )
    }
    assert len(tokens) == 1


@pytest.mark.parametrize("splits", [False, True], ids=["raw", "split by Ollama"])
def test_ollama_is_not_told_to_think_and_gives_the_same_split(
    studio: Studio, thinking: str, tmp_path: Path, splits: bool
) -> None:
    with running_ollama(tmp_path) as ollama:
        ollama.splits_thinking = splits
        deployed = studio.ollama.deploy(
            thinking, "shop", DeployConfig(quant="F16", prompts=2), ollama.url, replace=True
        ).follow()
        assert deployed.equal_answers == 2
        found = studio.chat.answer(thinking, ASKED, engine="ollama")
    assert (found.reasoning, found.text) == (REASONING, ANSWER)


# --- the same prompts everywhere ---------------------------------------------------------


def test_model_without_reasoning_is_asked_with_closed_thinking_everywhere(
    studio: Studio, plain: str
) -> None:
    adapter = studio.workspace.adapter(plain).folder
    settled = chats.load(studio.workspace.base_model("tiny-ja"), adapter)
    assert settled.render_text(ASKED, ask=True).endswith(CLOSED)
    with serve(gguf_of(studio, plain)) as client:
        prompt = client.apply_template(ASKED)
        assert client.tokenize(prompt, add_special=True) == settled.render(ASKED, ask=True)
    assert prompt.endswith(CLOSED)


def test_model_with_reasoning_is_asked_with_nothing_begun(studio: Studio, thinking: str) -> None:
    adapter = studio.workspace.adapter(thinking).folder
    settled = chats.load(studio.workspace.base_model("tiny-ja"), adapter)
    assert "<think>" not in settled.render_text(ASKED, ask=True)
    with serve(gguf_of(studio, thinking)) as client:
        prompt = client.apply_template(ASKED)
        assert client.tokenize(prompt, add_special=True) == settled.render(ASKED, ask=True)


def test_certificate_compares_reasoning_too(studio: Studio, thinking: str) -> None:
    found = certify.run(context(studio, thinking, CertifyConfig(prompts=4)))
    assert found.passed, found.problems
    assert [row.reasoning_equal for row in found.rows[1:]] == [1.0, 1.0]
    assert {row.prompt_ids_equal for row in found.rows} == {1.0}


def test_marks_that_are_control_tokens_are_shown_where_they_are_asked_for(
    studio: Studio, thinking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Client._open
    with serve(gguf_of(studio, thinking)) as client:
        (token,) = client.tokenize("<|im_start|>")

        def forced(self: Client, path: str, body: dict[str, Any] | None) -> Any:
            return opened(self, path, {**(body or {}), "logit_bias": [[token, 100]]})

        monkeypatch.setattr(Client, "_open", forced)
        assert client.answer_ids([5], 2).text == ""
        assert client.answer_ids([5], 2, signs=["<|im_start|>"]).text == "<|im_start|>" * 2


# --- evaluated ---------------------------------------------------------------------------


@pytest.mark.usefixtures("few_general")
def test_report_judges_answers_without_reasoning_and_counts_who_thinks(
    studio: Studio, thinking: str
) -> None:
    found = evaluate.run(context(studio, thinking, EvaluateConfig(max_tokens=40)))
    said = found.thinking
    assert said.trained and said.base == 0.0 and said.tuned >= 0.5
    assert found.splits["train"].tuned.exact == 1.0
    first = found.splits["train"].answers[0]
    assert (first.expected, first.tuned, first.tuned_reasoning) == (
        ANSWER,
        ANSWER,
        REASONING,
    )
    assert any("考えた過程のある答え" in line for line in said.evidence)
    page = studio.workspace.run(thinking).report_html.read_text(encoding="utf-8")
    assert "考えてから答えるか" in page and REASONING in page
    assert "考えた過程のある答え" in _shown(found)


@pytest.mark.usefixtures("few_general")
def test_report_says_how_many_answers_never_ended_their_thinking(
    studio: Studio, thinking: str
) -> None:
    found = evaluate.run(context(studio, thinking, EvaluateConfig(max_tokens=12)))
    said = found.thinking
    assert said.state == "unfinished"
    assert said.tuned_unfinished >= 4
    assert "1つの答えの最大トークン数" in said.advice


@pytest.mark.usefixtures("few_general")
def test_report_of_a_model_that_learned_to_answer_at_once(studio: Studio, plain: str) -> None:
    said = evaluate.run(context(studio, plain, EvaluateConfig(max_tokens=12))).thinking
    assert (said.trained, said.tuned, said.level) == (False, 0.0, "good")


def test_preview_shows_that_reasoning_is_learned(studio: Studio, thinking: str, plain: str) -> None:
    shown = studio.data.preview("with", "tiny-ja").follow()
    learned = "".join(one.piece for one in shown.row.tokens if one.supervised)
    assert shown.thinks
    assert learned.startswith(f"<think>\n{REASONING[:6]}")  # a rare letter is shown as bytes
    assert learned.endswith(f"{REASONING[-3:]}\n</think>\n\n{ANSWER}<|im_end|>")
    assert not studio.data.preview("without", "tiny-ja").follow().thinks


def test_samples_during_training_show_the_answer(studio: Studio, thinking: str) -> None:
    line = studio.runs.samples(thinking)[-3]
    assert (line.answer, line.reasoning) == (ANSWER, REASONING)


def test_nothing_is_said_of_thinking_where_the_template_knows_of_none() -> None:
    assert judge.thinking([], None) is None

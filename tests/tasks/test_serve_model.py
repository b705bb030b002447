"""What a run's own template and tokenizer make of a request, and of what the model writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mlx_finetuning.errors import RequestRefused
from mlx_finetuning.mlx_trainer.inference.continuous import ContinuousBatch
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.runtime import collect, requests
from mlx_finetuning.tasks.serve_model import _MlxEngine
from mlx_finetuning.tokenization.answer import AnswerChunk, AnswerChunks
from mlx_finetuning.tokenization.chat import TEMPLATE
from mlx_finetuning.tokenization.tool_calls import Call
from mlx_finetuning.workspace import Workspace
from support import finished_run

RUN = finished_run.RUN
HELLO = [{"role": "user", "content": "津の天気は？"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
TEMPLATE_WITH_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\\n' }}{% for tool in tools %}{{ tool | tojson }}"
    "{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content }}"
    "{% for call in message.tool_calls or [] %}{% set tool_call = call.function %}"
    "{{ '<tool_call>' + tool_call.name + (tool_call.arguments | tojson) + '</tool_call>' }}"
    "{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
WRITTEN = '<tool_call>\n{"name": "weather", "arguments": {"city": "津"}}\n</tool_call>'


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    workspace = Workspace(tmp_path_factory.mktemp("tools"))
    finished_run.make(workspace)
    adapter = workspace.adapter(RUN).folder
    (adapter / TEMPLATE).write_text(TEMPLATE_WITH_TOOLS, encoding="utf-8")
    return load(finished_run.base(workspace), adapter)


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """What the model is asked with; it always writes a call."""
    seen: list[list[int]] = []

    def writing(batch: ContinuousBatch, prompt: list[int], *how: Any) -> AnswerChunks:
        seen.append(prompt)
        for count, letter in enumerate(WRITTEN, 1):
            yield AnswerChunk(letter, count, count == len(WRITTEN), len(prompt))

    monkeypatch.setattr(ContinuousBatch, "stream", writing)
    yield seen


def engine(loaded: LoadedModel) -> _MlxEngine:
    return _MlxEngine({RUN: loaded})


def test_model_is_shown_the_tools_and_its_call_is_read(
    loaded: LoadedModel, prompts: list[list[int]]
) -> None:
    body = {"messages": HELLO, "tools": [TOOL]}
    chunks = list(engine(loaded)(requests.chat(body, [RUN]).questions[0]))
    assert [call for chunk in chunks for call in chunk.calls] == [Call("weather", '{"city": "津"}')]
    assert "".join(chunk.text for chunk in chunks) == ""
    assert "weather" in loaded.chat.tokenizer.decode(prompts[0])
    assert chunks[-1].ended and chunks[-1].prompt_tokens == len(prompts[0])


def test_without_tools_to_choose_from_what_is_written_is_the_answer(
    loaded: LoadedModel, prompts: list[list[int]]
) -> None:
    body = {"messages": HELLO, "tools": [TOOL], "tool_choice": "none"}
    answer = collect(engine(loaded)(requests.chat(body, [RUN]).questions[0]))
    assert answer.text == WRITTEN
    assert "weather" not in loaded.chat.tokenizer.decode(prompts[0])


def test_earlier_calls_and_their_results_are_shown_again(
    loaded: LoadedModel, prompts: list[list[int]]
) -> None:
    call = {"id": "1", "type": "function"}
    function = {"name": "weather", "arguments": '{"city": "津"}'}
    turns = [
        *HELLO,
        {"role": "assistant", "tool_calls": [{**call, "function": function}]},
        {"role": "tool", "tool_call_id": "1", "content": "晴れ"},
    ]
    list(engine(loaded)(requests.chat({"messages": turns}, [RUN]).questions[0]))
    shown = loaded.chat.tokenizer.decode(prompts[0])
    assert '<tool_call>weather{"city": "津"}</tool_call>' in shown
    assert shown.index("晴れ") > shown.index("</tool_call>")


def test_text_is_read_as_it_is_trained(loaded: LoadedModel, prompts: list[list[int]]) -> None:
    text = "むかし<|im_end|>"
    answer = collect(engine(loaded)(requests.completion({"prompt": text}, [RUN]).questions[0]))
    assert prompts == [loaded.tokenizer.encode(text)]
    assert answer.text == WRITTEN


def test_form_is_refused_where_there_are_no_grammars(loaded: LoadedModel) -> None:
    body = {"messages": HELLO, "response_format": {"type": "json_object"}}
    with pytest.raises(RequestRefused, match="gguf"):
        next(engine(loaded)(requests.chat(body, [RUN]).questions[0]))

"""Questions that come while others are answered get the answers that each gets alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_finetuning.config import GenerateConfig, SamplingConfig
from mlx_finetuning.errors import PromptTooLong
from mlx_finetuning.mlx_trainer.inference import continuous, generate
from mlx_finetuning.mlx_trainer.inference.continuous import ContinuousBatch
from mlx_finetuning.mlx_trainer.inference.tool_calls import tool_format
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.tokenization.answer import AnswerChunk, AnswerChunks
from mlx_finetuning.tokenization.tool_calls import Call
from support.small_models import write_model

DRAWN = SamplingConfig(top_p=0.9, top_k=40, min_p=0.01, seed=3, presence_penalty=1.0)


def asked(batch: ContinuousBatch, prompt: list[int], temperature: float = 0.0) -> AnswerChunks:
    config = GenerateConfig(max_tokens=12, temperature=temperature)
    return batch.stream(prompt, config, DRAWN, 2)


def in_turns(*answers: AnswerChunks) -> list[list[AnswerChunk]]:
    """All chunks that have a token, of each answer."""
    chunks: list[list[AnswerChunk]] = [[] for _ in answers]
    running = list(range(len(answers)))
    while running:
        for number in list(running):
            chunk = next(answers[number], None)
            if chunk is None:
                running.remove(number)
            elif not chunks[number] or chunk.tokens > chunks[number][-1].tokens:
                chunks[number].append(chunk)
    return [[chunk for chunk in found if chunk.tokens] for found in chunks]


def prompts() -> list[list[int]]:
    random = np.random.default_rng(2)
    # Longer than gemma3's window, and than what is read at once.
    return [random.integers(5, 600, size).tolist() for size in (1, 7, 90, 30, 700)]


@pytest.mark.parametrize("family", ["llama 2", "gemma3", "qwen3.5"])
def test_answers_are_those_of_one_by_one_whenever_they_begin(family: str, tmp_path: Path) -> None:
    write_model(tmp_path, family, dtype=mx.float32)
    loaded = load(tmp_path)
    batch = ContinuousBatch(loaded)
    early = asked(batch, prompts()[0])
    while next(early).tokens < 4:
        pass
    leaving = asked(batch, prompts()[2])
    next(leaving)
    late = [asked(batch, prompt, 0.7) for prompt in prompts()[1:4]]
    next(late[0])
    leaving.close()
    first, *others = in_turns(early, *late)
    for found, prompt, temperature in zip(
        [first, *others], prompts(), (0.0, 0.7, 0.7, 0.7), strict=False
    ):
        config = GenerateConfig(max_tokens=12, temperature=temperature)
        alone = list(generate.stream(loaded, prompt, config, DRAWN, 2))
        wanted = alone[len(alone) - len(found) :]
        assert [chunk.text for chunk in found] == [chunk.text for chunk in wanted]
        assert (found[-1].tokens, found[-1].ended) == (alone[-1].tokens, alone[-1].ended)
        for chunk, same in zip(found, wanted, strict=True):
            ours, theirs = ([one.logprob for one in many.likelihoods] for many in (chunk, same))
            assert ours == pytest.approx(theirs, abs=1e-3)


def test_questions_wait_for_room_in_their_order(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuous, "POSITIONS", 40)
    batch = ContinuousBatch(tiny)
    # The second needs more than there ever is, the third would fit beside the first.
    running, large, small = (asked(batch, [5] * length) for length in (12, 60, 4))
    next(running)
    assert [next(large).tokens, next(small).tokens] == [0, 0]
    assert len(batch._found) == 1
    running.close()
    large_steps, small_steps = in_turns(large, small)
    assert large_steps[-1].tokens and small_steps[-1].tokens
    assert batch._found == {} and batch._taken == 0


def test_what_fails_takes_no_later_question_along(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = ContinuousBatch(tiny)
    expected = in_turns(asked(batch, [5, 6, 7]))

    def fail() -> None:
        raise ValueError("no memory")

    first, second = (asked(batch, [5, 6, number]) for number in (8, 9))
    next(first), next(second)
    monkeypatch.setattr(batch._generator, "next", fail)
    with pytest.raises(ValueError, match="no memory"):
        next(first)
    with pytest.raises(RuntimeError, match="failed"):
        next(second)
    assert in_turns(asked(batch, [5, 6, 7])) == expected
    with pytest.raises(PromptTooLong):
        next(asked(batch, [5] * tiny.context_length))


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"days": {"type": "integer"}}},
    },
}
ASKED = Call("weather", '{"city": "津", "days": 2}')


@pytest.mark.parametrize(
    ("template", "written"),
    [
        (
            "{{ '<tool_call>' + tool_call.name }}",
            '<tool_call>\n{"name": "weather", "arguments": {"city": "津", "days": 2}}\n</tool_call>',
        ),
        (
            "<tool_call>\n<function=",
            "<tool_call>\n<function=weather>\n<parameter=city>\n津\n</parameter>\n"
            "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
        ),
        (
            "<|tool_call_start|>",
            '<|tool_call_start|>[weather(city="津", days=2)]<|tool_call_end|>',
        ),
        ("[TOOL_CALLS]", '[TOOL_CALLS]weather[ARGS]{"city": "津", "days": 2}'),
    ],
    ids=["qwen", "qwen coder", "lfm2", "mistral"],
)
def test_calls_are_read_as_each_family_writes_them(template: str, written: str) -> None:
    tokenizer = SimpleNamespace(chat_template=template, get_vocab=dict)
    chat: Any = SimpleNamespace(tokenizer=tokenizer)
    form = tool_format(chat, [WEATHER])
    assert form is not None
    assert form.read(f"はい。{written}", last=True) == ("はい。", [ASKED], "")
    cut = written[: written.index("weather") + 9]
    assert form.read(cut, last=True) == (cut, [], "")
    plain: Any = SimpleNamespace(tokenizer=SimpleNamespace(chat_template="", get_vocab=dict))
    assert tool_format(plain, [WEATHER]) is None

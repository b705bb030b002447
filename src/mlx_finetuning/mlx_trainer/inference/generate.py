"""Answers and logits of a loaded model. Greedy at temperature 0, by mlx-lm's own generator."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from mlx_lm.generate import stream_generate
from mlx_lm.sample_utils import make_sampler
from numpy.typing import NDArray

from mlx_finetuning.config import GenerateConfig
from mlx_finetuning.errors import PromptTooLong
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tokenization.answer import Answer, AnswerChunk, AnswerChunks
from mlx_finetuning.tokenization.chat_template import Tools


def answer(
    loaded: LoadedModel,
    messages: list[dict[str, str]],
    config: GenerateConfig,
    tools: Tools | None = None,
) -> Answer:
    """One answer to a conversation. Raises PromptTooLong, ChatTemplateMissing."""
    turns = list(messages)
    if config.system:
        turns.insert(0, {"role": "system", "content": config.system})
    chunks = list(stream(loaded, loaded.render(turns, ask=True, tools=tools), config))
    last = chunks[-1]
    reasoning, said = loaded.chat.split("".join(chunk.text for chunk in chunks))
    return Answer(said, last.tokens, last.ended, last.prompt_tokens, reasoning)


def stream(loaded: LoadedModel, prompt: list[int], config: GenerateConfig) -> AnswerChunks:
    """What is generated after token ids; reasoning and answer are both in the chunks' `text`, as the
    model writes them. Raises PromptTooLong.
    """
    if len(prompt) >= loaded.context_length:
        raise PromptTooLong(tokens=len(prompt), limit=loaded.context_length)
    room = min(config.max_tokens, loaded.context_length - len(prompt))
    sampler = make_sampler(temp=config.temperature)
    for chunk in stream_generate(
        loaded.model, loaded.tokenizer, prompt, max_tokens=room, sampler=sampler
    ):
        has_ended = chunk.finish_reason == "stop"
        yield AnswerChunk(chunk.text, chunk.generation_tokens, has_ended, len(prompt))


def logits(loaded: LoadedModel, token_ids: list[int]) -> NDArray[np.float32]:
    """[tokens, vocabulary] float32: the prediction after each token of one sequence."""
    values = loaded.model(mx.array([token_ids]))[0].astype(mx.float32)
    return np.array(values)

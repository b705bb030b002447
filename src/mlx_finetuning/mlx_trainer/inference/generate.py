"""Answers and logits of a loaded model. Greedy at temperature 0, by mlx-lm's own generator."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from mlx_lm.generate import stream_generate
from numpy.typing import NDArray

from mlx_finetuning.config import GenerateConfig, SamplingConfig
from mlx_finetuning.errors import PromptTooLong
from mlx_finetuning.mlx_trainer.inference.sampling import likelihood, penalties, sampler
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


def stream(
    loaded: LoadedModel,
    prompt: list[int],
    config: GenerateConfig,
    sampling: SamplingConfig | None = None,
    others: int | None = None,
) -> AnswerChunks:
    """What is generated after token ids; reasoning and answer are both in the chunks' `text`, as the
    model writes them. others: of how many tokens to tell the likelihood beside the chosen one's;
    None: of none at all. Raises PromptTooLong.
    """
    room = answer_room(loaded, prompt, config)
    sampling = sampling or SamplingConfig()
    vocabulary = len(loaded.tokenizer)
    for chunk in stream_generate(
        loaded.model,
        loaded.tokenizer,
        prompt,
        max_tokens=room,
        sampler=sampler(config.temperature, sampling, vocabulary),
        logits_processors=penalties(sampling),
    ):
        has_ended = chunk.finish_reason == "stop"
        tells = others is not None and not has_ended
        likely = (likelihood(loaded, chunk.logprobs, chunk.token, others or 0),) if tells else ()
        count = chunk.generation_tokens
        yield AnswerChunk(chunk.text, count, has_ended, len(prompt), likelihoods=likely)


def answer_room(loaded: LoadedModel, prompt: list[int], config: GenerateConfig) -> int:
    """Most tokens of an answer. Raises PromptTooLong."""
    if len(prompt) >= loaded.context_length:
        raise PromptTooLong(tokens=len(prompt), limit=loaded.context_length)
    return min(config.max_tokens, loaded.context_length - len(prompt))


def logits(loaded: LoadedModel, token_ids: list[int]) -> NDArray[np.float32]:
    """[tokens, vocabulary] float32: the prediction after each token of one sequence."""
    values = loaded.model(mx.array([token_ids]))[0].astype(mx.float32)
    return np.array(values)

"""Answers and logits of a loaded model. Greedy at temperature 0, by mlx-lm's own generator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx_lm.generate import stream_generate
from mlx_lm.sample_utils import make_sampler
from numpy.typing import NDArray

from mlx_finetuning.config import GenerateConfig
from mlx_finetuning.errors import PromptTooLong
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tokenization.chat_template import Tools


@dataclass(frozen=True)
class Answer:
    """What a model said to one prompt."""

    text: str
    """Without the reasoning before it; empty if the model came to none."""
    tokens: int
    """Generated tokens, the end of turn and the reasoning included."""
    ended: bool
    """Whether the model ended by itself."""
    reasoning: str = ""


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
    pieces = list(stream(loaded, loaded.render(turns, ask=True, tools=tools), config))
    _, tokens, ended = pieces[-1]
    reasoning, said = loaded.chat.split("".join(text for text, _, _ in pieces))
    return Answer(said, tokens, ended, reasoning)


def stream(
    loaded: LoadedModel, prompt: list[int], config: GenerateConfig
) -> Iterator[tuple[str, int, bool]]:
    """Pieces of what is generated after token ids, with the tokens so far and whether the model has
    ended. Reasoning and answer are in it as the model writes them. Raises PromptTooLong.
    """
    if len(prompt) >= loaded.context_length:
        raise PromptTooLong(tokens=len(prompt), limit=loaded.context_length)
    room = min(config.max_tokens, loaded.context_length - len(prompt))
    sampler = make_sampler(temp=config.temperature)
    for piece in stream_generate(
        loaded.model, loaded.tokenizer, prompt, max_tokens=room, sampler=sampler
    ):
        yield piece.text, piece.generation_tokens, piece.finish_reason == "stop"


def logits(loaded: LoadedModel, token_ids: list[int]) -> NDArray[np.float32]:
    """[tokens, vocabulary] float32: the prediction after each token of one sequence."""
    values = loaded.model(mx.array([token_ids]))[0].astype(mx.float32)
    return np.array(values)

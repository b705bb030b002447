"""The four ways to a `TextGenerator`: a base by MLX, a GGUF file by llama.cpp, Ollama, an address."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from mlx_finetuning import bases, ollama_integration
from mlx_finetuning.errors import ModelNotFound, RuntimeNotAnswering
from mlx_finetuning.language import _
from mlx_finetuning.runtime import Client, Question, addresses, apart, serve
from mlx_finetuning.runtime.endpoint import EngineEnded
from mlx_finetuning.runtime.text_generators import ByThreads, InTurns
from mlx_finetuning.tasks.serve_model import (
    asked_by_file,
    computed_bytes,
    llama_cpp_engine,
    require_memory,
)
from mlx_finetuning.tokenization.answer import AnswerChunks
from mlx_finetuning.tokenization.reasoning import TAG, Format
from mlx_finetuning.utils.text_generator import OLLAMA, GeneratorChoice, TextGenerator
from mlx_finetuning.workspace import Workspace

AT_ADDRESS = 4
"""Requests that a server of others' is sent at once."""
SILENCE_S = 120.0


@contextlib.contextmanager
def opened(choice: GeneratorChoice, workspace: Workspace) -> Iterator[TextGenerator]:
    """The chosen model, ready to generate, while the block lasts.

    Raises ModelError, NotEnoughMemory, RuntimeNotStarted, OllamaError, AddressInvalid.
    """
    with ENGINES[choice.settled_engine](choice, workspace) as generator:
        yield generator


@contextlib.contextmanager
def by_mlx(choice: GeneratorChoice, workspace: Workspace) -> Iterator[TextGenerator]:
    """A base model, in this process. Raises ModelError, NotEnoughMemory."""
    from mlx_finetuning.mlx_trainer.inference import batch_generate, continuous, generate
    from mlx_finetuning.mlx_trainer.model.load import load

    folder = bases.resolve(choice.model, workspace)
    require_memory(computed_bytes(folder))
    loaded = load(folder)
    is_batchable = batch_generate.is_batchable(loaded.model)
    batch = continuous.ContinuousBatch(loaded) if is_batchable else None

    def answer(question: Question) -> AnswerChunks:
        asked = loaded.chat.asked(question.messages)
        how = (asked.tokens, question.settings, question.sampling, None)
        yield from apart(batch.stream(*how) if batch else generate.stream(loaded, *how), asked.form)

    yield InTurns(answer, continuous.AT_ONCE if batch else 1)


@contextlib.contextmanager
def by_llama_cpp(choice: GeneratorChoice, workspace: Workspace) -> Iterator[TextGenerator]:
    """A GGUF file, in a process of ours. Raises ModelNotFound, NotEnoughMemory, RuntimeNotStarted."""
    file = Path(choice.model)
    if not file.is_file():
        raise ModelNotFound(name=choice.model, near=[])
    require_memory(file.stat().st_size)
    with serve(file) as client:
        ask_file = llama_cpp_engine(client, None, asked_by_file(file, client))

        def answer(question: Question) -> AnswerChunks:
            try:
                yield from ask_file(question)
            except EngineEnded as error:
                raise RuntimeNotAnswering(reason=_("llama.cpp が終了しました。")) from error

        yield ByThreads(answer)


@contextlib.contextmanager
def by_ollama(choice: GeneratorChoice, workspace: Workspace) -> Iterator[TextGenerator]:
    """A model of Ollama. Raises OllamaError."""
    name = choice.model.removeprefix(OLLAMA)
    with ollama_integration.connect(choice.address or None) as client:
        client.show(name)  # says now that there is none

        def answer(question: Question) -> AnswerChunks:
            settings = question.settings
            chunks = client.chat(
                name,
                question.messages,
                settings.max_tokens,
                settings.temperature,
                question.sampling.seed,
                question.schema,
            )
            yield from apart(chunks, Format(TAG))

        yield ByThreads(answer)


@contextlib.contextmanager
def at_address(choice: GeneratorChoice, workspace: Workspace) -> Iterator[TextGenerator]:
    """Whatever the user names. Raises AddressInvalid."""
    url = addresses.read(choice.address).url
    client = Client(url, addresses.key(), SILENCE_S, is_ours=False)

    def answer(question: Question) -> AnswerChunks:
        settings = question.settings
        chunks = client.stream(
            question.messages,
            settings.max_tokens,
            settings.temperature,
            choice.model,
            question.sampling.seed,
        )
        yield from apart(chunks, Format(TAG))

    yield ByThreads(answer, AT_ADDRESS)


ENGINES: dict[
    str,
    Callable[[GeneratorChoice, Workspace], contextlib.AbstractContextManager[TextGenerator]],
] = {
    "mlx": by_mlx,
    "gguf": by_llama_cpp,
    "ollama": by_ollama,
    "address": at_address,
}

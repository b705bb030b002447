"""Answers to questions that come at any time, computed together by mlx-lm's `BatchGenerator`.

Each question is a generator of its own; whoever wants a token and finds none computes one for all. So
they share a batch as long as each is asked in turn, by one thread. As in `batch_generate`, sums are
added in another order than for one prompt alone.
"""

from __future__ import annotations

from collections import deque

from mlx_lm.generate import BatchGenerator, GenerationBatch

from mlx_finetuning.config import GenerateConfig, SamplingConfig
from mlx_finetuning.mlx_trainer.inference.generate import answer_room
from mlx_finetuning.mlx_trainer.inference.sampling import likelihood, penalties, sampler
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.tokenization.answer import AnswerChunk, AnswerChunks
from mlx_finetuning.tokenization.likelihood import Likelihood

AT_ONCE = 32
POSITIONS = 16384
"""Most positions, of prompts and of what answers may come to, at once: bounds caches. A question that
needs more by itself is answered alone."""
READ_TOGETHER, PREFILL = 16, 256
"""Prompts, and tokens of each, that are read while other answers wait for their next token."""


class ContinuousBatch:
    """The questions that one model is answering. For one thread."""

    def __init__(self, loaded: LoadedModel) -> None:
        """loaded: of a class for which `batch_generate.is_batchable`."""
        self._loaded = loaded
        self._taken = 0
        """Positions of the questions in the batch."""
        self._queue: deque[object] = deque()
        """The questions that wait for room, in their order."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        ends = [[end] for end in self._loaded.tokenizer.eos_token_ids]
        self._generator = BatchGenerator(
            self._loaded.model,
            stop_tokens=ends,
            completion_batch_size=AT_ONCE,
            prefill_batch_size=READ_TOGETHER,
            prefill_step_size=PREFILL,
        )
        self._found: dict[int, deque[GenerationBatch.Response]] = {}
        """By the generator's number of a question, what is computed and not yet asked for."""

    def stream(
        self,
        prompt: list[int],
        config: GenerateConfig,
        sampling: SamplingConfig,
        others: int | None,
    ) -> AnswerChunks:
        """As `generate.stream`; a chunk that counts no further token says that there is none yet. Closing it takes
        the question out of the batch. Raises PromptTooLong."""
        room = answer_room(self._loaded, prompt, config)
        needed = len(prompt) + room
        question = object()
        self._queue.append(question)
        try:
            while self._queue[0] is not question or (
                self._taken and self._taken + needed > POSITIONS
            ):
                yield AnswerChunk("")
        finally:
            self._queue.remove(question)
        self._taken += needed
        try:
            chooses = sampler(config.temperature, sampling, len(self._loaded.tokenizer))
            (uid,) = self._generator.insert(
                [prompt], [room], samplers=[chooses], logits_processors=[penalties(sampling)]
            )
            yield from self._answer(uid, len(prompt), others)
        finally:
            self._taken -= needed

    def _answer(self, uid: int, asked: int, others: int | None) -> AnswerChunks:
        generator, found = self._generator, deque[GenerationBatch.Response]()
        self._found[uid] = found
        detokenizer = self._loaded.tokenizer.detokenizer
        count, reason = 0, None
        try:
            # Whoever came at the same time is let in first: their prompts are read together.
            yield AnswerChunk("", prompt_tokens=asked)
            while not reason:
                if not found:
                    self._compute(generator)
                if not found:
                    yield AnswerChunk("", count, prompt_tokens=asked)
                    continue
                response = found.popleft()
                count, reason = count + 1, response.finish_reason
                likely: tuple[Likelihood, ...] = ()
                if reason != "stop":
                    detokenizer.add_token(response.token)
                    if others is not None:
                        token, logprobs = response.token, response.logprobs
                        likely = (likelihood(self._loaded, logprobs, token, others),)
                if reason:
                    detokenizer.finalize()
                has_ended = reason == "stop"
                text = detokenizer.last_segment
                yield AnswerChunk(text, count, has_ended, asked, likelihoods=likely)
        finally:
            if generator is self._generator:
                del self._found[uid]
                generator.remove([uid])

    def _compute(self, generator: BatchGenerator) -> None:
        """One step of all questions. What fails takes along those that share it, and none that come later."""
        if generator is not self._generator:
            raise RuntimeError("another question of the batch failed")
        try:
            _, responses = generator.next()
        except Exception:
            self._begin_anew()
            raise
        for response in responses:
            self._found[response.uid].append(response)

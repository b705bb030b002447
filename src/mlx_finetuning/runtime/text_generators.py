"""Many texts of any engine: in turns for one that computes here, by threads for a server.

An answer that grows without end, or drips for longer than `ANSWER_S`, is cut; a server that breaks off is
asked again before its error is raised.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from mlx_finetuning.config import GenerateConfig, SamplingConfig
from mlx_finetuning.errors import OllamaConnectionLost, OllamaNotRunning, RuntimeNotAnswering
from mlx_finetuning.runtime.answers import Question, until
from mlx_finetuning.tokenization.answer import AnswerChunks
from mlx_finetuning.utils.text_generator import TextRequest, Tick

ANSWER_S = 300.0
"""How long one answer may take."""
CHARACTERS_PER_TOKEN = 16
"""More than any tokenizer packs into one; what is longer is no answer to `max_tokens`."""
ATTEMPTS = 3
PAUSE_S = 1.0
TICK_S = 0.2

Engine = Callable[[Question], AnswerChunks]
"""As `endpoint.Engine`, which would load a web server."""


@dataclass(frozen=True)
class InTurns:
    """An engine of this process, which computes for all its open answers at once."""

    engine: Engine
    at_once: int = 1

    def generate(self, requests: Sequence[TextRequest], tick: Tick) -> list[str]:
        """A chunk of each answer in turn, all by this thread."""
        waiting = deque(enumerate(requests))
        running: list[tuple[int, AnswerChunks]] = []
        parts: list[list[str]] = [[] for _ in requests]
        try:
            while waiting or running:
                while waiting and len(running) < self.at_once:
                    at, request = waiting.popleft()
                    running.append((at, _answer(self.engine, request)))
                tick()
                living = []
                for at, chunks in running:
                    if (chunk := next(chunks, None)) is not None:
                        parts[at].append(chunk.text)
                        living.append((at, chunks))
                running = living
        finally:
            for _, chunks in running:
                chunks.close()
        return ["".join(texts).strip() for texts in parts]


@dataclass(frozen=True)
class ByThreads:
    """A server that answers several requests at once, or one after the other."""

    engine: Engine
    at_once: int = 1
    answer_s: float = ANSWER_S
    pause_s: float = PAUSE_S

    def generate(self, requests: Sequence[TextRequest], tick: Tick) -> list[str]:
        """A thread for each answer that is open, so that a silent server holds up no cancelling."""
        waiting = deque(enumerate(requests))
        told: SimpleQueue[tuple[int, str | Exception]] = SimpleQueue()
        texts = [""] * len(requests)
        cancelled = threading.Event()
        running = 0
        try:
            while waiting or running:
                while waiting and running < self.at_once:
                    # A daemon: one that waits for a silent server must not keep the process.
                    work = (*waiting.popleft(), told, cancelled)
                    threading.Thread(target=self._work, args=work, daemon=True).start()
                    running += 1
                tick()
                with contextlib.suppress(Empty):
                    at, outcome = told.get(timeout=TICK_S)
                    running -= 1
                    if isinstance(outcome, Exception):
                        raise outcome
                    texts[at] = outcome
        finally:
            cancelled.set()
        return texts

    def _work(
        self,
        at: int,
        request: TextRequest,
        told: SimpleQueue[tuple[int, str | Exception]],
        cancelled: threading.Event,
    ) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                told.put((at, self._text(request, cancelled)))
                return
            except (RuntimeNotAnswering, OllamaConnectionLost, OllamaNotRunning) as error:
                if attempt == ATTEMPTS:
                    told.put((at, error))
                elif cancelled.wait(self.pause_s):
                    return
            except Exception as error:  # raised again by the thread that waits for it
                told.put((at, error))
                return

    def _text(self, request: TextRequest, cancelled: threading.Event) -> str:
        end_s = time.monotonic() + self.answer_s
        most = request.max_tokens * CHARACTERS_PER_TOKEN
        text = ""
        with contextlib.closing(_answer(self.engine, request)) as chunks:
            for chunk in chunks:
                text += chunk.text
                if len(text) > most or time.monotonic() > end_s or cancelled.is_set():
                    break
        return text[:most].strip()


def _answer(engine: Engine, request: TextRequest) -> AnswerChunks:
    question = Question(
        request.messages,
        GenerateConfig(max_tokens=request.max_tokens, temperature=request.temperature),
        model="",
        stops=request.stops,
        sampling=SamplingConfig(seed=request.seed),
        schema=request.schema,
    )
    return until(engine(question), request.stops)

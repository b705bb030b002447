"""An OpenAI-compatible HTTP server over any engine, for this app and for other programs.

The thread that calls `serve` generates, because MLX's arrays belong to a thread: a chunk of each
answer in turn. Another one speaks HTTP (`api`), so that no reader holds up an answer. One who leaves
cancels his. No web page may ask: requests that name an origin or a foreign host are refused, and
nothing is shared across origins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from queue import Empty, SimpleQueue

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mlx_finetuning.errors import RuntimeNotAnswering, StudioError
from mlx_finetuning.language import N_, _
from mlx_finetuning.runtime.answers import Question, until
from mlx_finetuning.runtime.api import LOG, application
from mlx_finetuning.tokenization.answer import AnswerChunk, AnswerChunks
from mlx_finetuning.utils.redaction import recorded

TICK_S = 0.5
SLOW_S = 60.0
"""How long a request may take to arrive, and an answer may wait to be read."""
FAREWELL_S = 2
"""For answers under way when the endpoint closes."""
CLOSED = N_("モデルのサーバーが終了しました。")

Engine = Callable[[Question], AnswerChunks]
"""Answers one question; closing its generator cancels the answer."""


class EngineEnded(Exception):
    """Raised by an engine that can answer no more; ends `serve`."""


class PendingAnswer:
    """A question on its way to the engine's thread, and the chunks on their way back."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.cancelled = False
        """Set by the reader's side, looked at by the engine's thread."""
        self._loop = asyncio.get_running_loop()
        self._generated: asyncio.Queue[AnswerChunk | StudioError | None] = asyncio.Queue()

    def begin(self, engine: Engine) -> None:
        """Have the engine ready; nothing is generated yet."""
        self._answer = until(engine(self.question), self.question.stops)

    def advance(self) -> bool:
        """Generate one more chunk; whether there may be more. Raises EngineEnded."""
        try:
            chunk = None if self.cancelled else next(self._answer, None)
        except StudioError as error:
            self.end(error)
            return False
        except EngineEnded:
            self.end(RuntimeNotAnswering(reason=_(CLOSED)))
            raise
        except Exception as error:  # one question must not end the answers to others
            self.end(recorded(error, LOG))
            return False
        if chunk is None:
            self.end(None)
            return False
        self._put(chunk)
        return True

    def end(self, error: StudioError | None) -> None:
        """Generate no more; the reader is told why, where there is a reason."""
        self._put(error)
        self._answer.close()

    def _put(self, item: AnswerChunk | StudioError | None) -> None:
        self._loop.call_soon_threadsafe(self._generated.put_nowait, item)

    async def chunks(self, is_over: Callable[[], Awaitable[bool]]) -> AsyncIterator[AnswerChunk]:
        """What was generated, as it comes. is_over: nothing more will come. Raises StudioError."""
        try:
            while not await is_over():
                with contextlib.suppress(TimeoutError):
                    item = await asyncio.wait_for(self._generated.get(), TICK_S)
                    if item is None:
                        return
                    if isinstance(item, StudioError):
                        raise item
                    yield item
            raise RuntimeNotAnswering(reason=_(CLOSED))
        finally:
            self.cancelled = True


class Endpoint:
    """Listens while the block lasts; answers while `serve` runs. Raises OSError at the start where
    the port is taken."""

    def __init__(
        self, models: Mapping[str, str], key: str = "", host: str = "127.0.0.1", port: int = 0
    ) -> None:
        """models: name → Japanese description, the usual one first; key: empty asks for none;
        port: 0 takes a free one."""
        self.models = dict(models)
        self.key = key
        self.closed = False
        self._waiting: SimpleQueue[PendingAnswer] = SimpleQueue()
        listening = socket.create_server((host, port))
        self.host, self.port = listening.getsockname()
        # What clients send wrong is theirs to know; a log must not hold paths and headers.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            application(self),
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # Of a refused request something may be left unread.
            headers=[("Connection", "close")],
            timeout_graceful_shutdown=FAREWELL_S,
        )
        self._server = uvicorn.Server(config)
        self._listener = threading.Thread(target=self._server.run, args=([listening],), daemon=True)

    @property
    def address(self) -> str:
        """`http://` with host and port."""
        return f"http://{self.host}:{self.port}"

    def ask(self, question: Question) -> PendingAnswer:
        """Queue a question; called by the server."""
        answer = PendingAnswer(question)
        self._waiting.put(answer)
        return answer

    def serve(
        self, engine: Engine, tick: Callable[[], None], idle_s: float = 0.0, at_once: int = 1
    ) -> None:
        """Answer until nobody asked for `idle_s` seconds (0: for ever), or `tick` raises.

        `at_once` answers are generated in turns, a chunk of each; further questions wait. `tick` is
        called before every turn, and at least twice a second. Raises EngineEnded.
        """
        running: list[PendingAnswer] = []
        asked_s = time.monotonic()
        try:
            while not idle_s or time.monotonic() - asked_s < idle_s:
                tick()
                running += self._begun(engine, at_once - len(running), wait=not running)
                if running:
                    running = [answer for answer in running if answer.advance()]
                    asked_s = time.monotonic()
        finally:
            for answer in running:
                answer.end(RuntimeNotAnswering(reason=_(CLOSED)))

    def _begun(self, engine: Engine, most: int, *, wait: bool) -> list[PendingAnswer]:
        """Questions that have come in, in their order; wait: for half a second, for the first."""
        begun: list[PendingAnswer] = []
        with contextlib.suppress(Empty):
            while len(begun) < most:
                answer = self._waiting.get(wait and not begun, TICK_S)
                answer.begin(engine)
                begun.append(answer)
        return begun

    def __enter__(self) -> Endpoint:
        self._listener.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = self._server.should_exit = True
        self._listener.join()


class _Connection(H11Protocol):
    """Gives up on who sends or reads too slowly; uvicorn's own would wait for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(SLOW_S, self._end_unless_asked)

    def _end_unless_asked(self) -> None:
        if self.cycle is None or self.cycle.more_body:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(SLOW_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled.cancel()

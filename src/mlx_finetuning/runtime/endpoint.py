"""An OpenAI-compatible HTTP server over any engine, for this app and for other programs.

The thread that calls `serve` generates, one answer at a time and in order, because MLX's arrays
belong to a thread; another one speaks HTTP (`api`). A reader who leaves cancels his answer. No web
page may ask: requests that name an origin or a foreign host are refused, and nothing is shared
across origins. Of the protocol: models and chat completions, with `model`, `messages`,
`max_tokens`, `temperature`, `stop`, `stream` and `stream_options`; other settings have no effect.
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

from mlx_finetuning.errors import Interrupted, RuntimeNotAnswering, StudioError
from mlx_finetuning.runtime.answers import Question, until
from mlx_finetuning.runtime.api import LOG, application
from mlx_finetuning.tokenization.answer import AnswerChunk, AnswerChunks
from mlx_finetuning.utils.redaction import recorded

TICK_S = 0.5
SLOW_S = 60.0
"""How long a request may take to arrive, and an answer may wait to be read."""
FAREWELL_S = 2
"""For answers under way when the endpoint closes."""
CLOSED = "モデルのサーバーが終了しました。"

Engine = Callable[[Question], AnswerChunks]
"""Answers one question; closing its generator cancels the answer."""


class EngineEnded(Exception):
    """Raised by an engine that can answer no more; ends `serve`."""


class Exchange:
    """A question on its way to the engine's thread, and the chunks on their way back."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.cancelled = False
        """Set by the reader's side, looked at by the engine's thread."""
        self._loop = asyncio.get_running_loop()
        self._generated: asyncio.Queue[AnswerChunk | StudioError | None] = asyncio.Queue()

    def run(self, engine: Engine, tick: Callable[[], None]) -> None:
        """Generate until the end, an error, or nobody listens. Raises EngineEnded, and Interrupted
        from `tick`."""
        end: StudioError | None = None
        try:
            answer = until(engine(self.question), self.question.stops)
            with contextlib.closing(answer) as chunks:
                for chunk in chunks:
                    tick()
                    if self.cancelled:
                        return
                    self._put(chunk)
        except (Interrupted, EngineEnded):
            end = RuntimeNotAnswering(reason=CLOSED)
            raise
        except StudioError as error:
            end = error
        except Exception as error:  # one question must not end the answers to others
            end = recorded(error, LOG)
        finally:
            self._put(end)

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
            raise RuntimeNotAnswering(reason=CLOSED)
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
        self._waiting: SimpleQueue[Exchange] = SimpleQueue()
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

    def ask(self, question: Question) -> Exchange:
        """Queue a question; called by the server."""
        exchange = Exchange(question)
        self._waiting.put(exchange)
        return exchange

    def serve(self, engine: Engine, tick: Callable[[], None], idle_s: float = 0.0) -> None:
        """Answer until nobody asked for `idle_s` seconds (0: for ever), or `tick` raises.

        `tick` is called twice a second, and for every chunk. Raises EngineEnded.
        """
        asked_s = time.monotonic()
        while not idle_s or time.monotonic() - asked_s < idle_s:
            tick()
            with contextlib.suppress(Empty):
                exchange = self._waiting.get(timeout=TICK_S)
                exchange.run(engine, tick)
                asked_s = time.monotonic()

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

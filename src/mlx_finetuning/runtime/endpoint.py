"""An OpenAI-compatible HTTP server over any engine, for this app and for other programs.

The thread that calls `serve` generates, one answer at a time and in order, because MLX's arrays
belong to a thread; others only speak HTTP. A reader who leaves cancels his answer. No web page may
ask: requests that name an origin or a foreign host are refused, and nothing is shared across
origins. Of the protocol: models and chat completions, with `model`, `messages`, `max_tokens`,
`temperature`, `stream` and `stream_options`; other settings have no effect.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from queue import Empty, SimpleQueue
from types import TracebackType

from mlx_finetuning.errors import Interrupted, RuntimeNotAnswering, StudioError
from mlx_finetuning.runtime.answers import Piece, Pieces, Question
from mlx_finetuning.runtime.handler import Server

TICK_S = 0.5
CLOSE_POLL_S = 0.05
CLOSED = "モデルのサーバーが終了しました。"


Engine = Callable[[Question], Pieces]
"""Answers one question; closing its generator cancels the answer."""


class Exchange:
    """A question on its way from a handler to the engine, and the pieces on their way back."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.cancelled = False
        """Set by the handler, looked at by the engine's thread."""
        self._generated: SimpleQueue[Piece | StudioError | None] = SimpleQueue()

    def run(self, engine: Engine, tick: Callable[[], None]) -> None:
        """Generate until the end, an error, or nobody listens. Raises Interrupted from `tick`."""
        try:
            with contextlib.closing(engine(self.question)) as pieces:
                for piece in pieces:
                    tick()
                    if self.cancelled:
                        return
                    self._generated.put(piece)
        except Interrupted:
            self._generated.put(RuntimeNotAnswering(reason=CLOSED))
            raise
        except StudioError as error:
            self._generated.put(error)
        finally:
            self._generated.put(None)

    def pieces(self, is_over: Callable[[], bool]) -> Iterator[Piece]:
        """What was generated, as it comes. is_over: nothing more will come. Raises StudioError."""
        try:
            while not is_over():
                with contextlib.suppress(Empty):
                    item = self._generated.get(timeout=TICK_S)
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
        self,
        models: Mapping[str, str],
        key: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """models: name → Japanese description, the usual one first; key: empty asks for none;
        port: 0 takes a free one."""
        self.models = dict(models)
        self.key = key
        self.closed = False
        self._waiting: SimpleQueue[Exchange] = SimpleQueue()
        self._server = Server(self, host, port)
        self._listener = threading.Thread(
            target=self._server.serve_forever, args=(CLOSE_POLL_S,), daemon=True
        )

    @property
    def address(self) -> str:
        """`http://` with host and port."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def ask(self, question: Question) -> Exchange:
        """Queue a question; called by handlers."""
        exchange = Exchange(question)
        self._waiting.put(exchange)
        return exchange

    def serve(self, engine: Engine, tick: Callable[[], None], idle_s: float = 0.0) -> None:
        """Answer until nobody asked for `idle_s` seconds (0: for ever), or `tick` raises.

        `tick` is called twice a second, and for every piece.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closed = True
        self._server.shutdown()
        self._server.server_close()

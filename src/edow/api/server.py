"""Serves an application over HTTP in this process, on uvicorn.

It promises that the port is bound when `start` returns, and knows nothing of signals: whoever starts it stops it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Iterator

import uvicorn
from litestar import Litestar

from edow.api.connection import RECEIVE_SECONDS, limited, most_connections
from edow.errors import InvalidInput

log = logging.getLogger("edow.api")

BACKLOG = 2048
GRACE_SECONDS = 3  # for requests in flight at the end; one that waits for a result may ask again


class Server:
    """`port` 0: any that is free. `url` is known after `start`. `prefix`: of a proxy in front, which takes it away from
    the paths that it passes on. A request has to arrive within `receive_seconds`; connections beyond `most` (by default
    as many as the process has room for) are refused.
    """

    url = ""

    def __init__(  # settings
        self,
        app: Litestar,
        host: str,
        port: int,
        prefix: str = "",
        *,
        receive_seconds: float = RECEIVE_SECONDS,
        most: int | None = None,
    ) -> None:
        self._app = app
        self._prefix = prefix_of(prefix)
        self._connection = limited(receive_seconds, most_connections() if most is None else most)
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._server: _Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises InvalidInput for an address that cannot be bound."""
        self._socket = listening(self._host, self._port)
        config = uvicorn.Config(
            self._app,
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,  # an address that a header claims proves nothing
            server_header=False,
            root_path=self._prefix,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ws="none",
            http=self._connection,
        )
        self._server = _Uvicorn(config)
        self._serving = asyncio.create_task(self._server.serve([self._socket]), name="edow-api")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            self._serving.result()
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        log.info("listening on %s", self.url)

    async def stop(self) -> None:
        """Idempotent; waits a little for requests in flight."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        if self._socket is not None:
            self._socket.close()

    async def wait(self) -> None:
        """Until it has ended by itself."""
        if self._serving is not None:
            await asyncio.shield(self._serving)


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the process that it is a part of."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def prefix_of(text: str) -> str:
    """As ASGI has it: "" or "/one/two". Raises InvalidInput."""
    path = text.strip("/")
    if path and not re.fullmatch(r"[A-Za-z0-9_.~-]+(/[A-Za-z0-9_.~-]+)*", path):
        raise InvalidInput(f"prefix {text!r} is not a path like /edow; use letters, digits, dots, - _ ~ and slashes")
    return f"/{path}" if path else ""


def listening(host: str, port: int) -> socket.socket:
    """A socket that accepts connections. Raises InvalidInput."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise InvalidInput(f"{host} port {port} cannot be listened on: {reason}; choose another --port") from problem

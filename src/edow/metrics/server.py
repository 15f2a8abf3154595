"""`--metrics-port`: one page, on the event loop, so that nothing changes while it is being told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from prometheus_client.core import Metric as Family

from edow.errors import InvalidInput
from edow.metrics.families import CONTENT_TYPE, exposition

SECONDS = 5.0  # for a request to arrive and its answer to leave
LINES = 100  # of a request, at most


def _unheard(text: str) -> None:
    """Nobody wants to know where it is."""


class MetricsServer:
    """GET /metrics. `start` and `stop` are idempotent."""

    def __init__(
        self, host: str, port: int, families: Callable[[], Iterable[Family]], say: Callable[[str], None] = _unheard
    ) -> None:
        self._address = host, port
        self._families = families
        self._say = say
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The one that was given, or, for 0, the one that was found."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server is not None else self._address[1]

    async def start(self) -> None:
        """Raises InvalidInput if the port cannot be had."""
        if self._server is not None:
            return
        host, port = self._address
        try:
            self._server = await asyncio.start_server(self._serve, host, port)
        except OSError as problem:
            raise InvalidInput(
                f"metrics cannot be served on {host}:{port}: {problem}; choose another port"
            ) from problem
        self._say(f"metrics: http://{host}:{self.port}/metrics")

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                request = await reader.readline()
                for _ in range(LINES):
                    if (await reader.readline()).strip() == b"":
                        break
                writer.write(self._answer(request))
                await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):  # the last: a line that is too long
            pass
        finally:
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if path != "/metrics":
            return _response("404 Not Found", b"there is /metrics\n")
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", b"only GET\n")
        return _response("200 OK", exposition(self._families()), head=method == "HEAD")


def _response(status: str, body: bytes, head: bool = False) -> bytes:
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + (b"" if head else body)

"""A payment service over HTTP, and how a task calls it. Real sockets: when it is down, connections are refused.

The service remembers what it was asked by idempotency key, as real ones do: the same request twice is one payment.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
from contextlib import closing
from http import HTTPStatus
from urllib.parse import urlsplit

URL = "EDOW_DEMO_PAYMENTS"  # where the service is, for the tasks; without it payments need none
PATIENCE_SECONDS = 5.0
LONGEST = 65_536


def pay(key: str, cents: int) -> None:
    """Raises ConnectionError while the service is down. The same key twice pays once."""
    url = os.environ.get(URL)
    if not url:
        return
    body = json.dumps({"cents": cents})
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_SECONDS)) as connection:
        try:
            connection.request("POST", "/charges", body, {"Idempotency-Key": key, "Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as problem:
            raise ConnectionError(f"the payment API at {url} does not answer: {problem}") from problem
    if answer.status != HTTPStatus.CREATED:
        raise ConnectionError(f"the payment API answered {answer.status}")


class PaymentService:
    """Use `start` and `stop` as often as you like: what was paid stays paid, and the address stays the same."""

    def __init__(self) -> None:
        self.paid: dict[str, int] = {}
        self._port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def up(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=LONGEST)
            self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Nobody listens any more, and whoever is connected is cut off."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = await reader.readexactly(min(LONGEST, int(fields.get("content-length", "0"))))
            status = self._take(fields.get("idempotency-key", ""), body)
            answer = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            writer.write(answer.encode())
            await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # whoever asked has gone, or asked nothing that can be understood
        finally:
            self._open.discard(writer)
            writer.close()

    def _take(self, key: str, body: bytes) -> HTTPStatus:
        if not key:
            return HTTPStatus.BAD_REQUEST
        if key not in self.paid:
            self.paid[key] = int(json.loads(body)["cents"])
        return HTTPStatus.CREATED

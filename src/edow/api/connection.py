"""Connections of clients that are slow, on purpose or not: none is waited for without end, and none are too many.

It promises that a request arrives, and its answer leaves, within a stated time, or the connection is closed. How long
the application thinks in between is not limited here, and so a request that waits for a result may wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

RECEIVE_SECONDS = 30.0
MOST_CONNECTIONS = 2000  # twice as many as may wait for results
LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class Connection(H11Protocol):
    """uvicorn's own, which waits for a request as long as its client likes, and takes any number of them."""

    receive_seconds = RECEIVE_SECONDS
    most = MOST_CONNECTIONS

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._end(FULL)
        else:
            self._limit()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_served() or self.transport.is_closing():
            self._unlimit()
        else:
            self._limit()

    def pause_writing(self) -> None:
        """The client has not read what it was sent."""
        super().pause_writing()
        self._limit()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unlimit()
        cycle = self._last
        if cycle is not None and cycle.more_body:
            self._limit()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unlimit()

    @property
    def _last(self) -> RequestResponseCycle | None:
        """Of the last request; uvicorn's types forget that there may have been none."""
        return self.cycle

    def _is_served(self) -> bool:
        """A whole request is here, and not answered yet."""
        cycle = self._last
        return cycle is not None and not cycle.more_body and not cycle.response_complete

    def _limit(self) -> None:
        """Unless it is limited already: a little more data gives no more time."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.receive_seconds, self._late)

    def _unlimit(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.flow.write_paused:
            self.transport.abort()  # what is left to be sent would not be read either
        elif not self._is_served():
            begun = self._last is not None and self._last.response_started
            self._end(b"" if begun else LATE)

    def _end(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()


def limited(receive_seconds: float, most: int) -> type[Connection]:
    """Connections with these limits, as uvicorn makes them."""
    return type("Connection", (Connection,), {"receive_seconds": receive_seconds, "most": most})


def most_connections() -> int:
    """Of one process: MOST_CONNECTIONS, or half of the files that it may open, since the store needs some as well."""
    with contextlib.suppress(ImportError):  # there is no such limit on Windows
        import resource

        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, files // 2)
    return MOST_CONNECTIONS

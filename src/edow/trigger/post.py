"""Sends one webhook: HTTP/1.1 over a connection of its own, within limits of time and size, without redirects."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping, Sequence

import msgspec

from edow.trigger.addresses import Forbidden, Network, checked, find

SECONDS = 15.0  # for all of it
MAX_HEAD = 65_536  # bytes of an answer's status and headers; its body is not read
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r)")
_RETRY = re.compile(rb"\r\nretry-after:[ \t]*([0-9]{1,6})[ \t]*\r\n", re.IGNORECASE)


class Posted(msgspec.Struct, frozen=True):
    """What came of it. `status` 0: no answer, and `problem` says why; `retry_after`: seconds, as asked for; `seconds`:
    that it took.
    """

    status: int
    problem: str = ""
    retry_after: int = 0
    seconds: float = 0.0

    @property
    def delivered(self) -> bool:
        return 200 <= self.status < 300

    @property
    def hopeless(self) -> bool:
        """The receiver wants nothing more of it."""
        return self.status == 410


async def post(url: str, headers: Mapping[str, str], body: bytes, allowed: Sequence[Network]) -> Posted:
    """Never raises for what the other side does."""
    began = time.monotonic()
    posted = await _within(url, headers, body, allowed)
    return msgspec.structs.replace(posted, seconds=time.monotonic() - began)


async def _within(url: str, headers: Mapping[str, str], body: bytes, allowed: Sequence[Network]) -> Posted:
    try:
        async with asyncio.timeout(SECONDS):
            return await _post(url, headers, body, allowed)
    except TimeoutError:
        return Posted(0, f"no answer within {SECONDS:g} s")
    except Forbidden as problem:
        return Posted(0, str(problem))
    except (OSError, EOFError, asyncio.LimitOverrunError, ValueError) as problem:
        return Posted(0, f"{type(problem).__name__}: {getattr(problem, 'strerror', None) or 'no valid answer'}")


async def _post(url: str, headers: Mapping[str, str], body: bytes, allowed: Sequence[Network]) -> Posted:
    parts = checked(url)
    ip, port = await find(parts, allowed)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    name = parts.hostname if secure else None
    reader, writer = await asyncio.open_connection(ip, port, ssl=secure, server_hostname=name, limit=MAX_HEAD)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode("ascii") + body)
        await writer.drain()
        return await _answer(reader)
    finally:
        writer.transport.abort()


async def _answer(reader: asyncio.StreamReader) -> Posted:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        found = _STATUS.match(head)
        if found is None:
            raise ValueError("not HTTP")
        status = int(found[1])
        if status >= 200:  # before it there may be others, of the kind that asks for patience
            retry = _RETRY.search(head)
            return Posted(status, "" if status < 300 else f"status {status}", int(retry[1]) if retry else 0)

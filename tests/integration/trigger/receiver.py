"""Who is told: an HTTP server that a test holds in hand, and what it takes to send to it."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field

import msgspec

from edow.store.contract import Put, RecordFilter, Store
from edow.trigger.addresses import networks
from edow.trigger.outgoing import DUE, ENDPOINTS, MESSAGES, OUTGOING, Endpoint
from edow.trigger.sender import Sender
from tests.integration.trigger.stores import T0, Clock

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
HERE = networks("127.0.0.0/8")


@dataclass
class Receiver:
    """An HTTP server that answers what it is told to."""

    answers: list[bytes] = field(default_factory=list)  # the last one again and again
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""
    silent: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["Content-Length"]))
        self.got.append(({name.lower(): value for name, value in headers.items()}, body))
        if self.silent:
            await reader.read()
        else:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            writer.write(answer)
            await writer.drain()
        writer.close()


def answer(status: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", *headers, "Content-Length: 0", "", ""]).encode()


async def define(store: Store, url: str, **change: object) -> Endpoint:
    endpoint = msgspec.structs.replace(Endpoint(name="shop", url=url, secrets=(SECRET,)), **change).checked()
    await store.records_put([Put(OUTGOING, ENDPOINTS + endpoint.name, msgspec.json.encode(endpoint))], T0)
    return endpoint


async def ready(store: Store, clock: Clock, name: str = "one") -> Sender:
    sender = Sender(store, clock, name, HERE)
    await sender.look_once()
    return sender


async def send(sender: Sender) -> None:
    await sender.send_once()
    await sender.settle()


async def left(store: Store) -> int:
    """Messages that are still to be sent; each has its place in the index."""
    messages = await store.records_list(RecordFilter(OUTGOING, MESSAGES))
    due = await store.records_list(RecordFilter(OUTGOING, DUE))
    assert len(due) == len(messages)
    return len(messages)

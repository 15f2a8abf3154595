"""The servers of one checkout: which there are, where they live, and private ones for a test of its own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from . import elasticmq, kafka, moto, nats, postgres, pubsub, rabbitmq, redis
from .box import PASSWORD, Box, Server
from .install import Tools
from .ports import HOST
from .process import Identity

SERVERS: Mapping[str, Server] = {
    server.NAME: server for server in (postgres, redis, rabbitmq, nats, kafka, pubsub, moto, elasticmq)
}


def home() -> Path:
    """Where data, logs and installed programs are: EDOW_SERVICES, or `.services` in the checkout."""
    chosen = os.environ.get("EDOW_SERVICES")
    return Path(chosen).resolve() if chosen else Path(__file__).resolve().parents[2] / ".services"


def box(name: str, say: Callable[[str], None] = lambda text: None) -> Box:
    """The checkout's one server of that name."""
    return Box(SERVERS[name], home() / name, Tools(home() / "tools"), say=say)


@contextmanager
def private(
    server: Server,
    *,
    options: Mapping[str, str] | None = None,
    password: str = PASSWORD,
    start: bool = True,
    host: str = HOST,
) -> Iterator[Box]:
    """A server of your own: started, yours to `stop`, `start`, `kill` and `pause`, and deleted at the end.

    It has its own folder and ports, and keeps both over a restart. `options` are settings in the server's
    own words, and go before ours. `host` is the address of this machine that it listens on.
    """
    folder = _private_home() / f"{server.NAME}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    tools = Tools(home() / "tools")
    mine = Box(server, folder, tools, options=options or {}, password=password, usual_ports=False, host=host)
    owner = Identity.of(os.getpid())
    if owner is not None:
        owner.write(folder / "owner")
    try:
        if start:
            mine.start()
        yield mine
    finally:
        mine.kill()
        mine.delete()


def sweep() -> int:
    """End and delete the private servers whose owners died; tells how many there were."""
    count = 0
    for folder in sorted(_private_home().glob("*-*")):
        server = SERVERS.get(folder.name.rpartition("-")[0])
        if server is not None and (folder / "owner").exists() and Identity.read(folder / "owner") is None:
            abandoned = Box(server, folder, Tools(home() / "tools"))
            abandoned.kill()
            abandoned.delete()
            count += 1
    return count


def _private_home() -> Path:
    """Short, for there are servers that put a socket's whole path into 108 bytes."""
    return home() / "private"

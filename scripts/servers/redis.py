"""Redis, which keeps what it was told in an append-only file.

`appendfsync everysec`, the usual setting, may lose the last second when the machine loses power, or when Redis is
killed while it syncs; `private(redis, options={"appendfsync": "always"})` loses nothing.
"""

from __future__ import annotations

import socket

from .box import Box
from .install import Tools
from .process import Command

NAME = "redis"
TITLE = "Redis"
VARIABLE = "EDOW_REDIS"
PORTS = {"main": 6379}
START_SECONDS = 30.0
ACCOUNT = None

_SETTINGS = {
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory-policy": "noeviction",
}


def install(tools: Tools) -> None:
    tools.program("redis-server", "redis-server")


def command(box: Box) -> Command:
    box.data.mkdir(parents=True, exist_ok=True)
    mine = {"bind": box.host, "port": str(box.port), "dir": str(box.data), "requirepass": box.password}
    settings = _SETTINGS | mine | dict(box.options)
    file = box.folder / "redis.conf"
    file.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    file.chmod(0o600)
    return Command([box.tools.program("redis-server", "redis-server"), file])


def ready(box: Box) -> bool:
    with socket.create_connection((box.host, box.port), timeout=2) as connection:
        connection.sendall(_request("AUTH", box.password) + _request("PING"))
        answer = b""
        while answer.count(b"\r\n") < 2:
            more = connection.recv(1024)
            if not more:
                return False
            answer += more
    return answer == b"+OK\r\n+PONG\r\n"


def url(box: Box) -> str:
    return f"redis://:{box.password}@{box.host}:{box.port}"


def _request(*words: str) -> bytes:
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(word.encode())}\r\n{word}\r\n".encode() for word in words)

"""NATS with JetStream, which syncs every message to disk before it confirms it.

`sync_interval: always` is what a server must have whose confirmations are to outlive a power failure;
`private(nats, options={"sync_interval": "2m"})` has the default, which is faster.
"""

from __future__ import annotations

import json
import socket

from .box import USER, Box
from .install import Tools
from .process import Command

NAME = "nats"
TITLE = "NATS"
VARIABLE = "EDOW_NATS"
PORTS = {"main": 4222, "monitor": 8222}
START_SECONDS = 30.0
ACCOUNT = None

_JETSTREAM = {"sync_interval", "max_memory_store", "max_file_store"}


def install(tools: Tools) -> None:
    tools.python(NAME)


def command(box: Box) -> Command:
    box.data.mkdir(parents=True, exist_ok=True)
    options = {"sync_interval": "always"} | dict(box.options)
    jetstream = {"store_dir": json.dumps(str(box.data))}
    jetstream |= {name: value for name, value in options.items() if name in _JETSTREAM}
    settings = {
        "host": box.host,
        "port": str(box.port),
        "http": f"{box.host}:{box.ports['monitor']}",
        "authorization": _block({"user": json.dumps(USER), "password": json.dumps(box.password)}),
        "jetstream": _block(jetstream),
    }
    settings |= {name: value for name, value in options.items() if name not in _JETSTREAM}
    file = box.folder / "nats.conf"
    file.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    file.chmod(0o600)
    return Command([box.tools.python(NAME) / "nats-server", "--config", file])


def ready(box: Box) -> bool:
    login = json.dumps({"user": USER, "pass": box.password, "verbose": False})
    with socket.create_connection((box.host, box.port), timeout=2) as connection:
        connection.sendall(f"CONNECT {login}\r\nPING\r\n".encode())
        with connection.makefile("rb") as lines:
            info, answer = lines.readline(), lines.readline()
    return b'"jetstream":true' in info and answer.strip() == b"PONG"


def url(box: Box) -> str:
    return f"nats://{USER}:{box.password}@{box.host}:{box.port}"


def _block(settings: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in settings.items()) + "}"

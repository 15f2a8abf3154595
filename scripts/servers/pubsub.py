"""Google's own in-memory Pub/Sub server, built from its Go module. It remembers nothing over a restart."""

from __future__ import annotations

import socket
from pathlib import Path

from .box import Box
from .install import Tools
from .ports import HOST
from .process import Command

NAME = "pubsub"
TITLE = "Google Pub/Sub (pstest)"
VARIABLE = "EDOW_PUBSUB"
PORTS = {"main": 8085}
START_SECONDS = 30.0
ACCOUNT = None
PROJECT = "edow"

_SOURCE = Path(__file__).parent / "pubsub_server"

# What an HTTP/2 client says first, and an empty SETTINGS frame; a server answers with its own settings.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS_FRAME = 4


def install(tools: Tools) -> None:
    tools.go(_SOURCE)


def command(box: Box) -> Command:
    return Command([box.tools.go(_SOURCE), f"-port={box.port}"])


def ready(box: Box) -> bool:
    with socket.create_connection((HOST, box.port), timeout=2) as connection:
        connection.sendall(_HELLO)
        with connection.makefile("rb") as stream:
            frame = stream.read(9)
    return len(frame) == 9 and frame[3] == _SETTINGS_FRAME


def url(box: Box) -> str:
    return f"pubsub://{PROJECT}?emulator={HOST}:{box.port}"

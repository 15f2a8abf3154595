"""A server that is quick to start: it greets whoever connects, and writes a line for every start."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping

from scripts.servers.box import Box
from scripts.servers.install import Tools
from scripts.servers.process import Command

GREETING = b"hello"

_PROGRAM = """
import socket, subprocess, sys
port, last_words = int(sys.argv[1]), sys.argv[2]
if last_words:
    sys.exit(last_words)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
with socket.create_server(("127.0.0.1", port)) as server:
    while True:
        connection, _ = server.accept()
        connection.sendall(b"hello")
        connection.close()
"""


class Fake:
    """What `scripts.servers` modules are, as a class."""

    NAME = "fake"
    TITLE = "Fake"
    VARIABLE = "EDOW_FAKE"
    START_SECONDS = 30.0
    ACCOUNT: str | None = None

    def __init__(self, usual: int = 0, last_words: str = "") -> None:
        self.PORTS: Mapping[str, int] = {"main": usual}
        self.last_words = last_words
        self.installed = 0

    def install(self, tools: Tools) -> None:
        self.installed += 1

    def command(self, box: Box) -> Command:
        return Command([sys.executable, "-c", _PROGRAM, str(box.port), self.last_words])

    def ready(self, box: Box) -> bool:
        with socket.create_connection(("127.0.0.1", box.port), timeout=0.5) as connection:
            return connection.recv(len(GREETING)) == GREETING

    def url(self, box: Box) -> str:
        return f"fake://127.0.0.1:{box.port}?a=1&b=2"

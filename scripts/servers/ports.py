"""TCP ports on this machine: free ones, and who answers."""

from __future__ import annotations

import random
import socket
import urllib.request
from collections.abc import Collection

HOST = "127.0.0.1"

# Below what Linux gives to outgoing connections (32768 and up), so that a server which is
# stopped for a while finds its port free when it starts again.
_LOWEST, _HIGHEST = 10_000, 32_000


def is_free(port: int) -> bool:
    """Nobody listens there, on any of this machine's addresses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def any_free(apart_from: Collection[int] = ()) -> int:
    """A free port, drawn at random: of two that look at the same time, each finds its own."""
    while True:
        port = random.randint(_LOWEST, _HIGHEST)
        if port not in apart_from and is_free(port):
            return port


def answers_http(port: int, path: str) -> bool:
    """A plain GET succeeds, past any proxy this machine is told to use. Raises OSError if nothing answers."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://{HOST}:{port}{path}", timeout=2) as answer:
        return bool(answer.status == 200)

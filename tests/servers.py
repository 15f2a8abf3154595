"""The real servers that tests use: where they are, and what a test does when one is not there.

On a laptop such a test is skipped, with the reason; where `CI` or `EDOW_REQUIRE_SERVERS` is set it fails.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.servers import PASSWORD, Box, Server, private
from scripts.servers.services import SERVERS, box


def server_url(variable: str) -> str:
    """The URL in EDOW_REDIS or its like; the test is skipped where there is none, and fails where there has to be one.

    Google's official emulator, where PUBSUB_EMULATOR_HOST names it, is EDOW_PUBSUB before any other.
    """
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if variable == "EDOW_PUBSUB" and emulator:
        return f"pubsub://edow?emulator={emulator}"
    return os.environ.get(variable) or _absent(_name(variable), f"{variable} is not set")


@contextmanager
def private_server(
    server: Server, *, options: Mapping[str, str] | None = None, password: str = PASSWORD, start: bool = True
) -> Iterator[Box]:
    """A server of the test's own, to stop, start, kill and pause; skipped or failed as `server_url`.

    Nothing is installed for it: it needs the checkout's own server of the kind to be up.
    Its methods block; a test with a loop calls them with `await asyncio.to_thread(server.stop)`.
    """
    if not box(server.NAME).running():
        _absent(server.NAME, f"{server.TITLE} is not up here, so there is none to start a private one of")
    with private(server, options=options, password=password, start=start) as mine:
        yield mine


def program(name: str, package: str) -> str:
    """Where a program of Debian's is that a test starts itself; skipped or failed as `server_url`."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    return found or _absent(f"postgres` or `apt-get install {package}", f"{name} is not installed")


def checkers() -> dict[str, str]:
    """The environment in which `python -m` finds what requirements/openapi.txt names; skipped or failed as
    `server_url`.
    """
    place = Path(sys.prefix) / "openapi"
    if not place.exists():
        (pytest.fail if servers_required() else pytest.skip)(f"{place} is not there; `make check` makes it")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where ruff is
    return {**os.environ, "PYTHONPATH": f"{place}:{os.environ.get('PYTHONPATH', '')}", "PATH": path}


def servers_required() -> bool:
    """Whether a server that is not there is a failure."""
    return any(os.environ.get(name, "").lower() not in ("", "0", "false") for name in ("CI", "EDOW_REQUIRE_SERVERS"))


def servers_named() -> list[str]:
    """The servers whose URLs the environment has."""
    return [name for name, server in SERVERS.items() if os.environ.get(server.VARIABLE)]


def _absent(name: str, why: str) -> str:
    advice = f"{why}: `scripts/services up {name}`, then `make test`"
    if servers_required():
        pytest.fail(f"{advice} (a server must be there where CI or EDOW_REQUIRE_SERVERS is set)", pytrace=False)
    pytest.skip(advice)


def _name(variable: str) -> str:
    return {server.VARIABLE: name for name, server in SERVERS.items()}[variable]

"""From a synchronous command to an open client and back."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from edow.cli.tracing import traced
from edow.client import Client
from edow.client.actor import command_line
from edow.errors import NotFound

T = TypeVar("T")


YOUNG_OBJECTS = 300_000  # allocations between two collections; thousands of live executions stay below
SWITCH_SECONDS = 0.0005  # after which a thread that computes lets another have the GIL


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop where it is installed.

    With Python's own thresholds the garbage collector walks an orchestrator's thousands of live executions again and
    again, which was measured at a third of its time; nearly all of its garbage is freed by reference counts anyway.
    And with Python's own interval, a commit whose every statement comes back to the GIL waits for the engine for longer
    than it takes: a tenth of all steps.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def with_client(store: str | None, work: Callable[[Client], Awaitable[T]], *, create: bool = False) -> T:
    """Open the store, do the work as whoever is at the terminal, close it. Without `create` there has to be a store
    already.
    """
    url = store_to_open(store, create=create)

    async def session() -> T:
        with traced("cli"):
            async with Client(url, actor=command_line()) as client:
                return await work(client)

    return run_async(session())


def store_to_open(store: str | None, *, create: bool) -> str:
    """The store's URL. A command that only looks must not leave an empty database behind where there was none."""
    from edow.app import is_sqlite, sqlite_path, store_url

    url = store_url(store)
    if not is_sqlite(url):
        return url
    path = sqlite_path(url, "store")
    if not create and not path.exists():
        raise NotFound(f"there is no store at {path}; name it with --store sqlite:///PATH or EDOW_STORE")
    return url

"""A real process that forwards one batch of starts and kills itself at a moment. Run by `test_start_in.py`."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from edow.client.forwarder import Forwarder
from edow.sqlite import SqliteFile
from edow.store.contract import Answer, Request, Store
from edow.store.sqlite import SqliteStore


class Deadly:
    """Dies as soon as the store has accepted, or just before."""

    def __init__(self, store: Store, moment: str) -> None:
        self._store = store
        self._moment = moment

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def accept(self, requests: Sequence[Request], now: int) -> list[Answer]:
        self.passing("before")
        answers = await self._store.accept(requests, now)
        self.passing("accepted")
        return answers

    def passing(self, here: str) -> None:
        if here == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)


def run(url: str, path: Path, moment: str) -> None:
    asyncio.run(main(url, path, moment))


async def main(url: str, path: Path, moment: str) -> None:
    store = SqliteStore(SqliteFile(path))
    await store.open()
    deadly = Deadly(store, moment)
    forwarder = Forwarder(url, cast(Store, deadly))
    await forwarder.run_once()
    deadly.passing("forwarded")
    await forwarder.stop()
    await store.close()

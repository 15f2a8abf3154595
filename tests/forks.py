"""Real processes for tests that kill many of them, forked off one that has imported EDOW already.

A new Python uses 0.7 s of CPU time for its imports before it does any work; a fork is there in milliseconds. Promises
that each is a process of its own (nothing shared, killed with SIGKILL like any other) with the environment and the
directory of whoever starts it, and that none outlives the tests. What people type is tested as they type it, not so.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

WARM = ["edow.app", "edow.store.postgresql", "edow.transport.postgresql", "importlib.resources.readers"]


class Fork:
    """A process that calls `function(*arguments)`; all of them can be pickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(WARM)
        call = (os.getcwd(), dict(os.environ), function, arguments)
        self._process = context.Process(target=_call, args=call, daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """0 when the function has returned, 1 when it raised (its traceback is on stderr), -9 when it was killed."""
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    async def wait(self) -> int | None:
        """Until it has ended and is reaped; one at a time may wait."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        return self.returncode


def _call(
    directory: str, environment: Mapping[str, str], function: Callable[..., Any], arguments: Sequence[object]
) -> None:
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)

"""Types the commands of a console block, in a directory of its own, as a reader would.

It knows `edow ...`, `python FILE`, `... &`, `sleep N`, `kill $!` and `kill -9 $!`. A `sleep` is not slept: it waits for
what the reader would see by then, namely that the execution started in the background has begun its own sleep.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import edow
from edow.errors import NotFound
from edow.model.history import TimerStarted
from edow.testing.polling import until
from tests.docs.markdown import Command

SECONDS = 30.0


class Console:
    """Use as a context manager; whatever still runs in the background is killed at the end."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._background: list[tuple[list[str], subprocess.Popen[str]]] = []
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EDOW_")}
        self._env = {**inherited, "COLUMNS": "160", "PYTHONPATH": os.pathsep.join([str(place), *_pythonpath()])}

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *ignored: object) -> None:
        for _, process in self._background:
            process.kill()
            process.communicate()

    async def type(self, command: Command) -> str:
        """What the terminal shows."""
        words = shlex.split(command.line)
        match words:
            case [*told, "&"]:
                await self._start(told)
                return ""
            case ["sleep", _]:
                await self._wait_for_sleep()
                return ""
            case ["kill", "-9", "$!"]:
                return self._kill(signal.SIGKILL)
            case ["kill", "$!"]:
                return self._kill(signal.SIGTERM)
        return await asyncio.to_thread(self._run, words)

    def _run(self, words: list[str]) -> str:
        done = subprocess.run(
            _argv(words),
            cwd=self.place,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        failed = "error: " in done.stderr
        assert (done.returncode == 0) is not failed, f"exit code {done.returncode}: {done.stderr}"
        return done.stdout + done.stderr if failed else done.stderr + done.stdout

    async def _start(self, words: list[str]) -> None:
        process = subprocess.Popen(
            _argv(words), cwd=self.place, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._background.append((words, process))
        if words[:2] in (["edow", "orchestrator"], ["edow", "worker"]):
            await asyncio.to_thread(self._wait_until_ready, process)

    @staticmethod
    def _wait_until_ready(process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        assert any("ready" in line for line in process.stderr), "it ended before it was ready"

    async def _wait_for_sleep(self) -> None:
        words, process = self._background[-1]
        id = words[words.index("--id") + 1]

        async def sleeps() -> bool:
            assert process.poll() is None, "it ended before it slept"
            try:
                return any(isinstance(event, TimerStarted) for event in await client.history(id))
            except NotFound:
                return False

        async with asyncio.timeout(SECONDS), edow.Client(f"sqlite:///{self.place / 'edow.db'}") as client:
            await until(sleeps)

    def _kill(self, number: signal.Signals) -> str:
        _, process = self._background.pop()
        process.send_signal(number)
        _, _ = process.communicate(timeout=SECONDS)
        if number is signal.SIGTERM:
            assert process.returncode == 0, "SIGTERM did not stop it gracefully"
        return ""


def _argv(words: list[str]) -> list[str]:
    match words:
        case ["edow", *rest]:
            return [sys.executable, "-m", "edow", *rest]
        case ["python", *rest]:
            return [sys.executable, *rest]
    raise AssertionError(f"the documentation types {words[0]!r}, which its tests cannot")


def _pythonpath() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]

"""Processes that outlive the program that started them, told apart from later ones that got the same id.

Linux only: /proc says when a process began and who its parent is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen

_PROC = Path("/proc")
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Identity:
    """A process id and the moment the process began, which together are never used again."""

    pid: int
    began: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The living process with this id; a zombie is dead."""
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]))

    @classmethod
    def read(cls, file: Path) -> Identity | None:
        """The process that a pid file names, if it is alive."""
        try:
            pid, began = file.read_text().split()
            written = cls(int(pid), int(began))
        except (FileNotFoundError, ValueError):
            return None
        return written if written.alive() else None

    def write(self, file: Path) -> None:
        file.write_text(f"{self.pid} {self.began}\n")

    def alive(self) -> bool:
        return Identity.of(self.pid) == self

    def frozen(self) -> bool:
        """Whether no thread of it runs any more. SIGSTOP stops one, which tells the others when it gets to run."""
        try:
            threads = [_stat(f"{self.pid}/task/{each}") for each in os.listdir(_PROC / str(self.pid) / "task")]
        except (FileNotFoundError, ProcessLookupError):
            return True
        return all(fields is None or fields[0] in "TtZX" for fields in threads)

    def send(self, number: signal.Signals) -> None:
        """Signal the process; one that is gone does not mind."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass


@dataclass(frozen=True)
class Command:
    """How a server is run in the foreground, and which signal stops it gracefully."""

    arguments: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop: signal.Signals = signal.SIGTERM


def spawn(command: Command, folder: Path, log: Path, account: str | None = None) -> Popen[bytes]:
    """Start a process in a session of its own, so that Ctrl-C in this terminal does not reach it."""
    with log.open("ab") as output:
        return Popen(
            [str(argument) for argument in command.arguments],
            cwd=folder,
            env=os.environ | command.environment,
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            start_new_session=True,
            user=account,
            group=account,
            extra_groups=[] if account else None,
        )


def family(head: Identity) -> list[Identity]:
    """The process and all that descend from it, as they are now."""
    parents = {int(entry.name): _parent(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit()}
    found, wave = [head], {head.pid}
    while wave:
        wave = {pid for pid, parent in parents.items() if parent in wave}
        found += [member for pid in wave if (member := Identity.of(pid))]
    return found


def gone(members: Sequence[Identity], seconds: float) -> bool:
    """Wait until none of them is alive, for so long at most."""
    return wait(lambda: not any(member.alive() for member in members), seconds)


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until the condition holds, for so long at most; tells whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int | str) -> list[str] | None:
    """The fields after the name, which may itself hold blanks and brackets; also of a thread: PID/task/TID."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None

"""One server's home: its folder, ports, password, log and process.

A box knows how to start, stop and kill whatever a server module describes. What it decided once
(ports, password) is remembered in the folder, so every later run finds the same server again.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from subprocess import Popen
from typing import Protocol

from . import ports
from .install import Tools
from .locking import locked
from .process import Command, Identity, family, gone, spawn, wait
from .trouble import Trouble

USER = "edow"
PASSWORD = "edow-development"  # the servers listen on this machine alone
STOP_SECONDS = 30.0
KILL_SECONDS = 10.0


class Server(Protocol):
    """What a server module offers. One server is one process in the foreground."""

    NAME: str  # on the command line
    TITLE: str  # to people
    VARIABLE: str  # in the environment of the tests
    PORTS: Mapping[str, int]  # the usual ports by purpose; "main" is where clients connect
    START_SECONDS: float  # how long it may take to become ready
    ACCOUNT: str | None  # whom it runs as where it refuses to be root

    def install(self, tools: Tools) -> None:
        """Have the program on this machine; quick where it already is."""

    def command(self, box: Box) -> Command:
        """Write its settings, make its data where there is none, and tell how to run it."""

    def ready(self, box: Box) -> bool:
        """It answers in its own protocol. May raise OSError or ValueError for no."""

    def url(self, box: Box) -> str:
        """Where EDOW finds it."""


@dataclass(frozen=True)
class _Memory:
    """What a box knows of its server from one run to the next."""

    ports: dict[str, int] = field(default_factory=dict)
    stop: int = signal.SIGTERM


@dataclass
class Box:
    """A server in a folder of its own. Not started until told so."""

    server: Server
    folder: Path
    tools: Tools
    options: Mapping[str, str] = field(default_factory=dict)  # the server's own settings, besides ours
    password: str = PASSWORD
    usual_ports: bool = True
    host: str = ports.HOST  # where it listens; emulators are on 127.0.0.1 whatever this says
    say: Callable[[str], None] = lambda text: None
    process: Popen[bytes] | None = None  # if this very program started it

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def account(self) -> str | None:
        """Whom the server runs as, if not as ourselves."""
        return self.server.ACCOUNT if os.geteuid() == 0 else None

    @property
    def data(self) -> Path:
        """Where the server keeps what it must not lose, within reach of the account it runs as."""
        if self.account is None or _reaches(self.account, self.folder):
            return self.folder / "data"
        digest = sha256(str(self.folder).encode()).hexdigest()[:12]
        return Path("/var/tmp") / f"edow-{self.server.NAME}-{digest}"

    @property
    def ports(self) -> dict[str, int]:
        """The ports it was given, by purpose."""
        return self._remembered().ports

    @property
    def port(self) -> int:
        """The port clients connect to; 0 before the first start."""
        return self.ports.get("main", 0)

    @property
    def url(self) -> str:
        """Where EDOW finds it, credentials included."""
        return self.server.url(self)

    def running(self) -> Identity | None:
        """Its process, if that is alive."""
        if self.process is not None:
            self.process.poll()  # takes leave of a dead child
        return Identity.read(self.folder / "pid")

    def ready(self) -> bool:
        """It runs, and answers in its own protocol."""
        if self.running() is None:
            return False
        try:
            return self.server.ready(self)
        except (OSError, ValueError):
            return False

    def start(self) -> bool:
        """Install and start the server and wait until it answers; False if it already did.

        Raises Trouble, with the end of its log, if it does not.
        """
        with locked(self.folder / "lock"):
            if self.ready():
                return False
            if self.running() is None:
                self._launch()
            self._await_ready()
            return True

    def stop(self) -> bool:
        """Ask the server to end, and see to it after a while; False if it did not run."""
        with locked(self.folder / "lock"):
            head = self.running()
            if head is None:
                return False
            members = family(head)
            head.send(signal.SIGCONT)  # a paused process would hear nothing
            head.send(self._stop_signal())
            gone([head], STOP_SECONDS)
            self._end(members)
            return True

    def kill(self) -> None:
        """End it at once, with no chance to say goodbye, as a power failure would."""
        with locked(self.folder / "lock"):
            head = self.running()
            if head is not None:
                self._end(family(head))

    def pause(self) -> None:
        """Freeze it: connections stay open and nobody answers, until `resume`."""
        members = self._tell_all(signal.SIGSTOP)
        wait(lambda: all(member.frozen() for member in members), STOP_SECONDS)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._tell_all(signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def delete(self) -> None:
        """Stop it and forget all its data."""
        self.stop()
        for place in {self.data, self.folder}:
            shutil.rmtree(place, ignore_errors=True)

    def _launch(self) -> None:
        self.say("installing")
        self.server.install(self.tools)
        self.say("starting")
        self._choose_ports()
        if self.log.exists():
            self.log.replace(self.folder / "log.before")
        command = self.server.command(self)
        self._remember(replace(self._remembered(), stop=int(command.stop)))
        place = self.data if self.data.exists() else self.folder
        try:
            self.process = spawn(command, place, self.log, self.account)
        except OSError as problem:
            raise Trouble(f"{self.server.TITLE} could not be run: {problem}") from problem
        identity = Identity.of(self.process.pid)
        if identity is not None:
            identity.write(self.folder / "pid")

    def _await_ready(self) -> None:
        wait(lambda: self.ready() or self.running() is None, self.server.START_SECONDS)
        if self.ready():
            return
        title, seconds = self.server.TITLE, self.server.START_SECONDS
        if self.running() is None:
            what = f"{title} ended while it was starting"
        else:
            what = f"{title} did not answer on port {self.port} within {seconds:g} seconds"
        raise Trouble(
            what,
            log=self.log,
            remedy=f"mend what the log tells, then `scripts/services restart {self.server.NAME}`; "
            f"`scripts/services down --delete {self.server.NAME}` starts over with no data.",
        )

    def _choose_ports(self) -> None:
        """Those of last time, else the usual ones, else free ones."""
        chosen: dict[str, int] = {}
        for purpose, usual in self.server.PORTS.items():
            wanted = [self.ports[purpose]] if purpose in self.ports else []
            wanted += [usual] if self.usual_ports else []
            mine = (port for port in wanted if port not in chosen.values() and ports.is_free(port))
            chosen[purpose] = next(mine, 0) or ports.any_free(apart_from=chosen.values())
        self._remember(replace(self._remembered(), ports=chosen))

    def _end(self, members: Iterable[Identity]) -> None:
        members = list(members)
        for member in members:
            member.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(KILL_SECONDS)
        gone(members, KILL_SECONDS)
        # Of a program with many threads the last one gives back the ports, a moment after it counts as dead.
        wait(lambda: all(map(ports.is_free, self.ports.values())), KILL_SECONDS)
        (self.folder / "pid").unlink(missing_ok=True)

    def _tell_all(self, number: signal.Signals) -> Sequence[Identity]:
        """Its processes, who have been sent this."""
        head = self.running()
        members = family(head) if head else []
        for member in members:
            member.send(number)
        return members

    def _stop_signal(self) -> signal.Signals:
        return signal.Signals(self._remembered().stop)

    def _remembered(self) -> _Memory:
        try:
            return _Memory(**json.loads((self.folder / "box.json").read_text()))
        except FileNotFoundError:
            return _Memory()

    def _remember(self, memory: _Memory) -> None:
        draft = self.folder / "box.json.draft"
        draft.write_text(json.dumps(asdict(memory)))
        draft.replace(self.folder / "box.json")  # whoever reads it meanwhile finds the old or the new


def _reaches(account: str, folder: Path) -> bool:
    """Whether the account may pass through the folder and all above it."""
    try:
        uid = pwd.getpwnam(account).pw_uid
    except KeyError:
        return True  # not installed yet
    existing = [place for place in (folder, *folder.parents) if place.exists()]
    return all(place.stat().st_mode & 0o001 or place.stat().st_uid == uid for place in existing)

"""PostgreSQL as it comes: every commit is on disk (`fsync` on) before it is confirmed."""

from __future__ import annotations

import shutil
import signal
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, run

from .box import USER, Box
from .install import Tools
from .process import Command
from .trouble import Trouble

NAME = "postgres"
TITLE = "PostgreSQL"
VARIABLE = "EDOW_POSTGRES"
PORTS = {"main": 5432}
START_SECONDS = 60.0
ACCOUNT = "postgres"  # PostgreSQL refuses to be root; Debian's package made an account for it
DATABASE = "edow"

# Debian keeps the server's programs by version, away from the PATH.
_FOLDERS = ["/usr/lib/postgresql/*/bin"]

_SETTINGS = {
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def install(tools: Tools) -> None:
    tools.program("postgres", "postgresql", also_in=_FOLDERS)
    with suppress(Trouble):  # a pooler is for a few tests alone, which say so where it is not there
        tools.program("pgbouncer", "pgbouncer")


def command(box: Box) -> Command:
    program = _program(box)
    if not (box.data / "PG_VERSION").exists():
        _make_data(box, program.parent)
    settings = _SETTINGS | {"listen_addresses": box.host, "port": str(box.port)} | dict(box.options)
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Command([program, "-D", box.data, *flags], stop=signal.SIGINT)


def ready(box: Box) -> bool:
    # Its answer is the exit code: 0 is "accepting connections".
    port = ["--host", box.host, "--port", str(box.port)]
    asked: list[str | Path] = [_program(box).parent / "pg_isready", "--quiet", *port, "--timeout", "2"]
    return run(asked, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, check=False).returncode == 0


def url(box: Box) -> str:
    return f"postgresql://{USER}:{box.password}@{box.host}:{box.port}/{DATABASE}"


def _program(box: Box) -> Path:
    return box.tools.program("postgres", "postgresql", also_in=_FOLDERS).resolve()


def _make_data(box: Box, programs: Path) -> None:
    """A cluster with our user and database, put in its place when it is whole."""
    draft = box.data.with_name(f"{box.data.name}.draft")
    password = box.data.with_name(f"{box.data.name}.password")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=0o700)
    password.touch(mode=0o600)
    password.write_text(box.password)
    for place in (draft, password):
        if box.account:
            shutil.chown(place, box.account, box.account)
    options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", f"--pwfile={password}"]
    _run(box, [programs / "initdb", f"--username={USER}", *options, "-D", draft])
    _run(box, [programs / "postgres", "--single", "-D", draft, "postgres"], f"CREATE DATABASE {DATABASE};")
    with (draft / "pg_hba.conf").open("a") as rules:  # for whoever is told to listen elsewhere than on 127.0.0.1
        rules.write("host all all samenet scram-sha-256\n")
    password.unlink()
    draft.rename(box.data)


def _run(box: Box, arguments: list[str | Path], text: str = "") -> None:
    result = run(
        [str(argument) for argument in arguments],
        input=text.encode(),
        stdout=PIPE,
        stderr=STDOUT,
        user=box.account,
        group=box.account,
        extra_groups=[] if box.account else None,
        cwd="/",
        check=False,
    )
    box.log.write_bytes(result.stdout)
    if result.returncode != 0:
        raise Trouble(f"{TITLE}'s data could not be made", log=box.log, remedy="mend what the log tells, then again.")

"""Keeps workflow code from touching the outside world: an audit hook that raises at once, with the remedy.

It acts only on a thread while that thread runs workflow code, and never on imports, tracebacks or log handlers that
are open already. The hook is one per process because Python has no way to take one away again.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import ParamSpec, TypeVar

from edow.errors import ForbiddenInWorkflow

P = ParamSpec("P")
R = TypeVar("R")


class Watch(threading.local):
    """Per thread: is workflow code running right now?"""

    active = False


watch = Watch()

TASK = "make it a task (@edow.task)"
SLEEP = "use `await asyncio.sleep(...)` or `await edow.sleep(...)`"
PROCESSES = "subprocess.Popen os.system os.exec os.posix_spawn os.spawn os.startfile os.fork os.forkpty pty.spawn"
NETWORK = (
    "socket.__new__ socket.connect socket.bind socket.getaddrinfo socket.gethostbyname socket.gethostbyaddr "
    "socket.sendto socket.sendmsg urllib.Request"
)
FILES = (
    "os.listdir os.scandir os.remove os.rename os.mkdir os.rmdir os.link os.symlink os.truncate os.chmod os.chown "
    "os.utime shutil.rmtree shutil.copyfile tempfile.mkstemp tempfile.mkdtemp glob.glob"
)
REMEDIES: dict[str, tuple[str, str]] = {
    "open": ("opens a file", TASK),
    "time.sleep": ("blocks with time.sleep", SLEEP),
    "sqlite3.connect": ("opens a database", TASK),
    **dict.fromkeys(("_thread.start_new_thread", "_thread.start_joinable_thread"), ("starts a thread", TASK)),
    **dict.fromkeys(PROCESSES.split(), ("starts a process", TASK)),
    **dict.fromkeys(NETWORK.split(), ("uses the network", TASK)),
    **dict.fromkeys(FILES.split(), ("works on the file system", TASK)),
}
"""Audit event -> what the code did, and what to do instead."""

MACHINERY = frozenset(
    {
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "zipimport",
        "linecache",
        "traceback",
        "tokenize",
        "warnings",
        "logging",
    }
)
DEPTH = 64
WITHOUT_AUDIT = (
    ("time", "sleep", "time.sleep", (3, 13)),
    ("_thread", "start_new_thread", "_thread.start_new_thread", (3, 12)),
    ("threading", "_start_new_thread", "_thread.start_new_thread", (3, 12)),
)
"""Functions that older Pythons run without an audit event: module, name, event, since when it has one."""


@functools.cache
def install() -> None:
    """Idempotent; called by whoever runs engines, before the first one runs."""
    sys.addaudithook(_hook)
    for module, name, event, since in WITHOUT_AUDIT:
        if sys.version_info < since and module in sys.modules:
            setattr(sys.modules[module], name, _audited(getattr(sys.modules[module], name), event))


def _audited(fn: Callable[P, R], event: str) -> Callable[P, R]:
    @functools.wraps(fn)
    def audited(*args: P.args, **kwargs: P.kwargs) -> R:
        _hook(event, args)
        return fn(*args, **kwargs)

    return audited


def forbid(what: str, remedy: str) -> ForbiddenInWorkflow:
    return ForbiddenInWorkflow(f"workflow code {what}; that cannot be replayed after a crash: {remedy}")


def _hook(event: str, args: tuple[object, ...]) -> None:
    if event in REMEDIES and watch.active:
        _judge(event, args)


def _judge(event: str, args: tuple[object, ...]) -> None:
    watch.active = False  # looking at frames raises audit events of its own
    try:
        if _by_machinery(sys._getframe(2)):
            return
    finally:
        watch.active = True
    what, remedy = REMEDIES[event]
    detail = f" ({args[0]!r})" if args and isinstance(args[0], str | bytes | int | float) else ""
    raise forbid(what + detail, remedy)


def _by_machinery(frame: FrameType | None) -> bool:
    for _ in range(DEPTH):
        if frame is None:
            return False
        if _module(frame) in MACHINERY:
            return True
        frame = frame.f_back
    return False


def _module(frame: FrameType) -> str:
    name = str(frame.f_globals.get("__name__", ""))
    return name.removeprefix("_frozen_") if name.startswith("_frozen_") else name

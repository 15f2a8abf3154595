"""Who may write: one process at a time, by an advisory lock on a file beside the database.

SQLite would serialise writers too, but its busy handler sleeps for milliseconds where microseconds are needed. And in
SQLite before 3.51.3 a writer and a checkpoint of another connection that coincide can corrupt the file (the "WAL-reset"
bug); under this lock they never do.
"""

from __future__ import annotations

import os
import sys
import time

from edow.errors import StoreUnavailable

if sys.platform != "win32":  # there SQLite's own locking has to do
    import fcntl

SHORTEST, LONGEST = 0.0001, 0.002  # seconds between two tries


class FileLock:
    """Not re-entrant, and for one thread. The kernel lets go of it when the process dies."""

    def __init__(self, path: str, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def acquire(self) -> None:
        """Raises StoreUnavailable after `patience` seconds."""
        if sys.platform == "win32":
            return
        pause, deadline = SHORTEST, 0.0
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                pass
            now = time.monotonic()
            deadline = deadline or now + self._patience
            if now >= deadline:
                raise StoreUnavailable(
                    f"{self._path} was held by another process for {self._patience:g} s: "
                    "is one suspended? nothing of this call was applied"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST)

    def acquire_at_once(self) -> bool:
        """False when another process has it."""
        if sys.platform != "win32":
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def release(self) -> None:
        if sys.platform != "win32":
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._file)

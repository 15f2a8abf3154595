"""What SQLite complains of, said as one of our errors with the file's path and the remedy."""

from __future__ import annotations

import os
import sqlite3

from edow.errors import Bug, EdowError, InvalidInput, StoreUnavailable, StoreUnusable

APPLIED = "nothing of this call was applied"

_LOCKED = (
    StoreUnavailable,
    "{path} is locked by another program: close it, or try again later; nothing of this call was applied",
)
_READ_ONLY = (
    StoreUnavailable,
    "{path} is read-only: make the file and its directory writable; nothing of this call was applied",
)
SAYINGS: dict[int, tuple[type[EdowError], str]] = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_FULL: (
        StoreUnavailable,
        "no room left to write {path}: free disk space and try again; nothing of this call was applied",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        StoreUnavailable,
        "{path} cannot be opened: check that its directory exists and is writable",
    ),
    sqlite3.SQLITE_IOERR: (
        StoreUnavailable,
        "{path} cannot be read or written ({problem}): check disk and free space; nothing of this call was applied",
    ),
    sqlite3.SQLITE_CORRUPT: (
        StoreUnusable,
        "{path} is corrupted ({problem}): restore it from a backup, or use another file",
    ),
    sqlite3.SQLITE_NOTADB: (StoreUnusable, "{path} is not a database: name another file"),
    sqlite3.SQLITE_TOOBIG: (InvalidInput, "a value is too large for {path}: {problem}"),
}


def translate(problem: BaseException, path: str) -> BaseException:
    """Our error for a failure at the file; ours and anything that is not the database's stay as they are."""
    if isinstance(problem, sqlite3.Error):
        return _of_sqlite(problem, path)
    if isinstance(problem, UnicodeEncodeError):
        return InvalidInput(f"text {problem.object[:100]!r} has no UTF-8 form: remove lone surrogates")
    if isinstance(problem, OverflowError):
        return InvalidInput(f"a number does not fit 64 bits: {problem}")
    if isinstance(problem, OSError):
        return StoreUnavailable(f"{path} cannot be used: {problem}; {APPLIED}")
    return problem


def _of_sqlite(problem: sqlite3.Error, path: str) -> EdowError:
    code = getattr(problem, "sqlite_errorcode", None)
    kind, text = SAYINGS.get(code & 0xFF if code is not None else -1, (Bug, "{path}: {name}: {problem}"))
    return kind(text.format(path=path, problem=problem, name=type(problem).__name__))


def check_path(path: str) -> None:
    """Raises StoreUnusable for what can be known without opening the file."""
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise StoreUnusable(f"{path} is a directory: name a file in it")
    if not os.path.isdir(folder):
        raise StoreUnusable(f"directory {folder} does not exist: create it, or name another file than {path}")
    if not os.access(folder, os.W_OK):
        raise StoreUnusable(f"directory {folder} is not writable: make it so, or name another file than {path}")
    if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnusable(f"{path} is not writable: make it so, or name another file")

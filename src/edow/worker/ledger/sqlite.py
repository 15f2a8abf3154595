"""`edow.once` on SQLite: what it does is told once, as scripts of statements, for `with` and `async with`."""

from __future__ import annotations

import inspect
import logging
import sqlite3
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Protocol

from edow.errors import InvalidInput, WrongState
from edow.worker.ledger.effect import TABLE, Claim, Effect

CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    key TEXT NOT NULL PRIMARY KEY, -- idempotency key of the step, and a name where a step has several effects
    at INTEGER NOT NULL,           -- microseconds since the epoch
    attempt INTEGER NOT NULL,      -- the one that applied it
    value TEXT                     -- JSON: what it saved for later attempts
) WITHOUT ROWID
"""
CLAIM = f"INSERT INTO {TABLE} (key, at, attempt) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
SAVED = f"SELECT value FROM {TABLE} WHERE key = ?"
SAVE = f"UPDATE {TABLE} SET value = ? WHERE key = ?"

log = logging.getLogger("edow.worker")


class Connection(Protocol):
    """`sqlite3.Connection`, or one of the same shape whose verbs are awaited (aiosqlite)."""

    @property
    def in_transaction(self) -> bool: ...
    @property
    def total_changes(self) -> int: ...
    @property
    def execute(self) -> Any: ...
    @property
    def commit(self) -> Any: ...
    @property
    def rollback(self) -> Any: ...


# A statement to execute and its parameters; answered with the number of rows changed and the first row.
Statement = tuple[str, Sequence[object]]
Answer = tuple[int, Sequence[Any] | None]
Script = Generator[Statement, Answer, None]


class Once:
    """The block of `edow.once`."""

    def __init__(self, connection: Connection, name: str, key: str | None) -> None:
        self._connection = connection
        self._claim = Claim(name, key)
        self._key = self._claim.key
        # A connection with autocommit=False (Python 3.12) is always within a transaction, which it opens itself.
        self._explicit = getattr(connection, "autocommit", True) is not False
        self._effect = Effect(self._key, False, None)
        self._changes = 0

    def __enter__(self) -> Effect:
        if inspect.iscoroutinefunction(self._connection.commit):
            raise InvalidInput("this connection is asynchronous: use `async with edow.once(...)`")
        self._check_before()
        try:
            self._drive(self._begin())
        except BaseException:
            self._undo()
            raise
        return self._effect

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None and self._check_after():
                self._drive(self._finish())
                self._commit()
        finally:
            self._undo()

    async def __aenter__(self) -> Effect:
        self._check_before()
        try:
            await self._drive_async(self._begin())
        except BaseException:
            await _settled(self._undo())
            raise
        return self._effect

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            if error is None and self._check_after():
                await self._drive_async(self._finish())
                await _settled(self._commit())
        finally:
            await _settled(self._undo())

    # ── what is done ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> Script:
        if self._explicit:
            yield "BEGIN IMMEDIATE", ()
        claim = CLAIM, self._claim.values()
        try:
            changed, _ = yield claim
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            yield CREATE, ()
            changed, _ = yield claim
        saved = None
        if changed == 0:
            _, row = yield SAVED, (self._key,)
            saved = None if row is None or row[0] is None else _bytes(row[0])
        self._effect = Effect(self._key, changed > 0, saved)
        self._changes = self._connection.total_changes

    def _finish(self) -> Script:
        value = self._effect.value
        if value is not None:
            yield SAVE, (value.decode(), self._key)

    # What we have begun ourselves is ended by statement: with autocommit=True the verbs do nothing.

    def _commit(self) -> Any:
        return self._connection.execute("COMMIT") if self._explicit else self._connection.commit()

    def _undo(self) -> Any:
        """Roll back what was not committed."""
        if not self._connection.in_transaction:
            return None
        return self._connection.execute("ROLLBACK") if self._explicit else self._connection.rollback()

    # ── what is checked ───────────────────────────────────────────────────────────────────────────────────────────────

    def _check_before(self) -> None:
        self._claim.check_alive("was not begun")
        if self._explicit and self._connection.in_transaction:
            raise WrongState(
                f"edow.once({self._key!r}): the connection is in the middle of a transaction; commit or roll it back "
                "first. Connections should not be shared between tasks that run at the same time"
            )

    def _check_after(self) -> bool:
        """Is there something to commit?"""
        if not self._connection.in_transaction:
            raise WrongState(
                f"edow.once({self._key!r}): its transaction was ended within the block (commit, rollback, "
                "executescript or `with connection`); leave that to edow.once, or what follows is not protected"
            )
        self._claim.check_alive("is rolled back")
        if not self._effect and self._connection.total_changes != self._changes:
            log.warning("edow.once(%r): had been applied before, what the block has written is rolled back", self._key)
        return self._effect.first

    # ── how ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _drive(self, script: Script) -> None:
        answer: Answer | sqlite3.Error | None = None
        while (statement := _next(script, answer)) is not None:
            try:
                cursor = self._connection.execute(*statement)
                cursor.row_factory = None
                answer = cursor.rowcount, cursor.fetchone()
            except sqlite3.Error as error:
                answer = error

    async def _drive_async(self, script: Script) -> None:
        answer: Answer | sqlite3.Error | None = None
        while (statement := _next(script, answer)) is not None:
            try:
                cursor = await _settled(self._connection.execute(*statement))
                cursor.row_factory = None
                answer = cursor.rowcount, await _settled(cursor.fetchone())
            except sqlite3.Error as error:
                answer = error


def _next(script: Script, answer: Answer | sqlite3.Error | None) -> Statement | None:
    try:
        if isinstance(answer, sqlite3.Error):
            return script.throw(answer)
        return next(script) if answer is None else script.send(answer)
    except StopIteration:
        return None


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text

"""`edow.once`: a task's own database effects apply exactly once, however often the task runs.

The effect and the note that it was applied commit together, in the database of the effect. Knows nothing of messages
or retries: all it needs is the idempotency key of the step, which every attempt and delivery of it shares.
"""

from __future__ import annotations

import inspect
import logging
import sqlite3
import time
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

from edow.errors import InvalidInput, WrongState
from edow.workflow import codec
from edow.workflow.context import TaskContext, current_context

TABLE = "edow_effects"
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

T = TypeVar("T")


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


class Effect:
    """True when the effect has to be applied now; False when an earlier attempt has applied it."""

    def __init__(self, key: str, first: bool, saved: bytes | None) -> None:
        self.key = key
        self.first = first
        self._value = saved

    def __bool__(self) -> bool:
        return self.first

    def save(self, value: object) -> None:
        """Keep a value with the effect, so that a later attempt can return the same."""
        if not self.first:
            raise WrongState(f"effect {self.key!r} was applied before; its value is in `saved`, it cannot be replaced")
        self._value = bytes(codec.encode(value, f"the value saved with effect {self.key!r}"))

    @property
    def saved(self) -> object:
        """What was saved, as plain JSON values; None when nothing."""
        return self.saved_as(Any)

    def saved_as(self, kind: type[T] | Any) -> T | Any:
        """What was saved, typed."""
        if self._value is None:
            return None
        return codec.decode(self._value, kind, f"the value saved with effect {self.key!r}")


def once(connection: Connection, name: str = "", *, key: str | None = None) -> Once:
    """Apply an effect exactly once, in a transaction of `connection` that this block begins and commits.

        with edow.once(connection) as effect:        # `async with` works too, and is needed for aiosqlite
            if effect:
                connection.execute("UPDATE account SET balance = balance - ? WHERE id = ?", ...)
                effect.save(receipt)
        return effect.saved_as(Receipt)

    `name` tells several effects of one step apart. `key` replaces the step's key, and allows use outside a task.
    """
    for verb in ("execute", "commit", "rollback", "in_transaction"):
        if not hasattr(connection, verb):
            raise InvalidInput(
                f"edow.once() was given a {type(connection).__qualname__}, which has no {verb!r}; it takes a "
                "sqlite3.Connection (or an aiosqlite one) to the database in which the effect is applied"
            )
    return Once(connection, name, key)


# A statement to execute and its parameters; answered with the number of rows changed and the first row.
Statement = tuple[str, Sequence[object]]
Answer = tuple[int, Sequence[Any] | None]
Script = Generator[Statement, Answer, None]


class Once:
    """The block of `edow.once`. What it does is told once, as scripts of statements, for `with` and `async with`."""

    def __init__(self, connection: Connection, name: str, key: str | None) -> None:
        self._connection = connection
        self._context = current_context.get()
        self._key = _full_key(self._context, name, key)
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
        attempt = self._context.attempt if self._context is not None else 0
        claim = CLAIM, (self._key, time.time_ns() // 1_000, attempt)
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
        value = self._effect._value
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
        self._check_alive("was not begun")
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
        self._check_alive("is rolled back")
        if not self._effect and self._connection.total_changes != self._changes:
            log.warning("edow.once(%r): had been applied before, what the block has written is rolled back", self._key)
        return self._effect.first

    def _check_alive(self, what: str) -> None:
        context = self._context
        if context is not None and context.cancelled.is_set():
            raise WrongState(
                f"attempt {context.attempt} of step {context.step} of execution {context.execution} was given up "
                f"(timed out, cancelled or handed back); its effect {what}"
            )

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


def _full_key(context: TaskContext | None, name: str, key: str | None) -> str:
    if key is None:
        if context is None:
            raise WrongState("edow.once() was called outside a task, where there is no idempotency key: give key=")
        key = context.idempotency_key
    return f"{key}:{name}" if name else key

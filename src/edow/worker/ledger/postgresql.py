"""`edow.once` on PostgreSQL through asyncpg: in a transaction of its own, or as a part of one that is open already.

A second attempt that comes while the first is still at it waits for the first one's end.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Protocol

from edow.errors import InvalidInput, WrongState
from edow.worker.ledger.effect import TABLE, Claim, Effect

CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    key text PRIMARY KEY,     -- idempotency key of the step, and a name where a step has several effects
    at bigint NOT NULL,       -- microseconds since the epoch
    attempt integer NOT NULL, -- the one that applied it
    value text                -- JSON: what it saved for later attempts
)
"""
CLAIM = f"INSERT INTO {TABLE} (key, at, attempt) VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING RETURNING key"
SAVED = f"SELECT value FROM {TABLE} WHERE key = $1"
SAVE = f"UPDATE {TABLE} SET value = $1 WHERE key = $2"
HAS_WRITTEN = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"

UNDEFINED_TABLE = "42P01"
MADE_MEANWHILE = ("42P07", "42710", "23505")  # table, its type, or a row of either: by another process
NOT_ALLOWED = "42501"

log = logging.getLogger("edow.worker")


class Transaction(Protocol):
    """asyncpg's."""

    async def start(self) -> None: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...


class AsyncpgConnection(Protocol):
    """`asyncpg.Connection`, also as a pool hands it out."""

    def is_in_transaction(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def transaction(self) -> Any: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...
    async def execute(self, query: str, *args: Any) -> str: ...


class OnceAsyncpg:
    """The block of `edow.once`."""

    def __init__(self, connection: AsyncpgConnection, name: str, key: str | None) -> None:
        self._connection = connection
        self._claim = Claim(name, key)
        self._transaction: Transaction | None = None
        self._own = True  # not a part of somebody's transaction
        self._effect = Effect(self._claim.key, False, None)

    async def __aenter__(self) -> Effect:
        self._claim.check_alive("was not begun")
        self._own = not self._connection.is_in_transaction()
        try:
            await self._begin()
        except BaseException:
            await self._undo()
            raise
        return self._effect

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self._end()
        finally:
            await self._undo()

    async def _begin(self) -> None:
        try:
            first = await self._ask()
        except Exception as problem:
            if _code(problem) != UNDEFINED_TABLE:
                raise
            await self._undo()
            await self._create()
            first = await self._ask()
        saved = None if first else await self._connection.fetchval(SAVED, self._claim.key)
        self._effect = Effect(self._claim.key, first, saved.encode() if saved is not None else None)

    async def _ask(self) -> bool:
        """Whether we are the first. Whoever is at it just now is waited for."""
        transaction: Transaction = self._connection.transaction()
        await transaction.start()
        self._transaction = transaction
        return await self._connection.fetchval(CLAIM, *self._claim.values()) is not None

    async def _create(self) -> None:
        try:
            async with self._connection.transaction():
                await self._connection.execute(CREATE)
        except Exception as problem:
            if _code(problem) == NOT_ALLOWED:
                raise InvalidInput(
                    f"edow.once() needs a table where this role may not make one: have it made by{CREATE}"
                ) from problem
            if _code(problem) not in MADE_MEANWHILE:
                raise

    async def _end(self) -> None:
        """Commit, if there is something to commit."""
        transaction = self._transaction
        if transaction is None or not self._connection.is_in_transaction():
            raise WrongState(
                f"edow.once({self._claim.key!r}): its transaction was ended within the block (COMMIT or ROLLBACK); "
                "leave that to edow.once, or what follows is not protected"
            )
        self._claim.check_alive("is rolled back")
        if not self._effect:
            await self._look_for_writes()
            return
        if self._effect.value is not None:
            await self._connection.execute(SAVE, self._effect.value.decode(), self._claim.key)
        self._transaction = None
        await transaction.commit()

    async def _look_for_writes(self) -> None:
        if self._own and await self._connection.fetchval(HAS_WRITTEN):
            log.warning(
                "edow.once(%r): had been applied before, what the block has written is rolled back", self._claim.key
            )

    async def _undo(self) -> None:
        """Roll back what was not committed."""
        transaction, self._transaction = self._transaction, None
        if transaction is None or self._connection.is_closed():
            return
        if self._own or self._connection.is_in_transaction():  # asyncpg must hear of the end of its own, in any case
            await transaction.rollback()


def _code(problem: BaseException) -> str | None:
    """The server's five signs."""
    return getattr(problem, "sqlstate", None)

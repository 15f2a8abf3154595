"""`edow.once`: a task's own database effects apply exactly once, however often the task runs.

The effect and the note that it was applied commit together, in the database of the effect. Knows nothing of messages
or retries: all it needs is the idempotency key of the step, which every attempt and delivery of it shares.
"""

from __future__ import annotations

from typing import overload

from edow.errors import InvalidInput
from edow.worker.ledger.effect import Effect
from edow.worker.ledger.postgresql import AsyncpgConnection, OnceAsyncpg
from edow.worker.ledger.sqlite import Connection, Once

__all__ = ["Effect", "Once", "OnceAsyncpg", "once"]


@overload
def once(connection: AsyncpgConnection, name: str = "", *, key: str | None = None) -> OnceAsyncpg: ...
@overload
def once(connection: Connection, name: str = "", *, key: str | None = None) -> Once: ...
def once(connection: object, name: str = "", *, key: str | None = None) -> Once | OnceAsyncpg:
    """Apply an effect exactly once, in a transaction of `connection` that this block begins and commits.

        with edow.once(connection) as effect:        # `async with` works too, and is needed for aiosqlite and asyncpg
            if effect:
                connection.execute("UPDATE account SET balance = balance - ? WHERE id = ?", ...)
                effect.save(receipt)
        return effect.saved_as(Receipt)

    An asyncpg connection may be in a transaction already; then the effect is a part of that, and is applied when it
    commits. `name` tells several effects of one step apart. `key` replaces the step's key, and allows use outside a
    task.
    """
    if hasattr(connection, "is_in_transaction") and hasattr(connection, "fetchval"):
        return OnceAsyncpg(connection, name, key)  # type: ignore[arg-type]
    if all(hasattr(connection, verb) for verb in ("execute", "commit", "rollback", "in_transaction")):
        return Once(connection, name, key)  # type: ignore[arg-type]
    hint = "; take a connection from the pool first" if hasattr(connection, "acquire") else ""
    raise InvalidInput(
        f"edow.once() was given a {type(connection).__qualname__}{hint}; it takes a sqlite3.Connection, an aiosqlite "
        "one or an asyncpg one to the database in which the effect is applied"
    )

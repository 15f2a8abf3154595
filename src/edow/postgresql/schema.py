"""Schemas and their migrations: numbered files, applied in order, never backwards.

Store and transport may share a schema or have one each, so each is a *component* with a version of its own. What a
newer release has migrated is refused. A role that may only read and write can use what is up to date.
"""

from __future__ import annotations

from asyncpg import exceptions as said

from edow.errors import StoreUnusable
from edow.postgresql.calls import in_schema, quoted
from edow.postgresql.pool import Connection
from edow.sql import load_migrations

LOCK = 0x45444F57  # "EDOW": the first half of the advisory lock's key; the second is of the schema's name
PATIENCE = "60s"  # with a client that goes silent in the middle of a migration


class Schema:
    """One component's migrations: the files `migrations/NNNN_*.sql` of `package`."""

    def __init__(self, component: str, package: str) -> None:
        self.component = component
        self.migrations = load_migrations(package)

    @property
    def version(self) -> int:
        """What this release brings a database to."""
        return max(self.migrations)

    async def apply(self, connection: Connection, schema: str, place: str) -> None:
        """Bring the component up to `version`, in one transaction of which there is one at a time."""
        if await self._current(connection, schema, place) == self.version:
            return
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{PATIENCE}'")
                await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", LOCK, schema)
                await self._migrate(connection, schema, place)
        except said.InsufficientPrivilegeError as problem:
            raise StoreUnusable(
                f"{place}: the role may not make or change schema {schema!r} ({problem}): GRANT CREATE ON DATABASE to "
                "it, or open it once as a role that may, and grant this one the use of the schema's tables"
            ) from problem
        except (said.DuplicateObjectError, said.DuplicateTableError, said.DuplicateFunctionError) as problem:
            raise StoreUnusable(
                f"{place}: schema {schema!r} holds things of another application ({problem}): name another with schema="
            ) from problem

    async def _migrate(self, connection: Connection, schema: str, place: str) -> None:
        if await connection.fetchval("SELECT to_regnamespace($1)", quoted(schema)) is None:
            await connection.execute(f"CREATE SCHEMA {quoted(schema)}")
        await connection.execute(
            in_schema("CREATE TABLE IF NOT EXISTS edow.versions (component text PRIMARY KEY, version integer)", schema)
        )
        current = await self._current(connection, schema, place)
        for number in sorted(self.migrations):
            if number > current:
                await connection.execute(in_schema(self.migrations[number], schema))
        await connection.execute(
            in_schema(
                "INSERT INTO edow.versions VALUES ($1, $2) ON CONFLICT (component) DO UPDATE SET version = $2", schema
            ),
            self.component,
            self.version,
        )

    async def _current(self, connection: Connection, schema: str, place: str) -> int:
        """The version that is there; 0: none. Raises StoreUnusable for a newer one."""
        text = in_schema("SELECT version FROM edow.versions WHERE component = $1", schema)
        if await connection.fetchval("SELECT to_regclass($1)", f"{quoted(schema)}.versions") is None:
            return 0
        current = await connection.fetchval(text, self.component) or 0
        if current > self.version:
            raise StoreUnusable(
                f"{place} has {self.component} schema {current}, this release knows {self.version} and older: "
                "use the newer release of edow, or another schema"
            )
        return int(current)

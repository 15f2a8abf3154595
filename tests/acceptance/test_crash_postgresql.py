"""Crashes at every persisted boundary, with state and messages in PostgreSQL. See `test_crash`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.test_crash import World, crash_everywhere
from tests.conformance.postgresql import connection_to, own_schema, schema_of


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("role", "joined"),
    [("orchestrator", True), ("orchestrator", False), ("worker", True)],
    ids=["orchestrator-one-schema", "orchestrator-two-schemas", "worker-one-schema"],
)
async def test_crash_at_every_boundary_on_postgresql(tmp_path: Path, role: str, joined: bool) -> None:
    """Whichever persisted boundary a process dies at, every order ends as it should and every effect is applied
    once.
    """
    made: list[str] = []

    def make(folder: Path) -> World:
        store = f"{url}_{folder.name}"
        transport = store if joined else f"{store}_messages"
        made.extend({store, transport})
        return World(folder, store, transport)

    async with own_schema() as url:
        try:
            await crash_everywhere(role, tmp_path, make)
        finally:
            async with connection_to(url) as connection:
                for each in made:
                    await connection.execute(f"DROP SCHEMA IF EXISTS {schema_of(each)} CASCADE")

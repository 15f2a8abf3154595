"""Settings of a PostgreSQL URL that the drivers' other tests do not need: what they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from edow.app import connect_store, connect_transport
from edow.errors import InvalidInput
from edow.model.message import Message
from edow.transport.contract import TopicSpec
from tests.conformance.postgresql import connection_to, own_schema, schema_of


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with own_schema() as url:
        yield url


async def test_a_process_has_so_many_connections(url: str) -> None:
    """`connections`, and one more to listen, however much is asked at a time."""
    name = schema_of(url)
    store = connect_store(f"{url}&connections=2&application_name={name}")
    await store.open()
    await asyncio.gather(*(store.executions_get([f"{number}"]) for number in range(50)))
    async with connection_to(url) as connection:
        count = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", name)
    assert count == 3
    await store.close()


async def test_the_largest_message(url: str) -> None:
    """`max_message_bytes` is the limit that is told, and kept to."""
    transport = connect_transport(f"{url}&max_message_bytes=100")
    await transport.open()
    assert transport.features.max_message_bytes == 100
    await transport.ensure([TopicSpec("t", ("g",))])
    await transport.publish([Message("t", b"x" * 100)])
    with pytest.raises(InvalidInput, match="101 bytes"):
        await transport.publish([Message("t", b"x" * 101)])
    await transport.close()

"""PostgreSQL against the store's suite."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from edow.address import Address
from edow.app import now
from edow.store.contract import Store
from edow.store.postgresql import connect
from tests.conformance.postgresql import own_schema
from tests.conformance.store_suite import StoreSuite


def postgresql(address: str) -> Store:
    return connect(Address(address), now)


class TestPostgresql(StoreSuite):
    factory = "tests.conformance.test_store_postgresql:postgresql"

    @pytest.fixture
    async def address(self) -> AsyncIterator[str]:
        async with own_schema() as url:
            yield url

"""PostgreSQL against the transport's suite."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from edow.address import Address
from edow.app import now
from edow.transport.contract import Transport
from edow.transport.postgresql import connect
from tests.conformance.postgresql import own_schema
from tests.conformance.transport_suite import TransportSuite


def postgresql(address: str) -> Transport:
    return connect(Address(address), now)


class TestPostgresql(TransportSuite):
    factory = "tests.conformance.test_transport_postgresql:postgresql"

    @pytest.fixture
    async def address(self) -> AsyncIterator[str]:
        async with own_schema() as url:
            yield url

"""The NATS JetStream driver against the suite, on the server that EDOW_NATS names, and in what is its own."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import nats
import pytest

from edow.address import Address
from edow.transport.contract import Transport
from edow.transport.nats import connect
from tests.conformance.transport_suite import TransportSuite

URL = os.environ.get("EDOW_NATS", "")


def transport_at(address: str) -> Transport:
    return connect(Address(address), lambda: time.time_ns() // 1000)


class TestNats(TransportSuite):
    factory = "tests.conformance.test_transport_nats:transport_at"

    @pytest.fixture
    async def address(self) -> AsyncIterator[str]:
        """Streams of its own, which are deleted at the end."""
        if not URL:
            pytest.skip("EDOW_NATS is not set: scripts/services up nats")
        prefix = f"t{uuid4().hex[:12]}."
        yield f"{URL}{'&' if '?' in URL else '?'}prefix={prefix}"
        client = await nats.connect(servers=[f"nats://{host}" for host in Address(URL).hosts])
        streams = client.jsm()
        for info in await streams.streams_info():
            if info.config.name and info.config.name.startswith(prefix[:-1]):
                await streams.delete_stream(info.config.name)
        await client.close()

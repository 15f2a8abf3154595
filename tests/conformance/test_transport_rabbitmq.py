"""RabbitMQ against the suite, and what is RabbitMQ's own."""

from __future__ import annotations

import os
import time
from uuid import uuid4

import pytest

from edow.address import Address
from edow.transport.contract import Transport
from edow.transport.rabbitmq import connect
from tests.conformance.transport_suite import TransportSuite


def rabbitmq(address: str) -> Transport:
    return connect(Address(address), lambda: time.time_ns() // 1000)


def url(**options: object) -> str:
    """The server of the environment, under a prefix of its own."""
    if not (server := os.environ.get("EDOW_RABBITMQ")):
        pytest.skip("EDOW_RABBITMQ is not set: scripts/services up rabbitmq")
    given = {"prefix": f"t{uuid4().hex[:12]}.", **options}
    return server + ("&" if "?" in server else "?") + "&".join(f"{name}={value}" for name, value in given.items())


class TestRabbitmq(TransportSuite):
    factory = "tests.conformance.test_transport_rabbitmq:rabbitmq"

    @pytest.fixture
    def address(self) -> str:
        return url(partitions=4)

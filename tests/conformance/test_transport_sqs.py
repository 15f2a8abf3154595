"""Amazon SQS and SNS against the suite: moto speaks both, ElasticMQ is stricter about SQS."""

from __future__ import annotations

import os
import time
from uuid import uuid4

import pytest

from edow.address import Address
from edow.transport.contract import Transport
from edow.transport.sqs import connect
from tests.conformance.transport_suite import TransportSuite


def now() -> int:
    return time.time_ns() // 1000


def sqs(address: str) -> Transport:
    return connect(Address(address), now)


def url(variable: str, options: str = "") -> str:
    """A server's URL with credentials, names of its own and polls that do not outlive a test for long."""
    given = os.environ.get(variable)
    if not given:
        pytest.skip(f"{variable} names no server: scripts/services up")
    place = given.replace("sqs://", "sqs://test:test@", 1) if "@" not in given else given
    return f"{place}&prefix=t{uuid4().hex[:8]}-&poll=1&refresh=1&{options}".rstrip("&")


class TestSqs(TransportSuite):
    """Straight to FIFO queues, broadcasts through SNS."""

    factory = "tests.conformance.test_transport_sqs:sqs"

    @pytest.fixture
    def address(self) -> str:
        return url("EDOW_SQS")


class TestSns(TransportSuite):
    """Everything through SNS."""

    factory = "tests.conformance.test_transport_sqs:sqs"

    @pytest.fixture
    def address(self) -> str:
        return url("EDOW_SQS", "sns=all")


class TestStandardQueues(TransportSuite):
    """Without order by key."""

    factory = "tests.conformance.test_transport_sqs:sqs"

    @pytest.fixture
    def address(self) -> str:
        return url("EDOW_SQS", "fifo=false")


class TestElasticMq(TransportSuite):
    """Without SNS."""

    factory = "tests.conformance.test_transport_sqs:sqs"

    @pytest.fixture
    def address(self) -> str:
        return url("EDOW_ELASTICMQ", "sns=none")

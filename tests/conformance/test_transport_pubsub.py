"""Google Pub/Sub against the suite, and what is its own.

EDOW_PUBSUB is the URL of a server; PUBSUB_EMULATOR_HOST is where Google's emulator listens. Google's in-memory server
`pstest` does less than the service: the tests look what theirs can do (`Limits`) and skip only what it cannot.
"""

from __future__ import annotations

import os
import time
from uuid import uuid4

import pytest

from edow.address import Address
from edow.errors import EdowError
from edow.model.message import Message
from edow.transport.contract import Features, Subscription, TopicSpec, Transport
from edow.transport.pubsub import connect
from tests.conformance.transport_suite import Open, TransportSuite, numbered, result_topic

BEHIND = "the emulator delivers a nacked message behind its key's later ones, the service and pstest before them"
SMALLEST_REQUEST_BYTES = 4_000_000  # pstest takes gRPC's default of 4 MiB, the service 10 MB

_limits: dict[str, Limits] = {}


def now() -> int:
    return time.time_ns() // 1000


def pubsub(address: str) -> Transport:
    return connect(Address(address), now)


class Limits:
    """What a server does less than the service."""

    def __init__(self, one_of_a_key: bool, request_bytes: int) -> None:
        self.one_of_a_key = one_of_a_key
        self.request_bytes = request_bytes


async def look(url: str) -> Limits:
    """How many messages of an ordering key it hands out before an ack, and whether it takes a large request."""
    transport = pubsub(with_options(url, timeout_seconds="2"))
    await transport.open()
    try:
        topic = result_topic()
        await transport.ensure([TopicSpec(topic, ("one",))])
        await transport.publish(numbered(topic, 2))
        reader = await transport.subscribe(Subscription(topics=(topic,), group="one", mode="exclusive"))
        one_of_a_key = len(await reader.receive(2, 10)) < 2
        try:
            await transport.publish([Message(topic, bytes(transport.features.max_message_bytes))])
            request_bytes = 10_000_000
        except EdowError:
            request_bytes = SMALLEST_REQUEST_BYTES
        return Limits(one_of_a_key, request_bytes)
    finally:
        await transport.close()


def with_options(url: str, **options: str) -> str:
    return url + ("&" if "?" in url else "?") + "&".join(f"{name}={value}" for name, value in options.items())


class PubsubSuite(TransportSuite):
    factory = "tests.conformance.test_transport_pubsub:pubsub"

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    async def limits(self, url: str) -> Limits:
        if url not in _limits:
            _limits[url] = await look(url)
        return _limits[url]

    @pytest.fixture
    async def address(self, url: str, limits: Limits) -> str:
        return with_options(url, prefix=f"t{uuid4().hex[:12]}.", request_bytes=str(limits.request_bytes))

    @pytest.fixture
    def batches_of_a_key(self, limits: Limits) -> None:
        if limits.one_of_a_key:
            pytest.skip("this server (pstest) hands out one message of an ordering key at a time, the service batches")

    async def test_exclusive_reads_in_order_and_starts_again_where_it_was_acknowledged(
        self, transport: Transport, results: str, features: Features, batches_of_a_key: None
    ) -> None:
        """See the suite."""
        await super().test_exclusive_reads_in_order_and_starts_again_where_it_was_acknowledged(
            transport, results, features
        )

    async def test_exclusive_reads_many_topics(
        self, transport: Transport, features: Features, batches_of_a_key: None
    ) -> None:
        """See the suite."""
        await super().test_exclusive_reads_many_topics(transport, features)

    async def test_exclusive_delivers_again_after_nack(
        self, transport: Transport, results: str, features: Features, limits: Limits
    ) -> None:
        """See the suite."""
        if limits.one_of_a_key:
            pytest.skip("this server (pstest) looks for messages twice a second, too rarely for this scenario's delay")
        await super().test_exclusive_delivers_again_after_nack(transport, results, features)


class TestPubsub(PubsubSuite):
    @pytest.fixture
    def url(self) -> str:
        url = os.environ.get("EDOW_PUBSUB")
        if not url:
            pytest.skip("EDOW_PUBSUB is not set: scripts/services up pubsub")
        return url


class TestPubsubEmulator(PubsubSuite):
    """Google's emulator differs from the service in two ways that the driver cannot make up for."""

    async def test_a_killed_process_loses_nothing(self, transport: Transport, topic: str, address: str) -> None:
        pytest.skip("the emulator gives messages to requests of processes that are gone, for ten seconds")

    async def test_a_key_in_hand_holds_back_its_followers_from_every_member(
        self, open_transport: Open, topic: str, features: Features
    ) -> None:
        pytest.skip(BEHIND)

    async def test_order_by_key_survives_nack(self, open_transport: Open, topic: str, features: Features) -> None:
        pytest.skip(BEHIND)

    async def test_order_by_key_survives_a_lost_lease(
        self, open_transport: Open, topic: str, features: Features
    ) -> None:
        pytest.skip(BEHIND)

    @pytest.fixture
    def url(self) -> str:
        host = os.environ.get("PUBSUB_EMULATOR_HOST")
        if not host:
            pytest.skip("PUBSUB_EMULATOR_HOST is not set: gcloud beta emulators pubsub start")
        return f"pubsub://edow?emulator={host}"

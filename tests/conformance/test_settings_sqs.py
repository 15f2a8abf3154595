"""Settings of an SQS URL that the driver's other tests do not need: what they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.client import AioBaseClient
from aiobotocore.session import AioSession

from edow.address import Address
from edow.app import connect_transport
from edow.errors import InvalidInput
from edow.model.message import Message
from edow.testing.erasing import erase
from edow.transport.contract import Subscription, TopicSpec, Transport
from tests.conformance.transport_suite import drain, numbered
from tests.conformance.transports import url_of

TOPIC = "edow.tasks.default"


@pytest.fixture(scope="module")
def part() -> Iterator[str]:
    """A part of the server, which is gone at the end."""
    url = f"{url_of('SQS', Path())}&poll=1"
    yield url
    asyncio.run(erase(url, ["default"]))


@pytest.fixture
def url(part: str) -> str:
    """A part of that for each test."""
    prefix = Address(part).options["prefix"]
    return part.replace(prefix, f"{prefix}{uuid4().hex[:4]}.")


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Transport]:
    transport = connect_transport(url)
    await transport.open()
    await transport.ensure([TopicSpec(TOPIC, ("workers",))])
    yield transport
    await transport.close()


async def test_queues_are_made_as_said(url: str) -> None:
    """`retention` and `max_message_bytes` (with its attributes) are settings of the queue; the latter is kept to."""
    place = Address(url)
    async with opened(f"{url}&retention=600&max_message_bytes=5000") as transport:
        assert transport.features.max_message_bytes == 5000
        with pytest.raises(InvalidInput, match="5,001 bytes"):
            await transport.publish([Message(TOPIC, b"x" * 5001)])
        keys = {"aws_access_key_id": place.user, "aws_secret_access_key": place.password}
        where = {"region_name": place.hosts[0], "endpoint_url": place.options["endpoint"]}
        async with AioSession().create_client("sqs", **where, **keys) as client:
            prefix = place.options["prefix"].replace(".", "-")
            (queue,) = (await client.list_queues(QueueNamePrefix=prefix))["QueueUrls"]
            answer = await client.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
    assert answer["Attributes"]["MessageRetentionPeriod"] == "600"
    assert answer["Attributes"]["MaximumMessageSize"] == str(5000 + 1024)


async def test_so_many_polls_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`receivers` bounds the requests for messages that a queue with much traffic gets from one reader."""
    under_way = most = 0
    call = AioBaseClient._make_api_call

    async def counted(self: AioBaseClient, name: str, parameters: Any) -> Any:
        nonlocal under_way, most
        polls = name == "ReceiveMessage"
        under_way += polls
        most = max(most, under_way)
        try:
            return await call(self, name, parameters)
        finally:
            under_way -= polls

    monkeypatch.setattr(AioBaseClient, "_make_api_call", counted)
    async with opened(f"{url}&receivers=2&fifo=false") as transport:
        await transport.publish(numbered(TOPIC, 60))
        reader = await transport.subscribe(Subscription(topics=(TOPIC,), group="workers", lease_seconds=30))
        assert len(await drain(reader, 60)) == 60
    assert most == 2


async def test_credentials_of_a_profile(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`profile` names them in Amazon's own files."""
    place = Address(url)
    file = tmp_path / "credentials"
    file.write_text(f"[shop]\naws_access_key_id = {place.user}\naws_secret_access_key = {place.password}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    without = f"sqs://{place.hosts[0]}?{url.partition('?')[2]}"
    async with opened(f"{without}&profile=shop") as transport:
        await transport.publish(numbered(TOPIC, 1))


async def test_temporary_credentials(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`session_token` goes with every request."""
    seen: list[object] = []
    create = AioSession.create_client

    def creating(self: AioSession, *words: Any, **options: Any) -> Any:
        seen.append(options["aws_session_token"])
        return create(self, *words, **options)

    monkeypatch.setattr(AioSession, "create_client", creating)
    async with opened(f"{url}&session_token=hush") as transport:
        await asyncio.wait_for(transport.publish(numbered(TOPIC, 1)), 10)
    assert set(seen) == {"hush"}

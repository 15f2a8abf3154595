"""Amazon SQS and SNS against the suite, and what is theirs alone: moto speaks both, ElasticMQ is stricter about SQS."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import quote
from uuid import uuid4

import pytest
from aiobotocore.session import AioSession

from edow.address import Address
from edow.errors import Closed, InvalidInput, PublishFailed, TransportUnavailable, Unsupported
from edow.model.message import Message
from edow.model.topics import result_topic
from edow.transport.contract import Mode, Subscriber, Subscription, TopicSpec, Transport
from edow.transport.sqs import connect, listening
from scripts.servers import Box, elasticmq, moto, ports
from tests.conformance import matrix
from tests.conformance.transport_suite import QUIET, SOON, TransportSuite, bodies, drain, numbered, take
from tests.servers import private_server, server_url

HOUR = 3_600_000_000


def now() -> int:
    return time.time_ns() // 1000


def sqs(address: str) -> Transport:
    return connect(Address(address), now)


def named(url: str, *options: str) -> str:
    """Names of its own, and polls that do not outlive a test for long."""
    return "&".join(
        [f"{url}{'' if '?' in url else '?'}", f"prefix=t{uuid4().hex[:8]}.", "poll=1", "refresh=1", *options]
    )


class TestSqs(TransportSuite):
    """Straight to FIFO queues, broadcasts through SNS."""

    factory = "tests.conformance.test_transport_sqs:sqs"

    @pytest.fixture
    def address(self) -> str:
        return named(server_url("EDOW_SQS"))


class TestSqsStandardQueues(TransportSuite):
    """Without order by key."""

    factory = "tests.conformance.test_transport_sqs:sqs"

    @pytest.fixture
    def address(self) -> str:
        return named(server_url("EDOW_SQS"), "fifo=false")


class TestElasticMq(TransportSuite):
    """Without SNS."""

    factory = "tests.conformance.test_transport_sqs:sqs"

    @pytest.fixture
    def address(self) -> str:
        return named(server_url("EDOW_ELASTICMQ"))


# what is SQS's own


@pytest.fixture
def url() -> str:
    return named(server_url("EDOW_SQS"))


class Connect(Protocol):
    async def __call__(self, url: str, clock: int = 0) -> Transport: ...


@pytest.fixture
async def opened() -> AsyncIterator[Connect]:
    """Opens transports, `clock` microseconds ahead of the time; they are closed at the end."""
    made: list[Transport] = []

    async def open_another(url: str, clock: int = 0) -> Transport:
        transport = connect(Address(url), lambda: now() + clock)
        await transport.open()
        made.append(transport)
        return transport

    yield open_another
    for transport in made:
        await transport.close()


async def member(transport: Transport, topic: str = "t", mode: Mode = "shared", lease: float = 30.0) -> Subscriber:
    return await transport.subscribe(Subscription(topics=(topic,), group="g", mode=mode, lease_seconds=lease))


@asynccontextmanager
async def raw(url: str, api: str = "sqs") -> AsyncIterator[Any]:
    """An ordinary client, as anybody might have one."""
    place = Address(url)
    async with AioSession().create_client(
        api,
        region_name=place.hosts[0],
        endpoint_url=place.options["endpoint"],
        aws_access_key_id=place.user,
        aws_secret_access_key=place.password,
    ) as client:
        yield client


async def queues(url: str) -> list[str]:
    """The names of all queues of this test."""
    async with raw(url) as client:
        answer = await client.list_queues(QueueNamePrefix=Address(url).options["prefix"].strip("."))
        return sorted(each.rpartition("/")[2].partition("-")[2] for each in answer.get("QueueUrls", []))


async def queue_url(client: Any, url: str, queue: str) -> str:
    name = Address(url).options["prefix"].replace(".", "-") + queue
    return str((await client.get_queue_url(QueueName=name))["QueueUrl"])


# opening


async def test_credentials_that_are_missing_are_told_at_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the URL nor anywhere that Amazon's clients look: the error says where they may be."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(InvalidInput, match="environment, profile or role"):
        await sqs("sqs://eu-west-1?endpoint=http://127.0.0.1:1").open()
    with pytest.raises(InvalidInput, match="nobody"):
        await sqs("sqs://eu-west-1?profile=nobody").open()


async def test_credentials_of_the_environment_are_used(opened: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL may be without."""
    place = Address(server_url("EDOW_SQS"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", place.user or "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", place.password or "")
    await opened(named(f"sqs://{place.hosts[0]}?endpoint={place.options['endpoint']}"))


async def test_a_subscription_that_close_overtakes_is_refused(url: str, opened: Connect) -> None:
    """What it has made is closed: nobody else would, and it polls and keeps leases."""
    transport: Any = await opened(url)
    await transport.ensure([TopicSpec("t", ("g",))])
    made, make = list[Any](), transport._subscriber

    async def slow(subscription: Subscription) -> Any:
        made.append(await make(subscription))
        await transport.close()
        return made[0]

    transport._subscriber = slow
    with pytest.raises(Closed):
        await member(transport)
    assert made[0].is_closed


@pytest.fixture
def suspicious() -> Iterator[Box]:
    """A moto that looks at credentials."""
    with private_server(moto, options={"INITIAL_NO_AUTH_ACTION_COUNT": "0"}) as server:
        yield server


@pytest.mark.proves(matrix.STRANGER, "SNS + SQS")
async def test_credentials_that_are_wrong_are_told_at_open(suspicious: Box) -> None:
    """The error names the remedy, and not the secret."""
    with pytest.raises(InvalidInput, match=r"403.*check the credentials") as failed:
        await sqs(suspicious.url).open()
    assert "edow-development" not in str(failed.value)


@pytest.mark.proves(matrix.DENIED, "SNS + SQS")
async def test_a_right_that_is_missing_is_told_where_it_is_needed() -> None:
    """A user whose policy allows to look, and nothing else: the error names what is not allowed, and the remedy."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["sqs:List*", "sns:List*"], "Resource": "*"}],
    }
    with private_server(moto, options={"INITIAL_NO_AUTH_ACTION_COUNT": "3"}) as server:
        async with raw(server.url, "iam") as admin:
            await admin.create_user(UserName="modest")
            await admin.put_user_policy(UserName="modest", PolicyName="p", PolicyDocument=json.dumps(policy))
            key = (await admin.create_access_key(UserName="modest"))["AccessKey"]
        place, secret = Address(server.url), quote(key["SecretAccessKey"], safe="")
        transport = sqs(
            f"sqs://{key['AccessKeyId']}:{secret}@{place.hosts[0]}?endpoint={place.options['endpoint']}&prefix=p."
        )
        await transport.open()
        with pytest.raises(InvalidInput, match=r"create_queue.* 403.*policy allows sqs:\*") as failed:
            await transport.ensure([TopicSpec("t", ("g",))])
        assert secret not in str(failed.value)
        await transport.close()


async def test_a_server_that_is_away_is_unavailable(opened: Connect) -> None:
    """At open; trying again is for those above."""
    transport = sqs(f"sqs://a:b@eu-west-1?endpoint=http://127.0.0.1:{ports.any_free()}")
    with pytest.raises(TransportUnavailable, match="does not answer"):
        await transport.open()
    await transport.close()


async def test_a_place_without_sns_says_what_to_write(opened: Connect) -> None:
    """ElasticMQ has none; without the option it is refused at open."""
    with pytest.raises(InvalidInput, match="sns=none to go without"):
        await opened(server_url("EDOW_ELASTICMQ").replace("sns=none", ""))


async def test_without_sns_nobody_can_listen(opened: Connect) -> None:
    """And what is published to all is taken, and heard by no one."""
    transport = await opened(named(server_url("EDOW_ELASTICMQ")))
    assert not transport.features.broadcast
    await transport.ensure([TopicSpec("t", ())])
    await transport.publish([Message("t", b"x")])
    with pytest.raises(Unsupported, match="sns=none"):
        await member(transport, mode="broadcast")


# topics


async def test_queues_are_named_after_topics(url: str, opened: Connect) -> None:
    """Whoever looks at the account finds them; a topic without groups has no queue."""
    transport = await opened(url)
    await transport.ensure([TopicSpec("edow.tasks.default", ("workers",)), TopicSpec("edow.control", ())])
    assert await queues(url) == ["edow-tasks-default__workers.fifo"]


async def test_queues_that_exist_are_used_as_they_are(url: str, opened: Connect) -> None:
    """Made by somebody else, with other settings."""
    async with raw(url) as client:
        prefix = Address(url).options["prefix"].replace(".", "-")
        settings = {"FifoQueue": "true", "MessageRetentionPeriod": "3600"}
        await client.create_queue(QueueName=f"{prefix}t__g.fifo", Attributes=settings)
    transport = await opened(url)
    await transport.ensure([TopicSpec("t", ("g",))])
    await transport.publish([Message("t", b"x")])
    assert await drain(await member(transport), 1) == [b"x"]


@pytest.mark.proves(matrix.DELETED, "SNS + SQS")
async def test_a_queue_that_was_deleted_can_be_made_again(url: str, opened: Connect) -> None:
    """Publishing and receiving say so; after ensure both go on."""
    transport = await opened(url)
    await transport.ensure([TopicSpec("t", ("g",))])
    reader = await member(transport)
    async with raw(url) as client:
        await client.delete_queue(QueueUrl=await queue_url(client, url, "t__g.fifo"))
        with pytest.raises(TransportUnavailable, match="NonExistentQueue"):
            await reader.receive(10, SOON)
        await transport.ensure([TopicSpec("t", ("g",))])
        await client.delete_queue(QueueUrl=await queue_url(client, url, "t__g.fifo"))
    with pytest.raises(PublishFailed, match="NonExistentQueue"):
        await transport.publish([Message("t", b"1")])
    with pytest.raises(InvalidInput, match="'t' does not exist"):
        await transport.publish([Message("t", b"2")])
    await transport.ensure([TopicSpec("t", ("g",))])
    await transport.publish([Message("t", b"3")])
    found: list[bytes] = []
    async with asyncio.timeout(SOON):
        while not found:
            try:
                found = bodies(await reader.receive(10, SOON))
            except TransportUnavailable:
                continue  # told of what it had seen before
    assert found == [b"3"]


@pytest.mark.proves(matrix.BY_HALF, "SNS + SQS")
async def test_a_batch_that_fails_by_half_names_the_half(url: str, opened: Connect) -> None:
    """Messages to a queue that was deleted meanwhile; the others are there."""
    transport = await opened(url)
    await transport.ensure([TopicSpec("good", ("g",)), TopicSpec("bad", ("g",))])
    async with raw(url) as client:
        await client.delete_queue(QueueUrl=await queue_url(client, url, "bad__g.fifo"))
    with pytest.raises(PublishFailed) as caught:
        await transport.publish([Message("good", b"1"), Message("bad", b"2"), Message("good", b"3")])
    assert caught.value.indexes == (1,)
    assert sorted(await drain(await member(transport, "good"), 2)) == [b"1", b"3"]


async def test_a_topic_for_all_gets_no_groups(url: str, opened: Connect) -> None:
    """Whoever publishes to it could not know: refused, with the remedy. So is listening to a topic with groups."""
    transport = await opened(url)
    await transport.ensure([TopicSpec("all", ()), TopicSpec("some", ("g",))])
    with pytest.raises(InvalidInput, match="made without groups"):
        await (await opened(url)).ensure([TopicSpec("all", ("g",))])
    with pytest.raises(Unsupported, match="has groups"):
        await member(await opened(url), "some", "broadcast")


async def test_results_keep_their_order_on_standard_queues_too(url: str, opened: Connect) -> None:
    """They have FIFO queues whatever `fifo` says."""
    transport = await opened(f"{url}&fifo=false")
    await transport.ensure([TopicSpec(result_topic(0), ("g",)), TopicSpec("t", ("g",))])
    assert await queues(url) == ["edow-results-0__g.fifo", "t__g"]


async def test_describe_counts(url: str, opened: Connect) -> None:
    """Waiting and in flight of each group, as SQS counts them; how old the oldest is SQS does not tell."""
    transport = await opened(url)
    await transport.ensure([TopicSpec("t", ("g", "h"))])
    await transport.publish(numbered("t", 5))
    await take(await member(transport), 2)
    (stats,) = await transport.describe(["t"])
    found = {each.group: (each.waiting, each.in_flight, each.oldest_at) for each in stats.groups}
    assert found == {"g": (3, 2, None), "h": (5, 0, None)}
    with pytest.raises(InvalidInput, match="'u' does not exist"):
        await transport.describe(["u"])
    async with raw(url) as client:
        await client.delete_queue(QueueUrl=await queue_url(client, url, "t__g.fifo"))
    with pytest.raises(InvalidInput, match="cannot count what waits in t"):
        await transport.describe(["t"])


# messages of others


async def test_what_others_send_is_delivered_as_it_is(url: str, opened: Connect) -> None:
    """An ordinary client needs to know nothing of EDOW: its FIFO group is the key, its attributes are passed over."""
    transport = await opened(url)
    await transport.ensure([TopicSpec("t", ("g",))])
    async with raw(url) as client:
        queue = await queue_url(client, url, "t__g.fifo")
        odd = {"edow-body": {"DataType": "Number", "StringValue": "7"}, "x": {"DataType": "String", "StringValue": "y"}}
        await client.send_message(
            QueueUrl=queue, MessageBody="{not JSON", MessageGroupId="theirs", MessageDeduplicationId="1"
        )
        await client.send_message(
            QueueUrl=queue, MessageBody="x", MessageGroupId="~", MessageDeduplicationId="2", MessageAttributes=odd
        )
        got = await take(await member(transport), 2)
        assert [(each.body, each.key) for each in got] == [(b"{not JSON", "theirs"), (b"", None)]
        reading = await client.receive_message(QueueUrl=queue)
        assert "Messages" not in reading


async def test_others_can_read_what_is_sent(url: str, opened: Connect) -> None:
    """JSON is the message's text, a key its FIFO group."""
    transport = await opened(url)
    await transport.ensure([TopicSpec("t", ("g",))])
    await transport.publish([Message("t", '{"name": "Ünsal"}'.encode(), "order-7")])
    async with raw(url) as client:
        answer = await client.receive_message(
            QueueUrl=await queue_url(client, url, "t__g.fifo"), MessageSystemAttributeNames=["MessageGroupId"]
        )
    (message,) = answer["Messages"]
    assert message["Body"] == '{"name": "Ünsal"}'
    assert message["Attributes"]["MessageGroupId"] == "order-7"
    assert "MessageAttributes" not in message


# leases


async def test_what_waits_behind_a_long_task_stays_ours(url: str, opened: Connect) -> None:
    """Three messages of a key are received together; while the first is worked on, longer than the lease, the others
    are kept, and are delivered once it is done.
    """
    transport = await opened(url)
    await transport.ensure([TopicSpec("t", ("g",))])
    await transport.publish(numbered("t", 3, "k"))
    reader, other = await member(transport, lease=1), await member(transport, lease=1)
    (first,) = await take(reader, 1)
    assert await reader.receive(10, QUIET) == []
    for _ in range(6):
        await asyncio.sleep(0.3)
        assert await reader.extend([first]) == []
    await reader.ack([first])
    got = await reader.receive(10, SOON)
    assert [(each.body, each.count) for each in got] == [(b"1", 1)]
    await reader.ack(got)
    assert await drain(reader, 1) == [b"2"]
    assert await other.receive(10, QUIET) == []


async def test_what_is_acknowledged_late_is_done_with(url: str, opened: Connect) -> None:
    """An exclusive owner who is so slow that a lease seems to be over, while it is being prolonged: the message neither
    comes again nor holds back what is behind it.
    """
    transport, topic = await opened(url), result_topic(0)
    await transport.ensure([TopicSpec(topic, ("g",))])
    await transport.publish([Message(topic, b"1")])
    owner: Any = await member(transport, topic, "exclusive")
    got = await take(owner, 1)
    time, owner._now = owner._now, lambda: float("inf")
    await owner.ack(got)
    owner._now = time
    await transport.publish([Message(topic, b"2")])
    assert await drain(owner, 1) == [b"2"]


async def test_leases_are_kept_while_much_is_published(
    url: str, opened: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not wait for their turn behind it."""
    transport: Any = await opened(f"{url}&concurrency=1")
    await transport.ensure([TopicSpec("t", ("g",))])
    await transport.publish(numbered("t", 2))
    reader = await member(transport)
    kept, done = await take(reader, 2)
    poll, begun, published = transport._service.poll, asyncio.Event(), asyncio.Event()

    async def slow(api: str, verb: str, **parameters: object) -> Any:
        if verb == "send_message_batch":
            begun.set()
            await published.wait()
        return await poll(api, verb, **parameters)

    monkeypatch.setattr(transport._service, "poll", slow)
    publishing = asyncio.create_task(transport.publish(numbered("t", 20)))
    await begun.wait()
    async with asyncio.timeout(SOON):
        assert await reader.extend([kept]) == []
        await reader.ack([done])
        await reader.nack([kept])
    published.set()
    await publishing


async def test_leases_are_longer_where_they_were_lost(url: str, opened: Connect) -> None:
    """Else what comes again would make a slow system slower; bit by bit they become as long again as asked for."""
    transport = await opened(url)
    await transport.ensure([TopicSpec("t", ("g",))])
    await transport.publish(numbered("t", 2))
    reader: Any = await member(transport, lease=4)
    kept, late = await take(reader, 2)
    time, reader._now = reader._now, lambda: late.until
    assert await reader.extend([late]) == [late]
    reader._now = time
    asked, prolong = list[int](), reader._prolong

    async def watched(deliveries: list[Any]) -> list[Any]:
        asked.extend(reader._lease for _ in deliveries)
        return list[Any](await prolong(deliveries))

    reader._prolong = watched
    for _ in range(6):
        assert await reader.extend([kept]) == []
        kept.until = reader._now() + 1
    assert asked == [8, 7, 6, 5, 4, 4]


async def test_what_nobody_comes_for_goes_to_another(
    url: str, opened: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll may bring messages that its reader, busy, does not fetch: after a lease they are given back."""
    transport = await opened(url)
    await transport.ensure([TopicSpec("t", ("g",))])
    busy = await member(transport, lease=1)
    assert await busy.receive(10, QUIET) == []  # its poll goes on
    await transport.publish(numbered("t", 3))
    other = await member(transport, lease=1)
    assert sorted(await drain(other, 3)) == [b"0", b"1", b"2"]
    assert await busy.receive(10, QUIET) == []


async def test_much_is_received_with_many_polls(url: str, opened: Connect) -> None:
    """Messages of ten per answer, but a receive has as many as it asks for, when they are there."""
    transport = await opened(url)
    await transport.ensure([TopicSpec("t", ("g",))])
    await transport.publish(numbered("t", 300))
    reader = await member(transport)
    found, sizes = list[bytes](), list[int]()
    async with asyncio.timeout(4 * SOON):
        while len(found) < 300:
            got = await reader.receive(1000, SOON)
            sizes.append(len(got))
            found += bodies(got)
            await reader.ack(got)
            await asyncio.sleep(0.05)  # work
    assert sorted(found) == sorted(b"%d" % n for n in range(300))
    assert max(sizes) > 10


# broadcast


async def test_a_listeners_queue_lives_as_long_as_it(url: str, opened: Connect) -> None:
    """Made when it subscribes; deleted, with its subscription, when it closes."""
    transport = await opened(url)
    await transport.ensure([TopicSpec("t", ())])
    listener = await member(transport, mode="broadcast")
    assert len(await queues(url)) == 1
    await listener.close()
    assert await queues(url) == []
    async with raw(url, "sns") as client:
        topics = (await client.list_topics())["Topics"]
        (arn,) = (each["TopicArn"] for each in topics if Address(url).options["prefix"].strip(".") in each["TopicArn"])
        assert (await client.list_subscriptions_by_topic(TopicArn=arn))["Subscriptions"] == []


async def test_queues_of_listeners_that_died_are_swept(url: str, opened: Connect) -> None:
    """By whoever subscribes more than an hour after their last sign of life; not those of the living. One that had
    only slept makes itself a new queue.
    """
    sleeper = await opened(url)
    await sleeper.ensure([TopicSpec("t", ())])
    sleeping = await member(sleeper, mode="broadcast")
    await member(await opened(url, HOUR // 2), mode="broadcast")
    assert len(await queues(url)) == 2
    later = await opened(url, HOUR + HOUR // 4)
    await member(later, mode="broadcast")
    assert len(await queues(url)) == 2
    assert await sleeping.receive(10, QUIET) == []
    async with asyncio.timeout(4 * SOON):
        while len(await queues(url)) < 3:
            await sleeping.receive(10, QUIET)
        while True:  # it is made before it hears
            await later.publish([Message("t", b"again")])
            if await sleeping.receive(10, QUIET):
                break


async def test_a_listener_shows_that_it_lives(url: str, opened: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is tagged with the time, again and again."""
    monkeypatch.setattr(listening, "TOUCH_SECONDS", 0.01)
    transport = await opened(url, clock := 5 * HOUR)
    await transport.ensure([TopicSpec("t", ())])
    listener = await member(transport, mode="broadcast")
    async with raw(url) as client, asyncio.timeout(SOON):
        (queue,) = (await client.list_queues(QueueNamePrefix=Address(url).options["prefix"].strip(".")))["QueueUrls"]
        await client.tag_queue(QueueUrl=queue, Tags={listening.SEEN: "0"})
        while (tags := (await client.list_queue_tags(QueueUrl=queue))["Tags"])[listening.SEEN] == "0":
            await listener.receive(10, QUIET)
        assert int(tags[listening.SEEN]) >= (now() + clock) // 1_000_000 - 60
        assert tags[listening.HEARS].startswith("arn:")


# a server that comes and goes


@pytest.fixture
def lasting() -> Iterator[Box]:
    """An ElasticMQ that remembers queues and messages over a restart."""
    with private_server(elasticmq, start=False) as server:
        database = f"jdbc:h2:{server.folder / 'messages'}"
        server.options = {
            "queues-storage.enabled": "true",
            "queues-storage.path": f'"{server.folder / "queues.conf"}"',
            "messages-storage.enabled": "true",
            "messages-storage.uri": f'"{database}"',
        }
        server.start()
        yield server


@pytest.mark.proves(matrix.AWAY, "SQS on ElasticMQ")
async def test_everything_goes_on_after_a_restart(
    lasting: Box, opened: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """Subscribers of both modes wait for the server without being told; publishing fails in time meanwhile. What was
    acknowledged while it was away stays so, what was published before comes.
    """
    caplog.set_level(logging.INFO, "edow.transport.sqs")
    transport = await opened(named(lasting.url))
    await transport.ensure([TopicSpec("t", ("g",)), TopicSpec("edow.results.0", ("g",))])
    worker = await member(transport, lease=30)
    owner = await member(transport, "edow.results.0", "exclusive")
    await transport.publish([Message("t", b"1"), Message("t", b"2"), Message("edow.results.0", b"3")])
    held = await take(worker, 1)
    assert bodies(await take(owner, 1)) == [b"3"]
    await asyncio.to_thread(lasting.stop)
    receiving = [asyncio.create_task(take(worker, 1)), asyncio.create_task(owner.receive(1, 60))]
    await worker.ack(held)
    with pytest.raises(TransportUnavailable):
        await transport.publish(numbered("t", 3))
    for each in receiving:
        each.cancel()
    await asyncio.gather(*receiving, return_exceptions=True)
    await asyncio.to_thread(lasting.start)
    async with asyncio.timeout(8 * SOON):
        while True:
            try:
                await transport.publish([Message("t", b"4"), Message("edow.results.0", b"5")])
                break
            except TransportUnavailable:
                continue
        found: list[bytes] = []
        while not {b"4"} <= {*found}:
            got = await worker.receive(10, SOON)
            found += bodies(got)
            await worker.ack(got)
        results: list[bytes] = []
        while b"5" not in results:
            got = await owner.receive(10, SOON)
            results += bodies(got)
            await owner.ack(got)
    assert {b"1", b"2"} - {held[0].body} == {*found} - {b"0", b"4"}
    await worker.receive(10, QUIET)
    assert sum("cannot receive from t" in each.message for each in caplog.records) == 1
    assert sum("receiving from t again" in each.message for each in caplog.records) == 1


@pytest.mark.proves(matrix.FROZEN, "SNS + SQS")
async def test_a_server_that_answers_nobody_is_given_up_in_time(opened: Connect) -> None:
    """Frozen: connections stay open. Publishing fails after the option `timeout`, closing after two seconds; when it
    goes on, so does everything.
    """
    with private_server(moto) as server:
        transport = await opened(f"{named(server.url)}&timeout=1")
        await transport.ensure([TopicSpec("t", ("g",))])
        reader, leaving = await member(transport), await member(transport)
        await transport.publish(numbered("t", 2))
        await take(leaving, 1)
        server.pause()
        try:
            with pytest.raises(PublishFailed, match="timeout=1 "):
                await transport.publish([Message("t", b"x")])
            async with asyncio.timeout(4 * SOON):
                await leaving.close()
        finally:
            server.resume()
        async with asyncio.timeout(4 * SOON):
            while not await reader.receive(10, SOON):
                pass

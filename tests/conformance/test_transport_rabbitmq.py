"""RabbitMQ against the suite, and what is RabbitMQ's own."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import aiormq
import pytest
from pamqp.commands import Basic

import edow
import scripts.servers as servers
from edow.address import Address
from edow.errors import EdowError, InvalidInput, PublishFailed, TransportUnavailable, Unavailable
from edow.model import topics, wire
from edow.model.message import Message
from edow.testing.polling import until
from edow.transport.contract import Mode, Subscriber, Subscription, TopicSpec
from edow.transport.rabbitmq import RabbitTransport, connect
from edow.transport.rabbitmq.subscriber import RabbitSubscriber
from edow.worker.worker import Worker
from scripts.servers import Box, ports
from tests.conformance import matrix
from tests.conformance.certificates import make_certificate
from tests.conformance.transport_suite import LEASE, QUIET, TransportSuite, bodies, drain, numbered, take
from tests.servers import private_server, server_url
from tests.unit.worker import harness

MIB = 1024 * 1024

_made: list[RabbitTransport] = []


def rabbitmq(address: str) -> RabbitTransport:
    transport = connect(Address(address), lambda: time.time_ns() // 1000)
    _made.append(transport)
    return transport


def url(server: str | None = None, **options: object) -> str:
    """The server of the environment, under a prefix of its own."""
    server = server or server_url("EDOW_RABBITMQ")
    given = {"prefix": f"t{uuid4().hex[:12]}.", **options}
    return server + ("&" if "?" in server else "?") + "&".join(f"{name}={value}" for name, value in given.items())


async def forget_topics() -> None:
    """Delete what the transports made here have left on the server."""
    server = server_url("EDOW_RABBITMQ")
    transports, _made[:] = list(_made), []
    async with aiormq.connect(server.partition("?")[0]) as connection:
        channel = await connection.channel()
        for names, wanted in ((each._topology.names, each._topology._wanted) for each in transports):
            await channel.exchange_delete(names.layout)
            for topic, groups in wanted.items():
                await channel.exchange_delete(names.exchange(topic))
                for group in groups:
                    for key in names.routing_keys(topic):
                        await channel.queue_delete(names.queue(topic, group, key))
                    await channel.queue_delete(names.asking(topic, group))


class RabbitSuite(TransportSuite):
    factory = "tests.conformance.test_transport_rabbitmq:rabbitmq"
    options: ClassVar[dict[str, object]]

    @pytest.fixture
    async def address(self) -> AsyncIterator[str]:
        yield url(**self.options)
        await forget_topics()


class TestRabbitmq(RabbitSuite):
    options: ClassVar[dict[str, object]] = {"partitions": 4}


class TestRabbitmqClassic(RabbitSuite):
    """Classic queues, no partitions: for one server, or an older cluster."""

    options: ClassVar[dict[str, object]] = {"queue": "classic", "partitions": 0}


# what is RabbitMQ's own


Connect = Callable[..., Awaitable[RabbitTransport]]


@pytest.fixture
async def joined() -> AsyncIterator[Connect]:
    """Opens transports, on the server of the environment under one prefix unless told otherwise."""
    url()  # or skip
    prefix = f"t{uuid4().hex[:12]}."
    opened: list[RabbitTransport] = []

    async def another(server: str | None = None, **options: object) -> RabbitTransport:
        transport = rabbitmq(url(server, **{"prefix": prefix, "partitions": 2, **options}))
        opened.append(transport)
        await transport.open()
        return transport

    yield another
    for transport in opened:
        await transport.close()
    await forget_topics()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `certificate.pem` for this machine, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder


@pytest.fixture(scope="module")
def tls_port() -> int:
    return ports.any_free()


@pytest.fixture(scope="module")
def server(certificate: Path, tls_port: int) -> Iterator[Box]:
    """A server to stop, starve and misconfigure, with TLS on another port. Small and impatient: 1 MiB a message, 4
    seconds for a delivery.
    """
    options = {
        "max_message_size": str(MIB),
        "consumer_timeout": "4000",
        "listeners.ssl.1": f"127.0.0.1:{tls_port}",
        "ssl_options.cacertfile": str(certificate / "certificate.pem"),
        "ssl_options.certfile": str(certificate / "certificate.pem"),
        "ssl_options.keyfile": str(certificate / "key.pem"),
        "ssl_options.verify": "verify_peer",  # of those who have a certificate
        "ssl_cert_login_from": "common_name",
        "auth_mechanisms.1": "PLAIN",
        "auth_mechanisms.2": "EXTERNAL",
        servers.rabbitmq.PLUGINS: "rabbitmq_auth_mechanism_ssl",
    }
    with private_server(servers.rabbitmq, options=options) as box:
        yield box


@pytest.fixture
def impatient(server: Box) -> str:
    """The same server, that looks every half a second for what is not acknowledged in time."""
    servers.rabbitmq.control(server, "eval", "application:set_env(rabbit, channel_tick_interval, 500).")
    return server.url


async def one_topic(transport: RabbitTransport) -> str:
    await transport.ensure([TopicSpec("x", ("one",))])
    return "x"


async def member(transport: RabbitTransport, mode: Mode = "shared", lease: float = 30.0) -> Subscriber:
    return await transport.subscribe(Subscription(topics=("x",), group="one", mode=mode, lease_seconds=lease))


async def publish_at_last(transport: RabbitTransport, messages: Sequence[Message]) -> None:
    """As the loops above a transport do: again, until the server has them."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await transport.publish(messages)
            except Unavailable:
                await asyncio.sleep(0.05)


async def drain_all(subscriber: Subscriber, wanted: set[bytes]) -> list[bytes]:
    """Receive and acknowledge until all of them have come; all bodies, doubles included."""
    seen: list[bytes] = []
    async with asyncio.timeout(60):
        while not wanted.issubset(seen):
            got = await subscriber.receive(100, 0.5)
            seen += bodies(got)
            await subscriber.ack(got)
    return seen


async def reading(subscriber: Subscriber, wanted: set[bytes]) -> asyncio.Task[list[bytes]]:
    """The same, and the server knows it as a reader of all its queues."""
    assert isinstance(subscriber, RabbitSubscriber)
    receiving = asyncio.create_task(drain_all(subscriber, wanted))
    async with asyncio.timeout(60):
        while not all(lane.is_consuming for lane in subscriber._lanes):  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(0.01)
    return receiving


# opening


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("nonsense=1", "no option 'nonsense'"),
        ("partitions=many", "partitions"),
        ("partitions=1000", "partitions=1000: Expected `int` <= 256"),
        ("queue=stream", "queue"),
        ("prefetch=0", "prefetch=0: Expected `int` >= 1"),
        ("publish_timeout=0", "publish_timeout=0: Expected `float` > 0"),
        ("prefix=a:b", "prefix=a:b: Expected `str` matching"),
        ("cafile=/x.pem", "cafile needs amqps://"),
        ("max_message_bytes=1000000000", "max_message_bytes"),
    ],
)
def test_bad_options_are_refused_before_anything_is_connected(option: str, said: str) -> None:
    """The error names the option, its value and what it may be; and never the password."""
    with pytest.raises(InvalidInput, match=said) as caught:
        rabbitmq(f"amqp://me:hush@localhost/?{option}")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost:port", "localhost:70000"])
def test_a_bad_port_is_refused(host: str) -> None:
    """The error names the host as it was written."""
    with pytest.raises(InvalidInput, match=host):
        rabbitmq(f"amqp://{host}/")


async def test_no_server_is_unavailable_and_may_be_tried_again(server: Box) -> None:
    """Opening where nobody listens says so; the same transport opens once somebody does."""
    transport = rabbitmq(url(server.url))
    server.stop()
    with pytest.raises(TransportUnavailable, match=str(server.port)):
        await transport.open()
    server.start()
    await transport.open()
    await transport.close()


@pytest.mark.proves(matrix.STRANGER, "RabbitMQ")
async def test_a_wrong_password_is_refused_with_the_remedy(server: Box) -> None:
    """Not as an outage that might end; and the password is not in the message."""
    transport = rabbitmq(url(server.url.replace(server.password, "wrong-one")))
    with pytest.raises(InvalidInput, match="user 'edow' or the password") as caught:
        await transport.open()
    assert "wrong-one" not in str(caught.value)
    await transport.close()


async def test_a_missing_virtual_host_is_refused_with_the_remedy(server: Box) -> None:
    """The error names it, and the command that makes it."""
    with pytest.raises(InvalidInput, match="rabbitmqctl add_vhost nowhere"):
        await rabbitmq(url(server.url + "nowhere")).open()


@pytest.mark.proves(matrix.DENIED, "RabbitMQ")
async def test_a_missing_permission_is_refused_with_the_remedy(server: Box) -> None:
    """A user that may not make topics is told by which command it may."""
    servers.rabbitmq.control(server, "add_user", "reader", "reader")
    servers.rabbitmq.control(server, "set_permissions", "reader", "", "", ".*")
    with pytest.raises(InvalidInput, match="rabbitmqctl set_permissions -p / reader"):
        await rabbitmq(f"amqp://reader:reader@127.0.0.1:{server.port}/?prefix=p.").open()


async def test_the_rights_in_the_guide_are_enough(server: Box, joined: Connect) -> None:
    """A user with these and no others can do everything."""
    guide = (Path(__file__).parents[2] / "docs/brokers/rabbitmq.md").read_text()
    (rights,) = re.findall(r"set_permissions -p VHOST USER '(\S+)' '(\S+)' '(\S+)'", guide)
    servers.rabbitmq.control(server, "add_user", "modest", "modest")
    servers.rabbitmq.control(server, "set_permissions", "modest", *rights)
    transport = await joined(f"amqp://modest:modest@127.0.0.1:{server.port}/", prefix="")
    topics = ("edow.tasks.x", "edow.results.0")
    await transport.ensure([*(TopicSpec(topic, ("one",)) for topic in topics), TopicSpec("edow.control", ())])
    listener = await transport.subscribe(Subscription(topics=("edow.control",), group="", mode="broadcast"))
    results = await transport.subscribe(Subscription(topics=topics[1:], group="one", mode="exclusive"))
    tasks = await transport.subscribe(Subscription(topics=topics[:1], group="one"))
    await transport.publish([Message(topic, b"x") for topic in (*topics, "edow.control")])
    await transport.publish([Message(topics[0], b"keyed", "k")])
    assert bodies(await take(listener, 1)) == await drain(results, 1) == [b"x"]
    await tasks.nack(await take(tasks, 2))
    await drain(tasks, 2)


async def test_a_password_that_is_changed_meanwhile_refuses_no_message(server: Box, joined: Connect) -> None:
    """From then on the server is away, until the password is what it was; then all is published."""
    ask = servers.rabbitmq.control
    ask(server, "add_user", "changed", "before")
    ask(server, "set_permissions", "changed", ".*", ".*", ".*")
    transport = await joined(f"amqp://changed:before@127.0.0.1:{server.port}/")
    await one_topic(transport)
    ask(server, "change_password", "changed", "after")
    await transport._out.drop()
    with pytest.raises(TransportUnavailable, match="refuses user 'changed' or the password"):
        await transport.publish([Message("x", b"kept")])
    ask(server, "change_password", "changed", "before")
    await transport.publish([Message("x", b"kept")])
    assert await drain(await member(transport), 1) == [b"kept"]


async def test_a_virtual_host_of_ones_own(server: Box) -> None:
    """The path of the URL names it, slashes included."""
    servers.rabbitmq.control(server, "add_vhost", "a/b")
    servers.rabbitmq.control(server, "set_permissions", "-p", "a/b", "edow", ".*", ".*", ".*")
    transport = rabbitmq(url(server.url + "a%2Fb", partitions=0))
    await transport.open()
    await one_topic(transport)
    assert "/x:one" not in servers.rabbitmq.control(server, "list_queues", "-p", "/")
    assert "x:one" in servers.rabbitmq.control(server, "list_queues", "-p", "a/b")
    await transport.close()


async def test_the_first_host_that_answers_is_taken(joined: Connect) -> None:
    """Of several hosts some may be away."""
    address = Address(url())
    away = f"127.0.0.1:{ports.any_free()}"
    credentials = f"{address.user}:{address.password}@"
    transport = await joined(f"amqp://{credentials}{away},{address.hosts[0]}/")
    await transport.publish([])


async def test_partitions_of_a_prefix_cannot_change(joined: Connect) -> None:
    """Keys would move to other queues, and the old ones be forgotten: it is refused, naming both numbers."""
    await joined(partitions=2)
    with pytest.raises(InvalidInput, match=r"'partitions=3' but current is 'partitions=2'"):
        await joined(partitions=3)


async def test_a_queue_made_with_other_settings_is_refused(joined: Connect) -> None:
    """Quorum queues do not become classic ones by another URL."""
    await one_topic(await joined())
    with pytest.raises(InvalidInput, match="x-queue-type"):
        await one_topic(await joined(queue="classic"))


# names


async def test_names_with_separators_stay_apart(joined: Connect) -> None:
    """Group `b:c` of topic `a` is not group `c` of topic `a:b`; any text may be a name."""
    transport = await joined()
    specs = [TopicSpec("a", ("b:c",)), TopicSpec("a:b", ("c",)), TopicSpec("+ключ/\U0001f511%", ("\n\0",))]
    await transport.ensure(specs)
    await transport.publish([Message("a", b"first"), Message("a:b", b"second"), Message(specs[2].name, b"third")])
    one = await transport.subscribe(Subscription(topics=("a",), group="b:c"))
    assert bodies(await take(one, 1)) == [b"first"]
    assert await one.receive(1, QUIET) == []
    strange = await transport.subscribe(Subscription(topics=(specs[2].name,), group="\n\0"))
    assert bodies(await take(strange, 1)) == [b"third"]


@pytest.mark.parametrize("name", ["", "x" * 300, "amq.mine"])
async def test_names_that_cannot_be_are_refused(joined: Connect, name: str) -> None:
    """Empty, too long or the server's own: an error that shows the name, and the transport goes on."""
    transport = await joined(prefix="")
    with pytest.raises(InvalidInput, match=name[:200] or "''"):
        await transport.ensure([TopicSpec(name, ("one",))])
    with pytest.raises(InvalidInput):
        await transport.publish([Message(name, b"x")])


# publishing


@pytest.mark.proves(matrix.BY_HALF, "RabbitMQ")
async def test_what_no_queue_takes_is_told_by_its_index(joined: Connect) -> None:
    """Of a batch that goes to two topics, one of which has lost its queue, exactly that one's messages have failed;
    and trying again succeeds, for the topic is made again.
    """
    transport = await joined(partitions=0)
    await transport.ensure([TopicSpec("good", ("one",)), TopicSpec("x", ("one",))])
    names = transport._topology.names
    await (await transport._out.channel()).queue_delete(names.queue("x", "one"))
    batch = [Message("good" if number % 2 else "x", b"%d" % number) for number in range(6)]
    with pytest.raises(PublishFailed, match="no queue") as caught:
        await transport.publish(batch)
    assert caught.value.indexes == (0, 2, 4)
    await transport.publish([batch[index] for index in caught.value.indexes])
    assert await drain(await member(transport), 3) == [b"0", b"2", b"4"]
    good = await transport.subscribe(Subscription(topics=("good",), group="one"))
    assert await drain(good, 3) == [b"1", b"3", b"5"]


async def test_a_topic_without_groups_takes_messages_that_nobody_hears(joined: Connect) -> None:
    """Cancellations are published whether or not a worker listens."""
    transport = await joined()
    await transport.ensure([TopicSpec("edow.control", ())])
    await transport.publish([Message("edow.control", b"x"), Message("edow.control", b"y", "key")])


async def test_an_answer_that_nobody_hears_holds_up_no_result(joined: Connect) -> None:
    """Whoever has called the roll of the workers does not listen any more: the answer is published all the same, and
    so is what comes behind it.
    """

    @edow.task
    async def quick() -> None: ...

    transport, other = await joined(partitions=0), await joined(partitions=0)
    await other.ensure(
        [
            TopicSpec(topics.ROLL, ()),
            TopicSpec(topics.CONTROL, ()),
            TopicSpec(harness.RESULTS, (topics.ORCHESTRATORS,)),
        ]
    )
    worker = Worker(transport, harness.registry_of([quick]), harness.FAST)
    await worker.start()
    await other.publish([harness.told_to_all(wire.ROLL_CALL_TYPE)])
    await other.publish([Message(topics.task_topic("default"), wire.encode(harness.task_event("quick")))])

    async def told() -> bool:
        return worker.stats().published == 2

    try:
        async with asyncio.timeout(20):
            await until(told)
    finally:
        await worker.stop(0)


async def test_a_topic_that_was_deleted_is_not_published_into_the_void(joined: Connect) -> None:
    """The batch fails; a transport that has made the topic makes it again, another says that it does not exist."""
    maker, other = await joined(partitions=0), await joined(partitions=0)
    await one_topic(maker)
    await other.publish([Message("x", b"before")])
    await (await maker._out.channel()).exchange_delete(maker._topology.names.exchange("x"))
    with pytest.raises(PublishFailed):
        await other.publish([Message("x", b"lost")])
    with pytest.raises(InvalidInput, match="topic 'x': it does not exist"):
        await other.publish([Message("x", b"lost")])
    await publish_at_last(maker, [Message("x", b"after")])
    assert await drain(await member(maker), 2) == [b"before", b"after"]


async def test_what_the_server_holds_too_large_is_invalid(server: Box, joined: Connect) -> None:
    """Where the server's limit is lower than ours, the error is the server's, and trying again would not help."""
    transport = await joined(server.url)
    await one_topic(transport)
    with pytest.raises(InvalidInput, match="larger than"):
        await transport.publish([Message("x", b"x" * (MIB + 1))])
    await transport.publish([Message("x", b"fits")])


async def test_a_cancelled_publish_leaves_the_transport_in_order(joined: Connect) -> None:
    """Cancelled at any point, the next batches are published as if nothing had been."""
    transport = await joined()
    await one_topic(transport)
    for turns in range(10):
        publishing = asyncio.create_task(transport.publish([Message("x", b"maybe")] * 20))
        for _ in range(turns):
            await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    await transport.publish([Message("x", b"surely")])
    subscriber = await member(transport)
    assert set(await drain_all(subscriber, {b"surely"})) <= {b"maybe", b"surely"}


async def test_another_batch_is_not_blamed_for_a_message_too_large(server: Box, joined: Connect) -> None:
    """The server closes the channel that they share: whoever has done no wrong is told to try again."""
    transport = await joined(server.url)
    await one_topic(transport)
    told = await asyncio.gather(
        *(transport.publish([Message("x", b"x" * size)]) for size in (1, MIB + 1, 2)), return_exceptions=True
    )
    assert isinstance(told[1], InvalidInput)
    assert all(each is None or isinstance(each, PublishFailed) for each in (told[0], told[2]))


@pytest.mark.parametrize("key", ["\ud800", "k" * 200_000])
async def test_a_key_that_cannot_be_is_refused_with_its_whole_batch(joined: Connect, key: str) -> None:
    """And the next batch is confirmed as ever."""
    transport = await joined()
    await one_topic(transport)
    with pytest.raises(InvalidInput, match="message 1 to 'x' has a key"):
        await transport.publish([Message("x", b"0"), Message("x", b"1", key)])
    await transport.publish([Message("x", b"after")])
    assert await drain(await member(transport), 1) == [b"after"]


# receiving


async def test_foreign_messages_are_delivered_as_they_are(joined: Connect) -> None:
    """Without our headers there is no key; headers of the wrong type are as good as none."""
    transport = await joined(partitions=0)
    await one_topic(transport)
    channel = await transport._out.channel()
    queue = transport._topology.names.queue("x", "one")
    for headers in (None, {"edow-key": 5, "x-delivery-count": "many"}, {"x-delivery-count": -7, "x": None}):
        await channel.basic_publish(b"\xff\x00", routing_key=queue, properties=Basic.Properties(headers=headers))
    subscriber = await member(transport)
    got = await take(subscriber, 3)
    assert {(each.body, each.key, each.count) for each in got} == {(b"\xff\x00", None, 1)}
    await subscriber.ack(got)


@pytest.mark.proves(matrix.DELETED, "RabbitMQ")
async def test_a_queue_that_was_deleted_is_made_again(joined: Connect) -> None:
    """Its subscriber goes on with what is published from then on, with nobody's help."""
    transport = await joined(partitions=1)
    await one_topic(transport)
    subscriber = await member(transport)
    await transport.publish([Message("x", b"before"), Message("x", b"keyed", "k")])
    assert sorted(await drain(subscriber, 2)) == [b"before", b"keyed"]
    channel = await transport._out.channel()
    for key in ("", "k0", "asking"):
        await channel.queue_delete(transport._topology.names.queue("x", "one", key))
    receiving = asyncio.create_task(drain_all(subscriber, {b"after", b"keyed again"}))
    await publish_at_last(transport, [Message("x", b"after"), Message("x", b"keyed again", "k")])
    assert sorted(await receiving) == [b"after", b"keyed again"]


async def test_what_is_made_again_is_read(joined: Connect) -> None:
    """By the member that read the queue before it was deleted, also when the publisher finds first that it is gone."""
    transport = await joined(partitions=1)
    await one_topic(transport)
    subscriber = await member(transport)
    channel = await transport._out.channel()
    for turn in range(3):
        receiving = await reading(subscriber, {b"%d" % turn})
        await channel.queue_delete(transport._topology.names.queue("x", "one", "k0"))
        with pytest.raises(PublishFailed):
            await transport.publish([Message("x", b"%d" % turn, "k")])
        await transport.publish([Message("x", b"%d" % turn, "k")])
        assert await receiving == [b"%d" % turn]


async def test_a_queue_that_somebody_replaced_is_read_anew(joined: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted and made again at once, by others: the server takes its reader for one of the new queue, and delivers to
    nobody. It is noticed by the silence.
    """
    transport = await joined(partitions=1)
    await one_topic(transport)
    names = transport._topology.names
    queue = names.queue("x", "one", "k0")
    monkeypatch.setattr("edow.transport.rabbitmq.subscriber.QUIET_SECONDS", 1.0)
    subscriber = await member(transport)
    receiving = await reading(subscriber, {b"after"})
    channel = await transport._out.channel()
    await channel.queue_delete(queue)
    await channel.queue_declare(queue, durable=True, arguments=names.queue_arguments("k0"))
    await channel.queue_bind(queue, names.exchange("x"), "k0")
    await (await joined(partitions=1)).publish([Message("x", b"after", "k")])
    assert await receiving == [b"after"]


async def test_a_listener_hears_a_topic_that_was_made_again(joined: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is there still, and nothing leads to it: which nobody tells it."""
    monkeypatch.setattr("edow.transport.rabbitmq.subscriber.QUIET_SECONDS", 1.0)
    transport = await joined()
    await transport.ensure([TopicSpec("x", ())])
    listener = await member(transport, "broadcast")
    await (await transport._out.channel()).exchange_delete(transport._topology.names.exchange("x"))

    async def heard() -> bool:
        await publish_at_last(transport, [Message("x", b"again")])
        return bool(await listener.receive(1, 0.1))

    async with asyncio.timeout(20):
        await until(heard)


async def four_topics(joined: Connect) -> tuple[RabbitTransport, Subscription]:
    transport = await joined(partitions=0)
    topics = ("a", "b", "c", "d")
    await transport.ensure([TopicSpec(topic, ("one",)) for topic in topics])
    await transport.publish([Message(topic, topic.encode()) for topic in topics])
    return transport, Subscription(topics=topics, group="one")


async def test_a_member_without_room_leaves_the_rest_to_others(joined: Connect) -> None:
    """It has asked for one message; what was delivered to it besides goes to a member that asks for more."""
    _, subscription = await four_topics(joined)
    full, other = [await (await joined(partitions=0)).subscribe(subscription) for _ in range(2)]
    held = await take(full, 1)
    assert sorted([*bodies(held), *await drain(other, 3)]) == [b"a", b"b", b"c", b"d"]


async def test_a_lone_member_gives_nothing_back_to_nobody(joined: Connect) -> None:
    """Being given back counts as a delivery, so what waits for its only member is not."""
    transport, subscription = await four_topics(joined)
    lone = await transport.subscribe(subscription)
    got = await take(lone, 1)
    await asyncio.sleep(3 * QUIET)  # a member that does not receive rests
    got += await take(lone, 3)
    assert [each.count for each in got] == [1, 1, 1, 1]


@pytest.mark.parametrize("key", [None, "k"])
async def test_what_is_handed_back_reaches_every_member(joined: Connect, key: str | None) -> None:
    """One member may be able to do what another is not, with and without a key."""
    one, two = await joined(), await joined()
    await one_topic(one)
    members = [await member(one), await member(two)]
    await one.publish([Message("x", b"x", key)])
    seen: set[int] = set()

    async def refuse(number: int) -> None:
        while len(seen) < 2:
            got = await members[number].receive(10, 0.1)
            seen.update({number} if got else ())
            await members[number].nack(got, 0.01)

    async with asyncio.timeout(20):
        await asyncio.gather(refuse(0), refuse(1))


async def test_keys_stay_in_order_whatever_members_do(joined: Connect) -> None:
    """Members take, hand back, delay, let leases run out, leave and come: of each key the next message comes only when
    the one before was acknowledged, and none is lost.
    """
    chance = random.Random(5)
    transports = [await joined(partitions=4, key_prefetch=8) for _ in range(3)]
    await one_topic(transports[0])
    await transports[0].publish([Message("x", b"%d" % (n // 10), f"key-{n % 10}") for n in range(300)])
    done = dict.fromkeys((f"key-{n}" for n in range(10)), 0)
    in_hand: dict[str, int] = {}

    async def work(number: int) -> None:
        subscriber = await member(transports[number], lease=LEASE)
        while min(done.values()) < 30:
            got = await subscriber.receive(chance.randint(1, 5), 0.1)
            for each in got:
                assert each.key is not None
                assert in_hand.setdefault(each.key, number) == number
                assert int(each.body) == done[each.key]
            await asyncio.sleep(0)
            what = chance.random()
            for each in got:
                done[each.key or ""] += what < 0.8
                del in_hand[each.key or ""]
            if what < 0.8:
                await subscriber.ack(got)
            elif what < 0.9:
                await subscriber.nack(got, chance.choice([0, 0.05]))
            else:
                await subscriber.close()
                subscriber = await member(transports[number], lease=LEASE)
        await subscriber.close()

    async with asyncio.timeout(50):
        await asyncio.gather(*(work(number) for number in range(3)))
    assert set(done.values()) == {30}


async def test_channels_are_used_again(joined: Connect) -> None:
    """Subscribers that come and go leave no channel behind, and the numbers of channels do not climb."""
    transport = await joined()
    await one_topic(transport)
    keeper = await member(transport, "exclusive")
    for _ in range(20):
        await (await member(transport, "exclusive")).close()
    channels = (await transport._in.get()).channels
    assert len(channels) == 3
    assert max(channels) <= 7
    await keeper.close()


async def test_a_frozen_owner_is_given_nothing_more(joined: Connect) -> None:
    """Its connection lives on until it has missed its heartbeats; what comes meanwhile is its successor's."""
    frozen, other = await joined(), await joined()
    topic = await one_topic(frozen)
    await member(frozen, "exclusive")
    successor = await member(other, "exclusive")
    await other.publish(numbered(topic, 50))
    assert await drain(successor, 50) == [b"%d" % number for number in range(50)]


async def test_a_queue_that_is_missing_harms_nobody(joined: Connect) -> None:
    """Whoever only looks is told which group of EDOW's own topics is not there; counting and reading go on."""
    transport, other = await joined(), await joined()
    await transport.ensure([TopicSpec("edow.tasks.a", ("workers",)), TopicSpec("edow.control", ())])
    reader = await transport.subscribe(Subscription(topics=("edow.tasks.a",), group="workers"))
    await transport.ensure([TopicSpec("edow.tasks.b", ("others",))])
    with pytest.raises(InvalidInput, match=r"group .workers. of topic .edow\.tasks\.b.: it does not exist"):
        await other.describe(["edow.tasks.a", "edow.tasks.b"])
    (stats, control) = await other.describe(["edow.tasks.a", "edow.control"])
    assert ([(each.group, each.waiting, each.in_flight) for each in stats.groups], control.groups) == (
        [("workers", 0, None)],
        [],
    )
    await other.publish([Message("edow.tasks.a", b"x")])
    assert bodies(await take(reader, 1)) == [b"x"]


# outages


def some(letter: bytes) -> list[Message]:
    return [Message("x", letter + b"%d" % n, f"k{n}" if n % 2 else None) for n in range(20)]


@pytest.mark.timeout(180)
@pytest.mark.proves(matrix.AWAY, "RabbitMQ")
async def test_a_server_that_comes_back_is_gone_on_with(server: Box, joined: Connect) -> None:
    """After a restart, and after a crash: what was published is there, what was acknowledged does not come again,
    subscribers of all modes go on, and publishing succeeds once the server is back.
    """
    transport = await joined(server.url)
    await transport.ensure([TopicSpec("x", ("one", "two")), TopicSpec("edow.control", ())])
    shared = await member(transport)
    exclusive = await transport.subscribe(Subscription(topics=("x",), group="two", mode="exclusive"))
    listener = await transport.subscribe(Subscription(topics=("edow.control",), group="", mode="broadcast"))
    published: set[bytes] = set()

    def crash() -> None:  # after a restart, for the server writes down new queues at its leisure
        server.kill()
        server.start()

    for letter, outage in ((b"r", server.restart), (b"k", crash)):
        await transport.publish(before := some(letter))
        done = await drain(shared, 10)
        held = await take(shared, 5)
        await asyncio.to_thread(outage)
        await publish_at_last(transport, after := some(letter.upper()))
        new = {each.body for each in (*before, *after)}
        seen = await drain_all(shared, new - set(done))
        assert set(bodies(held)) <= set(seen)
        if outage == server.restart:  # acknowledgements are not confirmed, so a crash may lose the last of them
            assert not set(done) & set(seen)
        assert await shared.extend(held) == held
        await shared.ack(held)  # somebody else's by now, which is no error
        published |= new
        assert set(await drain_all(exclusive, new)) <= published
        async with asyncio.timeout(30):
            while not await listener.receive(10, 0.1):
                await publish_at_last(transport, [Message("edow.control", b"heard")])


@pytest.mark.timeout(120)
@pytest.mark.proves(matrix.FROZEN, "RabbitMQ")
async def test_publishing_gives_up_in_time_when_the_server_is_frozen(server: Box, joined: Connect) -> None:
    """Nobody answers on an open connection: an error that tells which messages may be missing; then it goes on."""
    transport = await joined(server.url, publish_timeout=1.0, connect_timeout=1.0, heartbeat=1)
    await one_topic(transport)
    server.pause()
    try:
        with pytest.raises(PublishFailed, match=r"not confirmed within 1\.0 seconds") as caught:
            await transport.publish(numbered("x", 3))
        assert caught.value.indexes == (0, 1, 2)
        with pytest.raises(TransportUnavailable):
            await transport.publish(numbered("x", 3))
    finally:
        server.resume()
    await publish_at_last(transport, [Message("x", b"after")])
    await drain_all(await member(transport), {b"after"})


@pytest.mark.timeout(120)
async def test_a_connection_that_fell_silent_is_made_again(
    server: Box, joined: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for an answer on it when it is given up has failed, and was not cancelled: a member goes on."""
    monkeypatch.setattr(aiormq.Connection, "HEARTBEAT_GRACE_MULTIPLIER", 1)
    transport = await joined(server.url, heartbeat=1)
    await one_topic(transport)
    subscriber = await member(transport)
    await transport.publish([Message("x", b"before")])
    await drain(subscriber, 1)
    while any(lane.channel for lane in subscriber._lanes if lane.partition):  # noqa: ASYNC110 - it rests
        await asyncio.sleep(0.01)
    server.pause()
    receiving = asyncio.create_task(subscriber.receive(1, 3600))  # begins to read again, and nobody answers
    ensuring = asyncio.create_task(transport.ensure([TopicSpec("y", ("one",))]))
    await asyncio.wait([(await transport._in.get()).closing])
    server.resume()
    with pytest.raises(TransportUnavailable):
        await ensuring
    await publish_at_last(transport, [Message("x", b"after")])
    async with asyncio.timeout(60):
        assert bodies(await receiving) == [b"after"]


@pytest.mark.timeout(120)
async def test_publishing_waits_no_longer_than_it_should_while_memory_is_short(server: Box, joined: Connect) -> None:
    """A server in need reads nothing from publishers: they are told, nothing is piled up, and consumers go on."""
    transport = await joined(server.url, publish_timeout=1.0)
    await one_topic(transport)
    subscriber = await member(transport)
    await transport.publish(numbered("x", 3))
    servers.rabbitmq.control(server, "set_vm_memory_high_watermark", "0")
    try:
        for _ in range(3):
            with pytest.raises(TransportUnavailable, match="memory"):
                await transport.publish([Message("x", b"big" * 100_000)])
        assert await drain(subscriber, 3) == [b"0", b"1", b"2"]
        assert await subscriber.receive(10, QUIET) == []
    finally:
        servers.rabbitmq.control(server, "set_vm_memory_high_watermark", "absolute", "1GB")
    await publish_at_last(transport, [Message("x", b"after")])
    await drain_all(subscriber, {b"after"})


# long tasks; the server has 4 seconds of patience, and looks every half a second


async def test_queues_ask_for_patience(server: Box, joined: Connect) -> None:
    """A quorum queue tells the server to wait for long tasks, and to drop nothing however often it is delivered."""
    transport = await joined(server.url)
    await one_topic(transport)
    queue = transport._topology.names.queue("x", "one")
    listed = servers.rabbitmq.control(server, "list_queues", "name", "arguments").splitlines()
    (arguments,) = (line for line in listed if line.startswith(f"{queue}\t"))
    assert '{"x-consumer-timeout",4000000000}' in arguments
    assert '{"x-delivery-limit",1000000000}' in arguments


async def test_a_channel_that_was_cut_off_is_opened_again(
    impatient: str, joined: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the server is less patient than a task takes, it says so; the message comes again, its followers after it,
    and the subscriber goes on: of both modes, with a key and without.
    """

    async def be_slow(mode: Mode, key: str | None) -> None:
        transport = await joined(impatient, prefix=f"{mode}.{key}.")
        await one_topic(transport)
        subscriber = await member(transport, mode)
        await transport.publish([Message("x", b"slow", key), Message("x", b"next", key)])
        held = await take(subscriber, 1)
        async with asyncio.timeout(30):
            while await subscriber.extend(held) == []:  # noqa: ASYNC110 - the only sign, and for people the log
                await asyncio.sleep(0.1)
        await subscriber.ack(held)  # too late: it is another delivery now
        assert await drain(subscriber, 2) == [b"slow", b"next"]

    await asyncio.gather(
        be_slow("shared", None), be_slow("shared", "k"), be_slow("exclusive", None), be_slow("exclusive", "k")
    )
    assert caplog.text.count("delivery acknowledgement on channel") >= 4


# TLS


async def test_tls(server: Box, certificate: Path, tls_port: int, joined: Connect) -> None:
    """amqps:// checks the server's certificate against `cafile`, and may be told not to."""
    tls = f"amqps://edow:{server.password}@localhost:{tls_port}/"
    transport = await joined(tls, cafile=certificate / "certificate.pem")
    await one_topic(transport)
    await transport.publish(numbered("x", 3))
    assert await drain(await member(transport), 3) == [b"0", b"1", b"2"]
    await joined(tls, verify="false")
    with pytest.raises(InvalidInput, match="certificate is not trusted .*: give its authority with cafile="):  # noqa: RUF043
        await joined(tls)
    with pytest.raises(InvalidInput, match="cafile"):
        await joined(tls, cafile=certificate / "nothing.pem")


async def test_who_we_are_by_certificate(
    server: Box, certificate: Path, tls_port: int, joined: Connect, tmp_path: Path
) -> None:
    """`auth=external`: the certificate's common name is the user, and must be one; nobody is let in without."""
    tls, trusted = f"amqps://localhost:{tls_port}/", certificate / "certificate.pem"

    def login(name: str, signed_by: Path | None) -> dict[str, object]:
        folder = tmp_path / name
        folder.mkdir()
        mine, key = make_certificate(folder, name, signed_by)
        return {"auth": "external", "cafile": trusted, "certfile": mine, "keyfile": key}

    transport = await joined(tls, **login("edow", certificate))
    await one_topic(transport)
    await transport.publish(numbered("x", 3))
    assert await drain(await member(transport), 3) == [b"0", b"1", b"2"]
    with pytest.raises(InvalidInput, match=r"refuses the user of the client certificate .*: `rabbitmqctl add_user"):
        await joined(tls, **login("nobody", certificate))
    with pytest.raises(InvalidInput, match="auth=external needs amqps:// and certfile="):
        await joined(tls, auth="external", cafile=trusted)
    with pytest.raises(InvalidInput, match="auth=external needs amqps:// and certfile="):
        await joined(server.url, auth="external")
    with pytest.raises(EdowError):  # the server hangs up, and whether it is heard why is chance
        await joined(tls, **login("stranger", None))

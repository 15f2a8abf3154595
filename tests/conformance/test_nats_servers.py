"""The NATS JetStream transport and servers of its own, which are killed, frozen, misconfigured and locked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.testing.polling import until
from edow.transport.contract import Subscriber, TopicSpec, Transport
from scripts.servers import PASSWORD, Box, nats
from scripts.servers.box import USER
from tests.conformance import matrix
from tests.conformance.redis_tools import persistently
from tests.conformance.test_transport_nats import RESULTS, member, opened, transport_at
from tests.conformance.transport_suite import LEASE, QUIET, SOON, bodies, drain, numbered, take
from tests.servers import private_server


@pytest.fixture
def box() -> Iterator[Box]:
    """A server of the test's own."""
    with private_server(nats) as started:
        yield started


# the server goes away


@pytest.mark.proves(matrix.AWAY, "NATS JetStream")
async def test_a_restart_in_mid_stream_loses_nothing_and_needs_nobody(box: Box) -> None:
    """A server killed while messages flow: everything published arrives, and all go on by themselves."""
    seen: set[bytes] = set()
    restarted = asyncio.Event()

    async def seen_all(count: int) -> bool:
        return len(seen) >= count

    async def work(subscriber: Subscriber) -> None:
        while True:
            got = await persistently(lambda: subscriber.receive(20, 1.0))
            await persistently(partial(subscriber.ack, got))
            seen.update(bodies(got))

    async def publish(transport: Transport) -> list[bytes]:
        sent: list[bytes] = []
        while not restarted.is_set() or len(sent) < 300:
            batch = [Message("t", b"%d" % (len(sent) + n), f"k{n % 3}" if n % 2 else None) for n in range(10)]
            await persistently(partial(transport.publish, batch))
            sent += bodies_of(batch)
        return sent

    async with opened(box.url) as publisher, opened(box.url) as consumer:
        await publisher.ensure([TopicSpec("t", ("g",))])
        working = asyncio.create_task(work(await member(consumer)))
        publishing = asyncio.create_task(publish(publisher))
        await until(lambda: seen_all(50))
        await asyncio.to_thread(box.kill)
        await asyncio.to_thread(box.start)
        restarted.set()
        async with asyncio.timeout(4 * SOON):
            sent = await publishing
            await until(lambda: seen_all(len(sent)))
        assert seen == set(sent)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working


async def test_what_was_published_twice_for_want_of_an_answer_is_delivered_once(box: Box) -> None:
    """Whoever could not know whether its messages arrived publishes them again; the server drops the copies."""
    async with opened(f"{box.url}?publish_timeout=0.3") as transport:
        await transport.ensure([TopicSpec("t", ("g",))])
        subscriber = await member(transport)
        await asyncio.to_thread(box.pause)
        with pytest.raises(PublishFailed) as caught:
            await transport.publish(numbered("t", 5))
        assert caught.value.indexes == (0, 1, 2, 3, 4)
        await asyncio.to_thread(box.resume)
        await persistently(lambda: transport.publish(numbered("t", 5)))
        await transport.publish(numbered("t", 1))  # another message of the same bytes
        assert sorted(await drain(subscriber, 6)) == [b"0", b"0", b"1", b"2", b"3", b"4"]
        assert await subscriber.receive(10, QUIET) == []


async def test_exclusive_and_broadcast_go_on_after_a_restart(box: Box) -> None:
    """Readers keep their position: nothing is lost, and what they hold is not delivered again, but to their heirs."""
    async with opened(box.url) as transport:
        await transport.ensure([TopicSpec(RESULTS, ("g",)), TopicSpec("control", ())])
        reader = await member(transport, "exclusive", RESULTS)
        listener = await member(transport, "broadcast", "control")
        await transport.publish([*numbered(RESULTS, 4), *numbered("control", 1)])
        held = await take(reader, 4)
        assert bodies(await take(listener, 1)) == [b"0"]
        await reader.ack(held[:1])
        await asyncio.to_thread(box.kill)
        await reader.ack(held[2:3])
        await asyncio.to_thread(box.start)
        await persistently(lambda: transport.publish([Message(RESULTS, b"4"), Message("control", b"1")]))
        assert bodies(await take(reader, 1)) == [b"4"]
        assert bodies(await take(listener, 1)) == [b"1"]
        await reader.ack(held[1:2])
        await reader.close()
        assert bodies(await take(await member(transport, "exclusive", RESULTS), 2)) == [b"3", b"4"]


async def test_what_was_on_its_way_when_the_connection_broke_arrives(box: Box) -> None:
    """The server holds it for delivered, and nothing expires in mode exclusive: the reader asks for it again."""
    async with opened(box.url) as transport, opened(box.url) as publisher:
        await transport.ensure([TopicSpec(RESULTS, ("g",))])
        reader = await member(transport, "exclusive", RESULTS)
        await reader.receive(10, 0)  # asks
        client = transport._link.client
        client._subs.clear()  # what arrives is thrown away, as with a connection that breaks
        await publisher.publish(numbered(RESULTS, 5))

        async def delivered() -> bool:
            ((stats,),) = [topic.groups for topic in await publisher.describe([RESULTS])]
            return stats.in_flight == 5

        await until(delivered)
        await client.close()
        async with asyncio.timeout(SOON):
            assert await drain(reader, 5) == [b"%d" % number for number in range(5)]


async def test_memory_that_is_lost_is_made_again(box: Box) -> None:
    """A server that forgets its streams in a restart is given them anew, and everybody goes on."""
    async with opened(f"{box.url}?storage=memory") as transport:
        assert not transport.features.durable
        await transport.ensure([TopicSpec("t", ("g",)), TopicSpec("control", ())])
        subscriber, listener = await member(transport, lease=LEASE), await member(transport, "broadcast", "control")
        await transport.publish([*numbered("t", 1), *numbered("control", 1)])
        assert await drain(subscriber, 1) == bodies(await take(listener, 1)) == [b"0"]
        await asyncio.to_thread(box.kill)
        await asyncio.to_thread(box.start)
        await persistently(lambda: transport.publish([Message("t", b"1"), Message("control", b"1")]))
        assert bodies(await take(listener, 1)) == bodies(await take(subscriber, 1)) == [b"1"]
        assert bodies(await take(subscriber, 1)) == [b"1"]  # the lease is known to the new server, too


@pytest.mark.proves(matrix.FROZEN, "NATS JetStream")
async def test_a_server_that_does_not_answer_is_unavailable_in_time(box: Box) -> None:
    """With a frozen server publish fails in time, receive yields nothing, close returns; then all is well again."""
    async with opened(f"{box.url}?publish_timeout=0.3&request_timeout=0.3&ping_interval=0.2&partitions=0") as transport:
        await transport.ensure([TopicSpec("t", ("g",))])
        subscriber = await member(transport)
        await asyncio.to_thread(box.pause)
        async with asyncio.timeout(SOON):
            with pytest.raises(PublishFailed):
                await transport.publish(numbered("t", 1))
            with pytest.raises(TransportUnavailable):
                await member(transport)
            assert await subscriber.receive(1, QUIET) == []
            await subscriber.close()
        await asyncio.to_thread(box.resume)
        await persistently(lambda: transport.publish([Message("t", b"x")]))
        found: list[bytes] = []
        subscriber = await member(transport)
        while b"x" not in found:  # before it may come the one whose fate nobody knows
            found += await drain(subscriber, 1)


async def test_what_a_server_does_not_read_is_given_up_in_time(box: Box) -> None:
    """More than it has room for: publishing ends with the connection at the latest, and the next goes through."""
    async with opened(f"{box.url}?publish_timeout=0.3&ping_interval=0.2") as transport:
        await transport.ensure([TopicSpec("t", ("g",))])
        await asyncio.to_thread(box.pause)
        publishing = asyncio.create_task(transport.publish([Message("t", b"x" * 500_000)] * 30))
        ended, _ = await asyncio.wait([publishing], timeout=2 * SOON)
        await asyncio.to_thread(box.resume)
        assert ended
        with pytest.raises(PublishFailed) as caught:
            await publishing
        assert caught.value.indexes == tuple(range(30))
        await persistently(lambda: transport.publish([Message("t", b"x")]))


# the server refuses


async def test_nobody_there(box: Box) -> None:
    """No server at the address: unavailable, and said where."""
    await asyncio.to_thread(box.stop)
    with pytest.raises(TransportUnavailable, match=r"127\.0\.0\.1.* cannot be reached"):
        await transport_at(box.url).open()


@pytest.mark.proves(matrix.STRANGER, "NATS JetStream")
async def test_a_wrong_password_is_told_at_open(box: Box) -> None:
    """The error names the server and not the password; TLS that the server does not offer is refused, too. What the
    server says of it may be lost with the connection that it closes.
    """
    with pytest.raises(InvalidInput, match=r"refuses these credentials|check credentials") as caught:
        await transport_at(box.url.replace(box.password, "not-the-password")).open()
    assert "not-the-password" not in str(caught.value)
    with pytest.raises(InvalidInput, match="does not require TLS"):
        await transport_at(f"{box.url}?tls=true").open()


@pytest.mark.proves(matrix.DENIED, "NATS JetStream")
async def test_what_is_not_permitted_is_told() -> None:
    """A user who may not make streams hears what the server has said about it, and the remedy."""
    user = f'{{user: {USER}, password: "{PASSWORD}", permissions: {{publish: {{deny: "$JS.API.STREAM.CREATE.>"}}}}}}'
    with private_server(nats, options={"authorization": f"{{users: [{user}]}}"}) as box:
        async with opened(f"{box.url}?request_timeout=0.3") as transport:
            with pytest.raises(InvalidInput, match=r"permissions violation.*stream\.create.*permit it"):
                await transport.ensure([TopicSpec("t", ("g",))])


# a cancelled question


async def test_closing_while_a_connection_is_being_made(box: Box) -> None:
    """However far that is, closing ends it: a cancellation is not lost in the library, nor a socket."""
    for turns in range(0, 60, 2):
        async with opened(box.url) as transport:
            await transport._link.client.close()
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(SOON):
                await transport.close()


async def test_a_cancellation_is_not_lost_in_the_library(box: Box) -> None:
    """Whoever asks and is cancelled just when the answer comes is cancelled; on Python 3.11 `wait_for` would go on."""
    async with opened(box.url) as transport:
        answer = asyncio.get_running_loop().create_future()
        asking = asyncio.create_task(transport._link.ask(asyncio.wait_for(answer, SOON)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        answer.set_result(None)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


def bodies_of(messages: list[Message]) -> list[bytes]:
    return [message.body for message in messages]

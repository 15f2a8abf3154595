"""The Redis transport and servers of its own, which are killed, frozen, filled, misconfigured, locked and clustered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.testing.polling import until
from edow.transport.contract import Mode, Subscriber, Subscription, TopicSpec, Transport
from edow.transport.redis.link import RIGHTS
from scripts.servers import Box
from scripts.servers.ports import any_free
from tests.conformance import matrix
from tests.conformance.certificates import make_certificate
from tests.conformance.redis_tools import member, opened, own_server, persistently, raw, transport_at
from tests.conformance.transport_suite import LEASE, QUIET, SOON, bodies, drain, numbered, take


@pytest.fixture
def box() -> Iterator[Box]:
    """A server of the test's own. A killed one that syncs every second may lose what it wrote while a sync was under
    way (it puts off writing then).
    """
    with own_server(options={"appendfsync": "always"}) as started:
        yield started


# the server goes away


@pytest.mark.proves(matrix.AWAY, "Redis Streams")
async def test_a_restart_in_mid_stream_loses_nothing_and_needs_nobody(box: Box) -> None:
    """A server killed while messages flow: everything published arrives, and all go on by themselves."""
    seen: set[bytes] = set()
    restarted = asyncio.Event()

    async def seen_all(count: int) -> bool:
        return len(seen) >= count

    async def work(subscriber: Subscriber) -> None:
        while True:
            got = await subscriber.receive(7, 1.0)
            await persistently(partial(subscriber.ack, got))
            seen.update(bodies(got))

    async def publish(transport: Transport) -> set[bytes]:
        sent: set[bytes] = set()
        while not restarted.is_set() or len(sent) < 500:
            batch = [Message("t", b"%d" % (len(sent) + n), f"k{n % 3}" if n % 2 else None) for n in range(10)]
            await persistently(partial(transport.publish, batch))
            sent |= {each.body for each in batch}
            await asyncio.sleep(0)
        return sent

    async with opened(box.url) as publisher, opened(box.url) as consumer:
        subscriber = await member(consumer, lease=LEASE)
        working = asyncio.create_task(work(subscriber))
        publishing = asyncio.create_task(publish(publisher))
        await until(lambda: seen_all(100))
        await asyncio.to_thread(box.kill)
        await asyncio.to_thread(box.start)
        restarted.set()
        async with asyncio.timeout(4 * SOON):
            sent = await publishing
            await until(lambda: seen_all(len(sent)))
        assert seen == sent
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working


async def test_what_a_member_works_on_stays_its_own_over_a_restart(box: Box) -> None:
    """A server that was away for longer than a lease gives its members the time to say that they are alive."""
    async with opened(box.url) as one, opened(box.url) as two:
        working, other = await member(one, lease=4 * LEASE), await member(two, lease=4 * LEASE)
        await one.publish([Message("t", b"x")])
        held = await take(working, 1)
        await asyncio.to_thread(box.kill)
        await asyncio.sleep(5 * LEASE)
        await asyncio.to_thread(box.start)
        for _ in range(20):
            assert await persistently(lambda: working.extend(held)) == []
            assert await other.receive(1, LEASE / 4) == []
        await working.ack(held)
        assert await other.receive(1, QUIET) == []


async def test_the_dead_are_noticed_after_a_restart_too(box: Box) -> None:
    """Who does not come back after a restart loses what it held, one lease later."""
    async with opened(box.url) as one, opened(box.url) as two:
        dead, other = await member(one, lease=LEASE), await member(two)
        await one.publish(numbered("t", 2, "k"))
        await take(dead, 1)
        await asyncio.to_thread(box.kill)
        await asyncio.to_thread(box.start)
        assert await drain(other, 2) == [b"0", b"1"]


async def test_exclusive_and_broadcast_go_on_after_a_restart(box: Box) -> None:
    """Readers keep their position: nothing is lost, and what they hold is not delivered again."""
    async with opened(box.url) as transport:
        await transport.ensure([TopicSpec("t", ("g",)), TopicSpec("control", ())])
        reader = await member(transport, "exclusive")
        listener = await member(transport, "broadcast", topic="control")
        await transport.publish([*numbered("t", 3), *numbered("control", 1)])
        assert bodies(await take(reader, 3)) == [b"0", b"1", b"2"]
        assert bodies(await take(listener, 1)) == [b"0"]
        await asyncio.to_thread(box.restart)
        await persistently(lambda: transport.publish([Message("t", b"3"), Message("control", b"1")]))
        assert bodies(await take(reader, 1)) == [b"3"]
        assert bodies(await take(listener, 1)) == [b"1"]


@pytest.mark.proves(matrix.FROZEN, "Redis Streams")
async def test_a_server_that_does_not_answer_is_unavailable_in_time(box: Box) -> None:
    """With a frozen server publish fails after `timeout`, receive yields nothing, close returns; then all is well."""
    async with opened(f"{box.url}?timeout=0.3") as transport:
        subscriber = await member(transport)
        leaving = await member(transport, topic="other")
        box.pause()
        async with asyncio.timeout(SOON):
            with pytest.raises(PublishFailed) as failed:
                await transport.publish(numbered("t", 3))
            assert failed.value.indexes == (0, 1, 2)
            with pytest.raises(TransportUnavailable):
                await transport.describe(["t"])
            assert await subscriber.receive(10, 0.1) == []
            await leaving.close()
        box.resume()
        await persistently(lambda: transport.publish([Message("t", b"after")]))
        while b"after" not in await drain(subscriber, 1):
            pass  # the three may have been taken after all


async def test_connections_that_the_server_closes_are_made_again(box: Box) -> None:
    """A proxy, a timeout or an operator cuts every connection: blocked and idle ones come back."""
    async with opened(box.url) as transport, raw(box.url) as other:
        subscriber = await member(transport)
        receiving = asyncio.create_task(subscriber.receive(1, 3600))
        await asyncio.sleep(QUIET)
        await other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await persistently(lambda: transport.publish([Message("t", b"x")]))
        async with asyncio.timeout(SOON):
            assert bodies(await receiving) == [b"x"]


async def test_open_without_a_server_is_unavailable(box: Box) -> None:
    """Nobody there: try again later, said with the place and without the password."""
    await asyncio.to_thread(box.stop)
    with pytest.raises(TransportUnavailable, match=rf"127\.0\.0\.1:{box.port}") as failed:
        await transport_at(box.url).open()
    assert box.password not in str(failed.value)


# the server loses what it had


@pytest.mark.parametrize("mode", ["shared", "exclusive", "broadcast"])
@pytest.mark.proves(matrix.DELETED, "Redis Streams")
async def test_a_server_that_lost_everything_is_made_ready_again(box: Box, mode: Mode) -> None:
    """After FLUSHALL, or a restart without persistence: members and publishers that live on make the topics anew."""
    async with opened(box.url) as consumer, opened(box.url) as publisher, raw(box.url) as other:
        await consumer.ensure([TopicSpec("t", ("g",))])
        subscriber = await member(consumer, mode)
        await publisher.publish([Message("t", b"1", "k")])
        held = await take(subscriber, 1)
        await other.flushall()
        assert await subscriber.receive(1, QUIET) == []
        await publisher.publish([Message("t", b"2", "k")])
        assert bodies(await take(subscriber, 1)) == [b"2"]
        await subscriber.ack(held)


async def test_a_waiting_member_heals_a_lost_topic_for_publishers_that_never_knew_it(box: Box) -> None:
    """A member that waits makes its topic again although nothing is published."""
    async with opened(box.url) as consumer, opened(box.url) as publisher, raw(box.url) as other:
        subscriber = await member(consumer)
        receiving = asyncio.create_task(subscriber.receive(1, 3600))
        await other.flushall()
        async with asyncio.timeout(SOON):
            await until(lambda: other.exists("{edow}:topics"))
            await publisher.publish([Message("t", b"x")])
            assert bodies(await receiving) == [b"x"]


async def test_a_reader_begins_anew_where_the_newest_messages_were_lost(box: Box) -> None:
    """A server that came back with an older stream, and gives ids before the reader's position, is read anyway."""
    async with opened(box.url) as transport, raw(box.url) as other:
        await transport.ensure([TopicSpec("t", ("g",))])
        reader = await member(transport, "exclusive")
        await transport.publish([Message("t", b"lost")])
        await take(reader, 1)
        await other.delete("{edow}:t:g")
        await other.xadd("{edow}:t:g", {"b": "found"}, id="1-1")
        await other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert bodies(await take(reader, 1)) == [b"found"]


# who may come in


@pytest.mark.proves(matrix.STRANGER, "Redis Streams")
async def test_wrong_credentials_are_refused_at_open(box: Box) -> None:
    """A wrong password, none at all, or an unknown user: an error to act on, that does not tell the password."""
    for credentials in (":wrong@", "", "nobody:secret@"):
        address = f"redis://{credentials}127.0.0.1:{box.port}"
        with pytest.raises(InvalidInput, match="user and password") as failed:
            await transport_at(address).open()
        assert "wrong" not in str(failed.value).replace("WRONGPASS", "")
        assert "secret" not in str(failed.value)


@pytest.mark.proves(matrix.DENIED, "Redis Streams")
async def test_a_missing_permission_is_refused_at_open(box: Box) -> None:
    """A user who may not run scripts, not write, not wait or not use our keys is told what it needs."""
    async with raw(box.url) as admin:
        for lacking in ("-@scripting", "-xadd", "-blpop", "-zmscore", "resetkeys"):
            name = f"user{lacking.strip('-@')}"
            await admin.execute_command("ACL", "SETUSER", name, "on", ">pass", *RIGHTS.split(), lacking)
            with pytest.raises(InvalidInput, match=r"\+@scripting"):
                await transport_at(f"redis://{name}:pass@127.0.0.1:{box.port}").open()


async def test_the_documented_permissions_are_enough(box: Box) -> None:
    """A user with just those rights does everything that there is."""
    async with raw(box.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "edow", "on", ">pass", *RIGHTS.split())
    async with opened(f"redis://edow:pass@127.0.0.1:{box.port}") as transport:
        await transport.ensure([TopicSpec("t", ("g", "x")), TopicSpec("control", ())])
        listener = await member(transport, "broadcast", topic="control")
        subscriber = await member(transport, lease=LEASE)
        reader = await transport.subscribe(Subscription(topics=("t",), group="x", mode="exclusive"))
        await transport.publish([*numbered("t", 3, "k"), Message("control", b"c")])
        assert bodies(await take(listener, 1)) == [b"c"]
        assert await drain(reader, 3) == [b"0", b"1", b"2"]
        held = await take(subscriber, 1)
        assert await subscriber.extend(held) == []
        await subscriber.nack(held)
        assert await drain(subscriber, 3) == [b"0", b"1", b"2"]
        await transport.publish([Message("t", b"x")])
        await take(subscriber, 1)
        assert bodies(await take(subscriber, 1)) == [b"x"]  # its lease ran out
        await transport.describe(["t"])


async def test_tls_is_checked_on_both_sides(tmp_path: Path) -> None:
    """rediss:// speaks TLS; a certificate that nobody vouches for is refused, one that is given is believed. A server
    that wants to see ours sees it.
    """
    certificate, key = make_certificate(tmp_path)
    with own_server(start=False) as box:
        port = any_free()
        files = {"tls-cert-file": str(certificate), "tls-key-file": str(key), "tls-ca-cert-file": str(certificate)}
        box.options = {"tls-port": str(port), "tls-auth-clients": "optional", **files}
        box.start()
        url = f"rediss://:{box.password}@127.0.0.1:{port}"
        async with opened(f"{url}?ssl_ca_certs={certificate}") as transport, raw(box.url) as admin:
            await transport.ensure([TopicSpec("t", ("g",))])
            await transport.publish([Message("t", b"x")])
            assert await drain(await member(transport), 1) == [b"x"]
            await admin.config_set("tls-auth-clients", "yes")
        with pytest.raises(InvalidInput, match=r"certificate that is not trusted.* ssl_ca_certs="):
            await transport_at(url).open()
        with pytest.raises(TransportUnavailable):
            await transport_at(f"{url}?ssl_ca_certs={certificate}").open()
        mine = f"ssl_certfile={certificate}&ssl_keyfile={key}"
        async with opened(f"{url}?ssl_ca_certs={certificate}&{mine}"):
            pass
        async with opened(f"{url}?ssl_cert_reqs=none&ssl_check_hostname=false&{mine}"):
            pass


# what is refused


async def test_a_server_that_would_forget_messages_is_refused(box: Box) -> None:
    """A policy that evicts any key when memory is full loses messages silently: not with us."""
    async with raw(box.url) as admin:
        await admin.config_set("maxmemory", "100mb")
        await admin.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(InvalidInput, match="noeviction"):
            await transport_at(box.url).open()
        await admin.config_set("maxmemory-policy", "noeviction")
    async with opened(box.url):
        pass


async def test_durable_is_what_the_server_does(box: Box) -> None:
    """Only a server that syncs its log before it answers is called durable."""
    for setting, durable in (("everysec", False), ("always", True)):
        async with raw(box.url) as admin:
            await admin.config_set("appendfsync", setting)
        async with opened(box.url) as transport:
            assert transport.features.durable == durable


@pytest.mark.proves(matrix.BY_HALF, "Redis Streams")
async def test_a_full_server_takes_all_of_a_batch_or_nothing(box: Box) -> None:
    """Out of memory: publish names the whole batch, and nothing of it is there; what was there can be worked off."""
    async with opened(box.url) as transport, raw(box.url) as admin:
        subscriber = await member(transport)
        await transport.publish([Message("t", b"before", "k")])
        await admin.config_set("maxmemory", "1")
        with pytest.raises(PublishFailed, match="memory") as failed:
            await transport.publish(numbered("t", 3))
        assert failed.value.indexes == (0, 1, 2)
        await admin.config_set("maxmemory", "0")
        await transport.publish([Message("t", b"after")])
        assert await drain(subscriber, 2) == [b"before", b"after"]


# several servers


async def test_the_server_that_takes_writes_is_found_and_followed() -> None:
    """A URL with several servers: the master is used, and after a failover the new one, by all who live on."""
    with own_server() as master:
        follow = {"replicaof": f"127.0.0.1 {master.port}", "masterauth": master.password}
        with own_server(options=follow) as replica:
            url = f"redis://:{master.password}@127.0.0.1:{replica.port},127.0.0.1:{master.port}?timeout=5"
            async with opened(url) as one, opened(f"{url}&replicas=1") as two:
                subscriber = await member(one)
                await persistently(lambda: two.publish([Message("t", b"1")]))  # once it has a replica
                assert b"1" in await drain(subscriber, 1)
                await asyncio.to_thread(master.kill)
                async with raw(replica.url) as operator:
                    await operator.execute_command("REPLICAOF", "NO", "ONE")
                await persistently(lambda: one.publish([Message("t", b"2")]))
                while b"2" not in await drain(subscriber, 1):
                    pass  # the first may have been published more than once
                with pytest.raises(PublishFailed, match="only 0 of 1 replicas"):
                    await persistently_until("replicas have", lambda: two.publish([Message("t", b"3")]))


async def persistently_until(text: str, work: Callable[[], Awaitable[None]]) -> None:
    """Try again until it works, or fails with this text."""
    try:
        await work()
    except PublishFailed as problem:
        if text in str(problem):
            raise
        await persistently_until(text, work)


async def is_formed(client: Any) -> bool:
    return b"cluster_state:ok" in await client.execute_command("CLUSTER", "INFO")


async def test_a_cluster_is_followed_to_the_node_that_has_our_slot() -> None:
    """In a Redis Cluster all keys of a prefix are on one node; whichever node the URL names leads there."""
    with own_server(start=False) as one, own_server(start=False) as two:
        for node in (one, two):
            node.options = {"cluster-enabled": "yes"}
            node.start()
        async with raw(one.url) as first, raw(two.url) as second:
            await first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
            await second.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
            await first.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port)
            async with asyncio.timeout(4 * SOON):
                for client in (first, second):
                    await until(partial(is_formed, client))
        for node in (one, two):
            async with opened(node.url) as transport:
                subscriber = await member(transport)
                await transport.publish([*numbered("t", 3, "k"), Message("t", b"x")])
                assert sorted(await drain(subscriber, 4)) == [b"0", b"1", b"2", b"x"]

"""What every transport must do, as scenarios. A driver takes part by subclassing `TransportSuite` (test_transports.py).

What a driver says it cannot do (`Features`) is skipped; everything else is proved. Each scenario uses topics of its
own, so that a broker may be shared by all of them.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import pytest

from edow.errors import Closed, InvalidInput, Unsupported
from edow.model.message import Message
from edow.transport.contract import Delivery, Features, GroupStats, Mode, Subscriber, Subscription, TopicSpec, Transport

SOON = 5.0  # seconds that a delivery may take
PATIENCE = 30.0  # until all are there, with a busy machine; hung tests end here
QUIET = 0.15  # seconds after which a message that must not come is held not to come
LEASE = 0.4  # seconds; short, so that running out is quick
CHILD = Path(__file__).parent / "transport_child.py"

Open = Callable[[], Awaitable[Transport]]


def load_factory(factory: str) -> Callable[[str], Transport]:
    """`module:function`; the function makes a transport, not open yet, for an address."""
    module, _, name = factory.partition(":")
    made: Callable[[str], Transport] = getattr(import_module(module), name)
    return made


async def take(subscriber: Subscriber, count: int) -> list[Delivery]:
    """Receive until there are `count`, or fail."""
    deliveries: list[Delivery] = []
    async with asyncio.timeout(PATIENCE):
        while len(deliveries) < count:
            deliveries += await subscriber.receive(count - len(deliveries), SOON)
    return deliveries


async def drain(subscriber: Subscriber, count: int) -> list[bytes]:
    """Receive and acknowledge `count` messages; their bodies."""
    bodies: list[bytes] = []
    async with asyncio.timeout(PATIENCE):
        while len(bodies) < count:
            deliveries = await subscriber.receive(count - len(bodies), SOON)
            bodies += [each.body for each in deliveries]
            await subscriber.ack(deliveries)
    return bodies


async def take_from(members: Sequence[Subscriber], count: int) -> list[tuple[Subscriber, Delivery]]:
    """Receive from any of the members until there are `count`, or fail; who has what."""
    found: list[tuple[Subscriber, Delivery]] = []
    wait = SOON if len(members) == 1 else QUIET
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            for member in members:
                if len(found) < count:
                    found += [(member, each) for each in await member.receive(count - len(found), wait)]
    return found


async def drain_from(members: Sequence[Subscriber], count: int) -> list[bytes]:
    """Receive from any of the members and acknowledge `count` messages, or fail; their bodies."""
    found: list[bytes] = []
    while len(found) < count:
        for member, each in await take_from(members, 1):
            found.append(each.body)
            await member.ack([each])
    return found


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    return [each.body for each in deliveries]


def as_ordered(ordered: bool, found: list[bytes]) -> list[bytes]:
    """As they came, where messages without a key have an order."""
    return found if ordered else sorted(found)


def result_topic() -> str:
    return f"edow.results.{uuid4().hex}"


def numbered(topic: str, count: int, key: str | None = None) -> list[Message]:
    return [Message(topic, b"%d" % number, key) for number in range(count)]


class TransportSuite:
    """Subclasses give `factory` and an `address` fixture: whatever the factory needs to reach this test's broker."""

    factory: str

    @pytest.fixture
    def address(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    async def open_transport(self, address: str) -> AsyncIterator[Open]:
        """Opens transports on one broker, as many processes would; they are closed at the end."""
        opened: list[Transport] = []

        async def open_another() -> Transport:
            transport = load_factory(self.factory)(address)
            await transport.open()
            opened.append(transport)
            return transport

        yield open_another
        for transport in opened:
            await transport.close()

    @pytest.fixture
    async def transport(self, open_transport: Open) -> Transport:
        return await open_transport()

    @pytest.fixture
    def features(self, transport: Transport) -> Features:
        return transport.features

    @pytest.fixture
    async def topic(self, transport: Transport) -> str:
        """A topic with the groups `one` and `two`."""
        name = f"topic-{uuid4().hex}"
        await transport.ensure([TopicSpec(name, ("one", "two"))])
        return name

    @pytest.fixture
    async def results(self, transport: Transport) -> str:
        """The same, with a name such as those topics have that are read in mode exclusive: some drivers go by it."""
        name = result_topic()
        await transport.ensure([TopicSpec(name, ("one", "two"))])
        return name

    async def member(
        self, transport: Transport, topic: str, group: str = "one", mode: Mode = "shared", lease: float = 30.0
    ) -> Subscriber:
        return await transport.subscribe(Subscription(topics=(topic,), group=group, mode=mode, lease_seconds=lease))

    # bytes

    async def test_bodies_and_keys_arrive_unchanged(self, transport: Transport, topic: str) -> None:
        """A message is delivered with the bytes, key and topic it was published with, poison included."""
        sent = [
            Message(topic, bytes(range(256)), "a key"),
            Message(topic, b"", None),
            Message(topic, b"\x00\xff\xfe{", "ключ/\U0001f511"),
            Message(topic, b'{"json": 1}', ""),
        ]
        subscriber = await self.member(transport, topic)
        await transport.publish(sent)
        got = await take(subscriber, len(sent))
        assert sorted((each.body, each.key) for each in got if each.key) == sorted(
            (each.body, each.key) for each in sent if each.key
        )
        assert sorted(bodies(got)) == sorted(each.body for each in sent)
        assert {each.topic for each in got} == {topic}
        assert {each.count for each in got} == {1}

    async def test_a_message_of_the_largest_size_arrives(
        self, transport: Transport, topic: str, features: Features
    ) -> None:
        """The limit itself is allowed, several such messages at once too."""
        body = b"x" * features.max_message_bytes
        await transport.publish([Message(topic, body), Message(topic, body)])
        assert await drain(await self.member(transport, topic), 2) == [body, body]

    async def test_a_message_too_large_is_refused_with_its_whole_batch(
        self, transport: Transport, topic: str, features: Features
    ) -> None:
        """One byte over the limit: an error that names size and limit, and nothing of the batch is published."""
        subscriber = await self.member(transport, topic)
        too_large = Message(topic, b"x" * (features.max_message_bytes + 1))
        with pytest.raises(InvalidInput, match="limit"):
            await transport.publish([Message(topic, b"small"), too_large])
        await transport.publish([Message(topic, b"after")])
        assert await drain(subscriber, 1) == [b"after"]

    async def test_publishing_nothing_is_fine(self, transport: Transport) -> None:
        """An empty batch needs no topic and raises nothing."""
        await transport.publish([])

    # topics and groups

    async def test_an_unknown_topic_is_refused_with_its_whole_batch(self, transport: Transport, topic: str) -> None:
        """Publishing to a topic nobody ensured names the topic and leaves the rest of the batch unpublished."""
        subscriber = await self.member(transport, topic)
        with pytest.raises(InvalidInput, match="nowhere"):
            await transport.publish([Message(topic, b"1"), Message("nowhere", b"2")])
        await transport.publish([Message(topic, b"after")])
        assert await drain(subscriber, 1) == [b"after"]

    async def test_topics_may_be_ensured_again_and_by_many_at_once(self, open_transport: Open) -> None:
        """`ensure` is idempotent, also when several processes do it at the same time, and adds groups."""
        first, second = await open_transport(), await open_transport()
        name = f"topic-{uuid4().hex}"
        await asyncio.gather(*(each.ensure([TopicSpec(name, ("one",))]) for each in (first, second) for _ in range(3)))
        await second.ensure([TopicSpec(name, ("one", "late"))])
        await first.publish([Message(name, b"x")])  # `first` has not been told of the new group
        assert await drain(await self.member(second, name, "late"), 1) == [b"x"]

    async def test_a_topic_is_there_as_soon_as_ensure_returns(self, open_transport: Open) -> None:
        """Two parties of one process, and a third elsewhere, ensure a topic at the same time; each can use it at once,
        whoever of them made it.
        """
        here, there = await open_transport(), await open_transport()

        async def use(transport: Transport, spec: TopicSpec) -> None:
            await transport.ensure([spec])
            subscriber = await transport.subscribe(Subscription(topics=(spec.name,), group="one"))
            await transport.publish([Message(spec.name, b"mine")])
            await subscriber.close()

        for _ in range(5):
            spec = TopicSpec(f"topic-{uuid4().hex}", ("one",))
            async with asyncio.timeout(SOON):
                await asyncio.gather(use(here, spec), use(here, spec), use(there, spec))
            assert await drain(await self.member(there, spec.name), 3) == [b"mine"] * 3

    async def test_messages_wait_for_a_group_that_nobody_reads_yet(
        self, transport: Transport, topic: str, features: Features
    ) -> None:
        """What is published after `ensure` reaches a subscriber that comes later, in order."""
        await transport.publish(numbered(topic, 5))
        found = await drain(await self.member(transport, topic), 5)
        assert as_ordered(features.ordered, found) == [b"0", b"1", b"2", b"3", b"4"]

    async def test_every_group_gets_every_message(self, transport: Transport, topic: str) -> None:
        """Two groups of a topic are independent of each other."""
        one, two = await self.member(transport, topic, "one"), await self.member(transport, topic, "two")
        await transport.publish(numbered(topic, 20))
        assert sorted(await drain(one, 20)) == sorted(await drain(two, 20)) == sorted(b"%d" % n for n in range(20))

    async def test_members_of_a_group_share(self, open_transport: Open, topic: str) -> None:
        """Within a group each message goes to one member only."""
        first = await self.member(await open_transport(), topic)
        second = await self.member(await open_transport(), topic)
        publisher = await open_transport()
        await publisher.publish(numbered(topic, 40))
        got = await first.receive(20, SOON)
        await publisher.publish(numbered(topic, 0))
        while len(got) < 40:
            for member in (first, second):
                got += await member.receive(10, QUIET)
        assert sorted(bodies(got)) == sorted(b"%d" % n for n in range(40))

    async def test_one_subscriber_may_read_several_topics(self, transport: Transport) -> None:
        """A subscription names several topics, and each delivery says which it is from."""
        names = [f"topic-{uuid4().hex}" for _ in range(3)]
        await transport.ensure([TopicSpec(name, ("one",)) for name in names])
        subscriber = await transport.subscribe(Subscription(topics=tuple(names), group="one"))
        await transport.publish([Message(name, name.encode()) for name in names for _ in range(5)])
        got = await take(subscriber, 15)
        assert sorted(bodies(got)) == sorted(name.encode() for name in names for _ in range(5))
        assert all(each.topic.encode() == each.body for each in got)

    # receiving

    async def test_receive_returns_at_once_what_there_is(self, transport: Transport, topic: str) -> None:
        """A batch is never waited for: three of a hundred are delivered as soon as they are there."""
        subscriber = await self.member(transport, topic)
        await transport.publish(numbered(topic, 3))
        async with asyncio.timeout(SOON):
            got = await subscriber.receive(100, 3600)
            while len(got) < 3:
                got += await subscriber.receive(100, 3600)
        assert len(got) == 3

    async def test_receive_keeps_to_its_limit(self, transport: Transport, topic: str) -> None:
        """Never more than asked for; the rest comes with the next call."""
        subscriber = await self.member(transport, topic)
        await transport.publish(numbered(topic, 25))
        sizes: list[int] = []
        while sum(sizes) < 25:
            sizes.append(len(await subscriber.receive(10, SOON)))
        assert max(sizes) <= 10

    async def test_receive_ends_with_nothing_after_its_wait(self, transport: Transport, topic: str) -> None:
        """A bounded wait that yields nothing is normal."""
        assert await (await self.member(transport, topic)).receive(10, 0.02) == []

    async def test_a_waiting_receiver_is_woken(self, open_transport: Open, topic: str) -> None:
        """A message published elsewhere reaches a receiver that waits without limit."""
        subscriber = await self.member(await open_transport(), topic)
        receiving = asyncio.create_task(subscriber.receive(10, 3600))
        await (await open_transport()).publish([Message(topic, b"x")])
        async with asyncio.timeout(SOON):
            assert bodies(await receiving) == [b"x"]

    async def test_a_cancelled_receive_loses_nothing(self, transport: Transport, topic: str) -> None:
        """Messages that were on their way to a cancelled receiver come with its next call."""
        subscriber = await self.member(transport, topic)
        await transport.publish(numbered(topic, 10))
        got: list[Delivery] = []
        for _ in range(5):
            receiving = asyncio.create_task(subscriber.receive(2, SOON))
            await asyncio.sleep(0)
            receiving.cancel()
            try:
                got += await receiving  # what was there at once had been received before it could be cancelled
            except asyncio.CancelledError:
                pass
        await subscriber.ack(got)
        rest = await drain(subscriber, 10 - len(got))
        assert sorted([*bodies(got), *rest]) == [b"%d" % n for n in range(10)]

    # acknowledging

    async def test_what_was_acknowledged_never_comes_again(self, transport: Transport, topic: str) -> None:
        """After an ack neither this subscriber nor the next gets the message."""
        subscriber = await self.member(transport, topic, lease=LEASE)
        await transport.publish(numbered(topic, 3))
        await drain(subscriber, 3)
        assert await subscriber.receive(10, 2 * LEASE) == []
        await subscriber.close()
        assert await (await self.member(transport, topic)).receive(10, QUIET) == []

    async def test_acknowledging_twice_does_nothing(self, transport: Transport, topic: str) -> None:
        """The second ack, or a nack after it, is no error and brings nothing back."""
        subscriber = await self.member(transport, topic)
        await transport.publish(numbered(topic, 1))
        got = await take(subscriber, 1)
        await subscriber.ack(got)
        await subscriber.ack(got)
        await subscriber.nack(got)
        await subscriber.ack([])
        assert await subscriber.receive(10, QUIET) == []

    async def test_a_message_comes_again_after_nack(self, transport: Transport, topic: str, features: Features) -> None:
        """Not done: it is delivered again, and counted where the broker counts."""
        subscriber = await self.member(transport, topic)
        await transport.publish([Message(topic, b"x")])
        for attempt in (1, 2, 3):
            (delivery,) = await take(subscriber, 1)
            assert delivery.body == b"x"
            assert delivery.count == (attempt if features.delivery_count else 1)
            await subscriber.nack([delivery])

    async def test_nack_with_a_delay_waits_for_it(self, transport: Transport, topic: str) -> None:
        """Not before the delay, and soon after it although nothing else happens."""
        subscriber = await self.member(transport, topic)
        await transport.publish([Message(topic, b"x")])
        taken, nacked = await take(subscriber, 1), time.monotonic()
        await subscriber.nack(taken, delay_seconds=3 * QUIET)
        assert bodies(await take(subscriber, 1)) == [b"x"]
        assert time.monotonic() - nacked >= 2.9 * QUIET

    async def test_a_lease_that_runs_out_hands_the_message_on(
        self, open_transport: Open, topic: str, features: Features
    ) -> None:
        """A member that does not acknowledge in time loses the message, to another where any may have it."""
        members = [await self.member(await open_transport(), topic, lease=LEASE) for _ in range(2)]
        await (await open_transport()).publish([Message(topic, b"x")])
        ((slow, held),) = await take_from(members[:1] if features.competing else members, 1)
        others = members[1:] if features.competing else members
        ((other, again),) = await take_from(others, 1)
        assert again.body == b"x"
        await slow.ack([held])  # too late: it is another delivery now
        assert await slow.extend([held]) == [held]
        await other.nack([again])
        assert [each.body for _, each in await take_from(others, 1)] == [b"x"]

    async def test_a_long_task_keeps_its_message_by_extending(
        self, open_transport: Open, topic: str, features: Features
    ) -> None:
        """Extended in time, a message is not delivered to anybody else, however long the work takes."""
        if not features.lease_extension:
            pytest.skip("leases cannot be extended")
        members = [await self.member(await open_transport(), topic, lease=LEASE) for _ in range(2)]
        await (await open_transport()).publish([Message(topic, b"x")])
        ((working, delivery),) = await take_from(members[:1] if features.competing else members, 1)
        (other,) = (each for each in members if each is not working)
        held = [delivery]
        for _ in range(6):
            assert await other.receive(10, LEASE / 3) == []
            assert await working.extend(held) == []
        await working.ack(held)
        assert await other.receive(10, 2 * LEASE) == []

    async def test_closing_gives_back_at_once(self, open_transport: Open, topic: str, features: Features) -> None:
        """What a closed subscriber held goes to another without waiting for the lease."""
        members = [await self.member(await open_transport(), topic, lease=3600) for _ in range(2)]
        await (await open_transport()).publish(numbered(topic, 3))
        held = await take_from(members[:1] if features.competing else members, 3)
        leaving = held[0][0]
        mine = [each.body for member, each in held if member is leaving]
        await leaving.close()
        (other,) = (each for each in members if each is not leaving)
        assert sorted(await drain(other, len(mine))) == sorted(mine)

    async def test_a_killed_process_loses_nothing(self, transport: Transport, topic: str, address: str) -> None:
        """Messages in the hands of a process that was killed are delivered to another once its lease has run out."""
        await transport.publish(numbered(topic, 5))
        command = [sys.executable, str(CHILD), self.factory, address, topic, "one", "5", str(LEASE)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHILD.parents[2], text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "received 5\n"
            other = await self.member(transport, topic)
            child.kill()
        assert sorted(await drain(other, 5)) == [b"0", b"1", b"2", b"3", b"4"]

    # order

    async def test_order_is_kept_without_keys_for_a_single_reader(
        self, transport: Transport, topic: str, features: Features
    ) -> None:
        """A lone member reads a queue from its beginning to its end."""
        if not features.ordered:
            pytest.skip("no order without keys")
        subscriber = await self.member(transport, topic)
        await transport.publish(numbered(topic, 30))
        await transport.publish([Message(topic, b"last")])
        assert await drain(subscriber, 31) == [*(b"%d" % n for n in range(30)), b"last"]

    async def test_messages_of_a_key_are_delivered_one_after_the_other(
        self, open_transport: Open, topic: str, features: Features
    ) -> None:
        """The next of a key comes only after the previous was acknowledged, whichever member has it."""
        if not features.ordered_by_key:
            pytest.skip("no order by key")
        members = [await self.member(await open_transport(), topic) for _ in range(2)]
        publisher = await open_transport()
        await publisher.publish([Message(topic, b"%d" % n, f"key-{n % 3}") for n in range(30)])
        seen: dict[str, list[int]] = {}
        holding: set[str] = set()
        async with asyncio.timeout(SOON):
            while sum(map(len, seen.values())) < 30:
                for member in members:
                    got = await member.receive(10, QUIET)
                    for each in got:
                        assert each.key is not None
                        assert each.key not in holding
                        holding.add(each.key)
                        seen.setdefault(each.key, []).append(int(each.body))
                    for each in got:
                        holding.discard(each.key or "")
                    await member.ack(got)
        assert seen == {f"key-{k}": list(range(k, 30, 3)) for k in range(3)}

    async def test_a_key_in_hand_holds_back_its_followers_from_every_member(
        self, open_transport: Open, topic: str, features: Features
    ) -> None:
        """While one member works on a key, others get other keys but nothing of this one."""
        if not features.ordered_by_key:
            pytest.skip("no order by key")
        members = [await self.member(await open_transport(), topic) for _ in range(2)]
        publisher = await open_transport()
        await publisher.publish([Message(topic, b"a1", "a"), Message(topic, b"a2", "a")])
        ((first, held),) = await take_from(members[:1] if features.competing else members, 1)
        assert held.body == b"a1"
        await publisher.publish([Message(topic, b"a3", "a"), Message(topic, b"b1", "b"), Message(topic, b"none")])
        others = members[1:] if features.competing else members
        assert sorted(await drain_from(others, 2)) == [b"b1", b"none"]
        for each in others:
            assert await each.receive(10, QUIET) == []
        await first.ack([held])
        assert await drain_from(others, 2) == [b"a2", b"a3"]

    async def test_order_by_key_survives_nack(self, open_transport: Open, topic: str, features: Features) -> None:
        """A nacked message, delayed too, is delivered before its key's later ones; other keys go on."""
        if not features.ordered_by_key:
            pytest.skip("no order by key")
        members = [await self.member(await open_transport(), topic) for _ in range(2)]
        await (await open_transport()).publish(
            [Message(topic, b"a1", "a"), Message(topic, b"a2", "a"), Message(topic, b"b1", "b")]
        )
        got = await take_from(members[:1] if features.competing else members, 2)
        assert sorted(each.body for _, each in got) == [b"a1", b"b1"]
        ((first, held),) = ((member, each) for member, each in got if each.key == "a")
        nacked = time.monotonic()
        await first.nack([held], delay_seconds=3 * QUIET)
        others = members[1:] if features.competing else members
        assert await drain_from(others, 2) == [b"a1", b"a2"]
        assert time.monotonic() - nacked >= 2.9 * QUIET

    async def test_order_by_key_survives_a_lost_lease(
        self, open_transport: Open, topic: str, features: Features
    ) -> None:
        """When a lease runs out, the key's first message comes again before the second."""
        if not features.ordered_by_key:
            pytest.skip("no order by key")
        members = [await self.member(await open_transport(), topic, lease=LEASE) for _ in range(2)]
        await (await open_transport()).publish(numbered(topic, 3, "k"))
        ((_, lost),) = await take_from(members[:1] if features.competing else members, 1)
        assert lost.body == b"0"
        assert await drain_from(members[1:] if features.competing else members, 3) == [b"0", b"1", b"2"]

    # exclusive

    async def test_exclusive_reads_in_order_and_starts_again_where_it_was_acknowledged(
        self, transport: Transport, results: str, features: Features
    ) -> None:
        """Nothing expires; a new subscriber begins with the first message that was not acknowledged."""
        if not features.exclusive:
            pytest.skip("no exclusive subscriptions")
        first = await self.member(transport, results, mode="exclusive", lease=LEASE)
        await transport.publish(numbered(results, 10))
        got = await take(first, 10)
        assert as_ordered(features.exclusive_ordered, bodies(got)) == [b"%d" % n for n in range(10)]
        await first.ack(got[:4])
        assert await first.receive(10, 2 * LEASE) == []
        assert await first.extend(got[4:]) == []
        await first.close()
        second = await self.member(transport, results, mode="exclusive")
        again, rest = await drain(second, 6), bodies(got[4:])
        assert as_ordered(features.exclusive_ordered, again) == as_ordered(features.exclusive_ordered, rest)

    async def test_exclusive_delivers_again_after_nack(
        self, transport: Transport, results: str, features: Features
    ) -> None:
        """A nacked message comes again, before its key's later ones."""
        if not features.exclusive:
            pytest.skip("no exclusive subscriptions")
        subscriber = await self.member(transport, results, mode="exclusive")
        await transport.publish([Message(results, b"a1", "a")])
        taken, nacked = await take(subscriber, 1), time.monotonic()
        await subscriber.nack(taken, delay_seconds=2 * QUIET)
        await transport.publish([Message(results, b"a2", "a"), Message(results, b"b1", "b")])
        came = await drain(subscriber, 3)
        assert [each for each in came if each != b"b1"] == [b"a1", b"a2"]
        assert b"b1" in came
        assert time.monotonic() - nacked >= 1.9 * QUIET
        assert await subscriber.receive(10, QUIET) == []

    async def test_exclusive_keeps_what_was_read_ahead_behind_a_nack(
        self, transport: Transport, results: str, features: Features
    ) -> None:
        """A key's later messages come after the one that was nacked, also those that were there before it was."""
        if not features.exclusive:
            pytest.skip("no exclusive subscriptions")
        subscriber = await self.member(transport, results, mode="exclusive")
        await transport.publish([Message(results, b"%d" % number, "a") for number in range(4)])
        taken = await take(subscriber, 1)
        await subscriber.nack(taken, delay_seconds=2 * QUIET)
        assert await drain(subscriber, 4) == [b"0", b"1", b"2", b"3"]

    async def test_exclusive_reads_many_topics(self, transport: Transport, features: Features) -> None:
        """One subscriber reads the topics of all its shards, each in its order, and none starves."""
        if not features.exclusive:
            pytest.skip("no exclusive subscriptions")
        names = [result_topic() for _ in range(4)]
        await transport.ensure([TopicSpec(name, ("one",)) for name in names])
        subscriber = await transport.subscribe(Subscription(topics=tuple(names), group="one", mode="exclusive"))
        await transport.publish([message for name in names for message in numbered(name, 50)])
        sent = dict.fromkeys(names, 50)
        seen: dict[str, list[int]] = {name: [] for name in names}
        async with asyncio.timeout(4 * SOON):  # what arrives too late comes again after a lease
            while seen != {name: list(range(sent[name])) for name in names}:
                got = await subscriber.receive(20, SOON)
                for each in got:
                    seen[each.topic].append(int(each.body))
                if not features.exclusive_ordered:
                    for numbers in seen.values():
                        numbers.sort()
                await subscriber.ack(got)
                if not all(seen.values()):  # one of them never runs dry before the others have had their turn
                    more = range(sent[names[0]], sent[names[0]] + 20)
                    await transport.publish([Message(names[0], b"%d" % number) for number in more])
                    sent[names[0]] += 20

    # broadcast

    async def test_broadcast_reaches_every_subscriber_from_then_on(
        self, open_transport: Open, features: Features
    ) -> None:
        """Everybody gets what is published after they subscribed, whatever the group; nothing is delivered again."""
        if not features.broadcast:
            pytest.skip("no broadcast")
        name = f"topic-{uuid4().hex}"
        transport = await open_transport()
        await transport.ensure([TopicSpec(name, ())])
        early = await self.member(await open_transport(), name, "x", "broadcast")
        await transport.publish([Message(name, b"1")])
        late = await self.member(await open_transport(), name, "x", "broadcast")
        await transport.publish([Message(name, b"2")])
        got = await take(early, 2)
        assert as_ordered(features.ordered, bodies(got)) == [b"1", b"2"]
        await early.nack(got)
        assert bodies(await take(late, 1)) == [b"2"]
        assert await late.receive(10, QUIET) == await early.receive(10, QUIET) == []

    # lag

    async def test_describe_tells_what_waits(
        self, open_transport: Open, transport: Transport, topic: str, features: Features
    ) -> None:
        """How many messages wait, for each group, and in which partition."""
        if not features.waiting:
            with pytest.raises(Unsupported):
                await transport.describe([topic])
            pytest.skip("nothing is told of what waits")

        async def waiting(*expected: int) -> GroupStats:
            async with asyncio.timeout(PATIENCE):
                while True:
                    (stats,) = await transport.describe([topic])
                    groups = {each.group: each for each in stats.groups}
                    if [groups[name].waiting for name in ("one", "two")] == [*expected]:
                        return groups["one"]
                    await asyncio.sleep(QUIET)

        await transport.publish([*numbered(topic, 10, "key"), *numbered(topic, 5)])
        one = await waiting(15, 15)
        assert len(one.partitions) > 1 if features.partitions else one.partitions == ()
        assert one.hottest is None or one.hottest[1] > 0.5
        await drain(await self.member(transport, topic), 15)
        await waiting(0, 15)
        with pytest.raises(InvalidInput):
            await (await open_transport()).describe([f"nowhere-{uuid4().hex}"])

    async def test_describe_tells_lag(self, transport: Transport, topic: str, features: Features) -> None:
        """Waiting, in flight and the age of the oldest, for each group."""
        if not features.lag:
            pytest.skip("no lag")
        subscriber = await self.member(transport, topic)
        await transport.publish(numbered(topic, 10))
        held = await take(subscriber, 4)
        (stats,) = await transport.describe([topic])
        groups = {each.group: each for each in stats.groups}
        assert stats.topic == topic
        assert (groups["one"].waiting, groups["one"].in_flight) == (6, 4)
        assert (groups["two"].waiting, groups["two"].in_flight) == (10, 0)
        assert groups["one"].oldest_at == groups["two"].oldest_at != None  # noqa: E711 - one chain says it all
        await subscriber.ack(held)
        await drain(subscriber, 6)
        (stats,) = await transport.describe([topic])
        (one,) = (each for each in stats.groups if each.group == "one")
        assert (one.waiting, one.in_flight, one.oldest_at) == (0, 0, None)
        assert one.published in (None, 10)

    # closing

    async def test_closing_wakes_a_blocked_receive(self, transport: Transport, topic: str) -> None:
        """A receive that waits returns an empty list when its subscriber is closed."""
        subscriber = await self.member(transport, topic)
        receiving = asyncio.create_task(subscriber.receive(10, 3600))
        await asyncio.sleep(QUIET)
        await subscriber.close()
        async with asyncio.timeout(SOON):
            assert await receiving == []

    async def test_closing_the_transport_wakes_a_blocked_receive(self, transport: Transport, topic: str) -> None:
        """Closing a transport closes its subscribers."""
        subscriber = await self.member(transport, topic)
        receiving = asyncio.create_task(subscriber.receive(10, 3600))
        await asyncio.sleep(QUIET)
        await transport.close()
        async with asyncio.timeout(SOON):
            assert await receiving == []

    async def test_closing_twice_is_fine(self, transport: Transport, topic: str) -> None:
        """Both kinds of close are idempotent, in any order."""
        subscriber = await self.member(transport, topic)
        await subscriber.close()
        await subscriber.close()
        await transport.close()
        await subscriber.close()
        await transport.close()

    async def test_everything_is_refused_after_close(self, transport: Transport, topic: str) -> None:
        """Publish, subscribe, ensure, describe and receive say Closed."""
        subscriber = await self.member(transport, topic)
        await transport.close()
        with pytest.raises(Closed):
            await transport.publish([Message(topic, b"x")])
        with pytest.raises(Closed):
            await self.member(transport, topic)
        with pytest.raises(Closed):
            await transport.ensure([TopicSpec("new", ("one",))])
        with pytest.raises(Closed):
            await transport.describe([topic])
        with pytest.raises(Closed):
            await subscriber.receive(1, 0)

    async def test_a_published_message_outlives_its_publisher(
        self, open_transport: Open, topic: str, features: Features
    ) -> None:
        """What publish returned from is there for a transport opened later."""
        publisher = await open_transport()
        await publisher.publish(numbered(topic, 3))
        await publisher.close()
        found = await drain(await self.member(await open_transport(), topic), 3)
        assert as_ordered(features.ordered, found) == [b"0", b"1", b"2"]

    # many at once

    async def test_many_publishers_and_members_lose_and_double_nothing(self, open_transport: Open, topic: str) -> None:
        """Three publishers and three members at once: each message is worked on exactly once."""
        transports = [await open_transport() for _ in range(3)]
        members = [await self.member(each, topic) for each in transports]
        seen: list[bytes] = []

        async def publish(number: int) -> None:
            for batch in range(10):
                await transports[number].publish(
                    [Message(topic, b"%d-%d-%d" % (number, batch, n), f"k{n}" if n % 2 else None) for n in range(10)]
                )

        async def work(subscriber: Subscriber) -> None:
            while len(seen) < 300:
                got = await subscriber.receive(17, QUIET)
                seen.extend(bodies(got))
                await subscriber.ack(got)

        async with asyncio.timeout(4 * SOON):
            await asyncio.gather(*(publish(n) for n in range(3)), *(work(member) for member in members))
        assert sorted(seen) == sorted(
            b"%d-%d-%d" % (number, batch, n) for number in range(3) for batch in range(10) for n in range(10)
        )

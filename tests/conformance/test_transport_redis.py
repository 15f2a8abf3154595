"""The Redis transport against the suite, and what is particular to Redis, on the server that EDOW_REDIS names."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
import redis.exceptions

from edow.errors import InvalidInput, PublishFailed
from edow.model.message import Message
from edow.testing.polling import until
from edow.transport.contract import Delivery, Mode, Subscriber, Subscription, TopicSpec, Transport
from edow.transport.redis import cursor, shared
from tests.conformance.redis_tools import keys, member, opened, own_prefix, raw, root_of, transport_at
from tests.conformance.transport_suite import LEASE, SOON, TransportSuite, bodies, drain, numbered, take

LEFT = {"topics", "t:g", "t:g:head", "t:g:run", "t:g:bell"}  # of a topic without messages


class TestRedis(TransportSuite):
    factory = "tests.conformance.redis_tools:transport_at"

    @pytest.fixture
    async def address(self) -> AsyncIterator[str]:
        async with own_prefix() as url:
            yield url


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """The shared server, a prefix of our own."""
    async with own_prefix() as url:
        yield url


# the server loses what it had


async def test_messages_that_others_trimmed_hold_nobody_back(url: str) -> None:
    """XTRIM or XDEL by hand: what waited behind such a message is delivered, and nothing of it is left."""
    async with opened(url) as transport, raw(url) as other:
        subscriber = await member(transport)
        await transport.publish([*numbered("t", 3, "k"), Message("t", b"gone")])
        await subscriber.nack(await take(subscriber, 2))
        queue = f"{root_of(url)}:t:g"
        tokens = [token for token, _ in await other.xrange(queue)]
        await other.execute_command("XTRIM", queue, "MINID", tokens[1])
        await other.xdel(queue, tokens[3])
        assert await drain(subscriber, 2) == [b"1", b"2"]
        await transport.publish([Message("t", b"3", "k")])
        assert await drain(subscriber, 1) == [b"3"]
        await subscriber.close()
        assert await keys(other, url) == LEFT


@pytest.mark.parametrize("mode", ["shared", "exclusive", "broadcast"])
async def test_a_topic_that_was_made_again_without_our_group_is_read(
    url: str, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    """Also by one who has published to it meanwhile, and who was told of its groups: ours is not among them."""
    async with opened(url) as here, opened(url) as there, raw(url) as other:
        await here.ensure([TopicSpec("t", ("g",))])
        subscriber = await member(here, mode)
        await other.hdel(f"{root_of(url)}:topics", "t")
        await there.ensure([TopicSpec("t", ())])
        await here.publish([Message("t", b"to nobody")])

        async def heard() -> bool:
            await there.publish([Message("t", b"again")])
            return b"again" in bodies(await subscriber.receive(1, 0.1))

        async with asyncio.timeout(20):
            await until(heard)
    assert caplog.text.count("has lost its topics") == 1


# what is refused


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("/zero", "is not a database"),
        ("?colour=red", "no option 'colour'"),
        ("?timeout=0", "timeout"),
        ("?timeout=soon", "timeout"),
        ("?maxlen=-1", "maxlen"),
        ("?replicas=many", "replicas"),
        ("?prefix=a{b", "braces"),
        ("?max_message_bytes=99999999999", "max_message_bytes"),
        ("?ssl_cert_reqs=none", "rediss://"),
        (":port", "is not a port"),
    ],
)
def test_bad_options_are_refused_before_anything_is_tried(options: str, says: str) -> None:
    """The error names the option, and never the password."""
    with pytest.raises(InvalidInput, match=says) as failed:
        transport_at(f"redis://:secret@localhost{options}")
    assert "secret" not in str(failed.value)


async def test_maxlen_refuses_and_never_drops(url: str) -> None:
    """A queue of `maxlen` messages takes no more until some are acknowledged; of a large batch the rest is named."""
    async with opened(f"{url}&maxlen=5000") as transport:
        subscriber = await member(transport)
        with pytest.raises(PublishFailed, match="maxlen=5000") as failed:
            await transport.publish(numbered("t", 5003))
        assert failed.value.indexes == (5000, 5001, 5002)
        with pytest.raises(PublishFailed):
            await transport.publish([Message("t", b"one more")])
        assert await drain(subscriber, 1) == [b"0"]
        await transport.publish([Message("t", b"one more")])
        assert await drain(subscriber, 5000) == [*(b"%d" % n for n in range(1, 5000)), b"one more"]


async def test_a_cancelled_publish_is_never_half_done(url: str) -> None:
    """Cancelled at whatever moment, a batch is there as a whole or not at all."""
    async with opened(url) as transport:
        subscriber = await member(transport)
        for steps in range(12):
            publishing = asyncio.create_task(transport.publish(numbered("t", 50)))
            for _ in range(steps):
                await asyncio.sleep(0)
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        await transport.publish([Message("t", b"end")])
        found: list[bytes] = []
        while b"end" not in found:
            found += await drain(subscriber, 1)
        assert (len(found) - 1) % 50 == 0


# what others put there


async def test_what_others_put_into_a_stream_is_delivered_as_it_is(url: str) -> None:
    """An entry of another shape or with a key that is no text is poison for those above, and stops nobody here."""
    async with opened(url) as transport, raw(url) as other:
        await transport.ensure([TopicSpec("t", ("g", "x"))])
        subscriber = await member(transport)
        reader = await transport.subscribe(Subscription(topics=("t",), group="x", mode="exclusive"))
        for group in ("g", "x"):
            queue = f"{root_of(url)}:t:{group}"
            await other.xadd(queue, {b"\xff": b"\xfe", "payload": "hello"})
            await other.xadd(queue, {"b": "first", "k": b"\xff"})
            await other.xadd(queue, {"b": "second", "k": b"\xff"})
        got = await drain(subscriber, 3)
        assert got[1:] == [b"first", b"second"]
        assert b"hello" in got[0]
        assert b"hello" in (await drain(reader, 3))[0]
        assert "t:g:gate" not in await keys(other, url)


async def test_databases_know_nothing_of_each_other(url: str) -> None:
    """The number after the slash is the database."""
    async with opened(url) as here, opened(url.replace("?", "/1?")) as there:
        await here.ensure([TopicSpec("t", ("g",))])
        with pytest.raises(InvalidInput, match="'t'"):
            await there.publish([Message("t", b"x")])


async def test_the_limit_of_a_message_is_as_told(url: str) -> None:
    """`max_message_bytes` is the driver's limit: so many bytes pass, one more does not."""
    async with opened(f"{url}&max_message_bytes=10") as transport:
        subscriber = await member(transport)
        assert transport.features.max_message_bytes == 10
        with pytest.raises(InvalidInput, match="the limit is 10"):
            await transport.publish([Message("t", b"x" * 11)])
        await transport.publish([Message("t", b"x" * 10)])
        assert await drain(subscriber, 1) == [b"x" * 10]


async def test_prefixes_know_nothing_of_each_other(url: str) -> None:
    """Two systems on one server, with the same topics."""
    async with opened(url) as one, opened(f"{url}-2") as two:
        first, second = await member(one), await member(two)
        await one.publish([Message("t", b"one")])
        await two.publish([Message("t", b"two")])
        assert (await drain(first, 1), await drain(second, 1)) == ([b"one"], [b"two"])


# what stays


async def test_nothing_of_a_finished_message_stays(url: str) -> None:
    """Acknowledged, nacked, expired, keyed, handed back: in the end there are empty queues and nothing else."""
    async with opened(url) as transport, raw(url) as other:
        slow, subscriber = await member(transport, lease=LEASE), await member(transport)
        await transport.publish([Message("t", b"%d" % n, f"k{n % 7}" if n % 2 else None) for n in range(100)])
        await take(slow, 5)
        await subscriber.nack(await take(subscriber, 10), delay_seconds=0.01)
        closing = await member(transport)
        await take(closing, 3)
        await closing.close()
        assert len(await drain(subscriber, 100)) == 100
        await slow.close()
        await subscriber.close()
        assert await keys(other, url) == LEFT
        assert await other.xlen(f"{root_of(url)}:t:g") == 0


async def test_old_broadcasts_go_away(url: str) -> None:
    """What nobody can need any more is trimmed when the next is published."""
    async with opened(url) as transport, raw(url) as other:
        await transport.ensure([TopicSpec("control", ())])
        listener = await member(transport, "broadcast", topic="control")
        queue = f"{root_of(url)}:control:"
        async with other.pipeline(transaction=False) as batch:
            for number in range(1, 1001):
                batch.xadd(queue, {"b": "old"}, id=f"{number}-0")
            await batch.execute()
        await transport.publish([Message("control", b"new")])
        assert await other.xlen(queue) < 500
        while bodies(await take(listener, 1)) != [b"new"]:
            pass


async def test_one_key_with_a_long_backlog_does_not_hide_the_others(url: str) -> None:
    """However many messages of a busy key come first, another key's message behind them is found."""
    async with opened(url) as transport:
        busy, other = await member(transport), await member(transport)
        await transport.publish([*numbered("t", 10_000, "busy"), Message("t", b"x", "free")])
        held = await take(busy, 1)
        assert bodies(await take(other, 1)) == [b"x"]
        await busy.ack(held)
        assert await drain(busy, 3) == [b"1", b"2", b"3"]


async def test_a_busy_keys_large_backlog_is_passed_over_a_few_at_a_time(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does nothing else meanwhile, so what must wait is bounded in bytes, as what is taken is."""
    monkeypatch.setattr(shared, "CLAIM_BYTES", 3_000)
    async with opened(url) as transport, raw(url) as other:
        subscriber = await member(transport)
        busy = [Message("t", b"%4d" % number * 250, "k") for number in range(200)]
        await transport.publish([*busy, Message("t", b"x")])
        first = await take(subscriber, 1)
        assert await subscriber.receive(1, 0) == []
        assert 0 < await other.llen(f"{root_of(url)}:t:g:behind:k") < 20
        assert bodies(await take(subscriber, 1)) == [b"x"]
        await subscriber.ack(first)
        assert [int(each[:4]) for each in await drain(subscriber, 199)] == list(range(1, 200))


async def test_a_server_that_does_not_say_good_bye_is_left(url: str) -> None:
    """Over TLS that takes an answer; closing waits for it, and then goes without."""
    async with opened(url) as transport:
        line = transport._link.line()  # type: ignore[attr-defined]
        await line.ask(("PING",))
        wire = line._wire

        async def never(nowait: bool = False) -> None:
            raise redis.exceptions.TimeoutError("timed out closing")

        line._wire = SimpleNamespace(disconnect=never)
        await line.close()
        await wire.disconnect()


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
async def test_large_messages_are_taken_a_few_at_a_time(url: str, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the limit, only so many bytes are taken at once; all arrive in order, each as its first delivery."""
    monkeypatch.setattr(shared, "CLAIM_BYTES", 3_000)
    monkeypatch.setattr(cursor, "READ_BYTES", 3_000)
    async with opened(url) as transport:
        subscriber = await member(transport)
        await subscriber.close()
        subscriber = await member(transport, mode)
        await transport.publish(
            [Message("t", b"%4d" % number * 250, "k" if number % 5 else None) for number in range(200)]
        )
        got: list[Delivery] = []
        sizes: list[int] = []
        while len(got) < 200:
            some = await subscriber.receive(1000, SOON)
            await subscriber.ack(some)
            got += some
            sizes.append(len(some))
        assert max(sizes[8:]) <= 4
        assert {each.count for each in got} == {1}
        for key in ("k", None):
            numbers = [int(each.body[:4]) for each in got if each.key == key]
            assert numbers == sorted(numbers)
        assert len(numbers) == 40


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
async def test_what_is_handed_back_in_any_order_comes_in_order(url: str, mode: Mode) -> None:
    """Messages of a key that are nacked later first, with delays, come again one by one in their order."""
    async with opened(url) as transport:
        await transport.ensure([TopicSpec("t", ("g",))])
        subscriber = await member(transport, mode)
        await transport.publish(numbered("t", 3, "k"))
        if mode == "exclusive":
            first, second, third = await take(subscriber, 3)
            await subscriber.nack([third])
            await subscriber.nack([first], delay_seconds=0.1)
            await subscriber.nack([second, first])  # the first is handed back already
        else:
            await subscriber.nack(await take(subscriber, 1), delay_seconds=0.1)
        again = await take(subscriber, 1)
        assert bodies(again) == [b"0"]
        assert again[0].count == 2
        await subscriber.nack(again)
        assert await drain(subscriber, 3) == [b"0", b"1", b"2"]


async def test_late_messages_of_a_cancelled_receive_are_not_handed_out(url: str) -> None:
    """What was fetched for a receive that was cancelled, and whose lease may have ended, is left to come again."""
    async with opened(url) as transport:
        subscriber = await member(transport, lease=0.2)
        other = await member(transport)
        receiving = asyncio.create_task(subscriber.receive(10, 3600))
        await asyncio.sleep(0.05)
        receiving.cancel()
        await transport.publish([Message("t", b"x")])  # reaches the fetch that goes on
        (again,) = await take(other, 1)
        assert await subscriber.receive(10, 0.05) == []
        assert await other.extend([again]) == []


async def test_describe_counts_what_was_ever_published(url: str) -> None:
    """The count goes on growing while messages come and go, and begins with nothing."""
    async with opened(url) as transport:
        subscriber = await member(transport)
        (before,) = await transport.describe(["t"])
        await transport.publish(numbered("t", 5))
        await drain(subscriber, 5)
        (after,) = await transport.describe(["t"])
        assert (before.groups[0].published, after.groups[0].published) == (0, 5)
        with pytest.raises(InvalidInput, match="nowhere"):
            await transport.describe(["nowhere"])


@pytest.mark.parametrize("seed", [1, 2])
async def test_order_by_key_survives_whatever_members_do(url: str, seed: int) -> None:
    """Members acknowledge, hand back, let leases run out and leave, at random: of a key, no message is delivered before
    an earlier one was acknowledged, all are acknowledged in the end, and nothing is left of them.
    """
    chance = random.Random(seed)
    sent = [(chance.choice([None, *"pqrst"]), number) for number in range(300)]
    acked: set[tuple[str | None, int]] = set()

    def is_next(key: str | None, number: int) -> bool:
        return key is None or all(each in acked for each in sent[:number] if each[0] == key)

    async def work(transport: Transport) -> None:
        subscriber = await member(transport, lease=0.3)
        for delivery in await subscriber.receive(chance.randint(1, 20), 0.1):
            assert is_next(delivery.key, int(delivery.body))
            fate = chance.random()
            if fate < 0.8:
                acked.add((delivery.key, int(delivery.body)))
                await subscriber.ack([delivery])
            elif fate < 0.9:
                await subscriber.nack([delivery], chance.choice([0, 0.05]))
        if chance.random() < 0.9:
            await subscriber.close()

    async def work_on(transport: Transport) -> None:
        while len(acked) < len(sent):
            await work(transport)

    async with opened(url) as one, opened(url) as two, raw(url) as other:
        await one.ensure([TopicSpec("t", ("g",))])
        for first in range(0, len(sent), 50):
            await one.publish([Message("t", b"%d" % number, key) for key, number in sent[first : first + 50]])
        await asyncio.gather(*(work_on(each) for each in (one, two, one, two)))
        rest = await member(one)
        await until(lambda: is_empty(one, rest))  # leases may have been lost just before they were acknowledged
        await rest.close()
        assert await keys(other, url) <= LEFT | {
            "t:g:owners"
        }  # a member that did not leave is forgotten when it is due


async def is_empty(transport: Transport, subscriber: Subscriber) -> bool:
    await subscriber.ack(await subscriber.receive(100, 0.1))
    (stats,) = await transport.describe(["t"])
    return stats.groups[0].waiting + stats.groups[0].in_flight == 0


async def test_a_delivery_is_told_by_queue_and_id(url: str) -> None:
    """Messages of two topics have the same id when published together; acknowledging both acknowledges both."""
    async with opened(url) as transport:
        await transport.ensure([TopicSpec(name, ("g",)) for name in ("a", "b")])
        both = await transport.subscribe(Subscription(topics=("a", "b"), group="g"))
        await transport.publish([Message("a", b"a"), Message("b", b"b")])
        held: list[Delivery] = await take(both, 2)
        await both.ack([*held, *held])
        assert [each.groups[0].in_flight for each in await transport.describe(["a", "b"])] == [0, 0]
        assert [each.groups[0].waiting for each in await transport.describe(["a", "b"])] == [0, 0]

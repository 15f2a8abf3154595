"""A store and a transport in one database: what one transaction of both promises, and what that costs nobody."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from edow.app import connect
from edow.errors import Closed, LeaseLost
from edow.model.message import Message
from edow.store.contract import Commit, Store
from edow.transport import numbered
from edow.transport.contract import Mode, Subscription, TopicSpec, Transport
from tests.conformance.store_suite import own
from tests.conformance.transport_suite import QUIET, drain, take

TASKS = Subscription(topics=("tasks",), group="workers")
RESULTS = Subscription(topics=("results",), group="us", mode="exclusive")


class Joined(NamedTuple):
    store: Store
    transport: Transport


@pytest.fixture
async def joined(database: str) -> AsyncIterator[Joined]:
    store, transport, together = connect(database, database)
    assert together
    await store.open()
    await transport.open()
    await transport.ensure([TopicSpec("tasks", ("workers",)), TopicSpec("results", ("us",))])
    yield Joined(store, transport)
    await transport.close()
    await store.close()


async def test_state_messages_and_acks_commit_together(joined: Joined) -> None:
    """A commit with an enlisted transport publishes its messages, consumes its inputs and gives no outbox numbers."""
    leases = await own(joined.store)
    results = await joined.transport.subscribe(RESULTS)
    workers = await joined.transport.subscribe(TASKS)
    await joined.transport.publish([Message("results", b"1"), Message("results", b"2")])
    got = await take(results, 2)
    receiving = asyncio.create_task(workers.receive(10, 3600))
    messages = [Message("tasks", b"do", "key")]
    assert await joined.store.commit(Commit(leases=leases, messages=messages, acks=got[:1])) == []
    (task,) = await receiving
    assert (task.body, task.key) == (b"do", "key")
    assert await joined.store.outbox_read(range(joined.store.shards), 10) == []
    await results.close()
    results = await joined.transport.subscribe(RESULTS)
    assert await drain(results, 1) == [b"2"]


async def test_a_lost_lease_publishes_and_acknowledges_nothing(joined: Joined) -> None:
    """What LeaseLost left undone includes messages and acks."""
    results = await joined.transport.subscribe(RESULTS)
    workers = await joined.transport.subscribe(TASKS)
    await joined.transport.publish([Message("results", b"1")])
    got = await take(results, 1)
    with pytest.raises(LeaseLost):
        await joined.store.commit(Commit(leases={0: 99}, messages=[Message("tasks", b"x")], acks=got))
    assert await workers.receive(10, QUIET) == []
    (stats,) = await joined.transport.describe(["results"])
    assert stats.groups[0].waiting == 1


async def test_claimed_deliveries_can_be_acknowledged_by_a_commit(joined: Joined) -> None:
    """Acks of a shared subscription work inside the store's transaction, too, and let the key's next one through."""
    workers = await joined.transport.subscribe(TASKS)
    await joined.transport.publish([Message("tasks", b"1", "k"), Message("tasks", b"2", "k")])
    got = await take(workers, 1)
    assert await workers.receive(10, QUIET) == []
    await joined.store.commit(Commit(leases={}, acks=got))
    assert await drain(workers, 1) == [b"2"]


async def test_an_exclusive_nack_is_settled_by_a_commit(joined: Joined) -> None:
    """What waits behind a nacked message goes on when a commit acknowledges it."""
    results = await joined.transport.subscribe(RESULTS)
    await joined.transport.publish([Message("results", b"1", "k")])
    await results.nack(await take(results, 1))
    again = await take(results, 1)
    await joined.transport.publish([Message("results", b"2", "k")])
    assert await results.receive(10, QUIET) == []
    receiving = asyncio.create_task(results.receive(10, 3600))
    await joined.store.commit(Commit(leases={}, acks=again))
    assert [each.body for each in await receiving] == [b"2"]


async def test_a_hot_key_does_not_keep_others_waiting(joined: Joined) -> None:
    """Behind thousands of messages of one key, those of others are delivered although it makes no progress."""
    await joined.transport.publish([Message("tasks", b"%d" % n, "hot") for n in range(5000)])
    await joined.transport.publish([Message("tasks", b"cold", "cold"), Message("tasks", b"none")])
    subscriber = await joined.transport.subscribe(TASKS)
    got = await take(subscriber, 3)
    assert sorted(each.body for each in got) == [b"0", b"cold", b"none"]
    await subscriber.ack(got)
    assert await drain(subscriber, 50) == [b"%d" % n for n in range(1, 51)]


async def test_an_emptied_queue_of_results_is_told_as_empty_however_many_there_were(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what is counted one by one the number is estimated, and nothing is nothing."""
    for module in (sys.modules[type(joined.transport).__module__], numbered):
        monkeypatch.setattr(module, "EXACT", 3)
    results = await joined.transport.subscribe(RESULTS)
    await joined.transport.publish([Message("results", b"%d" % each) for each in range(10)])
    got = await take(results, 10)
    assert (await joined.transport.describe(["results"]))[0].groups[0].waiting == 10
    await results.ack(got)
    assert (await joined.transport.describe(["results"]))[0].groups[0].waiting == 0


@pytest.mark.parametrize("mode", ["shared", "exclusive", "broadcast"])
async def test_a_subscription_that_close_overtakes_is_refused(joined: Joined, mode: Mode) -> None:
    """What it has made is closed: nobody else would."""
    transport: Any = joined.transport
    made, make = list[Any](), transport._subscriber

    async def slow(*arguments: Any) -> Any:
        made.append(await make(*arguments))
        await transport.close()
        return made[0]

    transport._subscriber = slow
    with pytest.raises(Closed):
        await transport.subscribe(Subscription(topics=("tasks",), group="workers", mode=mode))
    assert made[0].is_closed

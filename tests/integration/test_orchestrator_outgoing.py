"""The publishing side of an orchestrator over a broker whose topics come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from edow.engine.decision import Dispatch
from edow.errors import InvalidInput, PublishFailed
from edow.model import topics, wire
from edow.model.execution import Execution
from edow.model.message import Message
from edow.model.policy import StepPolicy, Timeouts
from edow.orchestrator.draft import Draft
from edow.orchestrator.outgoing import Outgoing, Suspect
from edow.orchestrator.stats import Stats
from edow.transport.contract import Features, GroupStats, TopicSpec, TopicStats

FEATURES = Features(
    name="memory",
    durable=False,
    ordered_by_key=True,
    delivery_count=True,
    native_delay=True,
    lease_extension=True,
    exclusive=True,
    broadcast=True,
    replay=False,
    waiting=True,
    lag=True,
    partitions=False,
    max_message_bytes=1_000,
)


class Broker:
    """Has topics until somebody deletes them; `forbidden` cannot be made at all."""

    features = FEATURES

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.published: list[Message] = []
        self.forbidden = ""

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        if any(spec.name == self.forbidden for spec in specs):
            raise InvalidInput(f"topic {self.forbidden!r} cannot be made")
        self.topics.update(spec.name for spec in specs)

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        for message in messages:
            self._check(message.topic)
            if len(message.body) > FEATURES.max_message_bytes:
                raise InvalidInput("over the limit")
        self.published += messages

    async def describe(self, names: Sequence[str]) -> list[TopicStats]:
        for name in names:
            self._check(name)
        return [TopicStats(name, [GroupStats(topics.WORKERS, 0, 0, None)]) for name in names]

    def _check(self, name: str) -> None:
        if name not in self.topics:
            raise InvalidInput(f"topic {name!r} does not exist")


@pytest.fixture
def broker() -> Broker:
    return Broker()


class Counter:
    """All of a store that is used here."""

    healed = 0

    async def count_healed(self, count: int) -> None:
        self.healed += count


@pytest.fixture
def store() -> Counter:
    return Counter()


@pytest.fixture
def looked(store: Counter, monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[int]:
    """How many attempts each look that found some has published again."""
    counts: asyncio.Queue[int] = asyncio.Queue()
    monkeypatch.setattr(store, "count_healed", counts.put)
    return counts


@pytest.fixture
def outgoing(broker: Broker, store: Counter) -> Outgoing:
    return Outgoing(store, broker, Stats(), 1.0)  # type: ignore[arg-type]


def task(step: str, topic: str = "default", size: int = 0) -> Message:
    dispatch = Dispatch(
        step=step,
        task="task",
        attempt=1,
        args=msgspec.Raw(msgspec.json.encode({"text": "x" * size})),
        key=None,
        policy=StepPolicy(timeouts=Timeouts(start_to_close=30.0), topic=topic),
        scheduled_at=0,
    )
    return Draft(0, 4).task_message(Execution(id="e", workflow="w", shard=2), dispatch)


def suspect(step: str, published_at: int = 0) -> Suspect:
    return Suspect(step, task(step), published_at)


async def look(outgoing: Outgoing, step: str, now: int) -> None:
    """For this one alone."""
    outgoing.forget_suspects()
    found = suspect(step)
    outgoing.suspect([found], now)
    await outgoing.find_lost([found], now)


async def test_a_topic_that_was_deleted_is_made_again(outgoing: Outgoing, broker: Broker) -> None:
    """Nobody is told anything; the whole batch arrives."""
    await outgoing.publish([task("a")])
    broker.topics.clear()
    await outgoing.publish([task("b"), task("c")])
    assert [wire.decode_task(each.body).step for each in broker.published] == ["a", "b", "c"]


async def test_a_message_that_is_refused_is_told_to_its_execution(outgoing: Outgoing, broker: Broker) -> None:
    """Over the limit, or on a topic that cannot be made; what was published with it arrives."""
    broker.forbidden = topics.task_topic("forbidden")
    await outgoing.publish([task("a"), task("b", size=2_000), task("c", "forbidden"), task("d")])
    steps = [wire.decode_task(each.body).step for each in broker.published if each.topic.startswith("edow.tasks")]
    assert steps == ["a", "d"]
    answers = [wire.decode_result(each.body) for each in broker.published if each.topic == topics.result_topic(2)]
    assert [(each.step, each.outcome, each.final) for each in answers] == [("b", "failed", True), ("c", "failed", True)]
    assert b"over the limit" in bytes(answers[0].data)
    assert b"cannot be made" in bytes(answers[1].data)


async def test_only_what_the_broker_does_not_have_is_published_again(outgoing: Outgoing, broker: Broker) -> None:
    """Of a batch that fails by half the other half comes once, in order."""
    publish, failing = broker.publish, [(1, 2), (1,)]

    async def by_half(messages: Sequence[Message], *, durable: bool = True) -> None:
        missing = failing.pop(0) if failing else ()
        await publish([each for index, each in enumerate(messages) if index not in missing])
        if missing:
            raise PublishFailed("some are missing", missing)

    broker.publish = by_half  # type: ignore[method-assign]
    await outgoing.publish([task("a"), task("b"), task("c"), task("d")])
    assert [wire.decode_task(each.body).step for each in broker.published] == ["a", "d", "b", "c"]


async def test_where_only_about_is_told_what_waits_nothing_is_decided_by_it(outgoing: Outgoing, broker: Broker) -> None:
    """A broker that counts nothing in the topic, and may be wrong: an attempt that is out for minutes is not lost."""
    broker.features = msgspec.structs.replace(FEATURES, lag=False)
    await look(outgoing, "a", 8 * 60_000_000)
    assert broker.published == []
    broker.features = FEATURES
    await look(outgoing, "a", 8 * 60_000_000)
    assert len(broker.published) == 1


async def test_where_nothing_is_told_of_what_waits_it_is_published_again_ever_more_rarely(
    outgoing: Outgoing, broker: Broker
) -> None:
    """When it has been out for more than ten minutes, and then at twice the age each time: however many wait, and
    however long, what is published again is never more than what is done.
    """
    broker.features = msgspec.structs.replace(FEATURES, lag=False)
    minutes, again = [1, 2, 4, 8, *range(16, 24 * 60, 10)], []
    for minute in minutes:
        before = len(broker.published)
        await look(outgoing, "a", minute * 60_000_000)
        again += [minute] * (len(broker.published) - before)
    assert again == [16, 26, 46, 86, 166, 326, 646, 1286]


async def test_looking_for_lost_messages_where_their_topic_is_gone(
    outgoing: Outgoing, broker: Broker, store: Counter
) -> None:
    """The first look finds out that it is; the next one makes it and publishes what was in it."""
    await outgoing.publish([task("a")])
    broker.topics.clear()
    broker.published.clear()
    for _ in range(2):
        await look(outgoing, "a", 100_000_000)
    assert [wire.decode_task(each.body).step for each in broker.published] == ["a"]
    assert store.healed == 1


async def test_attempts_that_wait_to_be_looked_for_are_bounded_in_bytes(
    outgoing: Outgoing, broker: Broker, looked: asyncio.Queue[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is looked for once, with those that wait beside it; the ones beyond are left for their next time."""
    monkeypatch.setattr("edow.orchestrator.outgoing.MOST_SUSPECT_BYTES", 2 * len(task("a").body) - 1)
    outgoing.suspect([suspect("a")], 1)
    outgoing.suspect([suspect("a"), suspect("b"), suspect("c")], 100_000_000)
    looking = asyncio.create_task(outgoing.look())
    assert await looked.get() == 2
    outgoing.suspect([suspect("d")], 200_000_000)
    assert await looked.get() == 1
    looking.cancel()
    assert [wire.decode_task(each.body).step for each in broker.published] == ["a", "b", "d"]


class Asked:
    """The broker has been asked what it has, and answers when it is told to."""

    def __init__(self, broker: Broker) -> None:
        self._describe = broker.describe
        self._waiting: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        broker.describe = self._describing  # type: ignore[method-assign]

    async def once(self) -> asyncio.Event:
        """What lets it answer."""
        return await self._waiting.get()

    async def _describing(self, names: Sequence[str]) -> list[TopicStats]:
        answer = asyncio.Event()
        await self._waiting.put(answer)
        await answer.wait()
        return await self._describe(names)


async def test_what_is_answered_while_the_broker_is_asked_is_not_published_again(
    outgoing: Outgoing, broker: Broker, looked: asyncio.Queue[int]
) -> None:
    """Nor is an attempt that another one has followed: that is looked for next, by its own time."""
    asked = Asked(broker)
    outgoing.suspect([suspect("a"), suspect("b"), suspect("c")], 100_000_000)
    looking = asyncio.create_task(outgoing.look())
    answer = await asked.once()
    outgoing.unsuspect(["a", "somebody else's"])
    outgoing.suspect([suspect("b", 100_000_000), suspect("c")], 200_000_000)
    answer.set()
    assert await looked.get() == 1
    assert [wire.decode_task(each.body).step for each in broker.published] == ["c"]
    (await asked.once()).set()
    assert await looked.get() == 1
    assert [wire.decode_task(each.body).step for each in broker.published] == ["c", "b"]
    looking.cancel()


async def test_what_is_forgotten_while_the_broker_is_asked_is_not_published_again(
    outgoing: Outgoing, broker: Broker, looked: asyncio.Queue[int]
) -> None:
    """Its shard is with somebody else. What is suspected when it has come back is looked for anew."""
    asked = Asked(broker)
    outgoing.suspect([suspect("a"), suspect("b")], 100_000_000)
    looking = asyncio.create_task(outgoing.look())
    answer = await asked.once()
    outgoing.forget_suspects()
    outgoing.suspect([suspect("b")], 200_000_000)
    answer.set()
    answer = await asked.once()
    assert broker.published == []
    answer.set()
    assert await looked.get() == 1
    assert [wire.decode_task(each.body).step for each in broker.published] == ["b"]
    looking.cancel()

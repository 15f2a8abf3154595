"""The parts of the SQS driver that need no server: names, bodies, what is in hand, batches that fail in part."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from edow.address import Address
from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.contract import Delivery, Mode, Subscription, TopicSpec
from edow.transport.sqs import connect
from edow.transport.sqs.bodies import decode, encode
from edow.transport.sqs.options import Options, Order, read_options
from edow.transport.sqs.subscriber import Source, SqsSubscriber
from edow.transport.sqs.topics import Names
from edow.transport.sqs.transport import SqsTransport

URL = "sqs://eu-west-1"
QUEUE = "http://localhost/1/tasks__g.fifo"


# options and names


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqs://", "names no region"),
        ("sqs://localhost:9324", "names no region"),
        ("sqs://eu-west-1/queue", "names no region"),
        ("sqs://id@eu-west-1", "ID:SECRET@REGION"),
        ("sqs://eu-west-1?session_token=geheim", "session_token goes with credentials"),
        ("sqs://eu-west-1?colour=red", "no option 'colour'"),
        ("sqs://eu-west-1?poll=21", r"poll=21: .*<= 20.*poll"),
        ("sqs://eu-west-1?poll=0", ">= 1.*poll"),
        ("sqs://eu-west-1?fifo=perhaps", "fifo"),
        ("sqs://eu-west-1?sns=some", "sns"),
        ("sqs://eu-west-1?max_message_bytes=1048576", "<= 1047552.*max_message_bytes"),
        ("sqs://eu-west-1?retention=59", ">= 60.*retention"),
        ("sqs://eu-west-1?concurrency=0", ">= 1.*concurrency"),
        ("sqs://eu-west-1?receivers=65", "<= 64.*receivers"),
        ("sqs://eu-west-1?timeout=0", ">= 0.1.*timeout"),
        ("sqs://eu-west-1?refresh=0", ">= 0.1.*refresh"),
        ("sqs://eu-west-1?endpoint=localhost:9324", "endpoint"),
    ],
)
def test_a_bad_url_is_refused_before_anything_is_tried(url: str, says: str) -> None:
    """The error names the option and what it may be, and never a secret."""
    with pytest.raises(InvalidInput, match=says) as failed:
        connect(
            Address(url.replace("sqs://", "sqs://id:geheim@") if "id@" not in url and "token" not in url else url), int
        )
    assert "geheim" not in str(failed.value)


name = st.text(alphabet=st.characters(exclude_categories=[]), min_size=1, max_size=4)


def names(**options: Any) -> Names:
    return Names(Options(**options))


def test_names_can_be_read_at_amazon() -> None:
    """EDOW's own topics keep their names but for the dots."""
    assert names().queue("edow.tasks.default", "workers") == "edow-tasks-default__workers.fifo"
    assert names(fifo=False, prefix="shop.").queue("edow.tasks.default", "w") == "shop-edow-tasks-default__w"
    assert names(fifo=False).queue("edow.results.3", "orchestrators") == "edow-results-3__orchestrators.fifo"


@given(name, name, st.text(max_size=3), st.booleans())
def test_every_name_comes_back(topic: str, group: str, prefix: str, fifo: bool) -> None:
    """Whatever the letters: a queue's name tells its group, and is no queue of any other topic."""
    system = names(prefix=prefix, fifo=fifo)
    try:
        queue = system.queue(topic, group)
    except InvalidInput:
        return
    assert len(queue) <= 80
    assert queue.partition("__")[0] == system.topic(topic)
    assert system.group(topic, queue) == group
    assert system.group(topic + "x", queue) is None


def test_what_is_no_groups_queue_is_passed_over() -> None:
    """Queues of broadcast subscribers, of another order, of other topics and systems, and of others altogether."""
    found = ["a-t_s_0123", "a-t__g", "b-t__g.fifo", "a-t.fifo", "a-t__g__h.fifo", "a-tt__g.fifo", ""]
    assert [names(prefix="a.").group("t", name) for name in found] == [None] * len(found)


def test_a_name_that_does_not_fit_is_refused() -> None:
    """SQS allows 80 letters."""
    with pytest.raises(InvalidInput, match="SQS allows 80: use a shorter topic, group or prefix"):
        names().queue("t" * 70, "workers")


async def test_an_empty_name_is_refused() -> None:
    """Of a topic and of a group."""
    for spec in (TopicSpec("", ("g",)), TopicSpec("t", ("g", ""))):
        with pytest.raises(InvalidInput, match="need names"):
            await publisher(Stub()).ensure([spec])


# bodies

any_text = st.text(alphabet=st.characters(exclude_categories=[]), max_size=70)


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(str.encode),
    st.none() | any_text,
    st.sampled_from(get_args(Order)),
)
def test_any_body_and_key_come_back(body: bytes, key: str | None, order: Order) -> None:
    """What is sent has only characters that SQS takes, is not empty, and decodes to what it was."""
    entry = encode(Message("t", body, key), "call-0", order)
    assert entry["MessageBody"]
    assert all(
        each in "\t\n\r" or " " <= each <= "\ud7ff" or "\ue000" <= each <= "\ufffd" or each > "\uffff"
        for each in entry["MessageBody"]
    )
    received = {"Body": entry["MessageBody"], "MessageAttributes": entry["MessageAttributes"]}
    if order != "none":
        assert 0 < len(entry["MessageGroupId"]) <= 128
        assert entry["MessageGroupId"].isascii()
        received["Attributes"] = {"MessageGroupId": entry["MessageGroupId"]}
    assert decode(received) == (body, key)


def test_an_ordinary_message_is_what_an_ordinary_client_would_send() -> None:
    """JSON goes as it is, with its key as the FIFO group; without a key the group is its own, or the topic's."""
    assert encode(Message("t", b'{"n": 1}', "order-7"), "call-0", "keys") == {
        "MessageBody": '{"n": 1}',
        "MessageAttributes": {},
        "MessageGroupId": "order-7",
        "MessageDeduplicationId": "call-0",
    }
    assert encode(Message("t", b"x"), "call-3", "keys")["MessageGroupId"] == "~call-3"
    assert encode(Message("t", b"x"), "call-3", "all")["MessageGroupId"] == "~"
    assert encode(Message("t", b"x"), "call-3", "none") == {"MessageBody": "x", "MessageAttributes": {}}
    assert decode({"Body": "hello", "Attributes": {"MessageGroupId": "theirs"}}) == (b"hello", "theirs")


# receiving


class Queue:
    """A client of SQS that answers receives one after the other, the last of them again and again."""

    def __init__(self, *answers: str) -> None:
        self.deleted: list[str] = []
        self.counts: list[int] = []  # of deliveries, by answer; then 3
        self.leases: list[int] = []  # that were asked for
        self.kept: dict[str, int] = {}
        self.faults: dict[str, bool] = {}  # by receipt; True: it is not ours
        self._answers = list(answers)
        self.wanted = asyncio.Event()
        self.changed = asyncio.Event()

    async def receive_message(self, VisibilityTimeout: int, **_: object) -> dict[str, Any]:  # noqa: N803
        self.leases.append(VisibilityTimeout)
        count = self.counts.pop(0) if self.counts else 3
        if not self._answers:
            await self.wanted.wait()
        answer = self._answers.pop(0) if self._answers else ""
        return {
            "Messages": [
                {
                    "Body": name,
                    "ReceiptHandle": name,
                    "Attributes": {"MessageGroupId": name[0].replace("-", "~"), "ApproximateReceiveCount": f"{count}"},
                }
                for name in answer.split()
            ]
        }

    async def delete_message_batch(self, Entries: Sequence[dict[str, Any]], **_: object) -> dict[str, Any]:  # noqa: N803
        self.deleted += [entry["ReceiptHandle"] for entry in Entries]
        return self._failed(Entries)

    async def change_message_visibility_batch(
        self,
        Entries: Sequence[dict[str, Any]],  # noqa: N803
        **_: object,
    ) -> dict[str, Any]:
        self.changed.set()
        self.kept |= {entry["ReceiptHandle"]: entry["VisibilityTimeout"] for entry in Entries}
        return self._failed(Entries)

    def _failed(self, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
        failed = [(entry, self.faults.get(entry["ReceiptHandle"])) for entry in entries]
        return {"Failed": [{"Id": entry["Id"], "SenderFault": fault} for entry, fault in failed if fault is not None]}


def reading(queue: Queue, lease: float = 60.0, mode: Mode = "shared") -> SqsSubscriber:
    """`a1` has the key `a`, `-1` none."""
    transport = publisher(queue)
    source = Source("t", QUEUE)
    subscription = Subscription(topics=("t",), group="g", mode=mode, lease_seconds=lease)
    return SqsSubscriber(transport._service, Options(), subscription, [source])


async def take(reader: SqsSubscriber, limit: int = 100, wait: float = 0.05) -> dict[str, Delivery]:
    return {each.body.decode(): each for each in await reader.receive(limit, wait)}


async def test_the_next_of_a_key_is_ready_when_the_previous_is_done() -> None:
    """Keys go on independently of each other; without a key nothing waits. Who has only waited is delivered for the
    first time, though SQS counts deliveries of all that it gives out together.
    """
    reader = reading(Queue("a1 a2 b1 a3 -1 -2"))
    got = await take(reader)
    assert {name: each.count for name, each in got.items()} == {"a1": 3, "b1": 3, "-1": 3, "-2": 3}
    await reader.ack([got["b1"], got["-1"]])
    assert await take(reader) == {}
    await reader.ack([got["a1"], got["a1"]])
    again = await take(reader)
    assert {name: each.count for name, each in again.items()} == {"a2": 1}
    await reader.ack([got["a1"], again["a2"]])
    assert [*await take(reader)] == ["a3"]
    await reader.close()


async def test_what_is_given_up_takes_with_it_what_waits_behind_it() -> None:
    """At once, also when it comes later itself; nothing of it can be acknowledged any more."""
    queue = Queue("a1 a2 a3 b1")
    reader = reading(queue)
    got = await take(reader)
    await reader.nack([got["a1"]], 1.5)
    assert queue.kept == {"a1": 2, "a2": 0, "a3": 0}
    await reader.ack([got["a1"]])
    assert await take(reader) == {}
    assert queue.deleted == []
    await reader.close()
    assert queue.kept == {"a1": 2, "a2": 0, "a3": 0, "b1": 0}


async def test_a_lease_is_prolonged_with_those_that_wait() -> None:
    """What is lost is told, and not ours to acknowledge."""
    queue = Queue("a1 a2 b1 b2")
    reader = reading(queue, 59.5)
    got = await take(reader)
    queue.faults = {"b1": True}
    assert await reader.extend([*got.values()]) == [got["b1"]]
    assert queue.kept == {"a1": 60, "a2": 60, "b1": 60, "b2": 60}
    await reader.ack([*got.values()])
    await reader.close()
    assert queue.deleted == ["a1"]


async def test_what_could_not_be_acknowledged_is_again() -> None:
    """By itself, and the next of its key waits for that; closing waits, too."""
    queue = Queue("a1 a2 a3")
    reader = reading(queue)
    queue.faults = {"a1": False}
    await reader.ack([*(await take(reader)).values()])
    assert await take(reader) == {}
    queue.faults = {}
    got = await take(reader, wait=5)
    assert [*got] == ["a2"]
    await reader.ack([*got.values()])
    await reader.close()
    assert {*queue.deleted} == {"a1", "a2"}
    assert queue.kept == {"a3": 0}


async def test_what_comes_after_close_is_given_back() -> None:
    """A poll under way is never broken off."""
    queue = Queue()
    reader = reading(queue)
    assert await take(reader) == {}
    await reader.close()
    queue._answers = ["a1 a2 -1"]
    queue.wanted.set()
    async with asyncio.timeout(5):
        await queue.changed.wait()
    assert queue.kept == {"a1": 0, "a2": 0, "-1": 0}


async def test_what_has_waited_for_most_of_its_lease_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes again when the lease has ended, to whoever has time for it."""
    reader = reading(Queue("a1 a2 -1 -2"), 1.0)
    assert len(await take(reader, 1)) == 1
    await asyncio.sleep(0.6)
    assert await take(reader) == {}
    await reader.close()


async def test_a_lease_of_results_that_come_again_and_again_grows() -> None:
    """It ended before they could be acknowledged, though not because their owner was killed. It stays long then."""
    queue = Queue(*["-1"] * 8)
    queue.counts = [1, 2, 3, 4, 5, 60_000, 1, 1]
    reader = reading(queue, mode="exclusive")
    async with asyncio.timeout(30):
        while len(queue.leases) < 8:
            await reader.receive(1, 0.05)
    assert queue.leases == [2, 2, 2, 4, 8, 16, 30, 30]
    await reader.close()


# publishing


class Stub:
    """A client of SQS with one queue that fails as it is told: for each send the indexes that fail, or an error."""

    code = "Oops"

    def __init__(self, *failures: Mapping[int, bool] | Exception) -> None:
        self.sent: list[list[dict[str, Any]]] = []
        self._failures = list(failures)

    async def list_queues(self, **_: object) -> dict[str, Any]:
        return {"QueueUrls": ["http://localhost/1/t__g.fifo"]}

    async def send_message_batch(self, Entries: Sequence[dict[str, Any]], **_: object) -> dict[str, Any]:  # noqa: N803
        failure = self._failures.pop(0) if self._failures else {}
        if isinstance(failure, Exception):
            raise failure
        self.sent.append([entry for place, entry in enumerate(Entries) if place not in failure])
        return {
            "Failed": [
                {"Id": Entries[place]["Id"], "SenderFault": final, "Code": self.code, "Message": "no"}
                for place, final in failure.items()
            ]
        }

    @property
    def bodies(self) -> list[str]:
        return [entry["MessageBody"] for batch in self.sent for entry in batch]


def publisher(stub: Stub | Queue, options: str = "timeout=5") -> SqsTransport:
    address = Address(f"{URL}?sns=none&{options}")
    transport = SqsTransport(address, read_options(address), lambda: 0)
    transport._service._clients["sqs"] = stub
    transport._is_open = True
    return transport


async def test_what_is_not_taken_is_named() -> None:
    """The rest of its batch is published."""
    stub = Stub({1: True})
    with pytest.raises(PublishFailed, match=r"1 of 3 messages were not sent: Oops: no") as failed:
        await publisher(stub).publish([Message("t", b"%d" % n) for n in range(3)])
    assert failed.value.indexes == (1,)
    assert stub.bodies == ["0", "2"]
    ids = [entry["MessageDeduplicationId"] for batch in stub.sent for entry in batch]
    assert [id.rpartition("-")[2] for id in ids] == stub.bodies


async def test_nothing_of_a_key_overtakes_what_failed() -> None:
    """What would have been sent after it is named, too."""
    stub = Stub({9: True})
    messages = [Message("t", b"%d" % n, "k" if n % 9 == 0 else f"key-{n}") for n in range(30)]
    with pytest.raises(PublishFailed) as failed:
        await publisher(stub, "concurrency=1").publish(messages)
    assert failed.value.indexes == (9, *range(10, 30))
    assert len(stub.bodies) == 9


async def test_what_a_queue_will_never_take_holds_nothing_up() -> None:
    """What comes behind it is sent. Alone it is no outage: whoever published it must not try again for ever."""
    stub = Stub({3: True}, {}, {}, {0: True})
    stub.code = "InvalidParameterValue"
    transport = publisher(stub, "concurrency=1")
    with pytest.raises(PublishFailed, match="1 of 30 messages were not sent: InvalidParameterValue: no") as failed:
        await transport.publish([Message("t", b"%d" % n, "k") for n in range(30)])
    assert failed.value.indexes == (3,)
    assert len(stub.bodies) == 29
    with pytest.raises(InvalidInput, match="InvalidParameterValue: no"):
        await transport.publish([Message("t", b"x")])


async def test_a_queue_that_was_deleted_a_moment_ago_is_no_bad_input() -> None:
    """Amazon makes one of that name again after a minute: trying again helps."""

    class Recent(Stub):
        async def create_queue(self, **_: object) -> dict[str, Any]:
            raise ClientError(
                {"Error": {"Code": "AWS.SimpleQueueService.QueueDeletedRecently"}, "ResponseMetadata": {}},
                "CreateQueue",
            )

    with pytest.raises(TransportUnavailable, match="QueueDeletedRecently"):
        await publisher(Recent()).ensure([TopicSpec("u", ("g",))])


async def test_a_service_that_does_not_answer_is_given_up_in_time() -> None:
    """Everything that is not known to have arrived is named; nothing waits for ever."""

    class Silent(Stub):
        async def send_message_batch(self, Entries: Sequence[dict[str, Any]], **_: object) -> dict[str, Any]:  # noqa: N803
            await asyncio.Event().wait()
            return {}

    with pytest.raises(PublishFailed, match=r"longer than timeout=0\.2 seconds") as failed:
        await publisher(Silent(), "timeout=0.2").publish([Message("t", b"1"), Message("t", b"2")])
    assert failed.value.indexes == (0, 1)


async def test_batches_have_ten_messages_and_keys_stay_together() -> None:
    """Of a hundred messages each key is in one lane, in order; no request is larger than SQS takes."""
    stub = Stub()
    await publisher(stub).publish([Message("t", b"%d" % n, f"key-{n % 7}") for n in range(100)])
    assert {len(batch) for batch in stub.sent} <= set(range(1, 11))
    for key in range(7):
        assert [int(body) for body in stub.bodies if int(body) % 7 == key] == list(range(key, 100, 7))
    stub = Stub()
    await publisher(stub).publish([Message("t", b"x" * 100_000)] * 10)
    assert max(len(batch) for batch in stub.sent) == 2


async def test_a_key_that_leaves_no_room_is_refused() -> None:
    """Nothing of the batch is sent."""
    stub = Stub()
    with pytest.raises(InvalidInput, match="has a key that takes"):
        await publisher(stub).publish([Message("t", b"1"), Message("t", b"x", "ключ" * 100)])
    assert stub.sent == []


async def test_no_more_requests_are_under_way_than_allowed() -> None:
    """`concurrency` is for the whole transport."""

    class Slow(Stub):
        now = most = 0

        async def send_message_batch(self, Entries: Sequence[dict[str, Any]], **_: object) -> dict[str, Any]:  # noqa: N803
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            return {}

    stub = Slow()
    transport = publisher(stub, "concurrency=3")
    await asyncio.gather(*(transport.publish([Message("t", b"x")] * 50) for _ in range(4)))
    assert stub.most == 3


async def test_an_unknown_error_of_the_client_is_told_as_unavailable() -> None:
    """Nothing of the library's own gets out."""
    transport = publisher(Stub(*(ValueError("not JSON") for _ in range(1000))), "timeout=0.1")
    with pytest.raises(TransportUnavailable):
        await transport.publish([Message("t", b"x")])
    with pytest.raises(InvalidInput, match="'u' does not exist"):
        await transport.publish([Message("u", b"x")])
    await transport.ensure([TopicSpec("t", ("g",))])

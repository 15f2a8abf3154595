"""The parts of the SQS driver that need no server: names, bodies, what is in hand, batches that fail in part."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edow.address import Address
from edow.errors import InvalidInput, PublishFailed, TransportUnavailable
from edow.model.message import Message
from edow.transport.contract import TopicSpec
from edow.transport.sqs import connect, service
from edow.transport.sqs.bodies import Received, Value, decode, encode
from edow.transport.sqs.hand import Hand, SqsDelivery
from edow.transport.sqs.names import Names, QueueName
from edow.transport.sqs.options import Options, Order, read_options
from edow.transport.sqs.transport import SqsTransport

URL = "sqs://eu-west-1"
QUEUE = "http://localhost/1/tasks__g.fifo"
LATER = 10.0


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
        ("sqs://eu-west-1?poll=21", "poll=21 is not between 1 and 20"),
        ("sqs://eu-west-1?poll=0", "poll=0"),
        ("sqs://eu-west-1?fifo=perhaps", "fifo"),
        ("sqs://eu-west-1?sns=some", "sns"),
        ("sqs://eu-west-1?max_message_bytes=1048576", "max_message_bytes=1048576"),
        ("sqs://eu-west-1?retention=59", "retention=59"),
        ("sqs://eu-west-1?concurrency=0", "concurrency=0"),
        ("sqs://eu-west-1?receivers=65", "receivers=65"),
        ("sqs://eu-west-1?timeout=0", "timeout=0"),
        ("sqs://eu-west-1?refresh=0", "refresh=0"),
        ("sqs://eu-west-1?endpoint=localhost:9324", "http://HOST:PORT"),
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
    """Whatever the letters: a queue's name tells topic and group, and no two have the same."""
    system = names(prefix=prefix, fifo=fifo)
    try:
        queue = system.queue(topic, group)
    except InvalidInput:
        return
    assert len(queue) <= 80
    assert system.parse(queue) == QueueName(topic, group)


def test_what_is_no_groups_queue_is_passed_over() -> None:
    """Queues of broadcast subscribers, of another order, of other systems and of others altogether."""
    system = names(prefix="a.")
    found = [
        system.subscriber("t", "0123"),
        "a-t__g",
        "b-t__g.fifo",
        "a-t.fifo",
        "a-t__g__h.fifo",
        "a-t_ff__g.fifo",
        "",
    ]
    assert [system.parse(name) for name in found] == [None] * len(found)


def test_a_name_that_does_not_fit_is_refused() -> None:
    """SQS allows 80 letters; an empty name is none."""
    with pytest.raises(InvalidInput, match="SQS allows 80: use a shorter topic, group or prefix"):
        names().queue("t" * 70, "workers")
    with pytest.raises(InvalidInput, match="a group needs a name"):
        names().queue("t", "")


# bodies

any_text = st.text(alphabet=st.characters(exclude_categories=[]), max_size=200)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.none() | any_text, st.sampled_from(Order))
def test_any_body_and_key_come_back(body: bytes, key: str | None, order: Order) -> None:
    """What is sent has only characters that SQS takes, is not empty, and decodes to what it was."""
    entry = encode(0, "call-0", Message("t", body, key), order)
    assert entry.text
    assert all(
        each in "\t\n\r" or " " <= each <= "\ud7ff" or "\ue000" <= each <= "\ufffd" or each > "\uffff"
        for each in entry.text
    )
    assert 0 < len(entry.group) <= 128
    assert entry.group.isascii()
    group = {} if order is Order.NONE else {"MessageGroupId": entry.group}
    attributes = {name: value(each) for name, each in entry.attributes.items()}
    assert decode(Received("id", "receipt", entry.text, group, attributes)) == (body, key)


def value(attribute: Mapping[str, str | bytes]) -> Value:
    text, binary = attribute.get("StringValue"), attribute.get("BinaryValue")
    assert isinstance(text, str) != isinstance(binary, bytes)
    return Value("", text if isinstance(text, str) else None, binary if isinstance(binary, bytes) else None)


def test_an_ordinary_message_is_what_an_ordinary_client_would_send() -> None:
    """JSON goes as it is, with its key as the FIFO group; without a key the group is its own, or the topic's."""
    plain = encode(0, "call-0", Message("t", b'{"n": 1}', "order-7"), Order.KEYS)
    assert (plain.text, plain.attributes, plain.group, plain.size) == ('{"n": 1}', {}, "order-7", 8)
    assert encode(3, "call-3", Message("t", b"x"), Order.KEYS).group == "~call-3"
    assert encode(3, "call-3", Message("t", b"x"), Order.ALL).group == "~"
    foreign = Received("id", "receipt", "hello", {"MessageGroupId": "theirs"}, {"edow-key": Value("String")})
    assert decode(foreign) == (b"hello", "theirs")


# in hand


def arrived(hand: Hand, *named: str, until: float = LATER) -> list[SqsDelivery]:
    """Received together: `a1` has the key `a`, `-1` none."""
    made = [
        SqsDelivery("t", name.encode(), name[0].strip("-") or None, 3, f"receipt {name}", QUEUE, until)
        for name in named
    ]
    hand.arrive(made)
    return made


def taken(hand: Hand, limit: int = 100, now: float = 0.0) -> str:
    return " ".join(each.body.decode() for each in hand.take(limit, now))


def text(deliveries: Iterable[SqsDelivery]) -> str:
    return " ".join(each.body.decode() for each in deliveries)


def test_the_next_of_a_key_is_ready_when_the_previous_is_done() -> None:
    """Keys go on independently of each other; without a key nothing waits."""
    hand = Hand()
    a1, _, b1, a3, _ = arrived(hand, "a1", "a2", "b1", "a3", "-1")
    assert taken(hand) == "a1 b1 -1"
    assert hand.done([b1], 0) == [b1]
    assert taken(hand) == ""
    hand.done([a1], 0)
    (a2,) = hand.take(9, 0)
    hand.done([a2, a2], 0)
    assert taken(hand) == "a3"
    hand.done([a3], 0)
    assert hand.done([a1, a3], 0) == []
    assert len(hand) == 1


def test_a_message_that_waited_is_not_blamed_for_the_one_before_it() -> None:
    """SQS counts deliveries of all that it gives out together; who has only waited is delivered for the first time."""
    hand = Hand()
    (a1, a2) = arrived(hand, "a1", "a2")
    assert [each.count for each in hand.take(1, 0)] == [3]
    hand.done([a1], 0)
    hand.take(1, 0)
    assert a2.count == 1


def test_whatever_waits_behind_a_message_goes_back_with_it() -> None:
    """Given up, lost or run out in somebody's hands: the rest of the key is not ours to hand out any more."""
    for way in ("give up", "lose", "run out"):
        hand = Hand()
        a1, _, _ = arrived(hand, "a1", "a2", "a3")
        arrived(hand, "b1")
        assert taken(hand) == "a1 b1"
        if way == "give up":
            mine, behind = hand.give_up([a1, a1], 0)
            assert text(mine) == "a1"
        elif way == "lose":
            behind = hand.lose(a1)
        else:
            a1.until = 1.0
            behind = hand.forsaken(1.0)
        assert text(behind) == "a2 a3"
        assert hand.done([a1], 0) == []
        assert taken(hand) == ""
        assert len(hand) == 1


def test_what_is_lost_while_it_waits_takes_with_it_what_is_behind_it() -> None:
    """The messages before it go on."""
    hand = Hand()
    a1, a2, a3, _ = arrived(hand, "a1", "a2", "a3", "a4")
    taken(hand)
    a3.until = 1.0
    assert text(hand.forsaken(1.0)) == "a4"
    hand.done([a1], 1.0)
    assert taken(hand, now=1.0) == "a2"
    hand.done([a2], 1.0)
    assert taken(hand, now=1.0) == ""
    assert len(hand) == 0


def test_a_key_that_comes_again_replaces_what_was_in_hand() -> None:
    """SQS gives out no more of a key unless what we had of it was lost."""
    hand = Hand()
    (a1, _) = arrived(hand, "a1", "a2")
    taken(hand)
    arrived(hand, "a1 again", "a2 again")
    assert hand.done([a1], 0) == []
    assert taken(hand) == "a1 again"


def test_what_has_run_out_is_not_handed_out() -> None:
    """Not even if it was never looked at in between."""
    hand = Hand()
    arrived(hand, "-1", "a1", "a2", until=1.0)
    arrived(hand, "-2")
    assert taken(hand, now=1.0) == "-2"
    assert len(hand) == 1


def test_what_nobody_comes_for_is_given_back() -> None:
    """Not what was handed out, nor what waits behind it; at the end everything."""
    hand = Hand()
    arrived(hand, "a1", "a2", "-1", "-2", "b1", "b2")
    assert taken(hand, 2) == "a1 -1"
    assert text(hand.kept(out_too=False)) == "a2 -2 b1 b2"
    assert text(hand.give_back(out_too=False)) == "-2 b1 b2"
    assert taken(hand) == ""
    assert text(hand.give_back(out_too=True)) == "a1 a2 -1"
    assert len(hand) == 0


def test_the_same_key_in_two_queues_is_two_keys() -> None:
    """Topics know nothing of each other."""
    hand = Hand()
    arrived(hand, "a1")
    hand.arrive([SqsDelivery("u", b"a2", "a", 1, "other", "http://localhost/1/u__g.fifo", LATER)])
    assert taken(hand) == "a1 a2"


def test_standard_queues_have_no_lines() -> None:
    """There a key's messages come as they come."""
    hand = Hand()
    queue = QUEUE.removesuffix(".fifo")
    hand.arrive([SqsDelivery("t", b"%d" % n, "a", 1, f"receipt {n}", queue, LATER) for n in range(3)])
    assert taken(hand) == "0 1 2"


# publishing


class Stub:
    """A client of SQS with one queue that fails as it is told: for each send the indexes that fail, or an error."""

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
                {"Id": Entries[place]["Id"], "SenderFault": final, "Code": "Oops", "Message": "no"}
                for place, final in failure.items()
            ]
        }

    @property
    def bodies(self) -> list[str]:
        return [entry["MessageBody"] for batch in self.sent for entry in batch]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "FIRST_PAUSE", 0.001)


def publisher(stub: Stub, options: str = "timeout=5") -> SqsTransport:
    address = Address(f"{URL}?sns=none&{options}")
    transport = SqsTransport(address, read_options(address), lambda: 0)
    transport._service._clients["sqs"] = stub
    transport._is_open = True
    return transport


@pytest.mark.usefixtures("patient")
async def test_what_failed_is_sent_again_as_the_same_message() -> None:
    """A batch that half failed: the other half is tried again, under the deduplication ids it had."""
    stub = Stub(OSError("connection reset"), {1: False, 3: False}, {0: False})
    await publisher(stub).publish([Message("t", b"%d" % n) for n in range(5)])
    assert stub.bodies == ["0", "2", "4", "3", "1"]
    ids = [entry["MessageDeduplicationId"] for batch in stub.sent for entry in batch]
    assert len(set(ids)) == 5
    assert [id.rpartition("-")[2] for id in ids] == stub.bodies


@pytest.mark.usefixtures("patient")
async def test_what_is_refused_is_named() -> None:
    """The rest is published."""
    stub = Stub({1: True})
    with pytest.raises(PublishFailed, match=r"1 of 3 messages were not sent: Oops: no") as failed:
        await publisher(stub).publish([Message("t", b"%d" % n) for n in range(3)])
    assert failed.value.indexes == (1,)
    assert stub.bodies == ["0", "2"]


@pytest.mark.usefixtures("patient")
async def test_nothing_of_a_key_overtakes_what_failed() -> None:
    """Later batches go on without the key; its messages are named."""
    stub = Stub({9: True})
    messages = [Message("t", b"%d" % n, "k" if n % 9 == 0 else f"key-{n}") for n in range(30)]
    with pytest.raises(PublishFailed) as failed:
        await publisher(stub, "concurrency=1").publish(messages)
    assert failed.value.indexes == (9, 18, 27)
    assert len(stub.bodies) == 27


async def test_a_service_that_does_not_answer_is_given_up_in_time() -> None:
    """Everything that is not known to have arrived is named; nothing waits for ever."""
    stub = Stub(*(OSError("connection reset") for _ in range(1000)))
    with pytest.raises(PublishFailed, match=r"longer than timeout=0\.2 seconds") as failed:
        await publisher(stub, "timeout=0.2").publish([Message("t", b"1"), Message("t", b"2")])
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
        await publisher(stub).publish([Message("t", b"1"), Message("t", b"x" * (262_144 - 1024), "ключ" * 100)])
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

"""The worker's small parts: mailbox, deadlines, publisher, renewals, the child's search for tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import ModuleType
from weakref import ref

import msgspec
import pytest

import edow
from edow.errors import InvalidInput, NotFound, PublishFailed
from edow.model import wire
from edow.model.message import Message
from edow.transport.contract import Delivery, TopicSpec
from edow.worker import intake
from edow.worker.attempt import Attempt
from edow.worker.child import find_task
from edow.worker.deadlines import SLACK, Deadlines
from edow.worker.intake import Intake, Patience, Postponed, Refused
from edow.worker.mailbox import Mailbox
from edow.worker.publisher import Answered, Publisher
from tests.unit.worker import process_tasks
from tests.unit.worker.harness import task_event
from tests.unit.worker.memory_transport import Memory


def attempt() -> Attempt:
    return Attempt(task_event("square"), process_tasks.square, 1)


async def test_mailbox_from_many_threads() -> None:
    """Everything that several threads put arrives, in each thread's order, in fewer wake-ups than values."""
    batches: list[list[tuple[int, int]]] = []
    all_here = asyncio.Event()

    def deliver(items: list[tuple[int, int]]) -> None:
        batches.append(items)
        if sum(map(len, batches)) == 4_000:
            all_here.set()

    mailbox = Mailbox(asyncio.get_running_loop(), deliver)

    def put(sender: int) -> None:
        for number in range(1_000):
            mailbox.put([(sender, number)])

    threads = [threading.Thread(target=put, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    await all_here.wait()
    for thread in threads:
        thread.join()
    arrived = [item for batch in batches for item in batch]
    for sender in range(4):
        assert [number for who, number in arrived if who == sender] == list(range(1_000))


def test_mailbox_of_a_closed_loop() -> None:
    """What is put after the loop was closed is dropped without an error."""
    loop = asyncio.new_event_loop()
    mailbox: Mailbox[int] = Mailbox(loop, lambda items: None)
    loop.close()
    mailbox.put([1])
    assert mailbox.take() == []


def test_deadlines_in_order() -> None:
    """What is due comes out in the order of time, and only what still matters."""
    deadlines = Deadlines()
    one, two, ended, later = attempt(), attempt(), attempt(), attempt()
    ended.settled = True
    for at, who in ((3.0, two), (1.0, one), (2.0, ended), (9.0, later)):
        deadlines.add(at, who, "start_to_close")
    assert [due.attempt for due in deadlines.due(5.0)] == [one, two]
    assert deadlines.due(5.0) == []
    assert len(deadlines) == 1


def test_deadlines_do_not_pile_up() -> None:
    """Long timeouts of short tasks are forgotten long before they are due."""
    deadlines = Deadlines()
    for number in range(20 * SLACK):
        done = attempt()
        done.settled = True
        deadlines.add(1e9 + number, done, "start_to_close")
    assert len(deadlines) <= 2 * SLACK


def test_deadlines_keep_nothing_of_what_has_ended() -> None:
    """Neither arguments nor results, which may be large: the timeout may be in an hour."""
    deadlines, done = Deadlines(), attempt()
    known = ref(done)
    deadlines.add(1.0, done, "start_to_close")
    del done
    assert known() is None
    assert deadlines.due(2.0) == []


def test_find_task() -> None:
    """A task is found by its function's name, also when the module calls the task differently."""
    module = ModuleType("module")
    module.renamed = process_tasks.square
    assert find_task(process_tasks, "square") is process_tasks.square
    assert find_task(module, "square") is process_tasks.square
    with pytest.raises(NotFound, match="top level"):
        find_task(module, "nothing")


def test_context_outside() -> None:
    """Outside a task there is no context."""
    with pytest.raises(edow.WrongState):
        edow.context()


def judged(desk: Intake, second: float, *, event: str = "e", count: int = 1) -> object:
    """What becomes of an event whose task nobody here knows, when it comes at this second."""
    body = wire.encode(msgspec.structs.replace(task_event("nobody"), id=event))
    return desk.judge(Delivery("t", body, None, count, None), None, int(second * 1_000_000))  # type: ignore[arg-type]


def test_an_unknown_task_has_time_however_often_it_comes() -> None:
    """Neither hand-backs nor a long wait in the queue use it up; only meeting this worker for so long does."""
    desk = Intake({}, 20, Patience(60_000_000))
    for second in range(1_000, 1_060):
        assert isinstance(judged(desk, second, count=second), Postponed)
    assert isinstance(judged(desk, 1_060), Refused)


def test_an_unknown_task_ends_where_the_broker_counts_no_deliveries() -> None:
    """Its time is the worker's own, so it is not handed back for ever."""
    desk = Intake({}, 20, Patience(60_000_000))
    assert isinstance(judged(desk, 0), Postponed)
    refused = judged(desk, 60)
    assert isinstance(refused, Refused)
    assert (refused.final, refused.failure.kind) == (True, "poison")


def test_what_is_remembered_of_unknown_tasks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit the ones met last get more time; what never came back makes room."""
    monkeypatch.setattr(intake, "REMEMBERED_UNKNOWN", 1)
    desk = Intake({}, 20, Patience(60_000_000))
    assert isinstance(judged(desk, 0, event="a"), Postponed)
    assert isinstance(judged(desk, 0, event="b"), Postponed)
    assert isinstance(judged(desk, 60, event="b"), Postponed)
    assert isinstance(judged(desk, 121, event="b"), Postponed)  # a is forgotten
    assert isinstance(judged(desk, 181, event="b"), Refused)


class Choosy(Memory):
    """Takes no message that is `bad`, now or ever; where there are others, it says which."""

    async def publish(self, messages: Sequence[Message], *, durable: bool = True) -> None:
        bad = tuple(index for index, message in enumerate(messages) if message.body == b"bad")
        if bad and len(bad) == len(messages):
            raise InvalidInput("never")
        await super().publish([message for message in messages if message.body != b"bad"])
        if bad:
            raise PublishFailed("not these", bad)


async def test_a_message_that_is_never_taken_ends_however_much_is_published_with_it() -> None:
    """It is tried by itself, which tells that it never will be; then it is dropped, and said."""
    transport = Choosy()
    await transport.ensure([TopicSpec("t", ())])

    async def acknowledge(answered: Sequence[Answered]) -> None: ...

    publisher = Publisher(transport, acknowledge, 10)
    for body in (b"1", b"bad", b"2"):
        publisher.add(Message("t", body))
    with pytest.raises(PublishFailed):
        await publisher.run_once()
    publisher.add(Message("t", b"3"))
    await publisher.run_once()
    await publisher.run_once()
    assert (transport.published["t"], len(publisher)) == ([b"1", b"2", b"3"], 0)

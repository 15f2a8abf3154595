"""Outgoing webhooks: nothing that ended goes untold, whatever dies, and receivers can tell what is ours."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

import edow
from edow.app import System
from edow.client.endpoints import EndpointSpec
from edow.errors import InvalidInput, StoreUnavailable
from edow.model.execution import ENDED, Execution, Status
from edow.store.contract import DeadLetterFilter, ExecutionFilter, RecordFilter, Store
from edow.testing.polling import until
from edow.trigger import outgoing, post
from edow.trigger.outgoing import BACKOFF, MESSAGES, OUTGOING, Endpoint
from edow.trigger.sender import AT_ONCE, FOR_ONE, FOR_SLOW, RESTS, Rest, Sender
from edow.trigger.signatures import Hmac, Refused, Request, verify
from tests.integration.trigger.receiver import SECRET, Receiver, answer, define, left, ready, send
from tests.integration.trigger.stores import T0


async def test_a_message_is_signed_so_that_any_library_verifies_it(store, clock, receiver):
    """By Standard Webhooks; this is the verification that is checked with the spec's own vector."""
    await define(store, receiver.url)
    sender = await ready(store, clock)
    await outgoing.enqueue(store, "shop", "alert.burning", {"slo": "x"}, T0)
    await send(sender)
    [(headers, body)] = receiver.got
    request = Request(headers, body, T0 // 1_000_000, 300)
    assert verify("standard-webhooks", request, [SECRET.encode()], Hmac()) == headers["webhook-id"]
    assert json.loads(body)["type"] == "alert.burning"
    assert json.loads(body)["data"] == {"slo": "x"}
    assert headers["host"] in receiver.url
    assert await left(store) == 0


async def test_the_old_secret_signs_beside_the_new_one_for_a_while(store, clock, receiver, monkeypatch):
    """In one header, so that receivers with either verify it; from then on the new one alone. One that is rotated twice
    in that time signs with three. An old secret that is not there any more stops nothing.
    """
    await define(store, receiver.url)
    client = edow.Client(store=store)

    async def keys_that_verify(*secrets: str) -> list[bool]:
        receiver.got.clear()
        await outgoing.enqueue(store, "shop", "t", {}, clock.now)
        await send(await ready(store, clock))
        [(headers, body)] = receiver.got
        request = Request(headers, body, clock.now // 1_000_000, 300)
        found = []
        for secret in secrets:
            try:
                verify("standard-webhooks", request, [secret.encode()], Hmac())
                found.append(True)
            except Refused:
                found.append(False)
        return found

    async with client:
        client._link.clock = clock
        made = await client.endpoints().rotate("shop", keep=60)
        assert (made.secrets, [each.secret for each in made.retiring]) == (
            ["(kept in the store)"],
            ["(kept in the store)"],
        )
        new = made.new_secret or ""
        assert await keys_that_verify(SECRET, new, outgoing.new_secret()) == [True, True, False]
        clock.forward(30)
        monkeypatch.setenv("SHOP", outgoing.new_secret())
        assert (await client.endpoints().rotate("shop", "env:SHOP", 60)).new_secret is None
        assert await keys_that_verify(SECRET, new, os.environ["SHOP"]) == [True, True, True]
        clock.forward(31)
        assert await keys_that_verify(SECRET, new, os.environ["SHOP"]) == [False, True, True]
        assert len((await client.endpoints().get("shop")).retiring) == 1
        third = (await client.endpoints().rotate("shop", keep=60)).new_secret or ""
        monkeypatch.delenv("SHOP")
        assert await keys_that_verify(new, third) == [True, True]
        fourth = (await client.endpoints().rotate("shop", keep=0)).new_secret or ""
        assert await keys_that_verify(third, fourth) == [False, True]
        clock.forward(61)
        for _ in range(7):
            await client.endpoints().rotate("shop")
        with pytest.raises(InvalidInput, match="1 to 8 secrets"):
            await client.endpoints().rotate("shop")
        with pytest.raises(InvalidInput, match="90 days"):
            await client.endpoints().rotate("shop", keep=1e9)


async def test_what_is_not_taken_is_sent_again_under_the_same_id(store, clock, receiver):
    """After longer and longer pauses, until it is taken."""
    receiver.answers = [
        answer(500),
        answer(302, "Location: http://127.0.0.1:1/"),
        b"nonsense\r\n\r\n",
        answer(404),
        answer(200),
    ]
    await define(store, receiver.url)
    sender = await ready(store, clock)
    await outgoing.enqueue(store, "shop", "t", {}, T0)
    for attempt in range(5):
        await send(sender)
        assert len(receiver.got) == attempt + 1
        await send(sender)
        assert len(receiver.got) == attempt + 1, "not before its time"
        clock.forward(BACKOFF[attempt] * 1.11)
    assert await left(store) == 0
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert sender.tally.counts["shop"] == {"failed_attempt": 4, "delivered": 1}


async def test_after_three_days_it_is_a_dead_letter(store, clock, receiver):
    """With the body and the reason."""
    receiver.answers = [answer(503)]
    await define(store, receiver.url)
    sender = await ready(store, clock)
    await outgoing.enqueue(store, "shop", "t", {"n": 7}, T0)
    for pause in (0, *BACKOFF):
        clock.forward(pause * 1.11)
        await send(sender)
    assert len(receiver.got) == len(BACKOFF)
    assert clock.now - T0 > 3 * 86_400_000_000
    [letter] = await store.dead_letters_list(DeadLetterFilter())
    assert "for days" in bytes(letter.failure).decode()
    assert json.loads(bytes(letter.args))["body"]["data"] == {"n": 7}
    assert (letter.source, letter.attempts) == ("endpoint/shop", len(BACKOFF))
    assert await left(store) == 0


async def test_a_receiver_may_ask_for_patience_or_for_no_more(store, clock, receiver):
    """Retry-After is honoured where it is longer than ours; 410 ends it at once."""
    receiver.answers = [answer(429, "Retry-After: 100"), answer(410)]
    await define(store, receiver.url)
    sender = await ready(store, clock)
    await outgoing.enqueue(store, "shop", "t", {}, T0)
    await send(sender)
    clock.forward(99)
    await send(sender)
    assert len(receiver.got) == 1
    clock.forward(2)
    await send(sender)
    assert len(receiver.got) == 2
    assert await left(store) == 0
    assert len(await store.dead_letters_list(DeadLetterFilter())) == 1


async def test_a_receiver_that_says_nothing_does_not_hold_it_up(store, clock, receiver, monkeypatch):
    """Nor one that sends headers without an end."""
    monkeypatch.setattr(post, "SECONDS", 0.3)
    receiver.silent = True
    await define(store, receiver.url)
    sender = await ready(store, clock)
    await outgoing.enqueue(store, "shop", "t", {}, T0)
    await send(sender)
    assert sender.tally.counts["shop"] == {"failed_attempt": 1}
    receiver.silent, receiver.answers = False, [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000]
    clock.forward(10)
    await send(sender)
    assert sender.tally.counts["shop"] == {"failed_attempt": 2}
    assert await left(store) == 1


async def crowd(store: Store, receiver: Receiver) -> None:
    """300 messages for an endpoint that is silent, and behind them one for another."""
    await define(store, receiver.url.replace("?x=1", "?silent"), name="silent")
    await define(store, receiver.url)
    puts = [put for at in range(300) for put in outgoing.message("silent", "t", {}, T0 - 300 + at, str(at))]
    await store.records_put([*puts, *outgoing.message("shop", "t", {}, T0)], T0)


async def test_a_silent_receiver_of_many_messages_does_not_hold_up_the_others(store, clock, receiver, monkeypatch):
    """However many are due before theirs."""
    await crowd(store, receiver)
    never, posted, sender = asyncio.Event(), list[str](), await ready(store, clock)

    async def post_to(url: str, *_: object) -> post.Posted:
        posted.append(url)
        if "silent" in url:
            await never.wait()
        return post.Posted(204)

    monkeypatch.setattr("edow.trigger.sender.post", post_to)

    async def told() -> bool:
        await sender.send_once()
        return receiver.url in posted

    await until(told)
    await sender.stop()
    assert len(posted) == 2


async def test_endpoints_that_do_not_answer_leave_places_for_those_that_do(store, clock, monkeypatch):
    """However many they are and however much is due to them: half of the places, one for each, in turns."""
    silent = [f"silent-{number:02}" for number in range(AT_ONCE + 8)]
    for name in (*silent, "quick"):
        await define(store, f"https://{name}/", name=name)
    puts = [
        put
        for number, name in enumerate(silent)
        for at in range(9)
        for put in outgoing.message(name, "t", {}, T0 - 10_000 + 1000 * at + number, str(at))
    ]
    await store.records_put(puts, T0)
    under_way, most, told, time_is_up = Counter[str](), Counter[str](), list[str](), asyncio.Event()

    async def post_to(url: str, *_: object) -> post.Posted:
        if "quick" in url:
            told.append(url)
            return post.Posted(204)
        under_way[url] += 1
        most[url] = max(most[url], under_way[url])
        await time_is_up.wait()
        under_way[url] -= 1
        return post.Posted(0, "no answer within 15 s", seconds=15.0)

    monkeypatch.setattr("edow.trigger.sender.post", post_to)
    sender = await ready(store, clock)

    async def sent(places: int) -> set[str]:
        """To whom, once so many are under way."""

        async def full() -> bool:
            await sender.send_once()
            return under_way.total() == places

        await until(full)
        return {url for url, count in under_way.items() if count}

    async def up() -> None:
        time_is_up.set()
        await sender.settle()
        time_is_up.clear()

    await sent(AT_ONCE)  # nobody knows better at first
    await up()
    clock.forward(RESTS[1])
    await sent(FOR_SLOW + 8)  # and eight of whom it is not known yet
    await up()
    clock.forward(RESTS[1])
    some = await sent(FOR_SLOW)
    for number in range(FOR_ONE):
        await outgoing.enqueue(store, "quick", "t", {}, clock.now, str(number))

    async def quick_is_told() -> bool:
        await sender.send_once()
        return len(told) == FOR_ONE

    await until(quick_is_told)
    assert under_way.total() == FOR_SLOW
    await up()
    assert not some & await sent(FOR_SLOW), "it is the turn of others"
    await sender.stop()
    assert set(most.values()) == {1}


@dataclass
class Held:
    """Stands for `post`: counts who has come, and keeps them until the test lets them go."""

    answers: list[post.Posted]  # the last one again and again
    begun: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, *_: object) -> post.Posted:
        self.begun += 1
        await self.go.wait()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def until(self, sender: Sender, count: int) -> None:
        """So many have come, and no more come."""

        async def there() -> bool:
            await sender.send_once()
            return self.begun >= count

        await until(there)
        await sender.send_once()
        assert self.begun == count

    async def let_go(self, sender: Sender) -> None:
        self.go.set()
        await sender.settle()
        self.go.clear()


async def test_an_endpoint_that_does_not_answer_is_left_alone_for_longer_and_longer(store, clock, monkeypatch):
    """Until it answers: then it is told of what waits, eight at a time."""
    await define(store, "https://shop/")
    await store.records_put([put for at in range(20) for put in outgoing.message("shop", "t", {}, T0, str(at))], T0)
    held = Held([*[post.Posted(0, "no answer within 15 s", seconds=15.0)] * 3, post.Posted(204)])
    monkeypatch.setattr("edow.trigger.sender.post", held)
    sender = await ready(store, clock)
    await held.until(sender, 1)
    for tries, seconds in enumerate((1, 2, 4), start=1):
        await held.let_go(sender)
        clock.forward(seconds - 0.01)
        await held.until(sender, tries)
        clock.forward(0.01)
        await held.until(sender, tries + 1)
    await held.let_go(sender)
    await held.until(sender, 4 + FOR_ONE)
    await sender.stop()


async def test_an_endpoint_that_answers_late_is_sent_one_at_a_time(store, clock, monkeypatch):
    """Without a rest."""
    held = Held([post.Posted(204, seconds=6.0)])
    monkeypatch.setattr("edow.trigger.sender.post", held)
    await define(store, "https://shop/")
    await store.records_put([put for at in range(5) for put in outgoing.message("shop", "t", {}, T0, str(at))], T0)
    sender = await ready(store, clock)
    for number in range(1, 6):
        await held.until(sender, number)
        await held.let_go(sender)
    assert await left(store) == 0


async def test_what_waits_too_long_for_its_turn_is_given_up(store, clock, receiver):
    """An endpoint that is down for ever, and is told of more and more, does not fill the store."""
    receiver.silent = True
    await define(store, receiver.url)
    sender = await ready(store, clock)
    sender._slow["shop"] = Rest(60.0, clock.now + 10 * 86_400_000_000)
    await outgoing.enqueue(store, "shop", "t", {}, T0)
    clock.forward(4 * 86_400 - 1)
    await send(sender)
    assert await left(store) == 1
    clock.forward(2)
    await send(sender)
    assert (await left(store), receiver.got) == (0, [])
    [letter] = await store.dead_letters_list(DeadLetterFilter())
    assert "for days" in bytes(letter.failure).decode()


async def test_what_is_answered_makes_room_for_the_next(store, clock, receiver, monkeypatch):
    """Not only the next look, a while later, sends what could not be sent at once."""
    monkeypatch.setattr("edow.trigger.sender.SHORT_SECONDS", 3600.0)
    await define(store, receiver.url)
    puts = [put for at in range(30) for put in outgoing.message("shop", "t", {}, T0 - 1, str(at))]
    await store.records_put(puts, T0)
    sender = await ready(store, clock)
    await sender.start()

    async def all_there() -> bool:
        return len(receiver.got) == 30

    await until(all_there)
    await sender.stop()


async def test_private_addresses_are_refused_unless_allowed(store, clock, receiver):
    """Nothing reaches the receiver; it is tried again, for the setting may be put right."""
    await define(store, receiver.url)
    sender = Sender(store, clock, "one")
    await sender.look_once()
    await outgoing.enqueue(store, "shop", "t", {}, T0)
    await send(sender)
    assert receiver.got == []
    assert await left(store) == 1


async def test_of_two_processes_one_sends(opened, clock, receiver):
    """Forty messages, both at the same moment."""
    stores = [await opened() for _ in range(2)]
    await define(stores[0], receiver.url)
    senders = [await ready(each, clock, str(n)) for n, each in enumerate(stores)]
    for number in range(40):
        await outgoing.enqueue(stores[0], "shop", "t", {"n": number}, T0)
    for _ in range(20):
        await asyncio.gather(*(sender.send_once() for sender in senders))
        await asyncio.gather(*(sender.settle() for sender in senders))
    assert sorted(json.loads(body)["data"]["n"] for _, body in receiver.got) == list(range(40))
    assert await left(stores[0]) == 0


async def test_a_process_that_dies_while_it_sends_loses_nothing(store, clock, receiver):
    """The next attempt was written down before: another process makes it, under the same id."""
    receiver.silent = True
    await define(store, receiver.url)
    dying = await ready(store, clock)
    await outgoing.enqueue(store, "shop", "t", {}, T0)
    await dying.send_once()
    async with asyncio.timeout(50):
        while not receiver.got:
            await asyncio.wait(list(dying._sending.values()), timeout=0.01)
    await dying.stop()
    for task in list(dying._sending.values()):
        task.cancel()
    receiver.silent = False
    clock.forward(BACKOFF[0] * 1.11)
    await send(await ready(store, clock, "two"))
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 2
    assert await left(store) == 0


async def test_a_message_whose_endpoint_is_gone_is_a_dead_letter(store, clock, receiver):
    """And one whose endpoint was made a moment ago is not."""
    sender = await ready(store, clock)
    await define(store, receiver.url)
    await outgoing.enqueue(store, "shop", "t", {}, T0)
    await send(sender)
    assert len(receiver.got) == 1
    await store.records_put([*outgoing.message("gone", "t", {}, T0)], T0)
    await send(sender)
    [letter] = await store.dead_letters_list(DeadLetterFilter())
    assert "was deleted" in bytes(letter.failure).decode()


def row(status: Status, workflow: str = "shop.fulfil", **more: object) -> Execution:
    return Execution(id="o-1", workflow=workflow, shard=0, status=status, started_at=T0, ended_at=T0, **more)  # type: ignore[arg-type]


def told(endpoint: Endpoint, *rows: Execution) -> list[dict[str, object]]:
    """The messages' bodies."""
    puts = [put for each in rows for put in outgoing.of_end(each, [endpoint], T0)]
    return [json.loads(put.body or b"")["body"] for put in puts if put.key.startswith(MESSAGES)]


def test_an_endpoint_is_told_of_the_ends_that_it_wants():
    """By workflow and status; results only where that is wanted, and failures without their stack."""
    endpoint = Endpoint(name="e", url="https://h", secrets=(SECRET,), workflows=("shop.*", "ship"))
    done = row(Status.COMPLETED, result=msgspec.Raw(b'{"card": 1}'))
    [body] = told(endpoint, done, row(Status.COMPLETED, "other"), row(Status.COMPLETED, "shipping"))
    assert (body["type"], body["data"]["id"], "result" in body["data"]) == ("execution.completed", "o-1", False)
    [body] = told(msgspec.structs.replace(endpoint, results=True), done)
    assert body["data"]["result"] == {"card": 1}
    failed = row(Status.FAILED, failure=msgspec.Raw(b'{"type": "E", "message": "m", "stack": "secret", "step": "s"}'))
    [body] = told(endpoint, failed)
    assert body["data"]["failure"] == {"type": "E", "message": "m", "step": "s"}
    assert told(msgspec.structs.replace(endpoint, statuses=("completed",)), failed) == []


def test_an_endpoint_that_the_start_has_named_is_told_once():
    """Whatever it is told of else, and also where it is not known here: then it is a dead letter, not silence."""
    aside = Endpoint(name="e", url="https://h", secrets=(SECRET,), workflows=(), results=True)
    done = row(Status.COMPLETED, result=msgspec.Raw(b"7"), notify="e")
    assert [body["data"]["result"] for body in told(aside, done)] == [7]
    assert len(told(msgspec.structs.replace(aside, workflows=("*",)), done)) == 1
    [unknown] = [json.loads(put.body) for put in outgoing.of_end(done, [], T0) if put.body]
    assert (unknown["endpoint"], "result" in unknown["body"]["data"]) == ("e", False)


def test_a_result_that_is_too_large_is_left_out():
    """Its end is told all the same."""
    endpoint = Endpoint(name="e", url="https://h", secrets=(SECRET,), results=True)
    [body] = told(endpoint, row(Status.COMPLETED, result=msgspec.Raw(b'"' + b"x" * 300_000 + b'"')))
    assert "result" not in body["data"]


CODE = """
import edow

@edow.task
async def work(n: int) -> int:
    return n

@edow.workflow
async def job(n: int) -> int:
    return await work(n)
"""
CHILD = """
import asyncio, sys
from edow.app import System, load_registry

async def main() -> None:
    async with System(sys.argv[1], None, load_registry([sys.argv[2]])) as system:
        orchestrator = system.orchestrator(lease_ttl=1.0)
        for part in (system.sender(orchestrator), orchestrator, system.worker()):
            await part.start()
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def messages_by_execution(store: Store, endpoint: str) -> list[str]:
    found: list[str] = []
    after: str | None = None
    while records := await store.records_list(RecordFilter(OUTGOING, MESSAGES, after)):
        messages = [json.loads(each.body) for each in records]
        found += [each["body"]["data"]["id"] for each in messages if each["endpoint"] == endpoint]
        after = records[-1].key
    return sorted(found)


@pytest.mark.timeout(360)
async def test_every_end_is_told_whatever_dies(tmp_path: Path):
    """The orchestrator's process is killed with kill -9 in the middle of 400 executions: what has ended has its
    message, and what has not has none; to an endpoint that every third start has named goes every third.
    """
    (tmp_path / "jobs.py").write_text(CODE)
    url = f"sqlite:///{tmp_path}/store.db"
    async with System(url) as system, edow.Client(store=system.store) as client:
        store = system.store
        await client.endpoints().create(EndpointSpec(name="down", url="https://127.0.0.1:1/"))
        await client.endpoints().create(EndpointSpec(name="named", url="https://127.0.0.1:1/", workflows=()))

        async def child() -> asyncio.subprocess.Process:
            made = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CHILD, url, str(tmp_path / "jobs.py"), stdout=asyncio.subprocess.PIPE
            )
            assert made.stdout is not None
            assert await made.stdout.readline() == b"ready\n"
            return made

        async def ended(least: int) -> None:
            watch = store.watch("ended")
            async with asyncio.timeout(120):
                while (await client.page(ExecutionFilter(status=ENDED, limit=1000))).executions[least - 1 :] == []:
                    await watch.wait(0.2)
            watch.close()

        first = await child()
        for n in range(400):
            await client.start_named("job", {"n": n}, id=f"j-{n}", notify="" if n % 3 else "named")
        await ended(40)
        first.kill()
        await first.wait()
        page = await client.page(ExecutionFilter(status=ENDED, limit=1000))
        ids = [each.id for each in page.executions]
        assert await messages_by_execution(store, "down") == sorted(ids)
        assert await messages_by_execution(store, "named") == sorted(id for id in ids if int(id[2:]) % 3 == 0)
        second = await child()
        await ended(400)
        second.kill()
        await second.wait()
        assert await messages_by_execution(store, "down") == sorted(f"j-{n}" for n in range(400))
        assert await messages_by_execution(store, "named") == sorted(f"j-{n}" for n in range(0, 400, 3))


async def test_an_end_that_cannot_be_told_ends_all_the_same(store, clock, monkeypatch, caplog):
    """What goes wrong in telling must not stop the orchestrator."""
    await define(store, "https://example.com/")
    sender = await ready(store, clock)

    def broken(*_: object) -> None:
        raise StoreUnavailable("broken")

    monkeypatch.setattr(outgoing, "of_end", broken)
    assert sender.ended(row(Status.COMPLETED)) == []
    assert "told to no endpoint" in caplog.text

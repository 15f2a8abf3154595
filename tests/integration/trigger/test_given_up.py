"""Outgoing webhooks that were given up: kept, and sent again once each, whoever asks for it and whoever dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

import edow
from edow.client.actor import Actor
from edow.errors import NotFound, WrongState
from edow.store.contract import DeadLetterFilter, Store
from edow.testing.boundaries import BoundaryStore
from edow.testing.polling import until
from edow.trigger import outgoing
from edow.trigger.given_up import sending_in
from edow.trigger.outgoing import BACKOFF
from edow.trigger.poison import Buried, bury
from edow.trigger.sender import Sender
from tests.integration.trigger.receiver import Receiver, answer, define, left, ready, send
from tests.integration.trigger.stores import T0, Clock


@pytest.fixture
async def client(store: Store, clock: Clock) -> AsyncIterator[edow.Client]:
    async with edow.Client(store=store, actor=Actor("ada", "operate")) as made:
        made._link.clock = clock
        yield made


async def given_up(store: Store, clock: Clock, receiver: Receiver, count: int, name: str = "shop") -> Sender:
    """So many messages that the receiver wanted no more of, with which it is content from now on."""
    await define(store, receiver.url, name=name)
    sender = await ready(store, clock)
    puts = [put for at in range(count) for put in outgoing.message(name, "t", {"n": at}, T0, str(at))]
    await store.records_put(puts, T0)
    receiver.answers = [answer(410)]

    async def over() -> bool:
        await send(sender)
        return await left(store) == 0

    await until(over)
    receiver.answers = [answer(204)]
    receiver.got.clear()
    return sender


async def settled(store: Store, sender: Sender) -> None:
    async def over() -> bool:
        await send(sender)
        return await left(store) == 0

    await until(over)


async def test_what_was_given_up_is_sent_again_under_its_id(store, clock, receiver, client):
    """One that is named; with all attempts before it. Who did so is in the audit log."""
    sender = await given_up(store, clock, receiver, 3)
    one, *_ = await client.dead_letters()
    sending = sending_in(one)
    receiver.answers = [answer(500), answer(204)]
    clock.forward(3 * 86_400)
    assert (await client.desk().dry_run([one.id], None, None)).unfit == 0
    assert await client.redrive(one.id) == 1
    await send(sender)
    assert await left(store) == 1
    clock.forward(BACKOFF[0] * 1.11)
    await send(sender)
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [sending.id] * 2
    assert {body for _, body in receiver.got} == {bytes(sending.body)}
    assert await left(store) == 0
    [done] = await client.dead_letters(DeadLetterFilter(state="redriven"))
    assert (done.id, done.reason) == (one.id, "sent again")
    with pytest.raises(WrongState, match="redriven already"):
        await client.redrive(one.id)
    [entry] = (await client.audit()).entries
    assert (entry.action, entry.actor, entry.target) == ("dead_letter.redrive", "ada", one.id)


async def test_all_that_an_endpoint_was_not_told_is_sent_again(store, clock, receiver, client):
    """But for what is set aside, and what is another endpoint's."""
    sender = await given_up(store, clock, receiver, 250)
    await given_up(store, clock, receiver, 2, "other")
    assert [(each.name, each.given_up) for each in await client.endpoints().list()] == [("other", 2), ("shop", 250)]
    aside = (await client.dead_letters(DeadLetterFilter(source="endpoint/shop", limit=1)))[0]
    await client.desk().set_aside(aside.id, "of no use any more")
    assert await client.endpoints().send_again("shop") == 249
    assert (await client.endpoints().get("shop")).given_up == 0
    await settled(store, sender)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == len(receiver.got) == 249
    assert {each.source for each in await client.dead_letters()} == {"endpoint/other"}
    assert await client.endpoints().send_again("shop") == 0
    with pytest.raises(NotFound, match="edow endpoint list"):
        await client.endpoints().send_again("nobody")


async def test_what_is_given_up_once_more_is_the_same_letter(store, clock, receiver, client):
    """Which waits again."""
    sender = await given_up(store, clock, receiver, 1)
    receiver.answers = [answer(410)]
    assert await client.endpoints().send_again("shop") == 1
    await settled(store, sender)
    [letter] = await client.dead_letters(DeadLetterFilter(state=None))
    assert (letter.state, letter.attempts) == ("parked", 1)
    assert await client.endpoints().send_again("shop") == 1


async def test_what_has_no_endpoint_any_more_stays(store, clock, receiver, client):
    """It says so; and is sent once somebody has made the endpoint again, also together with what could be sent now."""
    sender = await given_up(store, clock, receiver, 2)
    await given_up(store, clock, receiver, 1, "other")
    await client.endpoints().delete("shop")
    lost, *_ = await client.dead_letters(DeadLetterFilter(source="endpoint/shop"))
    with pytest.raises(NotFound, match="no endpoint 'shop' any more"):
        await client.redrive(lost.id)
    assert (await client.desk().dry_run(DeadLetterFilter(), None, None)).unfit == 2
    assert await client.redrive(DeadLetterFilter()) == 1
    await define(store, receiver.url)
    assert await client.redrive(DeadLetterFilter()) == 2
    await settled(store, sender)
    assert len(receiver.got) == 3


async def test_of_several_who_send_it_again_each_message_goes_once(opened, store, clock, receiver):
    """At the same moment, some of them only a part."""
    sender = await given_up(store, clock, receiver, 12)
    letters = await store.dead_letters_list(DeadLetterFilter())
    some = [each.id for each in letters[:5]]
    clients = [edow.Client(store=await opened()) for _ in range(3)]
    for each in clients:
        await each.__aenter__()
        each._link.clock = clock
    counts = await asyncio.gather(
        *(each.endpoints().send_again("shop") for each in clients), _redriven(clients[0], some)
    )
    assert sum(counts) == 12
    await settled(store, sender)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == len(receiver.got) == 12
    for each in clients:
        await each.__aexit__(None, None, None)


async def _redriven(client: edow.Client, ids: list[str]) -> int:
    try:
        return await client.redrive(ids)
    except WrongState:  # somebody else was quicker
        return 0


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("at", range(1, 5))
async def test_whoever_dies_while_giving_up_or_sending_again_loses_nothing(store, clock, receiver, at):
    """At each of the writes, before it is on disk or after: there is a message to send or a letter that waits, one."""
    await define(store, receiver.url)
    sender = await ready(store, clock)
    await outgoing.enqueue(store, "shop", "t", {}, T0)
    receiver.answers = [answer(410)]
    count = 0

    def reached(name: str) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise Died

    dying = BoundaryStore(store, reached)
    async with edow.Client(store=dying) as client:
        client._link.clock = clock
        await sender.send_once()
        sender._store = dying
        with suppress(Died):
            await next(iter(sender._sending.values()))
            await client.endpoints().send_again("shop")
    waiting = [each.state for each in await store.dead_letters_list(DeadLetterFilter())]
    assert len(waiting) + await left(store) == 1
    receiver.answers = [answer(204)]
    clock.forward(BACKOFF[0] * 1.11)
    async with edow.Client(store=store) as client:
        client._link.clock = clock
        await client.endpoints().send_again("shop")
        await settled(store, await ready(store, clock))
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 2
    assert await store.dead_letters_list(DeadLetterFilter()) == []


async def test_a_webhook_that_an_earlier_release_gave_up_can_only_be_discarded(store, clock, receiver, client):
    """It kept the body alone."""
    await define(store, receiver.url)
    await bury(store, Buried("endpoint/shop", "webhook msg_1 (t) for endpoint shop", b"{}"), "it was not taken", T0)
    assert await client.endpoints().send_again("shop") == 0
    [letter] = await client.dead_letters()
    with pytest.raises(WrongState, match="discard it"):
        await client.redrive(letter.id)
    assert await client.discard(letter.id, "old") == 1

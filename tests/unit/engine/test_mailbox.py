"""Signals and who waits for them, by themselves."""

from __future__ import annotations

import asyncio

import msgspec

from edow.engine.run import Mailbox

COMPARED: list[object] = []


class Waiter(asyncio.Future[msgspec.Raw | None]):
    """Notes whenever it has to be told from another."""

    __hash__ = asyncio.Future.__hash__

    def __eq__(self, other: object) -> bool:
        COMPARED.append(other)
        return self is other


async def test_leaving_costs_the_same_however_many_wait() -> None:
    """Whoever goes is not looked for among the others, from whichever end; signals go to those that waited longest."""
    mailbox, waiters = Mailbox(), [Waiter() for _ in range(100)]
    for each in waiters:
        mailbox.wait("go", each)
    COMPARED.clear()
    for each in [*reversed(waiters[50:]), *waiters[:10]]:
        mailbox.leave("go", each)
        mailbox.leave("other", each)
    assert not COMPARED
    mailbox.put("go", msgspec.Raw(b"1"))
    mailbox.put("go", msgspec.Raw(b"2"))
    assert [number for number, each in enumerate(waiters) if each.done()] == [10, 11]

"""Workflows that pass through everything that is persisted; each task applies an effect that can be counted."""

from __future__ import annotations

import asyncio
import os
import sqlite3

import edow

RETRY = edow.Retry(attempts=3, initial="10ms", factor=1)


class Refused(Exception):
    """The order is refused after payment, so that compensations run."""


async def effect(name: str) -> None:
    """Apply an effect once through the ledger; `applied` has no unique key, so a second application would show."""
    connection = sqlite3.connect(os.environ["EDOW_TEST_EFFECTS"], timeout=10)
    try:
        async with edow.once(connection) as first:
            if first:
                connection.execute("INSERT INTO applied (name) VALUES (?)", (name,))
    finally:
        connection.close()


@edow.task(retry=RETRY)
async def pay(number: int) -> str:
    """Fails at first, after which a retry is due."""
    if edow.context().attempt == 1:
        raise ConnectionError("payment API is away")
    await effect(f"pay {number}")
    return f"receipt {number}"


@edow.task(retry=RETRY)
async def refund(number: int) -> None:
    await effect(f"refund {number}")


@edow.task(retry=RETRY)
async def pack(number: int, box: int) -> int:
    await effect(f"pack {number} {box}")
    return box


@edow.task(retry=RETRY)
async def ship(number: int) -> None:
    await effect(f"ship {number}")


@edow.workflow
async def shipment(number: int) -> str:
    await ship(number)
    return f"parcel {number}"


@edow.workflow
async def order(number: int, refuse: bool) -> str:
    """Sequential and parallel steps, a retry, a timer, a signal, a child, a saga."""
    async with edow.saga() as saga:
        saga.compensate(refund, number)
        receipt = await pay(number)
        boxes = await asyncio.gather(*(pack(number, box) for box in range(3)))
        await edow.sleep("20ms")
        approved = await edow.wait_signal("approved", bool, timeout="1d")
        if refuse:
            raise Refused(f"order {number}")
        parcel = await shipment(number)
        return f"{receipt}, {len(boxes)} boxes, {parcel}, {approved}"


def expected(number: int, *, refuse: bool) -> set[str]:
    """The effects that must be there exactly once at the end."""
    names = {f"pay {number}", *(f"pack {number} {box}" for box in range(3))}
    return names | ({f"refund {number}"} if refuse else {f"ship {number}"})

"""An order that survives crashes: charge, pack and notify in parallel, wait for a person, ship; undo on failure."""

import asyncio
from dataclasses import dataclass

import edow


@dataclass
class Order:
    id: str
    cents: int


class CardDeclined(Exception):
    """An answer, not an accident: retrying would not help."""


@edow.task(retry=edow.Retry(attempts=5, initial="200ms", give_up_on=CardDeclined), timeout="30s")
async def charge(order: Order) -> str:
    if order.cents > 100_000:
        raise CardDeclined(order.id)
    return f"receipt-{order.id}"


@edow.task
async def refund(receipt: str) -> None:
    print(f"refunded {receipt}")


@edow.task
def pack(order: Order) -> str:  # a plain function runs in a thread
    return f"parcel-{order.id}"


@edow.workflow
async def fulfil(order: Order) -> str:
    async with edow.saga() as saga:
        receipt = await charge(order)
        saga.compensate(refund, receipt)
        parcel, _ = await asyncio.gather(pack(order), edow.sleep("1s"))
        return f"{parcel} paid by {receipt}"

"""An order saga: payment, screening, stock, shipment; when one of them refuses, what was done is undone, last first.

Every task applies its effect once, however often it is delivered. The payment service is away now and then; in the
live demo it is a real one, over HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import edow
from edow.demo import payments
from edow.demo.effects import effect


class Refused(Exception):
    """The order cannot be fulfilled. An answer, not a hitch: trying again would not help."""


class Declined(Refused):
    """The bank has taken the payment back."""


class OutOfStock(Refused):
    """There is none left."""


class Undeliverable(Refused):
    """The courier does not go there."""


RETRY = edow.Retry(attempts=10, initial="50ms", maximum="1s", give_up_on=Refused)
PATIENT = edow.Retry(attempts=100_000, initial="50ms", maximum="2s", give_up_on=Refused)  # payments must go through


@dataclass(frozen=True)
class Order:
    id: str
    item: str
    quantity: int
    cents: int
    card: str
    address: str


@dataclass(frozen=True)
class Confirmation:
    """What the customer is told."""

    order: str
    state: Literal["shipped", "refunded"]
    reason: str = ""


@edow.workflow
async def fulfil(order: Order) -> Confirmation:
    try:
        async with edow.saga() as saga:
            await charge(order)
            saga.compensate(refund, order)
            await screen(order)
            await reserve(order)
            saga.compensate(release, order)
            await edow.sleep("200ms")  # the courier's pick-up
            await ship(order)
    except Refused as refusal:
        return Confirmation(order.id, "refunded", str(refusal))
    return Confirmation(order.id, "shipped")


@edow.task(retry=PATIENT)
def charge(order: Order) -> None:
    if order.card.startswith("slow") and edow.context().attempt == 1:
        raise ConnectionError("the payment service is away")
    payments.pay(order.id, order.cents)
    with effect(f"charge {order.id}") as database:
        if database is not None:
            database.execute("INSERT INTO payments VALUES (?, ?)", (order.id, order.cents))


@edow.task(retry=PATIENT)
def refund(order: Order) -> None:
    payments.pay(f"{order.id}/refund", -order.cents)
    with effect(f"refund {order.id}") as database:
        if database is not None:
            database.execute("INSERT INTO payments VALUES (?, ?)", (order.id, -order.cents))


@edow.task(retry=RETRY)
async def screen(order: Order) -> None:
    """Fraud screening: no effect, but an answer."""
    if order.card.startswith("stolen"):
        raise Declined(f"card {order.card} was reported stolen")


@edow.task(retry=RETRY)
def reserve(order: Order) -> None:
    with effect(f"reserve {order.id}") as database:
        if database is not None:
            taken = database.execute(
                "UPDATE stock SET quantity = quantity - :quantity WHERE item = :item AND quantity >= :quantity",
                {"item": order.item, "quantity": order.quantity},
            )
            if taken.rowcount == 0:
                raise OutOfStock(f"{order.quantity} × {order.item}")


@edow.task(retry=RETRY)
def release(order: Order) -> None:
    with effect(f"release {order.id}") as database:
        if database is not None:
            database.execute("UPDATE stock SET quantity = quantity + ? WHERE item = ?", (order.quantity, order.item))


@edow.task(retry=RETRY)
def ship(order: Order) -> None:
    if order.address == "Atlantis":
        raise Undeliverable(f"no courier goes to {order.address}")
    with effect(f"ship {order.id}") as database:
        if database is not None:
            database.execute("INSERT INTO shipments VALUES (?, ?)", (order.id, order.address))

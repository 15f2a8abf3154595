"""The demo's customers: what they order and what has to become of it, as plain arithmetic beside the workflow."""

from __future__ import annotations

from collections.abc import Iterator

from edow.demo.orders import Order

ITEMS = ("anvil", "bellows", "chisel", "drill")
SOLD_OUT = "unicorn"
PLENTY = 10_000


def opening_stock() -> dict[str, int]:
    return {**dict.fromkeys(ITEMS, PLENTY), SOLD_OUT: 0}


def make_orders(count: int) -> list[Order]:
    """Always the same ones. Of 180, 20 have a stolen card, 15 want what is sold out, 9 live where no courier goes."""
    return [make_order(number) for number in range(count)]


def make_order(number: int) -> Order:
    return Order(
        id=f"order-{number:05}",
        item=SOLD_OUT if number % 12 == 7 else ITEMS[number % len(ITEMS)],
        quantity=1 + number % 3,
        cents=990 + 10 * number,
        card=("stolen-" if number % 9 == 3 else "slow-" if number % 5 == 1 else "good-") + f"{number:05}",
        address="Atlantis" if number % 20 == 14 else f"{number} High Street",
    )


def effects_of(order: Order) -> Iterator[str]:
    """What must have been applied at the end, each exactly once."""
    yield f"charge {order.id}"
    if refused(order):
        yield f"refund {order.id}"
    if not order.card.startswith("stolen") and order.item != SOLD_OUT:
        yield f"reserve {order.id}"
        yield f"release {order.id}" if order.address == "Atlantis" else f"ship {order.id}"


def refused(order: Order) -> bool:
    return order.card.startswith("stolen") or order.item == SOLD_OUT or order.address == "Atlantis"


def takings(orders: list[Order]) -> int:
    """Cents that must be in the till at the end."""
    return sum(order.cents for order in orders if not refused(order))


def closing_stock(orders: list[Order]) -> dict[str, int]:
    left = opening_stock()
    for order in orders:
        if not refused(order):
            left[order.item] -= order.quantity
    return left

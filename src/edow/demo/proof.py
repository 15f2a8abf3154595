"""The proof: what has been applied, compared with what had to be, effect by effect and in the books.

It reads the demo's own database, not EDOW's. Knows nothing of how the work was done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from edow.demo import shop
from edow.demo.effects import Effects
from edow.demo.orders import Confirmation, Order


class Proof(msgspec.Struct, frozen=True):
    """`lost`: effects that had to be applied and were not. `twice`: applications above those that had to be."""

    lost: int
    twice: int
    discrepancies: list[str]


def expected_effects(paths: Iterable[str], orders: Iterable[Order]) -> Counter[str]:
    documents = [f"index {path}" for path in paths]
    return Counter([*documents, "report all", *(name for order in orders for name in shop.effects_of(order))])


def prove(effects: Effects, paths: Iterable[str], orders: list[Order], confirmations: Sequence[Confirmation]) -> Proof:
    expected, applied = expected_effects(paths, orders), effects.audit()
    lost, twice = expected - applied, applied - expected
    discrepancies = [f"lost: {name}" for name in lost] + [f"applied too often: {name}" for name in twice]
    return Proof(lost.total(), twice.total(), discrepancies + _answers(orders, confirmations) + _books(effects, orders))


def _answers(orders: list[Order], confirmations: Sequence[Confirmation]) -> list[str]:
    """Every customer must have been told the truth."""
    expected = {order.id: "refunded" if shop.refused(order) else "shipped" for order in orders}
    told = {each.order: each.state for each in confirmations}
    return [
        f"{name} is {told.get(name)}, should be {state}" for name, state in expected.items() if told.get(name) != state
    ]


def _books(effects: Effects, orders: list[Order]) -> list[str]:
    """Money and goods must agree with the orders as well."""
    wrong = []
    if effects.takings() != shop.takings(orders):
        wrong.append(f"takings are {effects.takings()} cents, should be {shop.takings(orders)}")
    if effects.stock() != shop.closing_stock(orders):
        wrong.append(f"stock is {effects.stock()}, should be {shop.closing_stock(orders)}")
    return wrong
